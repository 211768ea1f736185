"""Which files a run reads, and whether they are still those of an earlier start."""

import concurrent.futures
import json
import os

import tensorflow as tf

from . import shards

_NAMED = 5


def shard_sizes(source) -> dict[str, int]:
    """Returns {name below their common folder: bytes, -1 if unreadable} of a source's files."""
    paths = sorted(source.files)

    def size(path):
        try:
            return tf.io.gfile.stat(path).length
        except shards.READ_ERRORS:
            return -1

    folder = os.path.dirname(os.path.commonprefix(paths))
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        return {
            p[len(folder) :].lstrip("/"): n
            for p, n in zip(paths, pool.map(size, paths), strict=True)
        }


def read_sizes(path: str) -> dict[str, int] | None:
    """Returns the sizes in a local or remote JSON file, or None if there is none."""
    try:
        with tf.io.gfile.GFile(path) as file:
            sizes = json.loads(file.read())
    except (tf.errors.NotFoundError, ValueError, RecursionError):
        return None
    return sizes if isinstance(sizes, dict) else None


def differences(known: dict[str, int], sizes: dict[str, int]) -> str:
    """Returns how shards differ from those of an earlier start: "1 gone (0.tar)"; "" if not."""
    changes = {
        "new": sorted(sizes.keys() - known.keys()),
        "gone": sorted(known.keys() - sizes.keys()),
        "of another size": sorted(k for k in sizes.keys() & known.keys() if sizes[k] != known[k]),
    }
    return "; ".join(
        f"{len(names)} {what} ({', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''})"
        for what, names in changes.items()
        if names
    )
