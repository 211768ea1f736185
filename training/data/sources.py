"""Where pairs come from: tfds, img2dataset's shards, tables of paths, `lit-tf precompute`'s shards.

A source is a list of shards of known lengths that are read from front to back, and a function from
a record to its undecoded image (or embeddings) and texts. Paths are those of `tf.io.gfile`.
"""

import contextlib
import copy
import functools
import itertools
import operator
import os

import numpy as np
import tensorflow as tf

from lit_tf.errors import DataError, extra
from lit_tf.images.formats import IMAGE_SUFFIXES

from . import shards, tables, tar, tfrecord
from .embeddings import read_manifest
from .finding import find_shards, source_format

_READ_BUFFER = 4 << 20
# The trainer's default keys are those of tfds' coco_captions. With shards, they mean the names that
# img2dataset writes, and then the endings of all other pictures.
_ENDINGS = ("jpg", "jpeg", "png", "webp", *(suffix[1:] for suffix in IMAGE_SUFFIXES))
_IMAGE_NAMES = {"image": tuple(dict.fromkeys(_ENDINGS))}
_TEXT_NAMES = {"captions/text": ("txt",)}
# A table is divided into parts of so many rows, which are read like shards.
_TABLE_ROWS = 1000
# How many samples cross from Python to tf.data at a time.
_CHUNK = 32


class Source:
    """Shards of records, TFRecords unless `read` says otherwise.

    `lengths` counts the examples of each that can be read, `lost` those that damaged shards lack.
    """

    config = None  # the `DataConfig` that it was opened by
    embeddings = False  # whether records hold image embeddings, not images

    def __init__(self, paths, lengths, lost=0):
        self.paths, self.lengths = list(paths), [int(n) for n in lengths]
        self.lost = lost
        self.files = list(dict.fromkeys(self.paths))

    def read(self, shard, skip):
        """Returns a dataset of a shard's records, dicts of tensors, from number `skip` on."""
        dataset = tf.data.TFRecordDataset(self._path(shard), buffer_size=_READ_BUFFER)
        return dataset.skip(skip).map(lambda record: {"record": record})

    def parse(self, record):
        """Returns {"image": encoded, string scalar, "texts": string (n,)} of a record.

        Sources of embeddings return "image_embedding", float32 (views, D), in place of the image.
        """
        return {"image": record["image"], "texts": record["texts"]}

    def shuffled(self, seed: int) -> "Source":
        """Returns the source in an order drawn from a seed, if all of it is in memory."""
        return self

    def name(self, shard: int, index: int) -> str:
        """Returns an example's name for messages."""
        return f"{os.path.basename(self.paths[shard])} #{index}"

    def describe(self, shard: int, index: int) -> str:
        """Returns what a bad example holds, in words, or "". Reads the shard up to it."""
        return ""

    def _path(self, shard):
        return tf.gather(tf.constant(self.paths), shard)


class _PairSource(Source):
    """Shards whose records have an image and texts under names that the config gives."""

    def __init__(self, surveyed, config):
        lost = shards.lost_examples(surveyed, config.max_bad_share)
        super().__init__([s.path for s in surveyed], [s.examples for s in surveyed], lost)
        self._limit = config.max_example_bytes
        self._image_names = _IMAGE_NAMES.get(config.image_key, (config.image_key,))
        self._text_names = _TEXT_NAMES.get(config.text_key, (config.text_key,))


class TFRecordSource(_PairSource):
    """TFRecords of tf.train.Examples with the fields of img2dataset: see `_PairSource`."""

    def parse(self, record):
        names = (*self._image_names, *self._text_names)
        fields = {name: tf.io.VarLenFeature(tf.string) for name in names}
        fields = tf.io.parse_single_example(record["record"], fields)
        images = tf.concat([fields[name].values for name in self._image_names], 0)
        texts = tf.concat([fields[name].values for name in self._text_names], 0)
        # Without an image, an empty string, which cannot be decoded and counts as corrupt.
        return {"image": tf.concat([images, [""]], 0)[0], "texts": texts}

    def describe(self, shard, index):
        try:
            for record in tf.data.TFRecordDataset(self.paths[shard]).skip(index).take(1):
                return tfrecord.describe(record.numpy())
        except tf.errors.OpError:  # it is missing because the shard is damaged at or before it
            return "damaged"
        return ""


