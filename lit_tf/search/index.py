"""From folders of pictures to a table of their embeddings: only new and changed ones are embedded.

Finished rows are written every few seconds. A killed process loses a few seconds of work, and the
next one continues from there. One process writes at a time.
"""

import dataclasses
import datetime
import glob
import hashlib
import io
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterable

import numpy as np
import PIL.ExifTags
import PIL.Image

from lit_tf.errors import DataError, ImageError, extra
from lit_tf.files import printable
from lit_tf.images import preprocessing
from lit_tf.images.formats import MAX_PIXELS, check_max_pixels
from lit_tf.images.preparation import on_cpu, preparation
from lit_tf.loading import load
from lit_tf.search import store as stores
from lit_tf.search.changes import compare, state
from lit_tf.search.paths import Walk, from_stored, listed, to_stored
from lit_tf.search.store import Model, Store

with extra("search"):
    import pyarrow as pa

THUMBNAIL_SIDE = 192
# A write takes 10 to 50 ms. This is the most work, in seconds and in rows, that a kill costs.
_WRITE_SECONDS, _WRITE_ROWS = 2.0, 2048
_ADVICE = "Index with that model, or into another --db, or embed all again with --reembed"
_MAX_BYTES = 1 << 30  # no picture is this large, and reading such a file would fill the memory


@dataclasses.dataclass
class Report:
    """What `update` did, in numbers of pictures where nothing else is said."""

    found: int = 0  # what the sources hold
    new: int = 0  # of them, those that the index did not know
    changed: int = 0  # those that had another size or time of modification
    moved: int = 0  # of the new ones, those that only have another path, and kept their embedding
    embedded: int = 0
    # (path, reason) of those that could not be read.
    failures: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    # Paths that the index knows and the sources no longer hold.
    gone: list[str] = dataclasses.field(default_factory=list)
    # {place: number}: like `gone`, but nothing is left in the place.
    doubtful: dict[str, int] = dataclasses.field(default_factory=dict)
    deleted: int = 0
    # {ending: number} of files that are not pictures by their ending.
    passed_over: dict[str, int] = dataclasses.field(default_factory=dict)
    # (path, reason) of folders and links that were left out.
    problems: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    rows: int = 0  # in the index now


@dataclasses.dataclass(frozen=True)
class Settings:
    """How pictures are embedded. A worker on another machine needs nothing else."""

    checkpoint: str  # a name, a path or an address
    vocab: str | None = None  # by default the vocabulary beside the checkpoint
    resolution: int | None = None  # side of the images in pixels; by default the model's own
    dtype: str | None = None  # see `lit_tf.load`
    batch_size: int = 32
    max_pixels: int = MAX_PIXELS  # width times height of the largest picture that is decoded
    max_patches: int | None = None  # see `LitModel.encode_image`
    preprocessing: str | None = None  # see `lit_tf.load`
    # A function of the model to one that embeds images with its quantized tower, such as
    # `lit_tf.export.int8_images`; by default the float tower embeds.
    int8: Callable | None = None

    def load(self):
        """Returns the model, with an image tower."""
        how = {"vocab": self.vocab, "resolution": self.resolution, "dtype": self.dtype}
        model = load(self.checkpoint, **how, preprocessing=self.preprocessing)
        model.tower("image")
        return model

    @property
    def tower(self) -> str:
        """Which tower embeds, as the index records it."""
        return "dynamic_int8" if self.int8 else "float32"


