"""What a step leaves alone, what a checkpoint holds, and where a run stops."""

import os
import signal

import numpy as np
import pytest
import tensorflow as tf

from lit_tf.contrastive.collectives import Collectives
from lit_tf.contrastive.step import all_parameters
from lit_tf.errors import TrainingError
from lit_tf.images import preprocessing
from lit_tf.training.checkpoints import Checkpoints, steps_in
from lit_tf.training.config import EvalConfig, OptimizerConfig, TrainConfig
from lit_tf.training.loop import Loop, Preempted

from .reference_runs import build_step


def run_config(**settings):
    """The config of a run of 16 examples a step and two steps a host call."""
    return TrainConfig(
        optimizer=OptimizerConfig(warmup=3), batch_size=16, steps_per_loop=2, **settings
    )


class Replica(Collectives):
    """The replica of a given number, for what does not talk to others."""

    def __init__(self, number):
        self._number = number

    def replica_id(self):
        return tf.constant(self._number)


def test_every_variable_is_in_the_checkpoint(fixtures, tmp_path):
    step = build_step(fixtures, rule="adafactor")
    checkpoints = Checkpoints(str(tmp_path), step, keep=1)
    checkpoints.save(0)
    path = checkpoints.path(0)
    saved = {
        tuple(shape)
        for name, shape in tf.train.list_variables(path)
        if name.endswith("/.ATTRIBUTES/VARIABLE_VALUE")
    }
    names = [n for n, _ in tf.train.list_variables(path) if n.startswith(("model/", "optimizer/"))]
    expected = [*all_parameters(step.model).values(), *step.optimizer.variables.values()]
    assert len(names) == len(expected)
    # As many as the towers themselves count, and no two names for one variable.
    assert len(all_parameters(step.model)) == len(step.model.weights)
    assert {tuple(v.shape) for v in expected} <= saved

    before = {k: v.numpy() for k, v in step.optimizer.variables.items()}
    for variable in expected:
        variable.assign(tf.ones_like(variable))
    assert checkpoints.restore() == path
    for name, value in before.items():
        np.testing.assert_array_equal(step.optimizer.variables[name].numpy(), value)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_step_takes_pixels_as_the_pipeline_sends_them(fixtures, fixture_module, jit_compile):
    step = build_step(fixtures)
    tokens = tf.constant(fixture_module.train_batches(steps=1)[1][0])
    pixels = np.random.default_rng(0).integers(0, 256, (len(tokens), 32, 32, 3), np.uint8)
    loss = tf.function(step.loss, jit_compile=jit_compile)
    sent, normalized = (
        float(loss({"image": tf.constant(image), "tokens": tokens}))
        for image in (pixels, preprocessing.normalize(pixels))
    )
    assert sent == pytest.approx(normalized, abs=1e-6)


def test_a_locked_tower_has_no_optimizer_state_and_does_not_move(fixtures, fixture_module):
    step = build_step(fixtures)
    assert not [name for name in step.optimizer.variables if "img/" in name]
    before = {k: v.numpy() for k, v in all_parameters(step.model).items() if k.startswith("img/")}
    images, tokens = fixture_module.train_batches(steps=2)
    function = tf.function(step)
    for image, token in zip(images, tokens, strict=True):
        function({"image": tf.constant(image), "tokens": tf.constant(token)})
    after = all_parameters(step.model)
    assert before
    for name, value in before.items():
        np.testing.assert_array_equal(after[name].numpy(), value)


def test_replicas_draw_different_masks_and_the_same_again_at_the_same_step(fixtures):
    step = build_step(fixtures, dropout=0.1)
    tokens = tf.constant([[101, 200, 300] + [0] * 13])

    def embed(replica, iteration):
        step.collectives = Replica(replica)
        step.optimizer.iterations.assign(iteration)
        return step.embed_tokens(tokens, step._dropout_seed()).numpy()

    first = embed(0, 3)
    np.testing.assert_array_equal(embed(0, 3), first)
    assert np.abs(embed(1, 3) - first).max() > 1e-3
    assert np.abs(embed(0, 4) - first).max() > 1e-3