class TarSource(_PairSource):
    """Webdataset tars, with texts perhaps in the JSON member ("json/NAME"): see `_PairSource`."""

    def read(self, shard, skip):
        def pairs(shard, skip):
            wanted = tar.extensions((*self._image_names, *self._text_names))
            path = self.paths[shard]
            for sample in tar.samples(path, int(skip), wanted=wanted, limit=self._limit):
                texts = tar.sample_captions(sample.data, self._text_names)[0]
                present = (n for n in self._image_names if n in sample.data)
                yield sample.data.get(next(present, None), b""), texts

        return _from_python(pairs, shard, skip)

    def describe(self, shard, index):
        return tar.describe(self.paths[shard], index, self._limit, self._text_names)


def _from_python(pairs, shard, skip):
    """Returns a dataset of what a generator of (encoded image, captions) yields."""

    def chunks(shard, skip):
        images, texts = [], []
        for image, found in pairs(shard, skip):
            found = found or [b""]
            # All samples of a chunk have equally many captions.
            if images and (len(images) == _CHUNK or len(found) != len(texts[0])):
                yield np.array(images, object), np.array(texts, object)
                images, texts = [], []
            images.append(image)
            texts.append(found)
        if images:
            yield np.array(images, object), np.array(texts, object)

    signature = tf.TensorSpec([None], tf.string), tf.TensorSpec([None, None], tf.string)
    dataset = tf.data.Dataset.from_generator(chunks, args=(shard, skip), output_signature=signature)
    return dataset.unbatch().map(lambda image, texts: {"image": image, "texts": texts})


def _columns(config):
    """Returns the columns of images and captions that a config names, for `tables`."""
    image, text = config.image_key, config.text_key
    images = tables.IMAGE_COLUMNS if image in _IMAGE_NAMES else (image,)
    return images, tables.CAPTION_COLUMNS if text in _TEXT_NAMES else (text,)


class ParquetSource(Source):
    """Parquet files with encoded images; every row group is read like a shard."""

    def __init__(self, files, config):
        self._groups, self._first, self._limit = [], [], config.max_example_bytes
        self._columns_of = _columns(config)
        lengths = {}

        def scan(path):
            with tables.open_parquet(path) as file:
                tables.parquet_columns(path, file, self._columns_of)
                groups = range(file.num_row_groups)
                lengths[path] = [file.metadata.row_group(g).num_rows for g in groups]
            return shards.Shard(path, sum(lengths[path]))

        lost = shards.lost_examples(shards.survey(files, scan), config.max_bad_share)
        paths = [path for path in files for _ in lengths.get(path, ())]
        for found in map(lengths.get, dict.fromkeys(paths)):
            self._groups += range(len(found))
            self._first += np.cumsum([0, *found[:-1]]).tolist()
        super().__init__(paths, [n for p in dict.fromkeys(paths) for n in lengths[p]], lost)
        self.files = files

    def read(self, shard, skip):
        def pairs(shard, skip):
            path, group, skip = self.paths[shard], int(self._groups[shard]), int(skip)
            with tables.open_parquet(path) as file:
                columns = tables.parquet_columns(path, file, self._columns_of)
                batches = file.iter_batches(_CHUNK, row_groups=[group], columns=columns)
                for batch in batches:
                    images, texts = (batch.column(name) for name in columns)
                    for i in range(skip, len(batch)):
                        yield self._image(path, images[i].as_py()), _texts(texts[i].as_py())
                    skip = max(skip - len(batch), 0)

        return _from_python(pairs, shard, skip)

    def name(self, shard, index):
        return f"{os.path.basename(self.paths[shard])} row {self._first[shard] + index + 1}"

    def _image(self, path, value):
        if isinstance(value, dict):
            beside = value.get("path")
            value = value.get("bytes")
            if value is None and beside:
                with contextlib.suppress(*shards.READ_ERRORS):
                    file = os.path.join(os.path.dirname(path), beside)
                    value = tf.io.gfile.GFile(file, "rb").read()
        return value if isinstance(value, bytes) and len(value) <= self._limit else b""


