"""The table of pictures on disk: a LanceDB database in a folder, written by one process at a time.

The folder `pictures.lance` holds one table, `pictures`. Every write is one transaction, so a killed
process leaves the table as it was before or after a write. Readers need no lock.
"""

import contextlib
import dataclasses
import datetime
import json
import math
import os
import pathlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from lit_tf import files
from lit_tf.errors import DataError, extra

with extra("search"):
    import lancedb
    import lancedb.index
    import pyarrow as pa

# What the index holds about a picture, beside its embedding. `taken` is text, since conditions in
# SQL cannot compare a date with text.
FACTS = pa.schema(
    {
        **{"path": pa.string(), "size": pa.int64(), "mtime": pa.timestamp("ns")},
        **{"sha256": pa.string(), "taken": pa.string()},
        **{"width": pa.int32(), "height": pa.int32(), "thumbnail": pa.binary()},
    }
)
TABLE = "pictures"
_SUCCESSOR = "reembedding"  # a table of another model, which is to replace the other one
LOCK = "writing.lock"
BEAM = "beam"  # rows that workers on other machines have embedded, not yet in the table
# Below this number of rows a query reads all embeddings, and is exact. With 768 numbers a row, it
# takes 0.2 to 0.3 s on two cores.
INDEX_FROM_ROWS = 100_000
# A query visits NPROBES parts of the index. It then compares REFINE_FACTOR times as many rows as
# asked for exactly.
NPROBES, REFINE_FACTOR = 400, 20
# Embeddings have unit length: the nearest ones are those with the largest products.
_DISTANCE: Literal["l2"] = "l2"
_METADATA = b"lit_tf"
_FORMAT = 2
# Appending makes many small files. They are merged once they hold this many rows and half of all
# rows, so each row is rewritten only a few times. A run may leave this many files behind.
_MERGE_FILES_FROM_ROWS, _MOST_FILES = 10_000, 50
# A run leaves at most this share of bytes that no row holds any more.
_MOST_WASTE = 0.05


@dataclasses.dataclass(frozen=True)
class Model:
    """Which model a table's embeddings are from, and how pictures were prepared for it."""

    checkpoint: str  # the name, path or address that it was loaded from
    vocab: str | None  # its vocabulary's path, or None for the one beside the checkpoint
    weights_sha256: str  # see `LitModel.fingerprint`
    resolution: int  # side of the images in pixels
    dtype: str  # the Keras dtype policy that it computed in
    width: int  # of its embeddings
    preprocessing: str = "big_vision"  # how pixels are prepared: as `lit_tf.images.preprocess` does
    max_patches: int | None = None  # of a picture whose shape is kept (NaFlex)
    tower: str = "float32"  # or dynamic_int8, the quantized image tower

    @classmethod
    def of(cls, model, checkpoint: str, vocab: str | None, **more) -> "Model":
        """Returns the record of a loaded `LitModel`; `more` are attributes."""
        image = model.config.image
        size, width = image.image_size if image else 0, model.config.embedding_dim
        digest, dtype = model.fingerprint(), model.dtype_policy.name
        library = model.config.preprocessing
        return cls(checkpoint, vocab, digest, size, dtype, width, library, **more)

    def differences(self, other: "Model") -> list[str]:
        """Returns how another model's embeddings differ from this one's, as phrases, or []."""
        mine, others = dataclasses.asdict(self), dataclasses.asdict(other)
        differing = [n for n in mine if n not in ("checkpoint", "vocab") and mine[n] != others[n]]
        return [f"{name} {mine[name]}, not {others[name]}" for name in differing]

    def check(self, other: "Model", db, advice: str) -> None:
        """Refuses another model for a table whose embeddings are of this one."""
        if different := "; ".join(self.differences(other)):
            what = f"{db} holds embeddings of another model, {self.checkpoint}: {different}"
            raise DataError(f"{what}. {advice}")


class Outdated(DataError):
    """Files of the version that was read are gone, since another process ended a run."""


