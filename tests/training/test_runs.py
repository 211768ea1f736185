"""Runs that are killed, preempted, starved of disk or distributed end as they should."""

import json
import random
import re
import resource
import signal
import sys
import time

import numpy as np
import pytest

import lit_tf
from lit_tf.training.config import DataConfig
from lit_tf.training.data.tfds_builders import open_tfds
from lit_tf.training.precompute.shards import Job, precompute

from ..processes import finish, launch, worker, worker_environments
from .data import shards


def start(fixtures, workdir, pause=0.0, dropout=0.1, env=None, **options):
    return launch(worker("run", fixtures, workdir, pause, dropout), env, **options)


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
    while not any(workdir.glob(pattern)):
        assert process.poll() is None, process.stderr.read()[-3000:]
        time.sleep(0.002)


@pytest.mark.full
def test_killed_anywhere_and_started_again_a_run_ends_the_same(fixtures, uninterrupted, tmp_path):
    # In the middle of writing a checkpoint, and in an evaluator.
    process = start(fixtures, tmp_path, pause=0.3)
    wait_for("checkpoints/ckpt-6*", tmp_path, process)
    process.kill()
    process.wait()
    process = start(fixtures, tmp_path, pause=0.3)
    wait_for("checkpoints/ckpt-16.index", tmp_path, process)
    process.kill()
    process.wait()
    finish(start(fixtures, tmp_path))
    assert_same_bits(parameters(tmp_path / "final.npz"), uninterrupted)


@pytest.mark.full
def test_sigterm_then_a_full_disk_stop_a_run_that_ends_the_same(fixtures, uninterrupted, tmp_path):
    # SIGTERM writes a checkpoint and says so by its code.
    process = start(fixtures, tmp_path, pause=1.0)
    wait_for("checkpoints/ckpt-8.index", tmp_path, process)
    process.send_signal(signal.SIGTERM)
    out, _ = finish(process, code=75)
    step = int(out.split("stopped at step ")[1].split(",")[0])
    assert (tmp_path / "checkpoints" / f"ckpt-{step}.index").exists()

    # Without room for a checkpoint a run stops, and leaves the last one.
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


@pytest.mark.full
def test_two_workers_run_the_loop_as_one_process_does(fixtures, tmp_path):
    """To rounding, which differs: sums over a batch are added up in another order.

    The keys' biases drift most. A softmax over keys does not depend on them, so their gradient is
    nothing but rounding, and Adam makes steps of any size out of it.
    """
    alone, together = tmp_path / "alone", tmp_path / "together"
    processes = [start(fixtures, alone, dropout=0.0)]
    for env in worker_environments(2):
        processes.append(start(fixtures, together, dropout=0.0, env=env))
    for process in processes:
        finish(process)
    expected, found = parameters(alone / "final.npz"), parameters(together / "final.npz")
    assert expected.keys() == found.keys()
    without_effect = [k for k in expected if k.endswith("key/bias")]
    assert len(without_effect) < len(expected) / 10
    for name, array in expected.items():
        bound = 5e-3 if name in without_effect else 1e-5
        np.testing.assert_allclose(found[name], array, rtol=0, atol=bound, err_msg=name)


