"""From the name of a source to its format and its shards."""

import itertools
import os
import re

import tensorflow as tf

from lit_tf.errors import DataError, extra

from . import shards, tables
from .embeddings import MANIFEST

with extra("train"):
    import braceexpand

_FORMATS = ("tfds", "tar", "tfrecord", "parquet", "table", "embeddings")
_SUFFIXES = {"tar": (".tar",), "tfrecord": (".tfrecord", ".tfrecords"), "parquet": (".parquet",)}
# How many patterns braces may expand to; the largest published sets have half a million shards.
_MAX_PATTERNS = 1_000_000


def source_format(config) -> str:
    """Returns the format of a source, one of `_FORMATS`."""
    format_name = config.format if config.format != "auto" else _guess(config.source)
    if format_name not in _FORMATS:
        raise DataError(f"data.format is {format_name!r}; expected auto, {', '.join(_FORMATS)}")
    return format_name


def find_shards(source: str, format_name: str) -> list[str]:
    """Returns the sorted paths that a pattern names."""
    if tf.io.gfile.isdir(source):
        patterns = [os.path.join(source, f"*{suffix}") for suffix in _SUFFIXES[format_name]]
    else:
        patterns = _unbraced(source)
    found = [tf.io.gfile.glob(pattern) for pattern in patterns]
    if not any(found):
        raise DataError(f"no {format_name} shards at {source}")
    if "{" in source and not all(found):
        absent = [p for p, paths in zip(patterns, found, strict=True) if not paths]
        raise DataError(
            f"{len(patterns) - len(absent)} of {len(patterns)} shards found at {source}; the first "
            f"that is missing is {absent[0]}"
        )
    return sorted(set(itertools.chain(*found)))


def _unbraced(source):
    """Returns the patterns that a pattern with braces expands to: `{00..09}`, `{a,b}`."""
    many = re.search(r"\d{8}[.}]", source)  # braceexpand would hold them all in memory
    try:
        found = [] if many else braceexpand.braceexpand(source, escape=False)
        patterns = list(itertools.islice(found, _MAX_PATTERNS + 1))
    except braceexpand.UnbalancedBracesError:
        return [source]
    if many or len(patterns) > _MAX_PATTERNS:
        raise DataError(f"{source} stands for over {_MAX_PATTERNS:,} shards")
    return patterns


def _guess(source):
    if tf.io.gfile.exists(os.path.join(source, MANIFEST)):
        return "embeddings"
    for format_name, suffixes in _SUFFIXES.items():
        if source.lower().endswith(suffixes):
            return format_name
        if tf.io.gfile.isdir(source) and any(
            tf.io.gfile.glob(os.path.join(source, f"*{suffix}")) for suffix in suffixes
        ):
            return format_name
    if tables.is_table(source):
        return "table"
    if "://" in source or any(c in source for c in "*?{"):
        known = ", ".join(_FORMATS[1:])
        raise DataError(f"cannot tell the format of {source}: set data.format to {known}")
    # A dataset of tfds may be called "name/config" and nothing else that looks like a path.
    path_like = source.startswith(("/", ".", "~")) or source.count("/") > 1
    if os.path.exists(source) or path_like or re.search(r"\.[A-Za-z]\w*$", source):
        raise DataError(_not_a_source(source))
    return "tfds"


def _not_a_source(source):
    reads = (
        "training reads tars (.tar), TFRecords (.tfrecord), Parquet (.parquet), tables of paths "
        "and captions (.csv, .tsv, .jsonl), what `lit-tf precompute` wrote, and datasets of tfds"
    )
    if os.path.isdir(source):
        names = sorted(os.listdir(source))[:3]
        holds = f"it holds {', '.join(names)}, ..." if names else "it is empty"
        return f"no shards in the folder {source} ({holds}); {reads}"
    if not os.path.exists(source):
        return f"no such file or folder: {source}; {reads}"
    try:
        with open(source, "rb") as file:
            kind = shards.looks_like(file.read(512))
    except OSError as e:
        return f"{source} cannot be read: {e}"
    return f"{source} is {kind}; {reads}. If it is one of these under another name, set data.format"
