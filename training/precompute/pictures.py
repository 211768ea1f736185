"""Pictures for `lit-tf index`, embedded by the workers of an Apache Beam pipeline.

Each worker embeds some hundred pictures at a time and leaves a Parquet file in the folder `beam` of
the index; the process that runs `lit-tf index`, which alone writes to the table, takes them from
there. If a run was killed, the next run takes its files first.
"""

import functools
import hashlib
import json
import os
import uuid
from collections.abc import Callable

from lit_tf import files
from lit_tf.errors import extra
from lit_tf.search import index
from lit_tf.search.paths import from_stored, to_stored
from lit_tf.search.store import BEAM

from . import beam

with extra("search"):
    import pyarrow as pa
    import pyarrow.parquet

PICTURES_PER_FILE = 512
_FAILURES = b"failures"  # in a file's metadata


def engine(db: str | os.PathLike, options: list[str]) -> Callable:
    """Returns what embeds pictures for `lit_tf.search.update`."""

    def embed(settings, model, todo, report):
        # What a killed run has left is of use to this one only if it is of the same model.
        about = hashlib.sha256(repr(index.identity(model, settings)).encode()).hexdigest()
        folder = os.path.join(os.path.abspath(db), BEAM, about[:16])
        os.makedirs(folder, exist_ok=True)
        wanted = set(todo)
        yield from _take(folder, set(), wanted, report)
        taken = set(os.listdir(folder))
        rest = [to_stored(path) for path in todo if path in wanted]
        items = [rest[i : i + PICTURES_PER_FILE] for i in range(0, len(rest), PICTURES_PER_FILE)]
        beam.run(items, functools.partial(Worker, settings, folder), options)
        yield from _take(folder, taken, wanted, report)

    return embed


class Worker:
    """A tower, loaded once, that embeds lists of pictures into files."""

    def __init__(self, settings: index.Settings, folder: str):
        self._settings, self._folder, self._model = settings, folder, settings.load()

    def __call__(self, stored_paths: list[str]) -> None:
        """Embeds pictures, given by their stored paths, into one new file."""
        report, paths = index.Report(), map(from_stored, stored_paths)
        tables = list(index.embed_here(self._settings, self._model, paths, report))
        failures = [(to_stored(path), reason) for path, reason in report.failures]
        nothing = pa.table({"path": pa.array([], pa.string())})
        table = pa.concat_tables(tables or [nothing])
        table = table.replace_schema_metadata({_FAILURES: json.dumps(failures)})
        with files.replacing(os.path.join(self._folder, f"{uuid.uuid4().hex}.parquet")) as file:
            pyarrow.parquet.write_table(table, file)


def _take(folder, taken, wanted, report):
    """Yields the rows of wanted pictures, each once, from files that are not among those taken."""
    for name in sorted(set(os.listdir(folder)) - taken):
        if not name.endswith(".parquet") or name.startswith("."):
            continue  # one that a worker has not finished
        table = pyarrow.parquet.read_table(os.path.join(folder, name))
        failures = json.loads(table.schema.metadata[_FAILURES])
        failed = {path for path, _ in report.failures}
        for path, reason in failures:
            if (path := from_stored(path)) in wanted and path not in failed:
                report.failures.append((path, reason))
        keep = [from_stored(path) in wanted for path in table["path"].to_pylist()]
        table = table.filter(pa.array(keep, pa.bool_())).replace_schema_metadata()
        if len(table):
            wanted.difference_update(map(from_stored, table["path"].to_pylist()))
            report.embedded += len(table)
            yield table
