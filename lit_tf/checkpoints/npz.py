"""Reading and writing `.npz` archives that may come from anywhere.

`np.load` allocates any shape that a header declares before it looks at the data. Here every length
that the file declares is compared with the file's real size before anything is allocated, and
nothing is unpickled. All faults are `CheckpointError`s.

Arrays are read and written one at a time, so the memory needed beside the model is that of its
largest array. They are read, not memory-mapped: NumPy does not align members within the archive, a
map cannot check the CRC, and a file that shrinks under a map kills the process.
"""

import contextlib
import io
import math
import os
import zipfile
from typing import NamedTuple

import ml_dtypes
import numpy as np

from lit_tf import files
from lit_tf.errors import CheckpointError, nearest, plain

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

_MAX_HEADER = 10_000  # bytes; NumPy's own limit. A plain array's header takes 118.
_MAX_KEY = 1024
_BLOCK = 64 << 20  # bytes that `blocks` reads at once

# Deflate expands at most 1032-fold, and weights expand only by a few per cent. A large member that
# claims more than this is a bomb, or an array of zeros, which cannot be a weight.
_MAX_EXPANSION = 100
_MAX_EXPANSION_FROM = 16 << 20

_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_STARTS = (
    (b"PK", "a damaged or truncated zip archive"),
    (b"\x93NUMPY", "a single .npy array"),
    (b"\x80", "a Python pickle"),
    (b"\x89HDF", "an HDF5 file"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    (b"<", "an HTML or XML page"),
)


def check_key(path, key):
    """Raises unless `key` is a relative, normal, printable path."""
    if (
        not key
        or len(key) > _MAX_KEY
        or not key.isprintable()
        or "\\" in key
        or ":" in key
        or any(part in ("", ".", "..") for part in key.split("/"))
    ):
        raise CheckpointError(
            f"{path}: key {key[:80]!r} is not allowed; expected names joined by '/', without "
            "empty parts, '.', '..', ':', backslashes or control characters"
        )


def plain_dtype(dtype):
    """Returns the dtype of stored plain numbers, bfloat16 for NumPy's two raw bytes, or None."""
    try:
        dtype = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError):
        return None
    if dtype == np.dtype("V2"):
        return BFLOAT16
    return dtype if dtype.kind in "biuf" and dtype.itemsize <= 8 else None


def check_expansion(stored, unpacked, fault):
    """Raises `fault(message)` if stored bytes would unpack to far more, as weights never do."""
    if unpacked > max(_MAX_EXPANSION_FROM, _MAX_EXPANSION * stored):
        raise fault(
            f"{stored:,} bytes would unpack to {unpacked:,}; expected at most {_MAX_EXPANSION} "
            "times as many"
        )


class _Member(NamedTuple):
    """What the archive declares about one array, after the checks that need no data."""

    info: zipfile.ZipInfo
    offset: int  # where the data starts within the member
    shape: tuple[int, ...]
    stored: np.dtype  # in the file; may have the other byte order
    fortran: bool


