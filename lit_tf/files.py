"""Writing files and folders so that a reader finds the old one or the whole new one; digests.

Everything is written beside its final place and renamed when it is whole. An interrupted or failed
write leaves the old output as it was, and nothing new. If the path is a link, the file that it
points at is replaced, not the link.
"""

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import pathlib
import shutil
import sys
import uuid

from lit_tf.errors import DataError

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_UNFINISHED = ".partial"  # how the names of what is being written end


@contextlib.contextmanager
def replacing_path(path):
    """Yields the path of a new file, which takes the place of `path` when the block ends.

    Until then, and if the block raises, whatever was at `path` stays. `path` is local or an address
    that `tf.io.gfile` can write, such as gs://; behind a link, what it points at is replaced.
    """
    path = os.fspath(path)
    folder, name = os.path.split(path if "://" in path else os.path.realpath(path))
    beside = os.path.join(folder, f".{name}.{uuid.uuid4().hex[:8]}{_UNFINISHED}")
    if remote := "://" in path:
        import tensorflow as tf
    try:
        yield beside
        if remote:
            tf.io.gfile.rename(beside, path, overwrite=True)
        else:
            put_in_place(beside, os.path.join(folder, name))
    except BaseException:
        with contextlib.suppress(Exception):  # an OSError, or TensorFlow's own
            (tf.io.gfile.remove if remote else os.unlink)(beside)
        raise


def put_in_place(partial, path):
    """Gives a whole local file its final name, in the same file system; replaces the old file."""
    sync(partial)
    os.replace(partial, path)
    with contextlib.suppress(OSError):  # the rename outlives a power failure, if the system can
        sync(os.path.dirname(path) or ".")


def sync(path):
    """Returns when a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(path):
    """Opens a file, for bytes, that takes the place of `path` as `replacing_path` does."""
    with replacing_path(path) as beside:
        if "://" in beside:
            import tensorflow as tf

            file = tf.io.gfile.GFile(beside, "wb")
        else:
            file = open(beside, "xb")
        with file:
            yield file


def write_text(path, text):
    """Writes a whole file of text in UTF-8, as `replacing` does."""
    with replacing(path) as file:
        file.write(text.encode())


@contextlib.contextmanager
def replacing_folder(path):
    """Yields a new local folder, which takes the place of `path` when the block ends.

    Until then, and if the block raises, whatever was at `path` stays. What processes that were
    killed have left beside `path` is removed first.
    """
    path = pathlib.Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_unfinished(path)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{_UNFINISHED}")
    with _locked(beside):
        beside.mkdir(mode=0o755)
        try:
            yield beside
            if path.exists():
                _exchange(beside, path)
            else:
                beside.rename(path)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


@contextlib.contextmanager
def locked(path, error):
    """Holds the lock of a local file, until the process ends at the latest; else raises `error`."""
    import filelock

    lock = filelock.FileLock(path, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as e:
        raise error from e
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _locked(folder):
    """Holds the lock of an unfinished folder; raises OSError if another process does."""
    file = folder.with_name(f"{folder.name}.lock")
    with locked(file, OSError(f"{folder} is in use")):
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def _remove_unfinished(path):
    """Removes the unfinished folders of processes that have ended without removing them."""
    start = f".{path.name}."
    for other in path.parent.iterdir():
        if other.name.startswith(start) and other.name.endswith(_UNFINISHED):
            with contextlib.suppress(OSError), _locked(other):
                shutil.rmtree(other, ignore_errors=True)


def _exchange(a, b):
    """Swaps two folders: in one step on Linux's usual file systems, elsewhere by three renames.

    A process that is killed between two renames leaves what was at `b` beside it, under the name
    of `a` with `.old` added.
    """
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of <fcntl.h> and <stdio.h>
    renameat2 = sys.platform == "linux" and getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 and not renameat2(here, os.fsencode(a), here, os.fsencode(b), exchange):
        return
    old = a.with_name(a.name + ".old")
    b.rename(old)
    try:
        a.rename(b)
    except BaseException:
        old.rename(b)
        raise
    old.rename(a)


def read_bytes(path) -> bytes:
    """Returns the contents of a local or remote file; OSError if it cannot be read."""
    path = os.fspath(path)
    if "://" not in path:
        return pathlib.Path(path).read_bytes()
    import tensorflow as tf

    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()
    except tf.errors.OpError as e:
        kind = FileNotFoundError if isinstance(e, tf.errors.NotFoundError) else OSError
        raise kind(e.message) from e


def parse_object(text: str | bytes, name) -> dict:
    """Returns the JSON object of a file that may be damaged; `name` is how errors call the file."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise DataError(f"{printable(name)} is damaged: expected JSON, found {e}") from None
    if not isinstance(value, dict):
        raise DataError(f"{printable(name)} is damaged: expected a JSON object, not {value!r:.20}")
    return value


def disk_error(error: BaseException) -> str | None:
    """Returns what is wrong with the disk if an error is about it, whoever raised it, else None.

    TensorFlow's own writers raise their own errors, in which only the text tells a full disk from
    a full memory.
    """
    words = (os.strerror(code) for code in _DISK_ERRORS)
    return next((word for word in words if word in str(error)), None)


def printable(path) -> str:
    """Returns a path as one line of UTF-8; undecodable bytes and control characters as escapes."""
    return "".join(
        c
        if c.isprintable()
        else f"\\x{ord(c) - 0xDC00:02x}"
        if 0xDC80 <= ord(c) <= 0xDCFF
        else c.encode("unicode_escape").decode()
        for c in os.fspath(path)
    )


def sha256(path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    return digest(path, hashlib.sha256())


def digest(path, made) -> str:
    """Returns a digest of a file, in hexadecimal; `made` is one of `hashlib`'s, still empty."""
    with open(path, "rb") as file:  # hashlib.file_digest is of Python 3.11
        while block := file.read(1 << 20):
            made.update(block)
    return made.hexdigest()
