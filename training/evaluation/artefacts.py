"""Encoders of exported SavedModels and TFLite graphs, read only through their signatures."""

import hashlib
import os
import pathlib
import reprlib

import numpy as np
import tensorflow as tf

from lit_tf.errors import DataError, extra
from lit_tf.files import parse_object, sha256
from lit_tf.images.preparation import Square
from lit_tf.texts.tokenizers import load_tokenizer

from .encoders import Encoder


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
    """An exported artefact, read only through its signatures and its manifest."""

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
        self.model_name = manifest["model"]

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
        size = self.manifest.get("resolution")
        if size is None:
            raise DataError(
                f"{folder}/lit_manifest.json is damaged: it has no resolution; or the model is "
                "NaFlex, whose checkpoint can be evaluated, not its exports"
            )
        self.prepare = Square(size, self.manifest["crop"])
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
        if sides - {size}:
            raise DataError(
                f"{folder}/lit_manifest.json is of another export: its resolution is "
                f"{size}, but the graph's image tower takes images of "
                f"{', '.join(map(str, sorted(sides)))} pixels; export again"
            )
        temperature = getattr(self._loaded, "temperature", None)
        if temperature is not None:
            self.temperature = float(tf.reshape(temperature, []))

    def _embed_pixels(self, pixels):
        out = self._loaded.signatures["encode_image"](image=tf.constant(pixels))
        return out["embedding"].numpy()

    def _embed_strings(self, texts):
        out = self._loaded.signatures["encode_text"](text=tf.constant(texts))
        return out["embedding"].numpy()


def _sides_in_graph(signature):
    """Returns the sides of the square RGB images that the functions in a graph take."""
    functions = signature.graph.as_graph_def().library.function
    arguments = [arg.attr["_output_shapes"] for f in functions for arg in f.arg_attr.values()]
    shapes = [[d.size for d in shape.dim] for arg in arguments for shape in arg.list.shape]
    return {s[1] for s in shapes if len(s) == 4 and s[3] == 3 and s[1] == s[2] > 0}


class TFLiteEncoder(_ArtefactEncoder):
    """`image_encoder.tflite` and `text_encoder.tflite`; see `_ArtefactEncoder`.

    This library tokenizes the texts, with the vocabulary beside the graphs.
    """

    name = "tflite"

    def __init__(self, folder, batch_size=64):
        super().__init__(folder, batch_size)
        self._image, shape = self._open("image_encoder.tflite", "image")
        self._text, tokens = self._open("text_encoder.tflite", "tokens")
        self.prepare = Square(int(shape[1]), self.manifest["crop"])
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
