"""Runs that are killed, preempted, starved of disk or distributed end as they should."""

import json
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

WORKER = pathlib.Path(__file__).parent / "run_worker.py"
TF_ERRORS = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}


def start(fixtures, workdir, pause=0.0, env=None, **options):
    return subprocess.Popen(
        [sys.executable, str(WORKER), str(fixtures), str(workdir), str(pause)],
        env={**os.environ, **TF_ERRORS, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(process, code=0):
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err[-3000:]
    return out, err


def parameters(path):
    with np.load(path) as arrays:
        return dict(arrays)


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.fixture(scope="module")
def uninterrupted(fixtures, tmp_path_factory):
    """The final parameters of a run that nobody disturbed."""
    workdir = tmp_path_factory.mktemp("whole")
    finish(start(fixtures, workdir))
    return parameters(workdir / "final.npz")


def wait_for(pattern, workdir, process):
    while not list(workdir.glob(pattern)):
        assert process.poll() is None, process.stderr.read()[-3000:]
        time.sleep(0.002)


def test_killed_anywhere_and_started_again_a_run_ends_the_same(fixtures, uninterrupted, tmp_path):
    # In the middle of writing a checkpoint, and in an evaluator.
    process = start(fixtures, tmp_path, pause=0.3)
    wait_for("checkpoints/ckpt-6_temp*", tmp_path, process)
    process.kill()
    process.wait()
    process = start(fixtures, tmp_path, pause=0.3)
    wait_for("checkpoints/ckpt-16.index", tmp_path, process)
    process.kill()
    process.wait()
    assert not (tmp_path / "final.npz").exists()
    finish(start(fixtures, tmp_path))
    assert_same_bits(parameters(tmp_path / "final.npz"), uninterrupted)


def test_sigterm_writes_a_checkpoint_and_says_so_by_its_code(fixtures, uninterrupted, tmp_path):
    process = start(fixtures, tmp_path, pause=1.0)
    wait_for("checkpoints/ckpt-8.index", tmp_path, process)
    process.send_signal(signal.SIGTERM)
    out, _ = finish(process, code=75)
    step = int(out.split("stopped at step ")[1].split(",")[0])
    assert (tmp_path / "checkpoints" / f"ckpt-{step}.index").exists()
    finish(start(fixtures, tmp_path))
    assert_same_bits(parameters(tmp_path / "final.npz"), uninterrupted)


def test_no_room_for_a_checkpoint_stops_the_run_and_leaves_the_last_one(
    fixtures, uninterrupted, tmp_path
):
    process = start(fixtures, tmp_path, pause=1.0)
    wait_for("checkpoints/ckpt-8.index", tmp_path, process)
    process.send_signal(signal.SIGTERM)
    finish(process, code=75)
    before = json.dumps(sorted(p.name for p in (tmp_path / "checkpoints").glob("*.index")))

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    _, err = finish(start(fixtures, tmp_path, preexec_fn=small_files), code=1)
    assert "TrainingError: cannot write to" in err
    assert "The last whole checkpoint is" in err
    after = json.dumps(sorted(p.name for p in (tmp_path / "checkpoints").glob("*.index")))
    assert after == before
    assert not list((tmp_path / "checkpoints").glob("*_temp"))
    finish(start(fixtures, tmp_path))
    assert_same_bits(parameters(tmp_path / "final.npz"), uninterrupted)


def free_port():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]
