"""Embeds whole datasets: with a Keras model under a strategy, a SavedModel, or TFLite.

All three take the same uint8 pixels, decoded and resized by the same code, so their figures differ
only by the artefact.

Batches have one static shape. The last batch is padded with images whose number is -1. An image
that cannot be decoded is dropped before batching. Every embedding comes with the number of its
image, so neither case can count as an example or shift another image's result.
"""

import hashlib
import os
import pathlib
import reprlib
import time
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from lit_tf import images as images_lib
from lit_tf.embedder import IN_FLIGHT
from lit_tf.errors import DataError, extra
from lit_tf.files import parse_object, sha256
from lit_tf.texts import distinct_by_length
from lit_tf.tokenizers import load_tokenizer

from ..distribution.embedder import ReplicatedEmbedder
from .images import Images


class Embedded(NamedTuple):
    """Embeddings of a whole dataset.

    Attributes:
        z: float32 (N, D), unit length; zeros for an example that could not be read.
        readable: bool (N,), which examples could be read.
        per_second: examples embedded per second, including reading and decoding, but not the first
            batch, which compiles, unless it is the only one.
    """

    z: np.ndarray
    readable: np.ndarray
    per_second: float


class Encoder:
    """Turns images and texts into unit-length embeddings.

    Attributes:
        name: its name in tables.
        image_size: side of the images in pixels.
        crop: whether images are cropped instead of squeezed.
        batch_size: images embedded at a time.
        temperature: the factor of similarities before a softmax; None if unknown.
        strategy: the distribution strategy it embeds under, or None.
    """

    name: str
    image_size: int
    crop: bool = False
    batch_size: int
    temperature: float | None = None
    strategy: tf.distribute.Strategy | None = None

    def embed_images(self, images: Images, progress: bool = False) -> Embedded:
        """Embeds every image of a dataset.

        Args:
            images: the images, of any sizes.
            progress: whether to show a progress bar.

        Returns:
            The embeddings, and which images could be read.

        Raises:
            DataError: no image could be read.
        """

        def results():
            batches = image_batches(images, self.image_size, self.crop, self.batch_size)
            for index, pixels in batches.as_numpy_iterator():
                yield index, self._embed_pixels(pixels)

        return _collect(len(images), results(), f"{images.name} images", "img", progress)

    def embed_texts(self, texts: list[str], progress: bool = False) -> np.ndarray:
        """Embeds texts.

        Args:
            texts: M strings.
            progress: whether to show a progress bar.

        Returns:
            float32 (M, D).
        """
        # Each text once, ordered by length, because a SavedModel's graph cuts each batch to its
        # longest text.
        rows = sorted(set(texts), key=len)
        row_of = {text: row for row, text in enumerate(rows)}

        def results():
            for start in range(0, len(rows), self.batch_size):
                batch = rows[start : start + self.batch_size]
                index = np.arange(start, start + self.batch_size)
                index[len(batch) :] = -1
                batch = batch + [""] * (self.batch_size - len(batch))
                yield index, self._embed_strings(batch)

        z = _collect(len(rows), results(), "texts", "text", progress).z
        return z[[row_of[text] for text in texts]]

    def fingerprint(self, tower: str) -> str:
        """Returns a digest of everything that determines the embeddings of "image" or "text"."""
        raise NotImplementedError

    def _embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _embed_strings(self, texts: list[str]) -> np.ndarray:
        raise NotImplementedError


