"""Writing files on any file system that `tf.io.gfile` knows, `gs://` among them."""

import contextlib
import uuid

import tensorflow as tf


@contextlib.contextmanager
def replacing_anywhere(path: str):
    """Yields the path of a new file, which takes the place of `path` when the block ends.

    Whatever was at `path` stays until then, and also where the block raises: then the new file is
    removed. (`lit_tf.files.replacing` does more for local files: it outlives a power failure.)

    Raises:
        tf.errors.OpError: the file cannot be written.
    """
    beside = f"{path}.{uuid.uuid4().hex[:8]}.partial"
    try:
        yield beside
        tf.io.gfile.rename(beside, path, overwrite=True)
    except BaseException:
        with contextlib.suppress(tf.errors.OpError):
            tf.io.gfile.remove(beside)
        raise
