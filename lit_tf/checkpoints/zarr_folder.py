"""Reading the folder that big_vision's trainer writes today, `NAME.bv-000001000`.

It holds one folder per array, named by the key with `~` for `/` (`params~img~embedding~kernel`).
Each is a zarr 2 array: a JSON file `.zarray` and the array's chunks, compressed by zstd. Beside the
folder, the file `NAME.bv-LAST` names the newest step. The library tensorstore decompresses the
chunks, and refuses missing ones. Before anything is allocated, the declared size is compared with
the bytes that exist.
"""

import glob
import json
import math
import os
import pathlib
import re

import numpy as np

from lit_tf.checkpoints import npz
from lit_tf.errors import CheckpointError, extra, nearest

_STEP = re.compile(r"(?P<name>.+\.bv)-(?P<step>[0-9]+)(-tmp)?")
_NOT_PARAMETERS = re.compile(r"chrono~|opt~(?!target~)")
_MAX_JSON = 10_000  # bytes; an array's .zarray takes about 200


def is_step_name(name: str) -> bool:
    """Returns whether a folder of this name holds one step: `NAME.bv-000001000`, or with `-tmp`."""
    return _STEP.fullmatch(name) is not None


def is_newest_name(name: str) -> bool:
    """Returns whether this name stands for the newest step: `NAME.bv`."""
    return name.endswith(".bv")


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
        others = [] if found else _steps(path.with_name(_STEP.fullmatch(path.name)["name"]))
        if others:
            raise CheckpointError(f"{path}: no such step; there are {', '.join(others)}")
        return found
    if is_newest_name(path.name.removesuffix("-LAST")):
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
        self._tensorstore = tensorstore
        try:
            folders = sorted(f for f in pathlib.Path(path).iterdir() if f.is_dir())
            declared = (self._declared(f) for f in folders if holds_parameters(f.name))
            self._arrays = {key: (shape, dtype) for key, shape, dtype in declared}
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
        """Returns the keys of the parameters, ordered by name."""
        return list(self._arrays)

    def shape(self, key):
        """Returns the shape of the array at `key`, a tuple of ints."""
        return self._array(key)[0]

    def dtype(self, key):
        """Returns the dtype that `read` returns."""
        return self._array(key)[1]

    def read(self, key):
        """Returns the array at `key`; CheckpointError if a chunk is missing or damaged."""
        shape, dtype = self._array(key)
        folder = os.path.join(self.path, key.replace("/", "~"))
        spec = {
            "driver": "zarr",
            "kvstore": {"driver": "file", "path": os.path.abspath(folder)},
            "fill_missing_data_reads": False,  # a missing chunk would be read as zeros
        }
        try:
            array = self._tensorstore.open(spec, read=True, open=True).result().read().result()
        except (ValueError, OSError, RuntimeError) as e:
            raise self._fault(key, f"damaged: {' '.join(str(e).split())}") from e
        array = np.asarray(array)
        if array.shape != shape or array.dtype != dtype:
            raise self._fault(key, f"changed while it was read, to {array.dtype} {array.shape}")
        return array

    def blocks(self, key):
        """Yields the array at `key` as a whole: the trainer stores most arrays in one chunk."""
        yield self.read(key)

    def _array(self, key):
        if key not in self._arrays:
            raise CheckpointError(f"{self.path}: no key {key!r}{nearest(key, self._arrays)}")
        return self._arrays[key]

    def _fault(self, key, text):
        return CheckpointError(f"{self.path}: key {key!r}: {text}")

    def _declared(self, folder):
        """Returns the (key, shape, dtype) of an array, after the checks that need no data."""
        key = folder.name.replace("~", "/")
        npz.check_key(self.path, key)
        try:
            with open(folder / ".zarray", "rb") as file:
                data = json.loads(file.read(_MAX_JSON))
            shape, chunks = tuple(data["shape"]), tuple(data["chunks"])
            stored = data["dtype"]
            layout = (data["zarr_format"], data.get("dimension_separator", "."))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as e:
            raise self._fault(key, f"its .zarray cannot be used: {e!r}") from None
        dtype = npz.BFLOAT16 if stored == "bfloat16" else npz.plain_dtype(stored)
        if dtype is None:
            raise self._fault(key, f"dtype {str(stored)[:80]}; expected numbers")
        if layout != (2, "."):
            raise self._fault(key, f"zarr format and separator {layout}; expected (2, '.')")
        sizes = (*shape, *chunks)
        if len(chunks) != len(shape) or not all(type(n) is int and 0 < n < 2**63 for n in sizes):
            raise self._fault(key, f"shape {shape} in chunks of {chunks}; expected sizes above 0")
        npz.check_expansion(
            sum(f.stat().st_size for f in folder.iterdir()),
            math.prod(-(-n // c) * c for n, c in zip(shape, chunks, strict=True)) * dtype.itemsize,
            lambda text: self._fault(key, text),
        )
        return key, shape, dtype.newbyteorder("=")
