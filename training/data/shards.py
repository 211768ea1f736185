"""The state of shards: how many examples each holds, whether it is whole, what is lost.

Shards get lost: a download breaks off, or a server sends an error page in place of a file. Silently
training on the rest would be training on other data. So every shard is scanned once at the start,
from header to header, and the lengths found are used. img2dataset's `_stats.json` may be wrong, so
it is only compared with them, or used to estimate how much is missing.
"""

import concurrent.futures
import dataclasses
import json
import os
import statistics
import sys

import tensorflow as tf
import tqdm

from lit_tf.errors import DataError, plain
from lit_tf.files import parse_object, read_bytes

# Errors of reading a file, local or remote.
READ_ERRORS = (OSError, tf.errors.OpError)

# Statistics are a page of JSON, and no shard holds more examples than this.
_MAX_STATS_BYTES = 1 << 20
_MAX_EXAMPLES = 10**7
_NAMED, _SHOWN = 20, 5


class Damaged(Exception):
    """A shard breaks the rules of its format."""

    def __init__(self, problem: str, offset: int = 0):
        super().__init__(problem)
        self.offset = offset


@dataclasses.dataclass
class Shard:
    """One shard."""

    path: str
    examples: int  # that can be read, from the front
    problem: str | None = None  # why it is not a whole shard, to complete "SHARD ..."
    read: float = 1.0  # share of its bytes
    expected: int = 0  # examples that it should have held
    source: str = ""  # where `expected` comes from, in words

    @property
    def lost(self) -> int:
        """How many expected examples it does not hold."""
        return self.expected - self.examples


def open_shard(path: str, buffering: int = 8192):
    """Opens a local or remote shard for reading bytes."""
    if "://" in path:
        return tf.io.gfile.GFile(path, "rb")
    return open(path, "rb", buffering=buffering)


def size_of(path: str) -> int:
    """Returns a shard's size in bytes."""
    if tf.io.gfile.isdir(path):
        raise Damaged("is a folder")
    return tf.io.gfile.stat(path).length


