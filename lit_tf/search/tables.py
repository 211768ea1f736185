"""A user's own columns: a CSV or Parquet file with one row per picture."""

import os
import re

from lit_tf.errors import DataError, extra

with extra("search"):
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

# Column names of the table of pictures and of the answers to a query.
RESERVED = ("size", "mtime", "thumbnail", "embedding", "score", "match", "_distance")
# Such a column can be added, and then the whole table cannot be written to, or read, any more.
_LANCES_OWN = re.compile(
    r"|.*[.`\0].*|_row(id|addr|offset|_created_at_version|_last_updated.*)", re.S
)


class Columns:
    """The columns of a file, found by picture.

    Args:
        file: a CSV or Parquet file with a column `path`. Relative paths begin at its folder.

    Attributes:
        paths: the absolute paths, in the order of the file.
        fields: the other columns' names and types.

    Raises:
        DataError: the file cannot be read, or its columns cannot be used.
    """

    def __init__(self, file: str | os.PathLike):
        self._file = file = os.fspath(file)
        table = _read(file)
        if "path" not in table.column_names:
            found = ", ".join(table.column_names)
            raise DataError(f"{file}: expected a column 'path' of the pictures, found {found}")
        if taken := sorted(set(table.column_names) & set(RESERVED)):
            raise DataError(f"{file}: the index has a column {taken[0]!r} of its own; rename it")
        if len(set(table.column_names)) < len(table.column_names):
            raise DataError(f"{file}: two columns have the same name")
        if bad := [name for name in table.column_names if _LANCES_OWN.fullmatch(name)]:
            raise DataError(
                f"{file}: the index cannot have a column named {bad[0]!r}; rename it, or leave it "
                "out (pandas writes a column without a name unless index=False)"
            )
        folder = os.path.dirname(os.path.abspath(file))
        names = table["path"].to_pylist()
        if not all(isinstance(name, str) and name for name in names):
            raise DataError(f"{file}: the column 'path' has rows without a path")
        self.paths = [os.path.abspath(os.path.join(folder, os.path.expanduser(n))) for n in names]
        self._places = {path: i for i, path in enumerate(self.paths)}
        if len(self._places) < len(self.paths):
            twice = next(p for i, p in enumerate(self.paths) if self._places[p] != i)
            raise DataError(f"{file}: two rows are about {twice}; expected one row per picture")
        self._table = table.drop_columns(["path"])
        self.fields = list(self._table.schema)

    def __contains__(self, path: str) -> bool:
        """Whether the file has a row about a picture."""
        return path in self._places

    def fit(self, schema: "pa.Schema") -> "list[pa.Field]":
        """Converts the columns to the types that they have in a table of pictures.

        Returns:
            The fields that the table does not have.

        Raises:
            DataError: a column has values of another type.
        """
        for i, field in enumerate(self.fields):
            if field.name not in schema.names:
                continue
            wanted = schema.field(field.name).type
            try:
                column = self._table.column(i).cast(wanted)
            except pa.ArrowException as e:
                raise DataError(
                    f"{self._file}: the column {field.name!r} is {field.type}, in the index it is "
                    f"{wanted}: {e}"
                ) from e
            self._table = self._table.set_column(i, pa.field(field.name, wanted), column)
        self.fields = list(self._table.schema)
        return [field for field in self.fields if field.name not in schema.names]

    def rows(self, paths: list[str]) -> "pa.Table":
        """Returns the rows about pictures; the file must have a row about each."""
        return self._table.take(pa.array([self._places[path] for path in paths], pa.int64()))


def _read(file):
    try:
        if file.lower().endswith((".parquet", ".pq")):
            table = pyarrow.parquet.read_table(file)
        elif file.lower().endswith(".csv"):
            options = pyarrow.csv.ConvertOptions(column_types={"path": pa.string()})
            table = pyarrow.csv.read_csv(file, convert_options=options)
        else:
            raise DataError(f"{file}: expected a name that ends with .csv or .parquet")
    except (OSError, pa.ArrowException) as e:
        raise DataError(f"{file} cannot be read as a table: {e}") from e
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(i, field.name, table.column(i).cast(field.type.value_type))
        elif pa.types.is_null(field.type):  # a CSV column without any value
            table = table.set_column(i, field.name, table.column(i).cast(pa.string()))
        elif pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            # Python's datetime holds microseconds.
            column = table.column(i).cast(pa.timestamp("us", field.type.tz), safe=False)
            table = table.set_column(i, field.name, column)
    return table.replace_schema_metadata()
