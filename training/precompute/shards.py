"""Image embeddings of a whole dataset, computed once: the paper's shortcut for a locked tower.

The folder holds shards `embeddings-00003-of-00016.tfrecord`, beside each a `.json` that says it is
complete, and, once all are, `manifest.json`. A shard is a contiguous range of the examples, so
hosts need not talk to each other, and a run that was killed continues with the missing shards.
`shards.json` holds names and sizes of the files that were read, or the ranges might not fit.
"""

import dataclasses
import functools
import json
import os

import numpy as np
import tensorflow as tf
import tqdm

import lit_tf
from lit_tf.errors import ConfigError, DataError
from lit_tf.files import parse_object, read_bytes, replacing_path, write_text
from lit_tf.images.decoding import decode_in_dataset
from lit_tf.images.preparation import preparation

from ..config import DataConfig
from ..data import augment, stream
from ..data.counters import GOOD, Counters, status_of
from ..data.embeddings import MANIFEST, read_manifest, tower_of
from ..data.pipeline import attempt, clean, naming
from ..data.shards import differences, read_sizes, shard_sizes
from ..data.sources import open_source
from ..distribution.embedder import ReplicatedEmbedder
from . import beam

SHARDS = "shards.json"


@dataclasses.dataclass(frozen=True)
class Job:
    """What to precompute."""

    checkpoint: str
    data: DataConfig
    output: str
    resolution: int | None = None
    shards: int = 16
    views: int = 1
    batch_size: int = 64
    seed: int = 0
    dtype: str = "float32"

    def __post_init__(self):
        for field in ("shards", "views", "batch_size"):
            if getattr(self, field) < 1:
                raise ConfigError(f"{field} is {getattr(self, field)}; expected at least 1")
        if self.views > 1 and not self.data.augment:
            raise ConfigError(f"{self.views} views without augmentation would all be the same")

    def settings(self) -> dict:
        """Returns what decides the shards' content, as JSON takes it."""
        values = dataclasses.asdict(self)
        for name in ("output", "batch_size"):
            del values[name]
        for name in ("shuffle_buffer", "max_bad_share", "max_pixels"):
            del values["data"][name]
        return values


def precompute(
    job: Job, *, host: int = 0, hosts: int = 1, progress: bool = True, strategy=None
) -> Counters:
    """Writes this host's share of the shards that are missing, and the manifest after the last."""
    is_finished(job)  # refuses the folder of another job
    counters = Counters()
    todo = [i for i in range(host, job.shards, hosts) if not _done(job, i)]
    source = _open(job)
    if todo:
        writer = ShardWriter(job, strategy, source)
        for number in tqdm.tqdm(todo, unit="shard", disable=not progress):
            writer(number, counters)
    write_manifest_if_complete(job)
    return counters


def precompute_with_beam(job: Job, options: list[str]) -> None:
    """Writes the shards that are missing as an Apache Beam pipeline."""
    is_finished(job)  # refuses the folder of another job
    todo = [i for i in range(job.shards) if not _done(job, i)]
    _open(job)
    beam.run(todo, functools.partial(ShardWriter, job), options)
    write_manifest_if_complete(job)


