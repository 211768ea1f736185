"""Files with one text, class name or template per line."""

import os
import re
import warnings

from lit_tf.errors import DataError

# Before a name in a numbered list ("3. cat", "3) cat", "3: cat"), or a WordNet id.
_NUMBERED = re.compile(r"\s*(\(?\d+\s*[.):]\s|n\d{8}\s)")
_LEADING_NUMBER = re.compile(r"\(?(\d{1,9})[\s.,:;)_-]+\S")


def read_lines(path: str | os.PathLike) -> list[str]:
    """Returns the lines of a UTF-8 file without their ends."""
    try:
        with open(path, encoding="utf-8-sig") as file:  # Windows likes to begin with a mark
            # Not splitlines(), which ends lines at form feeds and Unicode's separators, too.
            return [line.rstrip("\n") for line in file]
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"{path}: cannot be read as UTF-8 text: {e}") from e


def read_list(path: str | os.PathLike, what: str) -> list[str]:
    """Returns the lines of a file with one class name or template per line, without blank ones.

    A file in another format would silently put numbers and marks into every prompt.
    Lines that may be numbered ("0 cat", "1 dog") are taken as they are, with a warning.
    """
    lines = [line for line in map(str.strip, read_lines(path)) if line]
    found = None
    if any("\0" in line for line in lines):
        found = "NUL bytes, as UTF-16 text does"
    elif tabbed := [line for line in lines if "\t" in line]:
        found = f"columns, separated by tabs: {tabbed[0]!r}"
    elif lines and all(map(_NUMBERED.match, lines)):
        found = f"numbers or ids before the {what}s: {lines[0]!r}"
    elif lines and lines[0][0] in "[{" and lines[-1][-1] in "]}" and '"' in "".join(lines):
        found = f"JSON: {lines[0]!r:.60}"
    if found:
        raise DataError(f"{path}: expected one {what} per line and nothing else, found {found}")
    if _count_up(lines):
        warnings.warn(
            f"{path} seems to number its lines ({lines[0]!r:.40}, {lines[1]!r:.40}), and numbers "
            f"count as part of a {what}: remove them if they do not belong there",
            stacklevel=2,
        )
    return lines


def read_class_names(path: str | os.PathLike) -> list[str] | dict[str, str]:
    """Returns the names in a file: in their order, or {folder: name} of lines FOLDER<tab>NAME."""
    rows = [[cell.strip() for cell in line.split("\t")] for line in read_lines(path)]
    rows = [row for row in rows if any(row)]
    if not rows or not all(len(row) == 2 and all(row) for row in rows):
        return read_list(path, "class name")
    named = dict(rows)
    if len(named) < len(rows):
        raise DataError(f"{path}: a folder stands there twice; expected one line for each")
    return named


def _count_up(lines):
    """Whether lines begin with 0, 1, ... or 1, 2, 3, ...; two from 1 on may be "1 cat, 2 cats"."""
    numbers = [_LEADING_NUMBER.match(line) for line in lines]
    if len(lines) < 2 or None in numbers:
        return False
    numbers = [int(found[1]) for found in numbers]
    starts = (0, 1) if len(lines) > 2 else (0,)
    return any(numbers == list(range(start, start + len(lines))) for start in starts)
