"""Datasets of images with captions, from tfds or from a table of paths and captions."""

import dataclasses
import os
import pathlib

from lit_tf.errors import DataError

from ..config import DataConfig
from ..data.sources import TableSource, leaves, open_source
from ..data.tables import SUFFIXES
from .images import PUBLISHED, Decoding, FileImages, Images, SourceImages, TfdsImages, check_count
from .notes import counted, some
from .recipes import open_recipe

_SHARDS = (".tar", ".tfrecord", ".tfrecords")


@dataclasses.dataclass
class Captioned:
    """Images with captions."""

    images: Images
    captions: list[list[str]]
    notes: list[str] = dataclasses.field(default_factory=list)
    standard: bool = False


def open_captioned(
    argument: str,
    *,
    data_dir: str | None = None,
    download: bool = True,
    decoding: Decoding = PUBLISHED,
) -> Captioned:
    """Opens a dataset of images with captions."""
    known = argument.lower().endswith((*_SHARDS, *SUFFIXES)) or os.path.isdir(argument)
    if known or os.path.isfile(argument):  # any other file is a table
        config = DataConfig(source=argument, format="auto" if known else "table")
        data = _of_source(open_source(config))
    else:
        data = _captioned_of_tfds(argument, data_dir, download)
    data.images.decoding = decoding
    return _without_empty(data)


def _captioned_of_tfds(argument, data_dir, download):
    name, builder, _, split, standard = open_recipe(argument, data_dir, download)
    images = TfdsImages(builder, split)
    path = _caption_feature(builder)
    wanted = {path[0]: {path[1]: True} if path[1:] else True}
    captions = []
    for row in images.columns(wanted):
        texts = row[path] if isinstance(row[path], list) else [row[path]]
        captions.append([t.decode("utf-8", "replace") for t in texts])
    images.name = name
    return Captioned(images, captions, standard=standard)


def _of_source(source):
    """Reads the captions of all examples, in order; of a table, several rows may have one image."""
    name = pathlib.Path(source.config.source.rstrip("/")).stem
    if isinstance(source, TableSource):
        rows = source.rows
        return Captioned(FileImages(name, list(rows)), list(rows.values()))
    if source.embeddings:
        raise DataError(
            f"{source.config.source} holds embeddings of images, which a model cannot embed again; "
            "name the images that they were made of"
        )
    images = SourceImages(name, source)
    captions = [[text.decode("utf-8", "replace") for text in texts] for texts in images.captions()]
    return Captioned(images, captions)


def _caption_feature(builder):
    known = leaves(builder.info.features)
    for name in ("captions/text", "captions", "caption/text", "caption", "text"):
        if name in known:
            return tuple(name.split("/"))
    found = ", ".join(known)
    raise DataError(f"{builder.name} has no captions (captions/text, caption, text), only {found}")


def _without_empty(data):
    check_count(data.images, len(data.captions), "captions")
    empty = [i for i, texts in enumerate(data.captions) for t in texts if not t.strip()]
    if empty:
        data.captions = [[t for t in texts if t.strip()] for texts in data.captions]
        data.notes.append(
            f"left out: {counted(len(empty), 'empty caption')}, of "
            + some([data.images.locate(i) for i in sorted(set(empty))[:3]], len(set(empty)))
        )
    if not any(data.captions):
        raise DataError(f"{data.images.name}:{data.images.split} has no captions")
    return data
