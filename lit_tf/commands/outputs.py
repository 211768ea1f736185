"""Whether a command may write its outputs: checked before any work, so that no input is lost."""

import os
from collections.abc import Iterable

from lit_tf.errors import ConfigError
from lit_tf.files import printable
from lit_tf.images.formats import IMAGE_SUFFIXES


def check_output_files(outputs: Iterable, inputs: Iterable = ()) -> None:
    """Refuses files that cannot be written, or whose writing would destroy an input.

    Inputs are paths, of which None and those that do not exist are skipped, addresses, or 0 for
    standard input. In a folder, images are protected.
    """
    outputs = [os.fspath(path) for path in outputs if path is not None]
    for path in (path for path in outputs if "://" not in path):
        target = os.path.realpath(path)
        folder, name = os.path.dirname(target), printable(path)
        if not os.path.isdir(folder):
            folder = folder if os.path.islink(path) else os.path.dirname(path)
            raise ConfigError(f"{name} cannot be written: there is no folder {printable(folder)}")
        if os.path.isdir(target):
            raise ConfigError(f"{name} cannot be written: it is a folder")
        # Of the path itself too: a pipe behind /dev/stdout has no other name.
        if (os.path.exists(path) or os.path.lexists(target)) and not os.path.isfile(path):
            what = "a device, a pipe or a link to itself"
            raise ConfigError(f"{name} cannot be written: it is {what}; expected a file")
        if not os.access(folder, os.W_OK):
            raise ConfigError(f"{name}: {printable(folder)} is not a writable folder")
    _check_no_input(outputs, inputs)


def check_output_folder(path, inputs: Iterable = (), *, replaced: bool = False) -> None:
    """Refuses a folder that is an input or, if it is replaced as a whole, holds one."""
    path, inputs = os.fspath(path), list(inputs)
    if "://" not in path and os.path.islink(os.path.realpath(path)):
        raise ConfigError(f"{printable(path)} cannot be written: it is a link to itself")
    _check_no_input([path], inputs)
    start = os.path.join(os.path.realpath(path), "")
    for source in inputs if replaced else ():
        is_path = isinstance(source, str | os.PathLike) and os.path.exists(source)
        if is_path and os.path.realpath(source).startswith(start):
            what = f"is replaced as a whole, but {printable(source)} in it is read"
            raise ConfigError(f"{printable(path)} {what}: choose another folder to write")


def _check_no_input(outputs, inputs):
    """Raises ConfigError if an output is an input, or another output, by their identities."""
    known = {}
    for path in outputs:
        key = _identity(path)
        if key in known:
            both = f"{printable(known[key])} and {printable(path)}"
            raise ConfigError(f"{both} are one file: name two")
        known[key] = path
    # Most outputs do not exist yet. Then no input needs to be compared.
    known = {key: path for key, path in known.items() if isinstance(key, str) or key[0] is not None}
    written = (path for path in outputs if path.lower().endswith(IMAGE_SUFFIXES))
    images = {os.path.realpath(path): path for path in written if os.path.exists(path)}
    for source in inputs if known else ():
        if source is None:
            continue
        path = known.get(_identity(source))
        if path is None and images and not isinstance(source, int) and os.path.isdir(source):
            start = os.path.join(os.path.realpath(source), "")
            path = next((images[real] for real in images if real.startswith(start)), None)
        if path is not None:
            read = "standard input" if source == 0 else printable(source)
            what = f"{printable(path)} would be written over {read}, which is read"
            raise ConfigError(f"{what}: choose another place to write")


def _identity(path):
    """Returns what is equal for two names of one file or folder, whether it exists or not."""
    if not isinstance(path, int) and "://" in os.fspath(path):
        return os.fspath(path)
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a name with NUL
        return None, str(path) if isinstance(path, int) else os.path.realpath(path)
    return status.st_dev, status.st_ino
