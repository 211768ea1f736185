"""The trainer's step, lowered for many replicas on a machine that is none of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lit_tf.config import BertConfig, LitConfig, ViTConfig
from lit_tf.errors import TrainingError
from lit_tf.model import LitModel
from lit_tf.towers.layers import Attention
from lit_tf.training.config import ModelConfig, TrainConfig
from lit_tf.training.preflight import programs
from lit_tf.training.preflight.lowering import lower

TINY = ModelConfig(
    image="patch_size=8,width=64,depth=2,num_heads=2,mlp_dim=128",
    text="bert:vocab_size=50,width=64,depth=2,num_heads=1,mlp_dim=128,max_length=16",
    resolution=32,
)


@pytest.fixture(scope="module")
def program():
    return programs.train_step(TrainConfig(model=TINY, batch_size=32), 8)


@pytest.fixture(scope="module")
def stablehlo(program):
    return lower(program.function, program.arguments)


def test_the_step_is_lowered_with_its_collectives_and_for_the_tpus_dialect(program, stablehlo):
    trained = len(program.function.optimizer.parameters)
    # Each gradient and the loss, and a gather of each embedding; the gradient goes back by one.
    assert stablehlo.count('"stablehlo.all_reduce"') == trained + 1 + 2 + 1
    assert "stablehlo.replica_id" in stablehlo
    assert "mhlo.copy" not in stablehlo and "PHILOX" not in stablehlo
    assert "algorithm = DEFAULT" in stablehlo
    assert "[[0, 1, 2, 3, 4, 5, 6, 7]]" in stablehlo


def test_layers_are_named_in_what_is_lowered(stablehlo):
    assert "text_tower" in stablehlo and "image_tower" in stablehlo


def test_lowering_runs_nothing(program, stablehlo):
    variables = program.function.optimizer.variables
    assert int(variables["iterations"]) == 0
    assert all(not np.any(v.numpy()) for v in variables.values())


def test_the_locked_tower_has_no_gradient_in_it(stablehlo):
    assert "gradient_tape/text_tower" in stablehlo
    assert "gradient_tape/image_tower" not in stablehlo


def test_every_product_contracts_an_axis(stablehlo):
    # A kernel's gradient is one product, not one for every token and then their sum, which CUDA
    # would compute as it stands: the step took 4.6 times as long on an H100.
    assert "dot_general" in stablehlo and "contracting_dims = []" not in stablehlo


def test_sizes_are_those_of_the_variables(program):
    model = program.function.model
    count = sum(v.value.shape.num_elements() for v in model.canonical_variables().values())
    assert program.sizes["parameters"] == 4 * count
    trained = sum(v.shape.num_elements() for v in program.function.optimizer.parameters.values())
    assert program.sizes["optimizer"] == 2 * 4 * trained + 8


def test_an_op_that_tpus_lack_is_named_with_its_layer():
    class Speak(keras.layers.Layer):
        def call(self, x):
            return tf.strings.length(tf.strings.as_string(x))

    layer = Speak(name="speaker")
    with pytest.raises(TrainingError, match=r"AsString at speaker.*layer speaker") as caught:
        lower(lambda x: layer(x), [tf.TensorSpec((4,))])
    assert "\n" not in str(caught.value)


def test_what_xla_compiles_gives_what_runs_elsewhere():
    # XLA gets einsums and barriers where others get two-dimensional products, norms in one pass,
    # and several short sequences in a row, which must not see each other.
    model = LitModel(
        LitConfig(ViTConfig(8, 32, 64, 3, 2, 128), BertConfig(50, 64, 3, 1, 128, out_dim=64)),
        seed=0,
    )
    images = tf.random.stateless_normal((4, 32, 32, 3), [1, 2])
    tokens = tf.random.stateless_uniform((4, 16), [1, 2], 1, 50, dtype=tf.int32)
    tokens = tf.where(tf.range(16) < [[16], [9], [4], [0]], tokens, 0)  # padding, a text of nothing
    kernel = model.canonical_variables()["img/Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel"]

    def step(images, tokens):
        with tf.GradientTape() as tape:
            logits = model.logits(model.embed_images(images), model.embed_tokens(tokens))
            loss = tf.reduce_mean(tf.square(logits))
        return logits, tape.gradient(loss, kernel.value)

    plain, compiled = tf.function(step), tf.function(step, jit_compile=True)
    for a, b in zip(plain(images, tokens), compiled(images, tokens), strict=True):
        np.testing.assert_allclose(a, b, atol=5e-6)
        assert np.any(a.numpy())


def test_dropout_of_short_sequences_in_a_row_drops_its_share_of_every_one():
    attention = Attention(2, 1)
    attention.value.bias.assign([[1.0, 1.0]])
    attention.out.kernel.assign([[[1.0, 0.0], [0.0, 1.0]]])
    x = tf.ones((128, 16, 2))

    @tf.function(jit_compile=True)
    def attend(seed):
        return attention(x, x, dropout_rate=0.25, dropout_seed=seed)

    # All weights are 1/16 and all values 1: what comes out is the share that was kept, scaled up.
    y = attend(tf.constant([1, 2]))[..., 0].numpy()
    kept = y * 16 * 0.75
    np.testing.assert_allclose(kept, kept.round(), atol=1e-4)
    assert y.mean() == pytest.approx(1, abs=0.01) and 2 < kept.min() < kept.max() <= 16
    assert len({tuple(text) for text in kept.round().tolist()}) == len(y)
    np.testing.assert_array_equal(y, attend(tf.constant([1, 2]))[..., 0])