def _texts(value):
    texts = value if isinstance(value, list) else [value]
    return [text.encode("utf-8", "replace") for text in texts if isinstance(text, str)]


class TableSource(Source):
    """CSV or Parquet files of image paths and captions, see `tables`."""

    def __init__(self, paths, config):
        found, lost = {}, 0

        def scan(path):
            found[path] = tables.read_captions(path, _columns(config))
            return shards.Shard(path, len(found[path]))

        if len(paths) > 1:
            lost = shards.lost_examples(shards.survey(paths, scan), config.max_bad_share)
        else:
            scan(paths[0])
        rows = [row for path in paths for row in found.get(path, {}).items()]
        self._rows = [rows[i : i + _TABLE_ROWS] for i in range(0, len(rows), _TABLE_ROWS)]
        self._limit = config.max_example_bytes
        super().__init__([paths[0]] * len(self._rows), map(len, self._rows), lost)
        self.files = paths

    @property
    def rows(self):
        """{image's path: its captions}."""
        return dict(itertools.chain(*self._rows))

    def shuffled(self, seed):
        """Returns the rows in another order: tables are often sorted by class."""
        rows, other = list(self.rows.items()), copy.copy(self)
        bits = np.random.Philox(key=[seed % 2**63, 0]).random_raw(len(rows))
        rows = [rows[i] for i in np.argsort(bits, kind="stable")]
        other._rows = [rows[i : i + _TABLE_ROWS] for i in range(0, len(rows), _TABLE_ROWS)]
        return other

    def read(self, shard, skip):
        def row(shard, index):
            path, texts = self._rows[shard][index]
            # Reading a file with a problem could wait for ever or take all memory, so the path is
            # replaced by a name that no file has.
            encoded = b"" if self._problem(path) else os.fsencode(path)
            return encoded, np.array([t.encode("utf-8", "replace") for t in texts], object)

        def record(index):
            path, texts = tf.numpy_function(row, [shard, index], [tf.string, tf.string])
            return {"path": tf.ensure_shape(path, []), "texts": tf.ensure_shape(texts, [None])}

        lengths = tf.constant(self.lengths, tf.int64)
        return tf.data.Dataset.range(skip, tf.gather(lengths, shard)).map(record)

    def parse(self, record):
        return {"image": tf.io.read_file(record["path"]), "texts": record["texts"]}

    def name(self, shard, index):
        return os.fsencode(self._rows[shard][index][0]).decode("utf-8", "backslashreplace")

    def describe(self, shard, index):
        return self._problem(self._rows[shard][index][0])

    def _problem(self, path):
        if "://" in path:
            return ""
        if not os.path.isfile(path):
            return "not a file" if os.path.exists(path) else "no such file"
        size = os.path.getsize(path)
        return f"{size:,} bytes, over data.max_example_bytes" if size > self._limit else ""


