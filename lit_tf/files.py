"""Writing files so that whoever looks finds the old one or the whole new one; their digests."""

import contextlib
import hashlib
import os
import pathlib
import uuid


@contextlib.contextmanager
def replacing(path):
    """Opens a file that takes the place of `path` when it is whole.

    Whatever was at `path` stays until the block ends, and also where it raises: then nothing else
    is left.

    Args:
      path: the file's name.

    Yields:
      A new file in the same folder, open for bytes.

    Raises:
      OSError: the file cannot be written.
    """
    path = pathlib.Path(path)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with open(beside, "xb") as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder):
    """Makes a rename in `folder` outlive a power failure, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sha256(path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:  # hashlib.file_digest is of Python 3.11
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