def update(
    db: str | os.PathLike,
    sources: Iterable[str | os.PathLike],
    settings: Settings,
    *,
    prune: bool = False,
    prune_all: bool = False,
    exclude: Iterable[str] = (),
    reembed: bool = False,
    embed: Callable | None = None,
    progress: Callable | None = None,
    index_from_rows: int = stores.INDEX_FROM_ROWS,
) -> Report:
    """Brings an index of pictures up to date with folders, or makes a new index.

    Args:
        db: the index's folder.
        sources: folders, files, and patterns of either; see `Walk`.
        settings: how pictures are embedded.
        prune: whether pictures that are gone from the sources are deleted from the index, unless
            nothing is left of a source, whose drive may not be mounted.
        prune_all: whether these are deleted too.
        exclude: patterns of what is passed over: of names, or with a slash of whole paths.
        reembed: whether all pictures of an index of another model are embedded by this one. Until
            that is done, the old index stays and answers; a killed run is continued.
        embed: the function that embeds pictures, with the arguments of `embed_here`, the default.
        progress: a function of a number of pictures to a bar with `update(n)` and `close()`.
        index_from_rows: the number of rows from which on an approximate index is made.

    Returns:
        What was done.

    Raises:
        DataError: a source does not exist, the index belongs to another model, or another process
            writes to it.
    """
    check_max_pixels(settings.max_pixels)
    # The index itself may lie in a folder of pictures.
    walk = Walk([*listed(exclude), glob.escape(os.path.abspath(db))])
    sources = listed(sources)
    with stores.writing(db):
        store, old, model = Store.find(db), None, None
        if reembed and store is not None:
            model = settings.load()
            found = identity(model, settings)
            if store.model.differences(found):
                old, store = store, store.successor(found)
                sources += _files(old, prune_all)
            else:
                store.drop_successor()
        changes = compare(store, sources, walk)
        new = len(changes.todo) - len(changes.changed) + len(changes.moved)
        report = Report(changes.found, new, len(changes.changed), len(changes.moved))
        report.gone, report.problems = changes.gone, walk.problems
        report.doubtful = {place: len(paths) for place, paths in changes.doubtful.items()}
        report.passed_over = dict(walk.passed_over.most_common())
        if changes.todo or store is None or not _is_said_to_be(settings, store.model):
            model = model or settings.load()
            found = identity(model, settings)
            store = store or Store.create(db, found)
            store.model.check(found, db, _ADVICE)
        store.move({to_stored(old): to_stored(new) for new, old in changes.moved.items()})
        if changes.todo:
            tables = (embed or embed_here)(settings, model, changes.todo, report)
            _write(store, tables, report, progress and progress(len(changes.todo)))
            shutil.rmtree(os.path.join(db, stores.BEAM), ignore_errors=True)  # now in the table
        _delete(store, changes, report, prune, prune_all)
        if old is not None:
            store = old.replace(store)
        store.tidy()
        if store.needs_vector_index(index_from_rows):
            store.make_vector_index()
        report.rows = store.rows
    return report


def _files(store, give_up):
    """Returns the pictures of an index that exist; if some do not, they have to be given up."""
    paths = [from_stored(path) for path in store.columns(["path"])["path"].to_pylist()]
    missing = [path for path in paths if not os.path.exists(path)]
    if missing and not give_up:
        raise DataError(
            f"{len(missing)} pictures of {store.path} cannot be embedded again, since they are not "
            f"there, such as {printable(missing[0])}: mount their drive, delete them by --prune "
            "first, or give them up with --prune-all"
        )
    return list(set(paths).difference(missing))


def _delete(store, changes, report, prune, prune_all):
    """Deletes the rows of what is gone, if that is asked for, and of what became unreadable."""
    unreadable = [path for path, _ in report.failures if path in changes.changed]
    gone = [*changes.gone] if prune or prune_all else []
    if prune_all:
        gone += itertools.chain(*changes.doubtful.values())
    store.delete([to_stored(path) for path in (*unreadable, *gone)])
    report.deleted = len(gone)


def identity(model, settings: Settings) -> Model:
    """Returns the record that identifies this model in a table of pictures."""
    vocab = settings.vocab and os.path.abspath(settings.vocab)
    patches = getattr(preparation(model.config, settings.max_patches), "max_patches", None)
    how = {"tower": settings.tower, "max_patches": patches}
    return Model.of(model, recorded(settings.checkpoint), vocab, **how)


