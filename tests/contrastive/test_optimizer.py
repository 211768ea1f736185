"""Multipliers by name give optax's numbers."""

import numpy as np
import tensorflow as tf

from lit_tf.contrastive.collectives import Collectives
from lit_tf.contrastive.config import OptimizerConfig
from lit_tf.contrastive.optimizers import Optimizer, clip_by_global_norm

# As in tests/reference/make_optax_numbers.py, which wrote expected/optax.npz.
CONFIG = OptimizerConfig(
    lr=1e-2,
    weight_decay=1e-1,
    clip=2.0,
    warmup=3,
    lr_mults=(("txt/head/bias", 0.5), ("txt/head/.*", 10.0), ("img/.*", 0.1)),
    wd_mults=(("txt/.*kernel", 2.0), (".*kernel", 1.0), ("t", 0.25)),
)


def test_steps_under_multipliers_are_optaxs(reference):
    expected = reference("optax")
    start = "parameters/0/"
    names = [key.removeprefix(start) for key in expected if key.startswith(start)]
    parameters = {name: tf.Variable(expected[start + name]) for name in names}
    optimizer = Optimizer(parameters, CONFIG, 10)
    for step in range(8):
        gradients = {name: tf.constant(expected[f"gradients/{step}/{name}"]) for name in names}
        optimizer.update(clip_by_global_norm(gradients, CONFIG.clip)[0], Collectives())
        for name in names:
            np.testing.assert_allclose(
                parameters[name].numpy(),
                expected[f"parameters/{step + 1}/{name}"],
                rtol=0,
                atol=1e-6,
                err_msg=f"{name}, step {step}",
            )
            if step:  # warmup starts from 0
                assert not np.array_equal(parameters[name].numpy(), expected[start + name])