def looks_like(start: bytes) -> str:
    """Returns what a file seems to be, such as "an HTML page", from its first 512 bytes."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for kind, found in (
        ("empty", not start),
        ("an HTML page", text.startswith((b"<!doctype html", b"<html"))),
        ("an XML document, perhaps a server's error message", text.startswith(b"<?xml")),
        ("a JSON text", text.startswith((b"{", b"["))),
        ("a Git LFS pointer, not the file itself", text.startswith(b"version https://git-lfs")),
        ("gzip-compressed; unpack it", start.startswith(b"\x1f\x8b")),
        ("zstd-compressed; unpack it", start.startswith(b"\x28\xb5\x2f\xfd")),
        ("xz-compressed; unpack it", start.startswith(b"\xfd7zXZ")),
        ("bzip2-compressed; unpack it", start.startswith(b"BZh")),
        ("a zip archive", start.startswith(b"PK\x03\x04")),
        ("a Parquet file", start.startswith(b"PAR1")),
        ("a tar", start[257:262] == b"ustar"),
        ("zeros only", not start.strip(b"\0")),
    ):
        if found:
            return kind
    return "another kind of file, or damaged at its start"


def survey(paths, scan, expected=None) -> list[Shard]:
    """Scans all shards."""
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = pool.map(lambda path: _scan(path, scan), paths)
        shards = list(tqdm.tqdm(found, "counting examples", len(paths), disable=len(paths) < 64))
        known = expected or list(pool.map(_statistics, paths))
    usual = [s.examples for s in shards if s.problem is None and s.examples]
    usual = int(statistics.median(usual)) if usual else None
    for shard, number in zip(shards, known, strict=True):
        if shard.examples == 0 and shard.problem is None and number != 0:
            shard.problem = "holds no examples"
        if expected and shard.problem is None and shard.examples != number:
            shard.problem = f"holds {shard.examples:,} examples"
        _expect(shard, number, "the manifest" if expected else "its _stats.json", usual)
    return shards


def _scan(path, scan):
    try:
        return scan(path)
    except Damaged as e:
        return Shard(path, 0, str(e), 0.0)
    except DataError as e:
        return Shard(path, 0, str(e).removeprefix(f"{path}: "), 0.0)
    except READ_ERRORS as e:
        return Shard(path, 0, f"cannot be read: {plain(e)}", 0.0)


def _expect(shard, number, source, usual):
    if shard.problem is None:
        shard.expected = shard.examples
        if number not in (None, shard.examples):
            shard.source = source
            shard.expected = number
    elif number is not None and number >= shard.examples:
        shard.expected, shard.source = number, source
    elif usual is not None:
        shard.expected, shard.source = max(usual, shard.examples), "an estimate, from other shards"
    else:
        # In proportion to the bytes that were read, and at least the example that broke off.
        whole = round(shard.examples / shard.read) if shard.read else 0
        shard.expected = max(whole, shard.examples + 1)
        shard.source = "an estimate, from its size"


def _statistics(path):
    """Returns how many examples img2dataset says that it wrote into a shard, or None."""
    try:
        with tf.io.gfile.GFile(os.path.splitext(path)[0] + "_stats.json", "rb") as file:
            number = json.loads(file.read(_MAX_STATS_BYTES))["successes"]
    except (*READ_ERRORS, ValueError, KeyError, TypeError, RecursionError):
        return None
    return number if type(number) is int and 0 <= number <= _MAX_EXAMPLES else None


def lost_examples(shards: list[Shard], max_bad_share: float, file=None) -> int:
    """Names the shards that are not whole, and returns how many examples are lost with them."""
    damaged = [s for s in shards if s.problem is not None]
    lines = [
        f"{os.path.basename(s.path)} {s.problem}: {s.examples:,} of {s.expected:,} examples can "
        f"be read ({s.source})"
        for s in damaged
    ]
    lost = sum(s.lost for s in damaged)
    total = sum(s.expected for s in damaged) + sum(s.examples for s in shards if not s.problem)
    if lost > max_bad_share * total:
        raise DataError(
            f"{lost:,} of {total:,} examples are lost with {len(damaged)} of {len(shards)} shards, "
            f"more than data.max_bad_share={max_bad_share:g} allows; fetch these shards again, or "
            f"raise it. {_some(lines)}"
        )
    differing = [s for s in shards if s.problem is None and s.expected != s.examples]
    lines += [
        f"{os.path.basename(s.path)} is whole and holds {s.examples:,} examples, but {s.source} "
        f"says {s.expected:,}; all {s.examples:,} are read"
        for s in differing
    ]
    if lines:
        print(f"data: {_some(lines)}", file=file or sys.stderr)
    return lost


def _some(lines):
    more = f"; and {len(lines) - _NAMED:,} more" if len(lines) > _NAMED else ""
    return "; ".join(lines[:_NAMED]) + more


def shard_sizes(source) -> dict[str, int]:
    """Returns {name below their common folder: bytes, -1 if unreadable} of a source's files."""
    paths = sorted(source.files)

    def size(path):
        try:
            return tf.io.gfile.stat(path).length
        except READ_ERRORS:
            return -1

    folder = os.path.dirname(os.path.commonprefix(paths))
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        sizes = zip(paths, pool.map(size, paths), strict=True)
        return {path[len(folder) :].lstrip("/"): n for path, n in sizes}


def read_sizes(path: str) -> dict[str, int] | None:
    """Returns the sizes in a local or remote JSON file, or None if there is none."""
    try:
        return parse_object(read_bytes(path), path)
    except (FileNotFoundError, DataError):
        return None


def differences(known: dict[str, int], sizes: dict[str, int]) -> str:
    """Returns how shards differ from those of an earlier start: "1 gone (0.tar)"; "" if not."""
    changes = {
        "new": sorted(sizes.keys() - known.keys()),
        "gone": sorted(known.keys() - sizes.keys()),
        "of another size": sorted(k for k in sizes.keys() & known.keys() if sizes[k] != known[k]),
    }
    return "; ".join(
        f"{len(names)} {what} ({', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''})"
        for what, names in changes.items()
        if names
    )
