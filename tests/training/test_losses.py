"""Losses, their chunked forms and gradient caching give one and the same gradient."""

import numpy as np
import pytest
import tensorflow as tf

from lit_tf.contrastive.collectives import Collectives
from lit_tf.contrastive.losses import LOSS_FUNCTIONS

from .reference_runs import build_step


def value_and_gradients(name, chunk, batch=16, width=8):
    rng = np.random.default_rng(0)
    zimg, ztxt = (
        tf.math.l2_normalize(tf.constant(rng.normal(size=(batch, width)), tf.float32), -1)
        for _ in range(2)
    )
    t, b = tf.constant([np.log(10.0)], tf.float32), tf.constant([-2.71])
    sources = [zimg, ztxt, t] + ([b] if name == "sigmoid" else [])

    @tf.function
    def compute():
        with tf.GradientTape() as tape:
            tape.watch(sources)
            loss = LOSS_FUNCTIONS[name](zimg, ztxt, t, b, collectives=Collectives(), chunk=chunk)
        return loss, tape.gradient(loss, sources)

    return compute()


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
@pytest.mark.parametrize("chunk", [1, 4, 16])
def test_chunks_change_neither_loss_nor_gradient(name, chunk):
    loss, gradients = value_and_gradients(name, 0)
    chunked_loss, chunked = value_and_gradients(name, chunk)
    np.testing.assert_allclose(chunked_loss, loss, rtol=0, atol=1e-5)
    for plain, other in zip(gradients, chunked, strict=True):
        np.testing.assert_allclose(other, plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("loss", "lock_image"),
    [
        pytest.param("softmax", True, marks=pytest.mark.full),
        pytest.param("softmax", False, marks=pytest.mark.full),
        ("sigmoid", False),
    ],
)
def test_gradient_caching_changes_neither_loss_nor_gradient(
    loss, lock_image, fixtures, fixture_module
):
    images, tokens = fixture_module.train_batches(steps=1)
    batch = {"image": tf.constant(images[0]), "tokens": tf.constant(tokens[0])}

    def compute(**options):
        step = build_step(fixtures, loss=loss, lock_image=lock_image, **options)
        return tf.function(step.loss_and_gradients)(batch)

    share, gradients = compute()
    cached_share, cached = compute(cache_chunk=4, chunk=8)
    np.testing.assert_allclose(cached_share, share, rtol=0, atol=1e-5)
    assert sorted(cached) == sorted(gradients)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(cached[name], gradient, rtol=0, atol=1e-5, err_msg=name)


def test_chunked_loss_holds_no_global_square_of_logits():
    """At 4,096 pairs the square alone would take 64 MiB, twice, and its gradients as much."""
    batch, width, chunk = 4096, 32, 128
    spec = tf.TensorSpec([batch, width])

    @tf.function(jit_compile=True)
    def compute(zimg, ztxt):
        t = tf.constant(2.0)
        with tf.GradientTape() as tape:
            tape.watch([zimg, ztxt])
            loss = LOSS_FUNCTIONS["softmax"](zimg, ztxt, t, collectives=Collectives(), chunk=chunk)
        return tape.gradient(loss, [zimg, ztxt])

    hlo = compute.experimental_get_compiler_ir(spec, spec)(stage="hlo")
    assert f"f32[{chunk},{batch}]" in hlo
    assert f"f32[{batch},{batch}]" not in hlo