class ShardWriter:
    """An image tower and a source, opened once, to write any of a job's shards."""

    def __init__(self, job: Job, strategy: tf.distribute.Strategy | None = None, source=None):
        self._job = job
        self._source = source or open_source(job.data)
        if self._source.embeddings:
            raise DataError(f"{job.data.source} holds embeddings already, no images")
        strategy = strategy or tf.distribute.get_strategy()
        with strategy.scope():
            model = lit_tf.load(job.checkpoint, resolution=job.resolution, dtype=job.dtype)
        if model.config.image is None:
            raise DataError(f"{job.checkpoint} has no image tower")
        if model.config.image.naflex:
            raise DataError(f"{job.checkpoint} is NaFlex; expected a model of square images")
        self._size = model.config.image.image_size
        self._square = preparation(model.config)
        self._width = model.config.embedding_dim
        self._tower = tower_of(model)
        self._embedder = ReplicatedEmbedder(strategy, model.embed_pixels, job.batch_size)

    def __call__(self, number: int, counters: Counters | None = None) -> None:
        """Writes one shard, and beside it the .json that marks it as complete."""
        job, source = self._job, self._source
        counters = Counters() if counters is None else counters
        total, path = sum(source.lengths), _path(job, number)
        counters.lose(source.lost, source.lost + total)
        start = number * total // job.shards
        pieces = stream.cut(source.lengths, start, (number + 1) * total // job.shards)
        tf.io.gfile.makedirs(job.output)
        written = 0
        with replacing_path(path) as beside, tf.io.TFRecordWriter(beside) as writer:
            for batch in self._batches(pieces, start):
                embeddings = self._embed(batch["views"].numpy())
                status = batch["status"].numpy()
                places = batch["shard"].numpy(), batch["index"].numpy()
                names = naming(source, counters, *places)
                counters.add(status, names, job.data.max_bad_share)
                for i in np.flatnonzero(status == GOOD):
                    count = int(batch["count"][i])
                    texts = batch["texts"][i, :count].numpy().tolist()
                    writer.write(to_example(embeddings[i], texts))
                    written += 1
        about = {"settings": job.settings(), "image_tower": self._tower, "width": self._width}
        about |= {"resolution": self._size, "examples": written}
        _write_json(f"{path}.json", about)

    def _batches(self, pieces, start):
        job = self._job
        dataset = stream.read_in_order(self._source, pieces).enumerate(start=start)
        dataset = dataset.map(self._prepare, num_parallel_calls=tf.data.AUTOTUNE)
        # Texts of a batch are padded to as many as the longest list has.
        dataset = dataset.padded_batch(job.batch_size)
        return dataset.prefetch(tf.data.AUTOTUNE)

    def _prepare(self, position, record):
        job, size = self._job, self._size
        transform, draws = augment.parse(job.data.augment)
        seed = tf.random.fold_in(tf.constant([job.seed, 1], tf.int64), position)

        def decode(record):
            parsed = self._source.parse(record)
            image = decode_in_dataset(parsed["image"], job.data.max_pixels, exif=job.data.exif)
            image = self._square(image)
            return image, clean(parsed["texts"])

        fallback = tf.zeros((size, size, 3), tf.uint8), tf.zeros([0], tf.string)
        (image, texts), decoded = attempt(decode, record, fallback)
        image = tf.ensure_shape(image, (size, size, 3))
        views = [image] * job.views
        if draws:
            uniform = tf.random.stateless_uniform([job.views, draws], seed)
            views = [transform(image, uniform[view]) for view in range(job.views)]
        count = tf.size(texts)
        status = status_of(record["present"], decoded, count > 0)
        place = {"shard": record["shard"], "index": record["index"]}
        found = {"views": tf.stack(views), "texts": texts, "count": count, "status": status}
        return {**found, **place}

    def _embed(self, views):
        """Returns float32 (examples, views, D) of uint8 (examples, views, side, side, 3)."""
        embeddings = self._embedder.embed_rows(views.reshape((-1, *views.shape[2:])))
        return embeddings.astype("<f4").reshape((*views.shape[:2], self._width))


def write_manifest_if_complete(job: Job) -> bool:
    """Writes the manifest if all shards are there, and says whether they are."""
    if not all(_done(job, i) for i in range(job.shards)):
        return False
    shards = [_read_record(f"{_path(job, i)}.json") for i in range(job.shards)]
    if len({s["image_tower"] for s in shards}) > 1:
        raise DataError(
            f"shards in {job.output} come from different image towers though all name "
            f"{job.checkpoint}; remove them and run again"
        )
    manifest = {key: shards[0][key] for key in ("settings", "image_tower", "width", "resolution")}
    manifest["views"] = job.views
    manifest["shards"] = [
        {"name": os.path.basename(_path(job, i)), "examples": s["examples"]}
        for i, s in enumerate(shards)
    ]
    _write_json(os.path.join(job.output, MANIFEST), manifest)
    return True


def is_finished(job: Job) -> bool:
    """Whether all of a job's shards are there; refuses the folder of another job."""
    path = os.path.join(job.output, MANIFEST)
    if not tf.io.gfile.exists(path):
        return False
    _check_settings(job, path, read_manifest(job.output)["settings"])
    return True


def _open(job):
    """Opens the data, None if it is gone and all is done; refuses files that have changed since."""
    path = os.path.join(job.output, SHARDS)
    known = read_sizes(path)
    try:
        source = open_source(job.data)
    except DataError:
        if tf.io.gfile.exists(os.path.join(job.output, MANIFEST)):
            return None
        raise
    sizes = shard_sizes(source)
    if known is None:
        tf.io.gfile.makedirs(job.output)
        write_text(path, json.dumps(sizes, indent=0))
    elif changes := differences(known, sizes):
        raise DataError(
            f"the files of {job.data.source} have changed since {job.output} was begun: {changes}. "
            "Embeddings of both would repeat some pairs and lack others; choose another folder or "
            "remove this one"
        )
    return source


def _path(job, number):
    return os.path.join(job.output, f"embeddings-{number:05d}-of-{job.shards:05d}.tfrecord")


def _done(job, number):
    path = f"{_path(job, number)}.json"
    if not tf.io.gfile.exists(path):
        return False
    _check_settings(job, path, _read_record(path)["settings"])
    return True


def _check_settings(job, path, found):
    wanted = job.settings()
    if found != wanted:
        different = sorted(k for k in wanted if found.get(k) != wanted[k])
        raise DataError(
            f"{path} was made with other settings ({', '.join(different)}); choose another folder "
            "or remove this one"
        )


def to_example(embedding, texts):
    """Returns the serialized `tf.train.Example` of an image's embedding and its texts, as bytes."""

    def feature(values):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    fields = {"image_embedding": feature([embedding.tobytes()]), "texts": feature(texts)}
    return tf.train.Example(features=tf.train.Features(feature=fields)).SerializeToString()


def _read_record(path):
    """Returns what was written beside a shard: how it was made, and how many examples it holds."""
    record = parse_object(read_bytes(path), path)
    expected = dict(settings=dict, image_tower=str, width=int, resolution=int, examples=int)
    if wrong := [key for key, kind in expected.items() if type(record.get(key)) is not kind]:
        raise DataError(
            f"{path} is damaged ({', '.join(wrong)}); remove it and run again, which makes its "
            "shard again"
        )
    return record


def _write_json(path, value):
    write_text(path, json.dumps(value, indent=2) + "\n")
