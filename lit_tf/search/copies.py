"""Copies of pictures in a folder: a name that is taken gets a number, nothing is written over."""

import filecmp
import os
import shutil
from collections.abc import Iterable

from lit_tf import files
from lit_tf.errors import ConfigError
from lit_tf.files import printable


def copy_pictures(paths: Iterable[str], folder: str | os.PathLike) -> list[tuple[str, str]]:
    """Copies pictures into a folder, except those that it has; returns (path, reason) of failures.

    The folder is made if its parent exists.
    """
    folder = os.path.abspath(os.path.expanduser(folder))
    try:
        if not os.path.isdir(folder):
            os.mkdir(folder)
    except OSError as e:
        raise ConfigError(f"{printable(folder)} cannot be made: {e.strerror}") from e
    failures = []
    for path in paths:
        try:
            target = _free(path, folder)
            if target is not None:
                with files.replacing_path(target) as partial:
                    shutil.copy2(path, partial)
        except OSError as e:
            failures.append((path, e.strerror or str(e)))
    return failures


def _free(path, folder):
    """Returns a path in a folder that is not taken, or None if the picture is there already."""
    stem, ending = os.path.splitext(os.path.basename(path))
    number, target = 1, os.path.join(folder, stem + ending)
    while os.path.lexists(target):
        if os.path.isfile(target) and filecmp.cmp(path, target, shallow=False):
            return None
        number += 1
        target = os.path.join(folder, f"{stem} ({number}){ending}")
    return target