def image_batches(
    images: Images,
    size: int,
    crop: bool,
    batch_size: int,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Returns one host's share of the images, decoded and resized, in batches of one static shape.

    Args:
        images: all images.
        size: side of the result in pixels.
        crop: whether to crop instead of squeezing.
        batch_size: images per batch, that is per replica.
        context: which host this is; by default the only one, with one replica.

    Returns:
        (int32 (batch,): the images' numbers, -1 for padding; uint8 (batch, size, size, 3)).
        Every host gets the same number of batches.
    """
    context = context or tf.distribute.InputContext()
    start, stop = _share(len(images), context)

    def read(number, data):
        pixels = images_lib.resize_uint8(images.decoding.decode(data), size, crop)
        return tf.cast(number, tf.int32), tf.ensure_shape(pixels, [size, size, 3])

    dataset = images.encoded(start, stop).enumerate(start)
    dataset = dataset.map(read, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    none = tf.data.Dataset.from_tensors(
        (tf.constant(-1, tf.int32), tf.zeros([size, size, 3], tf.uint8))
    )
    return _static_batches(dataset, none, len(images), batch_size, context)


def _share(count, context):
    """Returns which of `count` elements a host reads, as (start, stop)."""
    share = -(-count // context.num_input_pipelines)
    start = min(context.input_pipeline_id * share, count)
    return start, min(start + share, count)


def _static_batches(dataset, none, count, batch_size, context):
    """Batches a host's share of `count` elements, padded with `none`.

    Every host returns the same number of batches, a multiple of its replicas: a collective that
    one replica does not join would wait forever.
    """
    replicas = context.num_replicas_in_sync // context.num_input_pipelines
    share = -(-count // context.num_input_pipelines)
    batches = -(-share // (batch_size * replicas)) * replicas
    dataset = dataset.concatenate(none.repeat()).take(batches * batch_size)
    return dataset.batch(batch_size, drop_remainder=True).prefetch(IN_FLIGHT)


def _collect(count, results, what, unit, progress):
    """Collects (numbers, embeddings) into one array, ordered by number."""
    z, readable = None, np.zeros(count, bool)
    start, first = time.perf_counter(), 0
    with tqdm(total=count, desc=what, unit=unit, disable=None if progress else True) as bar:
        for index, rows in results:
            here = index >= 0
            index, rows = index[here], rows[here]
            if z is None:
                z = np.zeros((count, rows.shape[1]), np.float32)
                if len(index) < count:
                    start, first = time.perf_counter(), len(index)
            if readable[index].any():  # a duplicate would give a wrong figure
                raise RuntimeError(f"{what}: an example was embedded twice")
            z[index], readable[index] = rows, True
            bar.update(len(index))
    if not readable.any():
        raise DataError(f"{what}: none could be read")
    per_second = (int(readable.sum()) - first) / (time.perf_counter() - start)
    return Embedded(z, readable, per_second)


class KerasEncoder(Encoder):
    """A `LitModel` under a strategy; each replica embeds its share.

    Args:
        model: the model, made in the strategy's scope.
        strategy: the strategy; by default the current one.
        batch_size: global batch; rounded up to a multiple of the replicas.
    """

    name = "keras"

    def __init__(self, model, strategy: tf.distribute.Strategy | None = None, batch_size: int = 64):
        self.model = model
        self.strategy = strategy or tf.distribute.get_strategy()
        self._embedders = {
            "image": ReplicatedEmbedder(self.strategy, model.embed_pixels, batch_size),
            "text": ReplicatedEmbedder(self.strategy, model.embed_short_tokens, batch_size),
        }
        self.batch_size = self._embedders["image"].batch_size
        if model.config.image:
            self.image_size = model.config.image.image_size
        self.crop = model.config.crop

    @property
    def temperature(self) -> float | None:
        """The model's current temperature."""
        return None if self.model.t is None else self.model.temperature

    def embed_images(self, images, progress=False):
        """Embeds every image of a dataset; see `Encoder.embed_images`."""
        self.model.tower("image")

        def batches(batch_size, context):
            return image_batches(images, self.image_size, self.crop, batch_size, context)

        results = self._embedders["image"].run(batches)
        return _collect(len(images), results, f"{images.name} images", "img", progress)

    def embed_texts(self, texts, progress=False):
        """Embeds texts; see `Encoder.embed_texts`."""
        return self.embed_tokens(self.model.tokenize(texts), progress)

    def embed_tokens(self, tokens: np.ndarray, progress: bool = False) -> np.ndarray:
        """Embeds int32 tokens (M, L); returns float32 (M, D)."""
        rows, places = distinct_by_length(tokens)
        count = len(rows)

        def batches(batch_size, context):
            numbers = np.arange(*_share(count, context), dtype=np.int32)
            some = tf.data.Dataset.from_tensor_slices((numbers, rows[numbers]))
            # Batches are padded with the shortest text, which never makes a batch longer.
            filler = rows[0] if count else np.zeros(rows.shape[1:], rows.dtype)
            none = tf.data.Dataset.from_tensors((tf.constant(-1, tf.int32), filler))
            return _static_batches(some, none, count, batch_size, context)

        embedded = _collect(count, self._embedders["text"].run(batches), "texts", "text", progress)
        return embedded.z[places]

    def fingerprint(self, tower):
        """Returns a digest of the tower's variables, its precision and its tokenizer."""
        digest = hashlib.sha256(f"{self.model.dtype_policy.name} {self.model.config}".encode())
        digest.update(self.model.fingerprint({"image": "img/", "text": "txt/"}[tower]).encode())
        if tower == "text" and self.model.tokenizer is not None:
            digest.update(self.model.tokenizer.to_bytes())
        return digest.hexdigest()


# --- Exported artefacts ---------------------------------------------------------------------------


def _is_temperature(value):
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (number and 0 < value <= float(np.finfo(np.float32).max))


# The fields read from `lit_manifest.json`: key -> (expected value in words, check of a value).
_MANIFEST = {
    "model": ("a name", lambda v: isinstance(v, str)),
    "crop": ("true or false", lambda v: isinstance(v, bool)),
    "resolution": (
        "the side of the images in pixels",
        lambda v: v is None or (type(v) is int and 0 < v < 1 << 16),
    ),
    "temperature": ("a number over 0", _is_temperature),
    "lowercase": ("true, false or null", lambda v: v is None or isinstance(v, bool)),
}


class _ArtefactEncoder(Encoder):
    """An exported artefact, read only through its signatures and its manifest.

    Args:
        folder: the artefact's folder, which holds `lit_manifest.json`.
        batch_size: examples at a time.

    Raises:
        DataError: the folder does not hold such an artefact.
    """

    def __init__(self, folder: str | os.PathLike, batch_size: int = 64):
        self.folder, self.batch_size = pathlib.Path(folder), batch_size
        path = self.folder / "lit_manifest.json"
        try:
            manifest = parse_object(path.read_bytes(), path)
        except OSError as e:
            raise DataError(
                f"{folder}: expected what `lit-tf export` wrote, with {path.name} in it: {e!r}"
            ) from e
        for key, (expected, fits) in _MANIFEST.items():
            if not fits(manifest.get(key)):
                found = reprlib.repr(manifest[key]) if key in manifest else "nothing"
                raise DataError(
                    f"{path} is damaged: {key} is {found}, expected {expected}; export again"
                )
        self.manifest = manifest
        self.model_name, self.crop = manifest["model"], manifest["crop"]

    def fingerprint(self, tower):
        """Returns a digest of the artefact's files."""
        digest = hashlib.sha256(self.name.encode())
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and self._belongs(path, tower):
                digest.update(str(path.relative_to(self.folder)).encode())
                digest.update(sha256(path).encode())
        return digest.hexdigest()

    def _belongs(self, path, tower):
        return True


class SavedModelEncoder(_ArtefactEncoder):
    """A SavedModel with the signatures `encode_image` and `encode_text`; see `_ArtefactEncoder`."""

    name = "saved_model"

    def __init__(self, folder, batch_size=64):
        super().__init__(folder, batch_size)
        self.image_size = self.manifest.get("resolution")
        if self.image_size is None:
            raise DataError(f"{folder}/lit_manifest.json is damaged: it has no resolution")
        import tensorflow_text  # noqa: F401  the model needs the tokenizer's ops to load

        try:
            self._loaded = tf.saved_model.load(str(self.folder))
        except (OSError, ValueError, tf.errors.OpError) as e:
            raise DataError(f"{folder}: no SavedModel that loads: {e}") from e
        missing = {"encode_image", "encode_text"} - set(self._loaded.signatures)
        if missing:
            raise DataError(
                f"{folder} has no signature {' or '.join(sorted(missing))}: evaluation needs a "
                "model exported with both parts"
            )
        sides = _sides_in_graph(self._loaded.signatures["encode_image"])
        if sides - {self.image_size}:
            raise DataError(
                f"{folder}/lit_manifest.json is of another export: its resolution is "
                f"{self.image_size}, but the graph's image tower takes images of "
                f"{', '.join(map(str, sorted(sides)))} pixels; export again"
            )
        temperature = getattr(self._loaded, "temperature", None)
        if temperature is not None:
            self.temperature = float(tf.reshape(temperature, []))

    def _embed_pixels(self, pixels):
        return self._call("encode_image", image=tf.constant(pixels))

    def _embed_strings(self, texts):
        return self._call("encode_text", text=tf.constant(texts))

    def _call(self, signature, **inputs):
        return self._loaded.signatures[signature](**inputs)["embedding"].numpy()


def _sides_in_graph(signature):
    """Returns the sides of the square RGB images that the functions in a graph take."""
    sides = set()
    for function in signature.graph.as_graph_def().library.function:
        for attributes in function.arg_attr.values():
            for shape in attributes.attr["_output_shapes"].list.shape:
                sizes = [dimension.size for dimension in shape.dim]
                if len(sizes) == 4 and sizes[3] == 3 and sizes[1] == sizes[2] > 0:
                    sides.add(sizes[1])
    return sides


class TFLiteEncoder(_ArtefactEncoder):
    """`image_encoder.tflite` and `text_encoder.tflite`; see `_ArtefactEncoder`.

    This library tokenizes the texts, with the vocabulary beside the graphs.
    """

    name = "tflite"

    def __init__(self, folder, batch_size=64):
        super().__init__(folder, batch_size)
        self._image, shape = self._open("image_encoder.tflite", "image")
        self._text, tokens = self._open("text_encoder.tflite", "tokens")
        self.image_size = int(shape[1])
        self.temperature = self.manifest.get("temperature")
        self._tokenize = load_tokenizer(
            self._vocabulary(),
            length=int(tokens[1]),
            lowercase=bool(self.manifest.get("lowercase")),
        )

    def _open(self, file, name):
        """Returns a signature's runner and the shape of its input."""
        with extra("lite"):
            from ai_edge_litert.interpreter import Interpreter

        path = self.folder / file
        if not path.is_file():
            raise DataError(f"{self.folder} has no {file}: evaluation needs both encoders")
        try:
            interpreter = Interpreter(str(path), num_threads=os.cpu_count())
            runner = interpreter.get_signature_runner(next(iter(interpreter.get_signature_list())))
            return runner, runner.get_input_details()[name]["shape"]
        except (ValueError, RuntimeError, KeyError, StopIteration) as e:
            raise DataError(f"{path}: no TFLite graph with an input {name!r}: {e!r}") from e

    def _vocabulary(self):
        found = [
            path
            for path in sorted(self.folder.iterdir())
            if path.suffix == ".model" or path.suffix == ".txt" and path.stem != "labels"
        ]
        if len(found) != 1:
            raise DataError(
                f"{self.folder}: expected one vocabulary (.txt or .model) beside the graphs, found "
                f"{len(found)}"
            )
        return found[0]

    def _belongs(self, path, tower):
        return path.name == f"{tower}_encoder.tflite" or (
            tower == "text" and path == self._vocabulary()
        )

    def _embed_pixels(self, pixels):
        return self._image(image=pixels)["embedding"]

    def _embed_strings(self, texts):
        return self._text(tokens=self._tokenize(texts).numpy())["embedding"]
