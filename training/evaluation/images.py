"""Images to evaluate on: numbered lists of encoded images, from files or from tfds.

The encoder decodes the images. A dataset only maps numbers to bytes, so any host can read any share
of it, and an error can name an image that cannot be decoded.
"""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from lit_tf.errors import DataError, extra
from lit_tf.images.decoding import decode_in_dataset
from lit_tf.images.formats import MAX_PIXELS

from ..data import stream
from ..data.pipeline import attempt, clean

with extra("train"):
    import tensorflow_datasets as tfds


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How encoded images become pixels."""

    exif: bool = False  # turn images upright, which the published protocol does not
    max_pixels: int = MAX_PIXELS

    def decode(self, data: tf.Tensor) -> tf.Tensor:
        """Returns the uint8 pixels (H, W, 3) of an encoded image; see `lit_tf.images.decoding`."""
        return decode_in_dataset(data, self.max_pixels, exif=self.exif)


# The decoding behind the published figures.
PUBLISHED = Decoding()


class Images:
    """A numbered list of encoded images.

    `encoded(start, stop)` returns a dataset of the bytes of images number start to stop - 1, and
    `identity()` a tuple that is equal only for the same images in the same order.
    """

    name: str
    split: str
    decoding: Decoding = PUBLISHED
    paths: Sequence[str] = ()  # the images' files; empty if they are not files

    def locate(self, i: int) -> str:
        """Returns where a person finds image number i."""
        return f"number {i} of {self.name}:{self.split}"


class FileImages(Images):
    """Images in files."""

    split = ""

    def __init__(self, name: str, paths: list[str]):
        self.name, self.paths = name, paths

    def __len__(self):
        return len(self.paths)

    def identity(self):
        return ("files", *self.paths)

    def encoded(self, start, stop):
        files = tf.data.Dataset.from_tensor_slices(tf.constant(self.paths[start:stop], tf.string))
        return files.map(tf.io.read_file, num_parallel_calls=tf.data.AUTOTUNE)

    def locate(self, i):
        return self.paths[i]


class SourceImages(Images):
    """The images of a source of training pairs, in its order."""

    split = ""

    def __init__(self, name: str, source):
        self.name, self._source = name, source

    def __len__(self):
        return sum(self._source.lengths)

    def identity(self):
        return ("shards", *self._source.paths)

    def encoded(self, start, stop):
        return self._read(start, stop).map(lambda image, texts: image)

    def captions(self):
        """Returns the captions of every image, as bytes."""
        return [texts.tolist() for _, texts in self._read(0, len(self)).as_numpy_iterator()]

    def locate(self, i):
        """Returns the example's name."""
        (piece,) = stream.cut(self._source.lengths, i, i + 1)
        return self._source.name(piece.shard, piece.skip)

    def _read(self, start, stop):
        pieces = stream.cut(self._source.lengths, start, stop)
        nothing = (tf.constant(""), tf.zeros([0], tf.string))

        def parse(record):
            parsed = self._source.parse(record)
            return parsed["image"], clean(parsed["texts"])

        return stream.read_in_order(self._source, pieces).map(
            lambda record: attempt(parse, record, nothing)[0], num_parallel_calls=tf.data.AUTOTUNE
        )


class TfdsImages(Images):
    """The images of one split of a prepared tfds dataset."""

    def __init__(self, builder, split: str):
        self.builder, self.split = builder, split
        self.name = builder.name
        if builder.builder_config and len(builder.BUILDER_CONFIGS) > 1:
            self.name += f"/{builder.builder_config.name}"
        try:
            parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(builder.info.splits)
        except (ValueError, KeyError, AssertionError) as e:
            raise DataError(
                f"{self.name} has no split {split!r}; it has {', '.join(builder.info.splits)}, "
                f"and parts of them such as {next(iter(builder.info.splits), 'test')}[:1000]"
            ) from e
        if len(parts) != 1:
            raise DataError(f"{self.name}:{split}: expected one split or a part of one")
        part = parts[0]
        total = builder.info.splits[part.splitname].num_examples
        self._split_name, self._from = part.splitname, part.from_ or 0
        self._to = total if part.to is None else part.to
        features = builder.info.features
        found = [k for k, f in features.items() if isinstance(f, tfds.features.Image)]
        if not found:
            raise DataError(f"{self.name} has no image feature, only {', '.join(features)}")
        self.image_key = "image" if "image" in found else found[0]

    def __len__(self):
        return self._to - self._from

    def identity(self):
        folder = str(self.builder.data_dir)
        return ("tfds", folder, self._split_name, self._from, self._to, self.image_key)

    def _read(self, decoders, start=0, stop=None):
        stop = len(self) if stop is None else stop
        return self.builder.as_dataset(
            split=tfds.core.ReadInstruction(
                self._split_name, from_=self._from + start, to=self._from + stop, unit="abs"
            ),
            decoders=decoders,
            shuffle_files=False,
            # One file after the other, so a part of a split has the same order as the whole.
            read_config=tfds.ReadConfig(
                interleave_cycle_length=1, try_autocache=False, skip_prefetch=True
            ),
        )

    def encoded(self, start, stop):
        if start >= stop:  # tfds refuses an empty ReadInstruction
            return tf.data.Dataset.from_tensor_slices(tf.zeros([0], tf.string))
        decoders = tfds.decode.PartialDecoding(
            {self.image_key: True}, decoders={self.image_key: tfds.decode.SkipDecoding()}
        )
        return self._read(decoders, start, stop).map(lambda example: example[self.image_key])

    def columns(self, features: dict) -> list[dict]:
        """Returns other features of every example, read without decoding any image."""
        rows = []
        for batch in self._read(tfds.decode.PartialDecoding(features)).ragged_batch(1024):
            flat = {
                path: value.to_list() if hasattr(value, "to_list") else value.numpy().tolist()
                for path, value in _flatten(batch)
            }
            rows += [dict(zip(flat, row, strict=True)) for row in zip(*flat.values(), strict=True)]
        return rows

    def locate(self, i):
        features = self.builder.info.features
        names = ("file_name", "filename", "image/filename", "id")
        key, place = next((k for k in names if k in features), None), super().locate(i)
        if key is None:
            return place
        for example in self._read(tfds.decode.PartialDecoding({key: True}), i, i + 1):
            value = example[key].numpy()
            name = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
            return f"{name} ({place})"
        return place


def check_count(images: Images, count: int, what: str) -> None:
    """Refuses an empty dataset, and labels or captions of another number of images."""
    if not len(images):
        raise DataError(f"{images.name} has no images")
    if count != len(images):
        raise DataError(f"{images.name} has {len(images)} images, but {what} of {count}")


def _flatten(tree, path=()):
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _flatten(value, (*path, key))
    else:
        yield path, tree