def recorded(checkpoint: str | os.PathLike) -> str:
    """Returns a checkpoint's name, its address, or its absolute path."""
    checkpoint = os.fspath(checkpoint)
    return os.path.abspath(checkpoint) if os.path.exists(checkpoint) else checkpoint


def _is_said_to_be(settings, model):
    """Whether settings name the model of a table. They do not prove that its weights are equal."""
    stated = ("resolution", "dtype", "max_patches", "preprocessing")
    same = all(getattr(settings, name) in (None, getattr(model, name)) for name in stated)
    return same and (recorded(settings.checkpoint), settings.tower) == (
        model.checkpoint,
        model.tower,
    )


def embed_here(settings: Settings, model, paths: Iterable[str], report: Report):
    """Yields tables of rows with all columns; adds to the report what was embedded."""
    prepare = preparation(model.config, settings.max_patches)

    def read(path):
        data, status = _read_file(path)
        image = preprocessing.to_pixels(data, printable(path), settings.max_pixels)
        height, width, _ = image.shape
        facts = to_stored(path), *state(status), hashlib.sha256(data).hexdigest(), _taken(data)
        row = (*facts, width, height, _thumbnail(np.asarray(image)))
        return on_cpu(prepare, image), dict(zip(stores.FACTS.names, row, strict=True))

    def failed(path, error):
        report.failures.append((path, str(error)))

    batches = model.embed_stream(
        paths,
        settings.batch_size,
        max_patches=settings.max_patches,
        read=read,
        failed=failed,
        embed=settings.int8 and settings.int8(model),
    )
    for batch in batches:
        report.embedded += len(batch.items)
        flat = pa.array(np.ascontiguousarray(batch.embeddings, np.float32).ravel())
        embeddings = pa.FixedSizeListArray.from_arrays(flat, batch.embeddings.shape[1])
        rows = pa.Table.from_pylist(batch.extras, stores.FACTS)
        yield rows.append_column("embedding", embeddings)


def _write(store, tables, report, bar):
    """Writes rows as they come, in transactions of a few seconds' work, and moves a bar."""
    waiting, last, done = [], time.monotonic(), 0
    try:
        for table in tables:
            waiting.append(table)
            if bar is not None:
                bar.update(report.embedded + len(report.failures) - done)
                done = report.embedded + len(report.failures)
            late = time.monotonic() - last >= _WRITE_SECONDS
            if late or sum(map(len, waiting)) >= _WRITE_ROWS:
                store.write(pa.concat_tables(waiting))
                waiting, last = [], time.monotonic()
    finally:
        if waiting:
            store.write(pa.concat_tables(waiting))
        if bar is not None:
            bar.close()


def _read_file(path):
    """Returns a file's bytes, and its size and time as they were when it was read."""
    name = printable(path)
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_size > _MAX_BYTES:
                raise ImageError(f"{name} has {status.st_size:,} bytes; expected a picture")
            return file.read(), status
    except OSError as e:
        raise ImageError(f"{name} cannot be read: {e.strerror}") from e


def _thumbnail(image):
    """Returns a small JPEG of uint8 pixels (H, W, 3)."""
    # Four by four pixels for one of the thumbnail show what all do, in a ninth of the time.
    step = max(1, max(image.shape) // (4 * THUMBNAIL_SIDE))
    picture = PIL.Image.fromarray(np.ascontiguousarray(image[::step, ::step]))
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), reducing_gap=2)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80)
    return file.getvalue()


def _taken(data):
    """Returns when a camera took a picture, as ISO text, or None if the file does not say it."""
    try:
        with PIL.Image.open(io.BytesIO(data)) as picture:
            told = picture.getexif().get_ifd(PIL.ExifTags.IFD.Exif)
        text = told.get(PIL.ExifTags.Base.DateTimeOriginal) or ""
        return datetime.datetime.strptime(text[:19], "%Y:%m:%d %H:%M:%S").isoformat()
    except Exception:  # Pillow raises whatever it does for damaged EXIF; 0000:00:00 is no date
        return None
