"""A workdir belongs to one run at a time, and knows the shards that its run began with."""

import contextlib

import filelock
import tensorflow as tf

from lit_tf.errors import TrainingError

from .data.shard_sizes import differences, read_sizes, write_sizes


@contextlib.contextmanager
def taken(workdir: str):
    """Takes a workdir, created if need be, for this process until the block ends.

    The operating system lets go of a local one when the process ends, however it ends. Object
    stores such as gs:// have no locks, so there nobody is refused.
    """
    tf.io.gfile.makedirs(workdir)
    if "://" in workdir:
        yield
        return
    lock = filelock.FileLock(f"{workdir}/.lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as e:
        raise TrainingError(
            f"{workdir} is in use by another run: choose another --workdir, or wait until that run "
            "has ended"
        ) from e
    try:
        yield
    finally:
        lock.release()


def note_shards(workdir: str, sizes: dict[str, int], step: int) -> str | None:
    """Writes which shards a run reads, and returns what has changed since it began, or None."""
    path = f"{workdir}/shards.json"
    known = read_sizes(path) if step else None
    if known == sizes:
        return None
    write_sizes(path, sizes)
    if known is None:
        return None
    return (
        f"the shards of {workdir} have changed since the run was last started: "
        f"{differences(known, sizes)}. "
        f"It goes on from step {step} with the shards as they are now; its batches are not those "
        "of an uninterrupted run"
    )