class NpzFile(contextlib.AbstractContextManager):
    """An open `.npz` archive of plain arrays; use it as a context manager.

    Opening reads the directory and every array's header, and refuses the file if any of them is
    faulty. `read` reads the data, one array at a time.
    """

    def __init__(self, path):
        """Opens `path` and checks every member; CheckpointError if one is not a plain array."""
        self.path = os.fspath(path)
        found = "a folder" if os.path.isdir(self.path) else "a device or a pipe"
        # Opening a pipe waits for its writer, and /dev/zero never ends.
        if os.path.exists(self.path) and not os.path.isfile(self.path):
            raise CheckpointError(f"{self.path}: expected a .npz file, found {found}")
        try:
            self._file = open(self.path, "rb")
        except (OSError, ValueError) as e:
            raise CheckpointError(f"{self.path}: cannot be opened: {e}") from e
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            self._zip = self._open_zip()
            self._members = self._read_members()
        except BaseException:
            self._file.close()
            raise

    def __exit__(self, *exc):
        self.close()

    def close(self):
        """Closes the file; arrays that were read stay valid."""
        self._zip.close()
        self._file.close()

    def keys(self):
        return list(self._members)

    def shape(self, key):
        return self._member(key).shape

    def dtype(self, key):
        """Returns the dtype that `read` returns: in native byte order, bfloat16 for `|V2`."""
        return self._member(key).stored.newbyteorder("=")

    def read(self, key):
        """Returns a new array of `shape(key)` and `dtype(key)`; its bytes agree with the CRC."""
        member = self._member(key)
        with self._reading(key), self._zip.open(member.info) as f:
            array = np.lib.format.read_array(f, max_header_size=_MAX_HEADER)
            _check_end(f)
        if member.stored == BFLOAT16:
            return array.view(BFLOAT16)
        return array.astype(member.stored.newbyteorder("="), copy=False)

    def blocks(self, key):
        """Yields one array as blocks of rows, so a token table is never in memory twice."""
        member = self._member(key)
        size = math.prod(member.shape) * member.stored.itemsize
        if size <= _BLOCK or member.fortran or not member.stored.isnative:
            yield self.read(key)
            return
        rows = max(1, _BLOCK * member.shape[0] // size)
        with self._reading(key), self._zip.open(member.info) as f:
            f.read(member.offset)
            for start in range(0, member.shape[0], rows):
                shape = (min(rows, member.shape[0] - start), *member.shape[1:])
                data = f.read(math.prod(shape) * member.stored.itemsize)
                yield np.frombuffer(data, member.stored).reshape(shape)
            _check_end(f)

    def _member(self, key):
        if key not in self._members:
            raise CheckpointError(f"{self.path}: no key {key!r}{nearest(key, self._members)}")
        return self._members[key]

    @contextlib.contextmanager
    def _reading(self, key):
        try:
            yield
        except MemoryError:
            raise
        except Exception as e:  # of zipfile, zlib, struct and the file system
            raise CheckpointError(f"{self.path}: key {key!r}: damaged: {plain(e)}") from e

    def _open_zip(self):
        """Returns the archive's ZipFile; for a file of another kind, the error names the kind."""
        start = b""
        try:
            start = self._file.read(64)
            self._file.seek(0)
            return zipfile.ZipFile(self._file)
        except Exception as e:  # zipfile lets those of struct and others through
            other = f"a file that starts with {start[:16]!r}" if start else "an empty file"
            found = next((name for prefix, name in _STARTS if start.startswith(prefix)), other)
            raise CheckpointError(f"{self.path}: not a .npz file but {found} ({plain(e)})") from e

    def _read_members(self):
        members = {}
        infos = self._zip.infolist()
        if not infos:
            raise CheckpointError(f"{self.path}: expected arrays, found an empty archive")
        # A bomb may have overlapping members. Together they claim more bytes than the file has.
        claimed = sum(info.compress_size for info in infos)
        if claimed > self._size:
            raise CheckpointError(
                f"{self.path}: the members claim {claimed:,} bytes, the file has {self._size:,}; "
                "truncated or forged"
            )
        for info in infos:
            name = info.filename
            if not name.endswith(".npy"):
                keras = name in ("metadata.json", "config.json", "model.weights.h5")
                hint = "; keras.saving.load_model reads a .keras file" if keras else ""
                raise CheckpointError(
                    f"{self.path}: member {name[:80]!r} is not an array; expected a name that "
                    f"ends in .npy{hint}"
                )
            key = name[: -len(".npy")]
            check_key(self.path, key)
            if key in members:
                raise CheckpointError(f"{self.path}: key {key!r} is there twice")
            members[key] = self._read_header(key, info)
        return members

    def _read_header(self, key, info):
        """Returns the _Member of one array, from the zip directory and the .npy header."""

        def fault(text):
            return CheckpointError(f"{self.path}: key {key!r}: {text}")

        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise fault(f"zip compression {info.compress_type}; expected stored or deflated")
        # Checked before the data is read, because a model is made from the shapes alone.
        check_expansion(info.compress_size, info.file_size, fault)
        with self._reading(key), self._zip.open(info) as f:
            start = io.BytesIO(f.read(_MAX_HEADER))
        try:
            version = np.lib.format.read_magic(start)
            shape, fortran, found = _HEADER_READERS[version](start)
        except KeyError:
            raise fault(f".npy version {version}; expected (1, 0) or (2, 0)") from None
        except Exception as e:  # NumPy lets the errors of Python's parser through
            raise fault(f"malformed .npy header: {plain(e)[:200]}") from None
        if not all(type(n) is int and n >= 0 for n in shape):
            raise fault(f"malformed .npy header: shape {shape}")
        offset, dtype = start.tell(), plain_dtype(found)
        if dtype is None:
            kind = "a pickled object" if found.hasobject else f"dtype {str(found)[:80]}"
            raise fault(f"{kind}; expected bool, int, float or bfloat16 (|V2) numbers")
        expected = offset + math.prod(shape) * dtype.itemsize
        if expected != info.file_size:
            raise fault(
                f"shape {shape} {dtype} takes {expected - offset:,} bytes, the archive holds "
                f"{max(info.file_size - offset, 0):,}"
            )
        return _Member(info, offset, shape, dtype, fortran and len(shape) > 1)


def _check_end(file):
    """Raises unless the data ends here; zipfile compares the CRC when it reaches the end."""
    if file.read(1):
        raise ValueError("data goes on after the array's end")


open_npz = NpzFile


def write_npz(path, arrays):
    """Writes (key, array) pairs, or a dict, as an uncompressed `.npz` that `np.load` and JAX read.

    Each array is written before the next is taken. bfloat16 arrays are written as `|V2`. The same
    arrays give the same bytes.
    """
    try:
        with files.replacing(path) as file:
            write_archive(file, path, arrays.items() if hasattr(arrays, "items") else arrays)
    except OSError as e:
        raise CheckpointError(f"{path}: cannot be written: {e}") from e


def write_archive(file, path, pairs):
    """Writes (key, array) pairs into an open file, as `write_npz` does; errors name `path`."""
    with zipfile.ZipFile(file, "w") as archive:
        for key, array in pairs:
            check_key(path, key)
            if f"{key}.npy" in archive.NameToInfo:
                raise CheckpointError(f"{path}: key {key!r} is there twice")
            _write_member(archive, path, key, array)
        if not archive.NameToInfo:
            raise CheckpointError(f"{path}: no arrays to write")


def _write_member(archive, path, key, array):
    """Writes one array into the archive without copying it as a whole."""
    array = np.asarray(array)
    if array.dtype == BFLOAT16:
        array = array.view(np.dtype("V2"))
    elif plain_dtype(array.dtype) is None:
        raise CheckpointError(f"{path}: key {key!r}: dtype {array.dtype} cannot be written")
    # A ZipInfo made from a name has a fixed date, 1980: equal arrays give equal files.
    member = zipfile.ZipInfo(key + ".npy")
    with archive.open(member, "w", force_zip64=True) as f:
        np.lib.format.write_array(f, array, allow_pickle=False)