class Store:
    """An open LanceDB table of pictures in the folder `path`, whose embeddings are of `model`."""

    def __init__(self, path: str, table):
        self.path, self._table = path, table
        try:
            about = json.loads((table.schema.metadata or {})[_METADATA])
            found = about.pop("format")
            if found != _FORMAT:
                raise ValueError(f"its format is {found}, not {_FORMAT}")
            self.model = Model(**about)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as e:
            what = f"{path} is not an index that this version of `lit-tf index` wrote ({e})"
            raise DataError(f"{what}; choose another --db, or remove it and index again") from e
        self._unmerged = 0

    @classmethod
    def open(cls, path: str | os.PathLike) -> "Store":
        """Opens a table that is there."""
        store = cls.find(path)
        if store is None:
            how = f"`lit-tf index CKPT FOLDER --db {path}` makes one"
            raise DataError(f"{path} is not an index of pictures; {how}")
        return store

    @classmethod
    def find(cls, path: str | os.PathLike, table: str = TABLE) -> "Store | None":
        """Opens a table, or returns None if there is none."""
        path = os.fspath(path)
        if not os.path.isdir(os.path.join(path, f"{table}.lance")):
            return None
        try:
            opened = lancedb.connect(path).open_table(table)
        except (ValueError, OSError, RuntimeError) as e:
            if "was not found" in str(e):  # a process was killed before it had made the table
                return None
            raise DataError(f"{path} cannot be read: {str(e).splitlines()[0]}") from e
        return cls(path, opened)

    @classmethod
    def create(cls, path: str | os.PathLike, model: Model, table: str = TABLE) -> "Store":
        """Makes an empty table."""
        path = os.fspath(path)
        about = json.dumps({"format": _FORMAT, **dataclasses.asdict(model)})
        schema = FACTS.append(pa.field("embedding", pa.list_(pa.float32(), model.width)))
        schema = schema.with_metadata({_METADATA: about})
        return cls(path, lancedb.connect(path).create_table(table, schema=schema))

    def successor(self, model: Model) -> "Store":
        """Returns the table that is to replace this one, as far as an earlier run has made it."""
        found = Store.find(self.path, _SUCCESSOR)
        if found is not None and found.model.differences(model):
            self.drop_successor()
            found = None
        return found or Store.create(self.path, model, _SUCCESSOR)

    def replace(self, successor: "Store") -> "Store":
        """Puts the successor in this table's place, in one transaction."""
        schema = successor._table.schema
        batches = pa.RecordBatchReader.from_batches(schema, successor._table.search().to_batches())
        database = lancedb.connect(self.path)
        table = database.create_table(TABLE, batches, schema=schema, mode="overwrite")
        self.drop_successor()
        return Store(self.path, table)

    def drop_successor(self) -> None:
        """Removes a table that was to replace this one."""
        lancedb.connect(self.path).drop_table(_SUCCESSOR, ignore_missing=True)  # type: ignore[call-arg]

    def refresh(self) -> None:
        """Moves to the newest version of the table; other processes write and remove versions."""
        before = self._table.schema.metadata
        self._table.checkout_latest()
        if self._table.schema.metadata != before:
            raise DataError(f"{self.path} was replaced by another index; open it again")

    @property
    def rows(self) -> int:
        """How many pictures there are."""
        return self._table.count_rows()

    def columns(self, names: list[str], where: str | None = None) -> "pa.Table":
        """Returns some columns of all rows, or of those that fit a condition in SQL."""
        query = self._table.search().select(names)
        return self._read(query if where is None else query.where(where))

    def rows_of(self, paths: list[str]) -> "pa.Table":
        """Returns the rows with these stored paths, in any order."""
        return self._read(self._table.search().where(_are(paths) if paths else "false"))

    def _read(self, query):
        try:
            return query.to_arrow()
        except RuntimeError as e:
            if "Not found: " not in str(e):
                raise
            raise Outdated(f"{self.path} changes all the time; try again") from e

    def newest(self, read: Callable) -> Any:
        """Returns what `read` does with the newest version, even if another run removes it."""
        for _ in range(5):
            self.refresh()
            with contextlib.suppress(Outdated):
                return read()
        return read()

    def write(self, rows: "pa.Table") -> None:
        """Writes rows in one transaction; a row replaces the one with the same path."""
        merge = self._table.merge_insert("path").when_matched_update_all()
        merge.when_not_matched_insert_all().execute(rows)
        self._unmerged += len(rows)
        if self._unmerged >= max(_MERGE_FILES_FROM_ROWS, self.rows // 2):
            self.merge_files()

    def move(self, paths: dict[str, str]) -> None:
        """Gives rows other paths: {old stored path: new one}, each thousand in one transaction."""
        olds = list(paths)
        for start in range(0, len(olds), 1000):
            condition = _are(olds[start : start + 1000])
            rows = self.rows_of(olds[start : start + 1000])
            news = pa.array([paths[path] for path in rows["path"].to_pylist()], pa.string())
            place = rows.schema.get_field_index("path")
            rows = rows.set_column(place, rows.schema.field(place), news)
            merge = self._table.merge_insert("path").when_not_matched_insert_all()
            merge.when_not_matched_by_source_delete(condition).execute(rows)

    def delete(self, paths: list[str]) -> None:
        """Deletes rows, given by their stored paths, and their bytes."""
        for start in range(0, len(paths), 1000):
            self._table.delete(_are(paths[start : start + 1000]))
        if paths:
            # Merging leaves deleted rows in a file until they are a tenth of it. Written anew, all
            # rows are in other files.
            self._table.update(values_sql={"path": "path"})
            self.merge_files()

    def merge_files(self) -> None:
        """Merges small files, brings indices up to date, and removes old versions.

        Who reads an old version meanwhile has to read again; see `newest`.
        """
        for _ in range(2):  # the version before the merge is old enough for the second time only
            self._table.optimize(cleanup_older_than=datetime.timedelta(milliseconds=1))
        self._unmerged = 0

    def tidy(self) -> None:
        """Merges small files if there are many, or much in them that no row holds any more."""
        stats = self._table.stats()
        data = pathlib.Path(self.path, f"{self._table.name}.lance", "data")
        used = sum(file.stat().st_size for file in data.glob("*"))
        many = stats["fragment_stats"]["num_fragments"] > _MOST_FILES
        if many or used > (1 + _MOST_WASTE) * stats["total_bytes"]:
            self.merge_files()

    def needs_vector_index(self, from_rows: int = INDEX_FROM_ROWS) -> bool:
        """Whether the table has too many rows to read them all, and no index yet."""
        indexed = any("embedding" in index.columns for index in self._table.list_indices())
        return self.rows >= from_rows and not indexed

    def make_vector_index(self) -> None:
        """Makes the IVF-PQ index; see docs/search.md for its settings and its recall."""
        config = lancedb.index.IvfPq(
            distance_type=_DISTANCE,
            num_partitions=max(1, self.rows // 1000),
            # A byte for eight numbers, or for as many as divide the width.
            num_sub_vectors=self.model.width // math.gcd(self.model.width, 8),
            max_iterations=10,
            sample_rate=64,
        )
        self._table.create_index("embedding", config=config, replace=True)

    def nearest(
        self, vector: np.ndarray, limit: int, *, exact: bool = False, where: str | None = None
    ) -> "pa.Table":
        """Returns the rows whose embeddings have the largest products with a float32 (D,)."""
        query = self._table.search(vector, vector_column_name="embedding")
        query = query.distance_type(_DISTANCE).limit(limit)
        if exact:
            query = query.bypass_vector_index()
        else:  # no effect where there is no index
            query = query.nprobes(NPROBES).refine_factor(REFINE_FACTOR)
        if where is not None:
            query = query.where(where, prefilter=True)
        try:
            return self._read(query)
        except (ValueError, RuntimeError) as e:
            if where is None:
                raise
            raise DataError(f"the condition {where!r} does not work: {e}") from e


def _are(paths):
    """Returns the condition in SQL that a row has one of these stored paths."""
    quoted = ("'" + path.replace("'", "''") + "'" for path in paths)
    return f"path IN ({', '.join(quoted)})"


@contextlib.contextmanager
def writing(path: str | os.PathLike):
    """Holds the lock of a database's folder until the process ends; makes the folder."""
    folder = pathlib.Path(path)
    try:
        folder.mkdir(exist_ok=True)
        names = {name for name in os.listdir(folder) if not name.startswith(".")}
        others = sorted(names - {LOCK, BEAM, f"{TABLE}.lance", f"{_SUCCESSOR}.lance"})
    except OSError as e:
        raise DataError(f"{folder} cannot be made: {e.strerror}") from e
    if others:
        what = f"{folder} holds other files, such as {others[0]}"
        raise DataError(f"{what}; --db expects a folder of its own, such as pictures.lance")
    file = folder / LOCK
    what = f"{folder}: another process is indexing into this database (it holds {file})"
    with files.locked(file, DataError(f"{what}; wait until it ends, then run the command again")):
        try:
            yield
        finally:
            if not (folder / f"{TABLE}.lance").exists():  # nothing came of it: leave nothing behind
                with contextlib.suppress(OSError):
                    file.unlink()
                    folder.rmdir()