# --- the embedded dataset, from the command line -------------------------------------------------


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A function from (data, workdir) to a started run on the small dataset of digits.

    Six captions and a flip to draw from for every image, dropout, a shuffle buffer smaller than the
    dataset, so several shuffles of it, and every evaluator.
    """
    data_dir = tmp_path_factory.mktemp("tfds")
    open_tfds("digit_pairs/tiny", data_dir=str(data_dir))
    job = Job(
        checkpoint="LiT-digits",
        data=DataConfig(source="digit_pairs/tiny", data_dir=str(data_dir), augment="flip_lr"),
        output=str(tmp_path_factory.mktemp("embeddings")),
        shards=3,
        views=2,
    )
    precompute(job, progress=False)
    sources = {
        "images": ["data.augment=flip_lr", "eval.validation=validation"],
        "embeddings": [f"data.source={job.output}", f"eval.validation={job.output}"],
    }

    def begin(data, workdir, env=None, more=()):
        settings = [
            *("steps_per_loop=2", "checkpoint_every=4", "eval.every=8", "data.shuffle_buffer=40"),
            *("eval.zero_shot=digit_pairs/tiny", "eval.retrieval=digit_pairs/tiny"),
            *(f"eval.data_dir={data_dir}", *sources[data], *more),
        ]
        config = f"digits:dataset=digit_pairs/tiny,data_dir={data_dir},steps=48,batch_size=16"
        command = [sys.executable, "-m", "lit_tf.training.train", "--config", config]
        command += [f"--set={setting}" for setting in settings]
        return launch([*command, "--workdir", str(workdir)], env)

    return begin


@pytest.mark.full
@pytest.mark.parametrize("data", ["images", "embeddings"])
def test_digits_killed_at_any_moment_end_the_same(data, digits, tmp_path):
    whole = digits(data, tmp_path / "whole")
    workdir = tmp_path / "killed"
    process = digits(data, workdir)
    # In the middle of writing a checkpoint; then wherever the run happens to be.
    wait_for("checkpoints/ckpt-*_temp*", workdir, process)
    kill(process)
    done = len(checkpoints(workdir))
    process = digits(data, workdir)
    while len(checkpoints(workdir)) <= done and process.poll() is None:
        time.sleep(0.002)
    pause = random.SystemRandom().uniform(0, 2)
    print(f"killed {pause:.3f} s after its first checkpoint")  # shown if the test fails
    time.sleep(pause)
    kill(process)
    print(f"at {checkpoints(workdir)}")
    finish(digits(data, workdir))
    finish(whole)
    assert_same_bits(parameters(workdir / "final.npz"), parameters(tmp_path / "whole/final.npz"))


@pytest.mark.full
def test_two_workers_train_from_the_command_line_with_every_evaluator(digits, tmp_path):
    processes = [digits("images", tmp_path, env) for env in worker_environments(2)]
    chief, other = (finish(process)[0] for process in processes)
    assert {"validation/loss", "zero_shot/digit_pairs/tiny/accuracy"} <= set(chief.split())
    assert not other.strip()  # all have the same figures; one tells
    assert (tmp_path / "final.npz").is_file()
    assert checkpoints(tmp_path)[-1] == "ckpt-48"


@pytest.mark.full
@pytest.mark.parametrize(
    ("more", "field"),
    [
        (["optimizer.lr=0.01"], "optimizer.lr .here 0.0"),
        (["seed=3", "model.dropout=0.2"], "model.dropout .here 0.*, seed .here "),
        (["data.source={shards}/*.tar"], "the data's shards"),
        (["model.image_init={other}"], "the parameters"),
        (["eval.zero_shot="], "eval.zero_shot"),
    ],
)
def test_workers_that_disagree_stop_before_the_first_step(more, field, digits, tmp_path):
    other = lit_tf.load("LiT-digits")
    other.canonical_variables()["img/embedding/bias"].assign_add(np.full(96, 1e-6, np.float32))
    lit_tf.save_npz(other, tmp_path / "other.npz")
    for i in range(2):
        shards.write_tar(tmp_path / f"{i}.tar", shards.pairs(30, first=30 * i))
    places = {"shards": tmp_path, "other": tmp_path / "other.npz"}
    more = [setting.format(**places) for setting in more]
    common = [f"data.source={tmp_path}/0.tar"] if "shards" in field else []
    processes = [
        digits("images", tmp_path / "run", env, [*common, "eval.validation=none", *own])
        for env, own in zip(worker_environments(2), ((), more), strict=True)
    ]
    for process in processes:
        _, err = finish(process, code=2)
        assert re.search(f"error: the workers disagree on {field}", err), err[-2000:]
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.full
def test_a_lost_worker_is_named_in_one_line_and_the_run_to_be_repeated(digits, tmp_path):
    processes = [digits("images", tmp_path, env) for env in worker_environments(2)]
    wait_for("checkpoints/ckpt-8.index", tmp_path, processes[0])
    kill(processes[1])
    out, err = finish(processes[0], code=75)
    assert "lit-tf: worker 1 is gone" in out and "start all workers again" in out
    assert "Graph execution error" not in err


@pytest.mark.full
def test_ctrl_c_and_a_run_that_starts_from_its_checkpoint(digits, tmp_path):
    process = digits("images", tmp_path / "run")
    wait_for("checkpoints/ckpt-8.index", tmp_path / "run", process)
    process.send_signal(signal.SIGINT)
    out, err = finish(process, code=130)
    step = int(out.split("stopped at step ")[1].split(",")[0])
    assert "run the same command again to resume" in out and "Ctrl-C again stops at once" in err
    # Another learning rate is another run; the command that the refusal says starts it.
    _, err = finish(digits("images", tmp_path / "run", more=["optimizer.lr=0.002"]), code=2)
    command = re.search("--workdir NEW (.*)", err)[1].replace("--set ", "").split()
    assert f"checkpoints/ckpt-{step}" in command[0]
    _, err = finish(digits("images", tmp_path / "new", more=["optimizer.lr=0.002", *command]))
    began, end = tmp_path / "run/checkpoints" / f"ckpt-{step}", tmp_path / "new/final.npz"
    assert lit_tf.load(began).fingerprint("img/") == lit_tf.load(end).fingerprint("img/")
    # What changes no number may change, and the run says where it goes on.
    free = ["name=other", "data.max_bad_share=0.2", "eval.every=0", "keep_checkpoints=1"]
    _, err = finish(digits("images", tmp_path / "run", more=free))
    assert f"resumed from step {step} " in err


def checkpoints(workdir):
    return sorted(p.stem for p in workdir.glob("checkpoints/ckpt-*.index"))


def kill(process):
    process.kill()
    process.communicate()
