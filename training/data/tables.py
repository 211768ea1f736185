"""Tables of image paths and captions, as CSV, TSV, JSON lines or Parquet."""

import collections
import contextlib
import csv
import itertools
import os

import tensorflow as tf

from lit_tf.errors import DataError, extra
from lit_tf.files import parse_object

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl")
# Names of these columns in common tables; error messages ask for the first.
IMAGE_COLUMNS = ("image", "filepath", "image_path", "path", "file_name", "jpg", "png", "webp")
CAPTION_COLUMNS = ("caption", "title", "text", "captions")
COLUMNS = (IMAGE_COLUMNS, CAPTION_COLUMNS)


def is_table(path: str) -> bool:
    """Whether a path has the ending of a table."""
    return path.lower().endswith(SUFFIXES)


def read_captions(path: str, columns=COLUMNS) -> dict[str, list[str]]:
    """Returns {image's path: its captions}, in the table's order.

    Several rows with the same image are captions of one image. Paths are relative to the table's
    folder; addresses such as gs:// stay as they are.
    """
    kinds = {".parquet": _parquet_rows, ".jsonl": _json_rows}
    rows = kinds.get(os.path.splitext(path)[1].lower(), _csv_rows)
    folder = os.path.dirname(path)
    captions = collections.defaultdict(list)
    for where, image, texts in rows(path, columns):
        texts = texts if isinstance(texts, list) else [texts]
        if not image or not texts or not all(isinstance(t, str) for t in (image, *texts)):
            raise DataError(f"{path}:{where}: a row without image or caption")
        captions[image if "://" in image else os.path.join(folder, image)] += texts
    return dict(captions)


def _csv_rows(path, columns):
    reader = None
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            tabs = "\t" in first and "," not in first
            # Strict: a quote that is not closed would take the rows behind it into one caption.
            reader = csv.DictReader(file, delimiter="\t" if tabs else ",", strict=True)
            names = reader.fieldnames or []
            image, caption = (_column(path, names, wanted) for wanted in columns)
            for row in reader:
                if any(row.get(None, ())):
                    raise DataError(
                        f"{path}:{reader.line_num}: more fields than the {len(names)} columns; put "
                        f"a caption that holds a {'tab' if tabs else 'comma'} in quotes"
                    )
                yield reader.line_num, row[image], row[caption]
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        line = f", line {reader.reader.line_num}" if reader else ""
        raise DataError(f"{path}: cannot be read as a CSV file in UTF-8{line}: {e}") from e


def _json_rows(path, columns):
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.isspace():
                    continue
                where = f"{path}:{number}"
                row = parse_object(line, where)
                image, caption = (_column(where, list(row), wanted) for wanted in columns)
                yield number, row[image], row[caption]
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"{path}: cannot be read as JSON lines in UTF-8: {e}") from e


def _parquet_rows(path, columns):
    with open_parquet(path) as file:
        image, caption = parquet_columns(path, file, columns)
        batches = file.iter_batches(columns=[image, caption])
        rows = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
        for number, row in enumerate(rows, 1):
            yield f"row {number}", row[image], row[caption]


@contextlib.contextmanager
def open_parquet(path):
    """Opens a Parquet file, local or remote; what cannot be read in the block is a DataError."""
    with extra("train"):
        import pyarrow
        import pyarrow.parquet

    try:
        place = pyarrow.PythonFile(tf.io.gfile.GFile(path, "rb")) if "://" in path else path
        with pyarrow.parquet.ParquetFile(place) as file:
            yield file
    except (OSError, ValueError, pyarrow.ArrowException, tf.errors.OpError) as e:
        raise DataError(f"{path}: cannot be read as a Parquet file: {str(e)[:300]}") from e


def parquet_columns(path, file, columns=COLUMNS) -> list[str]:
    """Returns the names of the columns of images and captions."""
    return [_column(path, file.schema_arrow.names, wanted) for wanted in columns]


def holds_images(paths: list[str], image_columns=IMAGE_COLUMNS) -> bool:
    """Whether Parquet files, by the first that opens, hold images (binary, struct), not paths."""
    for path in paths:
        with contextlib.suppress(DataError), open_parquet(path) as file:
            name = _column(path, file.schema_arrow.names, image_columns)
            kind = str(file.schema_arrow.field(name).type)
            return kind.startswith(("struct", "binary", "large_binary", "fixed_size_binary"))
    return False


def _column(path, names, wanted):
    for name in wanted:
        if names.count(name) == 1:
            return name
    raise DataError(
        f"{path}: expected a column {wanted[0]}"
        + (f" (or {', '.join(wanted[1:])})" if wanted[1:] else "")
        + f", found {', '.join(map(str, names[:20])) or 'nothing'}"
    )
