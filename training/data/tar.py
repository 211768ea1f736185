"""Webdataset tars as img2dataset writes them: members KEY.jpg, KEY.txt, KEY.json side by side."""

import json
import tarfile

import tensorflow as tf

# Bytes that one read may ask of an object store.
_BLOCK = 1 << 20


def count(path: str) -> int:
    """Returns how many samples a tar holds, of a damaged one as many as can be reached."""
    return sum(1 for _ in _keys(path))


def samples(path: str, skip: int = 0):
    """Yields the samples of a tar from number `skip` on, in order.

    Args:
        path: Local or remote path of the tar.
        skip: Samples to pass over.

    Yields:
        {extension: bytes} of one sample. A damaged tar ends where the damage begins.
    """
    key, sample, number = None, {}, -1
    for member_key, extension, read in _members(path):
        if member_key != key:
            if sample:
                yield sample
            key, sample, number = member_key, {}, number + 1
        if number >= skip:
            try:
                sample[extension] = read()
            except (tarfile.ReadError, OSError, tf.errors.OpError):
                return  # the sample is cut off
    if sample:
        yield sample


def field(sample: dict, names) -> bytes:
    """Returns the first member or field there is among the names, else b"".

    Args:
        sample: {extension: bytes}.
        names: Extensions, or "json/NAME" for a string in the JSON member.
    """
    for name in names:
        extension, _, key = name.partition("/")
        data = sample.get(extension)
        if data is None:
            continue
        if not key:
            return data
        try:
            value = json.loads(data)
            for part in key.split("/"):
                value = value[part]
        except (ValueError, KeyError, TypeError, IndexError):
            continue
        if isinstance(value, str):
            return value.encode()
    return b""


def _keys(path):
    key = None
    for member_key, _, _ in _members(path):
        if member_key != key:
            key = member_key
            yield key


def _members(path):
    """Yields (key, extension, function that reads it) of every file in a tar, front to back."""
    with tf.io.gfile.GFile(path, "rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r|", bufsize=_BLOCK) as archive:
                for member in archive:
                    if member.isfile():
                        folder, slash, name = member.name.rpartition("/")
                        stem, _, extension = name.partition(".")
                        yield (
                            folder + slash + stem,
                            extension.lower(),
                            lambda member=member: archive.extractfile(member).read(),
                        )
                    archive.members = []  # tarfile would keep every header
        except (tarfile.ReadError, EOFError, OSError, tf.errors.OpError):
            return
