"""Embeds whole datasets: with a Keras model under a strategy, or with what a subclass calls.

All encoders take the same uint8 pixels. Batches have one static shape: padding has the number -1,
and an image that cannot be decoded is dropped before. As every embedding comes with the number of
its image, neither can count as an example or shift another's result.
"""

import hashlib
import time
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from lit_tf.errors import DataError
from lit_tf.images.preparation import Patches, Square, preparation
from lit_tf.images.stream import IN_FLIGHT
from lit_tf.texts.batching import distinct_by_length

from ..data import stream
from ..distribution.embedder import ReplicatedEmbedder
from .images import Images


class Embedded(NamedTuple):
    """Embeddings of a whole dataset."""

    z: np.ndarray  # float32 (N, D), unit length; zeros for an example that could not be read
    readable: np.ndarray  # bool (N,)
    per_second: float  # with reading and decoding, but without the first batch, which compiles


class Encoder:
    """Turns images and texts into embeddings, by its `_embed_pixels` and `_embed_strings`.

    `fingerprint(tower)` digests all that determines the embeddings of "image" or "text".
    """

    name: str
    prepare: Square | Patches
    batch_size: int
    temperature: float | None = None
    strategy: tf.distribute.Strategy | None = None

    def embed_images(self, images: Images, progress: bool = False) -> Embedded:
        """Embeds every image of a dataset."""

        def results():
            batches = image_batches(images, self.prepare, self.batch_size)
            for index, pixels in batches.as_numpy_iterator():
                yield index, self._embed_pixels(pixels)

        return collect(len(images), results(), f"{images.name} images", "img", progress)

    def embed_texts(self, texts: list[str], progress: bool = False) -> np.ndarray:
        """Embeds M texts; returns float32 (M, D)."""
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

        z = collect(len(rows), results(), "texts", "text", progress).z
        return z[[row_of[text] for text in texts]]


def image_batches(
    images: Images,
    prepare: Square | Patches,
    batch_size: int,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Returns a host's share as batches (int32 numbers, -1 for padding; images), equally many."""
    context = context or tf.distribute.InputContext()
    start, stop = _share(len(images), context)

    def read(number, data):
        return tf.cast(number, tf.int32), prepare.fixed(images.decoding.decode(data))

    dataset = images.encoded(start, stop).enumerate(start)
    dataset = dataset.map(read, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    zeros = tf.nest.map_structure(stream.blank, prepare.spec)
    none = tf.data.Dataset.from_tensors((tf.constant(-1, tf.int32), zeros))
    return _static_batches(dataset, none, len(images), batch_size, context)


def _share(count, context):
    """Returns which of `count` elements a host reads, as (start, stop)."""
    share = -(-count // context.num_input_pipelines)
    start = min(context.input_pipeline_id * share, count)
    return start, min(start + share, count)


def _static_batches(dataset, none, count, batch_size, context):
    """Batches a host's share of `count` elements, padded with `none`: equally many on all hosts."""
    replicas = context.num_replicas_in_sync // context.num_input_pipelines
    share = -(-count // context.num_input_pipelines)
    batches = -(-share // (batch_size * replicas)) * replicas
    dataset = dataset.concatenate(none.repeat()).take(batches * batch_size)
    return dataset.batch(batch_size, drop_remainder=True).prefetch(IN_FLIGHT)


def collect(count, results, what, unit, progress):
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
    """A `LitModel` under a strategy; each replica embeds its share."""

    name = "keras"

    def __init__(
        self,
        model,
        strategy: tf.distribute.Strategy | None = None,
        batch_size: int = 64,
        max_patches: int | None = None,
    ):
        self.model = model
        self.strategy = strategy or tf.distribute.get_strategy()
        self._embedders = {
            "image": ReplicatedEmbedder(self.strategy, model.embed_pixels, batch_size),
            "text": ReplicatedEmbedder(self.strategy, model.embed_short_tokens, batch_size),
        }
        self.batch_size = self._embedders["image"].batch_size
        if model.config.image:
            self.prepare = preparation(model.config, max_patches)

    @property
    def temperature(self) -> float | None:
        """The model's current temperature."""
        return None if self.model.t is None else self.model.temperature

    def embed_images(self, images, progress=False):
        self.model.tower("image")

        def batches(batch_size, context):
            return image_batches(images, self.prepare, batch_size, context)

        results = self._embedders["image"].run(batches)
        return collect(len(images), results, f"{images.name} images", "img", progress)

    def embed_texts(self, texts, progress=False):
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

        embedded = collect(count, self._embedders["text"].run(batches), "texts", "text", progress)
        return embedded.z[places]

    def fingerprint(self, tower):
        about = f"{self.model.dtype_policy.name} {self.model.config}"
        about += f" {self.prepare}" if tower == "image" else ""
        digest = hashlib.sha256(about.encode())
        digest.update(self.model.fingerprint({"image": "img/", "text": "txt/"}[tower]).encode())
        if tower == "text" and self.model.tokenizer is not None:
            digest.update(self.model.tokenizer.to_bytes())
        return digest.hexdigest()
