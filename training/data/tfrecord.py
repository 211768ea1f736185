"""TFRecord files, scanned from length to length.

A record is its length (8 bytes, little-endian), the length's checksum (4), the data, the data's
checksum (4). The checksums are masked CRC-32C (tensorflow/core/lib/io/record_writer.h). The lengths
are checked here, without reading the data. Then TensorFlow reads the records.
"""

import struct

import tensorflow as tf
from google.protobuf.message import DecodeError

from lit_tf.errors import extra

from . import shards
from .shards import Damaged, Shard

with extra("train"):
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c as masked_crc

_HEAD, _TAIL = 12, 4


def scan(path: str, limit: int) -> Shard:
    """Scans a TFRecord file."""
    size, count, offset = shards.size_of(path), 0, 0
    with shards.open_shard(path) as file:
        try:
            while offset < size:
                offset += _record(file, offset, size, limit, count)
                count += 1
            if not size:
                raise Damaged("is empty")
        except Damaged as e:
            return Shard(path, count, str(e), offset / max(size, 1))
    return Shard(path, count)


def describe(record: bytes) -> str:
    """Returns a record's fields and their kinds, in words."""
    try:
        features = tf.train.Example.FromString(record).features.feature
    except DecodeError:
        return "not a tf.train.Example"
    kinds = {name: features[name].WhichOneof("kind") for name in sorted(features)[:20]}
    fields = [f"{name} ({(kind or 'empty').partition('_')[0]})" for name, kind in kinds.items()]
    return f"fields {', '.join(fields)}" if fields else "no fields"


def _record(file, offset, size, limit, number):
    file.seek(offset)
    head = file.read(_HEAD)
    whole = len(head) == _HEAD
    if not (whole and masked_crc(head[:8]) == struct.unpack("<I", head[8:])[0]):
        if not offset:
            file.seek(0)
            raise Damaged(f"is not a TFRecord: it is {shards.looks_like(file.read(512))}")
        if whole:
            raise Damaged(f"has a damaged length of record #{number}, at byte {offset:,}", offset)
        raise Damaged(f"ends inside record #{number}, at byte {size:,}", offset)
    (length,) = struct.unpack("<Q", head[:8])
    if length > limit:
        about = f"has a record #{number} of {length:,} bytes"
        raise Damaged(f"{about}, over data.max_example_bytes", offset)
    if offset + _HEAD + length + _TAIL > size:
        raise Damaged(f"ends inside record #{number}, at byte {size:,}", offset)
    return _HEAD + length + _TAIL
