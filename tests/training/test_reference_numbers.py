"""The ten steps of the published trainer, on one replica and on several."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from .reference_runs import RUNS, TOLERANCE, run


def assert_published(name, metrics, final, expected):
    for key, tolerance in TOLERANCE.items():
        np.testing.assert_allclose(
            metrics[key], expected[f"{name}/{key}"], rtol=0, atol=tolerance, err_msg=key
        )
    prefix = f"{name}/final/"
    keys = [k for k in expected if k.startswith(prefix)]
    assert len(keys) >= 7
    for key in keys:
        np.testing.assert_allclose(
            final[key.removeprefix(prefix)],
            expected[key],
            rtol=0,
            atol=1e-5 if "adafactor" in name else 1e-6,
            err_msg=key,
        )


@pytest.mark.parametrize("name", RUNS)
def test_ten_steps_equal_the_published_ones(name, fixtures, fixture_module, reference):
    strategy = tf.distribute.get_strategy()
    metrics, final = run(strategy, fixtures, fixture_module.train_batches(), **RUNS[name])
    assert_published(name, metrics, final, reference("train"))


def test_compiled_by_xla_the_numbers_are_the_same(fixtures, fixture_module, reference):
    name = "adam_unlocked_softmax"
    metrics, final = run(
        tf.distribute.get_strategy(),
        fixtures,
        fixture_module.train_batches(),
        jit_compile=True,
        **RUNS[name],
    )
    assert_published(name, metrics, final, reference("train"))


@pytest.mark.parametrize("replicas", [2, 4])
def test_replicas_change_no_number(replicas, fixtures, reference, tmp_path):
    """Fails if the gather had no gradient, or if replicas clipped before they reduced."""
    names = list(RUNS) if replicas == 2 else ["adam_unlocked_softmax", "adam_locked_sigmoid"]
    out = tmp_path / "out.npz"
    script = pathlib.Path(__file__).parent / "reference_runs.py"
    subprocess.run(
        [sys.executable, script, fixtures, str(replicas), out, *names],
        check=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    with np.load(out) as arrays:
        results = dict(arrays)
    for name in names:
        mine = {k.removeprefix(f"{name}/"): v for k, v in results.items() if k.startswith(name)}
        final = {k.removeprefix("final/"): v for k, v in mine.items()}
        assert_published(name, mine, final, reference("train"))


def test_two_workers_give_the_published_numbers(fixtures, reference, tmp_path):
    with socket.socket() as one, socket.socket() as two:
        for s in (one, two):
            s.bind(("localhost", 0))
        addresses = [f"localhost:{s.getsockname()[1]}" for s in (one, two)]
    script = pathlib.Path(__file__).parent / "reference_runs.py"
    name, processes = "adam_unlocked_softmax", []
    for index in range(2):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        processes.append(
            subprocess.Popen(
                [sys.executable, script, fixtures, "workers", tmp_path / f"{index}.npz", name],
                env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CONFIG": json.dumps(task)},
            )
        )
    assert [p.wait(timeout=300) for p in processes] == [0, 0]
    for index in range(2):
        with np.load(tmp_path / f"{index}.npz") as arrays:
            mine = {k.removeprefix(f"{name}/"): v for k, v in arrays.items()}
        final = {k.removeprefix("final/"): v for k, v in mine.items()}
        assert_published(name, mine, final, reference("train"))
