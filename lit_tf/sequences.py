"""Sequences of strings as users hold them: lists, generators, pandas, Arrow, NumPy."""

from collections.abc import Mapping
from typing import Any


def to_list(values: Any) -> list[Any]:
    """Returns the items of any sequence as a list; a TypeError completes "..., which"."""
    if isinstance(values, Mapping):
        raise TypeError("maps keys to values")
    if hasattr(values, "columns"):  # whose items would be their names
        raise TypeError("is a table, not one of its columns")
    if hasattr(values, "to_pylist"):  # Arrow's, whose items are scalars of its own
        return values.to_pylist()
    if hasattr(values, "numpy"):  # an eager tensor: its items would be tensors
        values = values.numpy()
    try:
        return list(values)
    except TypeError:
        raise TypeError("is not iterable") from None
