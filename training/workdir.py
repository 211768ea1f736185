"""A workdir belongs to one run at a time, and knows the shards that its run began with."""

import contextlib
import json
import os
import socket
import sys
import threading
import time
import uuid

import tensorflow as tf

from lit_tf.errors import TrainingError, extra
from lit_tf.files import replacing

from .data.shard_sizes import differences, read_sizes, write_sizes

with extra("train"):
    import filelock

_LOCK = ".lock"
# A run renews its mark in a remote workdir every 20 s. A run that finds a mark watches it for 90 s.
_BEAT_SECONDS, _WATCH_SECONDS = 20, 90


@contextlib.contextmanager
def taken(workdir: str, *, beat: float = _BEAT_SECONDS, watch: float = _WATCH_SECONDS):
    """Takes a workdir for this process until the block ends.

    A local one is locked by the operating system (`flock`), which lets go when the process ends,
    however it ends. Object stores have no locks. There, a small object says who has the workdir,
    and is renewed while the run lasts. If there is one already, it is watched for a while: if
    nobody renews it, its run is dead. Two runs that start within the same second are told apart by
    reading the object again.
    """
    tf.io.gfile.makedirs(workdir)
    path = f"{workdir}/{_LOCK}"
    with _marked(path, beat, watch) if "://" in workdir else _locked(path) as check:
        yield check


@contextlib.contextmanager
def _locked(path):
    lock = filelock.FileLock(path, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as e:
        raise _in_use(path) from e
    try:
        yield lambda: None  # nobody else gets a lock that is held
    finally:
        lock.release()


@contextlib.contextmanager
def _marked(path, beat, watch):
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "run": uuid.uuid4().hex}
    found = _read(path)
    if found is not None and not _is_dead(found):
        print(f"{path} is of another run; waiting to see whether it goes on", file=sys.stderr)
        deadline = time.monotonic() + watch
        while time.monotonic() < deadline:
            time.sleep(min(beat, 5) / 2)
            if _read(path) not in (found, None):
                raise _in_use(path, found)
    _write(path, mine)
    time.sleep(min(beat, 2))
    if (winner := _read(path)) is None or winner.get("run") != mine["run"]:
        raise _in_use(path, winner or {})
    stop, lost = threading.Event(), []

    def renew():
        number = 0
        while not stop.wait(beat):
            number += 1
            with contextlib.suppress(OSError, tf.errors.OpError):
                found = _read(path)
                if found is not None and found.get("run") != mine["run"]:
                    lost.append(_in_use(path, found))
                    return
                _write(path, {**mine, "beat": number})

    def check():
        if lost:
            raise lost[0]

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield check
    finally:
        stop.set()
        thread.join()
        if not lost:
            with contextlib.suppress(OSError, tf.errors.OpError):
                tf.io.gfile.remove(path)


def _is_dead(mark):
    """Whether a mark is of a process of this machine that has ended."""
    pid = mark.get("pid")
    if mark.get("host") != socket.gethostname() or not isinstance(pid, int) or pid < 1:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def _in_use(path, mark=None):
    who = f" (process {mark.get('pid')} on {mark.get('host')})" if mark else ""
    return TrainingError(
        f"{path.rpartition('/')[0]} is in use by another run{who}: choose another --workdir, or "
        "wait until that run has ended"
    )


def _read(path):
    try:
        with tf.io.gfile.GFile(path) as file:
            mark = json.loads(file.read(1 << 16))
    except (tf.errors.NotFoundError, ValueError, RecursionError):
        return None
    return mark if isinstance(mark, dict) else None


def _write(path, mark):
    with replacing(path) as file:
        file.write(json.dumps(mark).encode())


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