class TfdsSource(Source):
    """A split of a tfds dataset."""

    def __init__(self, config):
        with extra("train"):
            import tensorflow_datasets as tfds

        from .tfds_builders import open_tfds

        name, split = config.source, config.split
        builder = open_tfds(name, config.data_dir, split)
        try:
            instructions = builder.info.splits[split].file_instructions
        except (ValueError, KeyError) as e:
            splits = ", ".join(builder.info.splits)
            raise DataError(f"{name} has no split {split!r}; it has {splits}") from e
        if builder.info.file_format.value != "tfrecord":
            raise DataError(
                f"{name} is stored as {builder.info.file_format.value}; training streams tfrecord: "
                f"`tfds build {name} --file_format tfrecord`"
            )
        super().__init__(
            [str(i.filename) for i in instructions],
            # `examples_in_shard` is what the file holds. A slice takes `take` of them, -1 for all.
            [i.examples_in_shard - i.skip if i.take == -1 else i.take for i in instructions],
        )
        self._skips = [i.skip for i in instructions]
        self._keys = config.image_key.split("/"), config.text_key.split("/")
        features = builder.info.features
        known = leaves(features)
        wanted_kinds = (tfds.features.Image, tfds.features.Text)
        for key, kind in zip((config.image_key, config.text_key), wanted_kinds, strict=True):
            if key not in known:
                raise DataError(f"{name} has no feature {key!r}; it has {', '.join(sorted(known))}")
            if not isinstance(known[key], kind):
                found = type(known[key]).__name__
                raise DataError(f"feature {key!r} of {name} is {found}, not {kind.__name__}")
        wanted, self._decoders = {}, {}
        for keys in self._keys:
            _set(wanted, keys, True)
        _set(self._decoders, self._keys[0], tfds.decode.SkipDecoding())
        self._features = tfds.decode.PartialDecoding(wanted).extract_features(features)

    def read(self, shard, skip):
        return super().read(shard, skip + tf.gather(tf.constant(self._skips, tf.int64), shard))

    def parse(self, record):
        example = self._features.deserialize_example(record["record"], decoders=self._decoders)
        image, texts = (functools.reduce(operator.getitem, k, example) for k in self._keys)
        return {"image": image, "texts": tf.reshape(texts, [-1])}

    def name(self, shard, index):
        return super().name(shard, self._skips[shard] + index)


class EmbeddingSource(Source):
    """What `lit-tf precompute` wrote: image embeddings and texts."""

    embeddings = True

    def __init__(self, folder, config):
        self.manifest = read_manifest(folder)
        entries = self.manifest["shards"]
        surveyed = shards.survey(
            [os.path.join(folder, entry["name"]) for entry in entries],
            functools.partial(tfrecord.scan, limit=config.max_example_bytes),
            [entry["examples"] for entry in entries],
        )
        lost = shards.lost_examples(surveyed, config.max_bad_share)
        super().__init__([s.path for s in surveyed], [s.examples for s in surveyed], lost)
        self._shape = (self.manifest["views"], self.manifest["width"])

    def parse(self, record):
        one, many = tf.io.FixedLenFeature([], tf.string), tf.io.VarLenFeature(tf.string)
        fields = {"image_embedding": one, "texts": many}
        fields = tf.io.parse_single_example(record["record"], fields)
        embedding = tf.io.decode_raw(fields["image_embedding"], tf.float32)
        embedding = tf.reshape(embedding, self._shape)
        return {"image_embedding": embedding, "texts": fields["texts"].values}


def open_source(config) -> Source:
    """Returns the source that a `DataConfig` describes; shards are listed and scanned here."""
    source = _open(config, source_format(config))
    if not sum(source.lengths):
        raise DataError(f"{config.source} holds no examples")
    source.config = config
    return source


def _open(config, format_name):
    if format_name == "tfds":
        return TfdsSource(config)
    if format_name == "embeddings":
        return EmbeddingSource(config.source, config)
    if format_name == "table":
        return TableSource([config.source], config)
    if format_name == "parquet":
        paths = find_shards(config.source, format_name)
        images = tables.holds_images(paths, _columns(config)[0])
        kind = ParquetSource if images else TableSource
        return kind(paths, config)
    scan, kind = (tar.scan, TarSource) if format_name == "tar" else (tfrecord.scan, TFRecordSource)
    scan = functools.partial(scan, limit=config.max_example_bytes)
    return kind(shards.survey(find_shards(config.source, format_name), scan), config)


def leaves(features, prefix="") -> dict:
    """Returns {"captions/text": feature} of all features of a tfds dataset, however nested."""
    features = getattr(features, "feature", features)  # what a sequence is of
    if not hasattr(features, "items"):
        return {prefix.rstrip("/"): features}
    found = [leaves(inner, f"{prefix}{key}/") for key, inner in features.items()]
    return {name: leaf for part in found for name, leaf in part.items()}


def _set(tree, keys, value):
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
    tree[keys[-1]] = value