def test_bfloat16_computes_in_it_keeps_float32_and_learns(fixtures, fixture_module):
    step = build_step(fixtures, lock_image=False, dtype="mixed_bfloat16", total_steps=30)
    (image,), (tokens,) = fixture_module.train_batches(steps=1)
    batch = {"image": tf.constant(image), "tokens": tf.constant(tokens)}
    function = tf.function(step).get_concrete_function(batch)
    products = [op for op in function.graph.get_operations() if op.type in ("Einsum", "MatMul")]
    in_towers = [op for op in products if "_tower" in op.name]
    assert len(in_towers) > 50 and all(op.outputs[0].dtype == tf.bfloat16 for op in in_towers)
    others = [op for op in products if "_tower" not in op.name]
    assert others and all(op.outputs[0].dtype == tf.float32 for op in others)  # the loss's
    losses = []
    for _ in range(12):
        metrics = function(batch)
        assert all(value.dtype == tf.float32 for value in metrics.values())
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.9 * losses[0]
    state = {**all_parameters(step.model), **step.optimizer.variables}
    del state["iterations"]
    assert {v.dtype for v in state.values()} == {tf.float32}


def test_a_nan_stops_the_run_names_the_step_and_keeps_the_checkpoint(
    fixtures, fixture_module, tmp_path
):
    step = build_step(fixtures)
    images, tokens = fixture_module.train_batches(steps=10)
    images[5] = np.nan
    dataset = tf.data.Dataset.from_tensor_slices({"image": images, "tokens": tokens})
    strategy = tf.distribute.get_strategy()
    loop = Loop(run_config(steps=10, checkpoint_every=2), strategy, step, str(tmp_path))
    with pytest.raises(TrainingError, match="at step 5"):
        loop.run(dataset)
    assert tf.train.latest_checkpoint(str(tmp_path / "checkpoints")).endswith("ckpt-4")


def test_sigterm_breaks_off_an_evaluation_and_writes_the_checkpoint_that_is_missing(
    fixtures, fixture_module, tmp_path
):
    step = build_step(fixtures)
    images, tokens = fixture_module.train_batches(steps=6)
    dataset = tf.data.Dataset.from_tensor_slices({"image": images, "tokens": tokens})
    config = run_config(steps=6, checkpoint_every=6, eval=EvalConfig(every=2))
    went_on = []

    def figure():
        os.kill(os.getpid(), signal.SIGTERM)
        went_on.append(step)
        return {}

    loop = Loop(config, tf.distribute.get_strategy(), step, str(tmp_path))
    with pytest.raises(Preempted, match="stopped at step 2, checkpoint written"):
        loop.run(dataset, [figure])
    assert not went_on
    assert tf.train.latest_checkpoint(str(tmp_path / "checkpoints")).endswith("ckpt-2")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_ctrl_c_writes_a_checkpoint_and_is_told_from_sigterm(fixtures, fixture_module, tmp_path):
    step = build_step(fixtures)
    images, tokens = fixture_module.train_batches(steps=6)
    dataset = tf.data.Dataset.from_tensor_slices({"image": images, "tokens": tokens})
    loop = Loop(
        run_config(steps=6, checkpoint_every=6, eval=EvalConfig(every=2)),
        tf.distribute.get_strategy(),
        step,
        str(tmp_path),
    )

    def figure():
        os.kill(os.getpid(), signal.SIGINT)
        return {}

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Preempted, match="stopped at step 2, checkpoint written") as stop:
        loop.run(dataset, [figure])
    assert stop.value.interrupted and signal.getsignal(signal.SIGINT) == before
    assert steps_in(str(tmp_path / "checkpoints")) == [2]
