"""Reading the folder that big_vision's trainer writes today, `NAME.bv-000001000`.

It holds one folder per array, named by the key with `~` for `/` (`params~img~embedding~kernel`).
Each is a zarr 2 array: a JSON file `.zarray` and the array's chunks, compressed by zstd. Beside the
folder, the file `NAME.bv-LAST` names the newest step. The library tensorstore decompresses the
chunks, and refuses missing ones. Before anything is allocated, the declared size is compared with
the bytes that exist.
"""

import glob
import math
import os
import pathlib
import re

from lit_tf.checkpoints import npz
from lit_tf.errors import CheckpointError, extra, nearest, plain

_STEP = re.compile(r"(?P<name>.+\.bv)-(?P<step>[0-9]+)(-tmp)?")
_NOT_PARAMETERS = re.compile(r"chrono~|opt~(?!target~)")
NEWEST = ".bv"  # how a name ends that stands for the newest step
_ERRORS = (ValueError, OSError, RuntimeError)  # of tensorstore


def is_step_name(name: str) -> bool:
    """Returns whether a folder of this name holds one step: `NAME.bv-000001000`, or with `-tmp`."""
    return _STEP.fullmatch(name) is not None


def holds_parameters(name: str) -> bool:
    """Returns whether an array's folder of this name holds parameters, not optimizer state."""
    return not name.startswith(".") and not _NOT_PARAMETERS.match(name)


def checked_step(text: str, source) -> str:
    """Returns the newest step's suffix, such as `000001000`, from the text of `NAME.bv-LAST`."""
    step = text.strip()
    if not re.fullmatch("[0-9]{1,20}(-tmp)?", step):
        raise CheckpointError(f"{source}: expected the number of a step, found {step[:40]!r}")
    return step


def find(path) -> pathlib.Path | None:
    """Returns the folder of arrays that a path means, or None.

    `NAME.bv-000001000`, the same with `-tmp`, `NAME.bv` or the file `NAME.bv-LAST` for the newest
    step. CheckpointError if the step is not there, but others are, or nothing names the newest.
    """
    path = pathlib.Path(path)
    if is_step_name(path.name):
        steps = (path, path.with_name(f"{path.name}-tmp"))
        found = next((p for p in steps if p.is_dir()), None)
        others = [] if found else _steps(path.with_name(_STEP.sub(r"\g<name>", path.name)))
        if others:
            raise CheckpointError(f"{path}: no such step; there are {', '.join(others)}")
        return found
    if path.name.removesuffix("-LAST").endswith(NEWEST):
        return _newest(path.with_name(path.name.removesuffix("-LAST")))
    return path if is_folder(path) else None


def is_folder(path: pathlib.Path) -> bool:
    """Returns whether a folder holds arrays, by its name or by theirs."""
    if not path.is_dir():
        return False
    return is_step_name(path.name) or next(path.glob("params~*"), None) is not None


def _steps(path):
    """Returns the names of the steps of `NAME.bv`, at most five."""
    if not path.parent.is_dir():
        return []
    return sorted(p.name for p in path.parent.glob(f"{glob.escape(path.name)}-[0-9]*"))[-5:]


def _newest(path):
    """Returns the folder of the newest step of `NAME.bv`, or None if there is nothing of it."""
    last = path.with_name(f"{path.name}-LAST")
    if not last.is_file():
        if steps := _steps(path):
            raise CheckpointError(
                f"{last}: no such file, and it names the newest step; name one of "
                f"{', '.join(steps)} instead"
            )
        return None
    try:
        with open(last, encoding="utf-8") as file:
            step = checked_step(file.read(100), last)
    except (OSError, UnicodeDecodeError) as e:
        raise CheckpointError(f"{last}: cannot be read: {e}") from e
    folder = find(path.with_name(f"{path.name}-{step}"))
    if folder is None:
        raise CheckpointError(f"{last} names step {step}, but there is no {path.name}-{step}")
    return folder


class ZarrFolder:
    """The parameters in a folder that big_vision wrote; has the methods of `npz.NpzFile`."""

    def __init__(self, path):
        """Opens the folder `path` and checks what every array declares."""
        self.path = os.fspath(path)
        with extra("tensorstore"):
            import tensorstore
        try:
            folders = sorted(f for f in pathlib.Path(path).iterdir() if f.is_dir())
            specs = {f: _spec(f) for f in folders if holds_parameters(f.name)}
            opening = {f: tensorstore.open(s, read=True, open=True) for f, s in specs.items()}
            self._arrays = dict(self._checked(f, found) for f, found in opening.items())
        except OSError as e:
            raise CheckpointError(f"{self.path}: cannot be read: {e}") from e
        if not self._arrays:
            raise CheckpointError(
                f"{self.path}: expected folders of arrays, such as params~img~embedding~kernel, "
                "found none"
            )

    def close(self):
        """Does nothing: no file stays open."""

    def keys(self):
        return list(self._arrays)

    def shape(self, key):
        return tuple(self._array(key).shape)

    def dtype(self, key):
        return self._array(key).dtype.numpy_dtype

    def read(self, key):
        """Returns the array at `key`; CheckpointError if a chunk is missing or damaged."""
        array = self._array(key)
        try:
            return array.read().result()
        except _ERRORS as e:
            raise self._fault(key, f"damaged: {plain(e)}") from e

    def blocks(self, key):
        """Yields the array at `key` as a whole: the trainer stores most arrays in one chunk."""
        yield self.read(key)

    def _array(self, key):
        if key not in self._arrays:
            raise CheckpointError(f"{self.path}: no key {key!r}{nearest(key, self._arrays)}")
        return self._arrays[key]

    def _fault(self, key, text):
        return CheckpointError(f"{self.path}: key {key!r}: {text}")

    def _checked(self, folder, opening):
        key = folder.name.replace("~", "/")
        npz.check_key(self.path, key)
        try:
            array = opening.result()
        except _ERRORS as e:
            raise self._fault(key, f"its .zarray cannot be used: {plain(e)[:300]}") from None
        dtype = array.dtype.numpy_dtype
        if dtype != npz.BFLOAT16 and npz.plain_dtype(dtype) is None:
            raise self._fault(key, f"dtype {array.dtype.name}; expected numbers")
        chunks = array.chunk_layout.read_chunk.shape
        npz.check_expansion(
            sum(f.stat().st_size for f in folder.rglob("*")),
            math.prod(-(-n // c) * c for n, c in zip(array.shape, chunks, strict=True))
            * dtype.itemsize,
            lambda text: self._fault(key, text),
        )
        return key, array


def _spec(folder):
    return {
        "driver": "zarr",
        "kvstore": {"driver": "file", "path": os.path.abspath(folder)},
        "fill_missing_data_reads": False,  # a missing chunk would be read as zeros
    }
