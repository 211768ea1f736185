"""The ten steps of the published trainer, on one replica and on several."""

import numpy as np
import pytest
import tensorflow as tf

from ..processes import finish, launch, worker, worker_environments
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


# Tracing an image tower that trains takes most of the time, twice so on two replicas.
LOCKED = "adam_locked_softmax"
UNLOCKED = "adam_unlocked_softmax"


@pytest.mark.parametrize("name", [LOCKED, pytest.param(UNLOCKED, marks=pytest.mark.full)])
def test_compiled_by_xla_the_numbers_are_the_same(name, fixtures, fixture_module, reference):
    metrics, final = run(
        tf.distribute.get_strategy(),
        fixtures,
        fixture_module.train_batches(),
        jit_compile=True,
        **RUNS[name],
    )
    assert_published(name, metrics, final, reference("train"))


@pytest.mark.parametrize(
    ("replicas", "names"),
    [
        (2, [LOCKED]),
        pytest.param(2, [UNLOCKED], marks=pytest.mark.full),
        pytest.param(4, list(RUNS), marks=pytest.mark.full),
    ],
)
def test_replicas_change_no_number(replicas, names, fixtures, reference, tmp_path):
    """Fails if the gather had no gradient, or if replicas clipped before they reduced."""
    out = tmp_path / "out.npz"
    finish(launch(worker("reference_runs", fixtures, replicas, out, *names)))
    with np.load(out) as arrays:
        results = dict(arrays)
    for name in names:
        mine = {k.removeprefix(f"{name}/"): v for k, v in results.items() if k.startswith(name)}
        final = {k.removeprefix("final/"): v for k, v in mine.items()}
        assert_published(name, mine, final, reference("train"))


@pytest.mark.full
def test_two_workers_give_the_published_numbers(fixtures, reference, tmp_path):
    name = UNLOCKED
    processes = [
        launch(worker("reference_runs", fixtures, "workers", tmp_path / f"{i}.npz", name), env)
        for i, env in enumerate(worker_environments(2))
    ]
    for process in processes:
        finish(process)
    for index in range(2):
        with np.load(tmp_path / f"{index}.npz") as arrays:
            mine = {k.removeprefix(f"{name}/"): v for k, v in arrays.items()}
        final = {k.removeprefix("final/"): v for k, v in mine.items()}
        assert_published(name, mine, final, reference("train"))
