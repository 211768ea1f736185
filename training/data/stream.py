"""From shards to an endless, shuffled, seekable stream of undecoded records.

Seeking by byte offset is slow on object stores, so shards are read from front to back:

- Every host owns an equal, contiguous range of the examples: whole shards, cut at both ends.
- An epoch visits the host's shards in an order drawn from (seed, epoch), several at once, and
  shuffles their records with a generator seeded by (seed, epoch, segment).
- A segment is a group of shards large enough to keep the buffer busy. A position in the stream is
  an epoch, a segment, and a number of records to skip in it, so a resumed run reads at most one
  segment without decoding it.
"""

import bisect
import dataclasses

import numpy as np
import tensorflow as tf

from lit_tf.errors import DataError

_SHARDS_AT_ONCE = 16
# The shuffle buffer drains at a segment's end, which is rarer the more buffers a segment holds.
_BUFFERS_PER_SEGMENT = 4


@dataclasses.dataclass(frozen=True)
class Piece:
    """Examples [skip, skip + take) of the shard with this number."""

    shard: int
    skip: int
    take: int


def split_evenly(lengths, host, hosts):
    """Returns the pieces of shards that a host reads: as many as any other; the rest is left."""
    each = sum(lengths) // hosts
    if not each:
        raise DataError(f"{sum(lengths)} examples are too few for {hosts} hosts")
    return cut(lengths, host * each, (host + 1) * each)


def cut(lengths, start, end):
    """Returns the pieces of shards that hold examples [start, end)."""
    pieces, first = [], 0
    for shard, length in enumerate(lengths):
        skip, stop = max(start - first, 0), min(end - first, length)
        if skip < stop:
            pieces.append(Piece(shard, skip, stop - skip))
        first += length
    return pieces


def segments(pieces, shuffle_buffer, seed, start=0):
    """Yields (pieces, seed, examples to skip) of the endless stream from `start` on."""
    epoch, position = divmod(start, sum(p.take for p in pieces))
    while True:
        # Sort Philox's raw output. NumPy may change the algorithm of Generator.permutation.
        bits = np.random.Philox(key=[seed % 2**63, epoch]).random_raw(len(pieces))
        order = [pieces[i] for i in np.argsort(bits, kind="stable")]
        for number, segment in enumerate(_group(order, shuffle_buffer * _BUFFERS_PER_SEGMENT)):
            length = sum(p.take for p in segment)
            if position >= length:
                position -= length
                continue
            raw = np.random.Philox(key=[seed % 2**63, epoch], counter=[0, 0, 1, number])
            yield segment, (raw.random_raw(2) >> 1).astype(np.int64) | 1, position
            position = 0
        epoch += 1


def _group(pieces, examples):
    """Cuts a list of pieces into runs of at least `examples`; the last run may have fewer."""
    ends = np.cumsum([p.take for p in pieces]).tolist()
    first = 0
    while first < len(pieces):
        before = ends[first - 1] if first else 0
        last = min(bisect.bisect_left(ends, before + examples), len(pieces) - 1)
        yield pieces[first : last + 1]
        first = last + 1


def records(source, pieces, shuffle_buffer, seed, start):
    """Returns the endless stream from `start` on: (position, record as of `read_piece`)."""
    vector = tf.TensorSpec([None], tf.int64)

    def generate():
        for segment, segment_seed, skip in segments(pieces, shuffle_buffer, seed, start):
            rows = np.array([dataclasses.astuple(p) for p in segment], np.int64)
            yield rows[:, 0], rows[:, 1], rows[:, 2], segment_seed, skip

    def read_segment(shards, skips, takes, segment_seed, skip):
        dataset = tf.data.Dataset.from_tensor_slices((shards, skips, takes)).interleave(
            lambda *piece: read_piece(source, *piece),
            cycle_length=_SHARDS_AT_ONCE,
            num_parallel_calls=_SHARDS_AT_ONCE,
            deterministic=True,
        )
        return shuffle(dataset, shuffle_buffer, segment_seed).skip(skip)

    dataset = tf.data.Dataset.from_generator(
        generate, output_signature=(vector, vector, vector, vector, tf.TensorSpec([], tf.int64))
    )
    # A parallel call fills the next segment's buffer while this segment's buffer drains.
    dataset = dataset.interleave(
        read_segment, cycle_length=1, num_parallel_calls=1, deterministic=True
    )
    return dataset.enumerate(start=start)


def read_in_order(source, pieces):
    """Returns the records of pieces one after the other, as `read_piece` does those of one."""
    rows = [dataclasses.astuple(p) for p in pieces] or [(0, 0, 0)]
    columns = np.array(rows, np.int64).T
    dataset = tf.data.Dataset.from_tensor_slices(tuple(columns))
    return dataset.flat_map(lambda *piece: read_piece(source, *piece))


def read_piece(source, shard, skip, take):
    """Returns exactly `take` records of a shard as dicts, even if it is damaged.

    The dicts are `source.read`'s, with `shard` and `index` (int64) and `present` (bool). If a shard
    ends early, records that are not `present` fill the rest.
    """
    dataset = source.read(shard, skip).take(take).apply(tf.data.Dataset.ignore_errors)
    missing = tf.nest.map_structure(blank, dataset.element_spec)
    dataset = dataset.map(lambda record: (record, True))
    dataset = dataset.concatenate(tf.data.Dataset.from_tensors((missing, False)).repeat())

    def placed(i, record):
        fields, present = record
        return {**fields, "shard": shard, "index": skip + i, "present": present}

    return dataset.take(take).enumerate().map(placed)


def blank(spec, start=()):
    """Returns zeros, or empty strings, as a spec says; `start` replaces its first dimensions."""
    shape = [*start, *(n or 0 for n in spec.shape[len(start) :])]
    return tf.fill(shape, "") if spec.dtype == tf.string else tf.zeros(shape, spec.dtype)


def shuffle(dataset, buffer_size, seed):
    """`Dataset.shuffle`, seeded by an int64 (2,) tensor alone, not by the global seed too."""
    spec = dataset.element_spec
    variant = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(dataset),
        buffer_size=tf.constant(buffer_size, tf.int64),
        seed=seed[0],
        seed2=seed[1],
        output_types=[s.dtype for s in tf.nest.flatten(spec)],
        output_shapes=[s.shape for s in tf.nest.flatten(spec)],
        reshuffle_each_iteration=False,
    )
    return tf.data.experimental.from_variant(variant, spec)
