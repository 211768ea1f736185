"""`fit` takes the trainer's steps, and says in words what it does not take."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import lit_tf
from lit_tf.config import BertConfig, LitConfig, ViTConfig
from lit_tf.contrastive.config import LossConfig, OptimizerConfig
from lit_tf.contrastive.optimizers import Optimizer
from lit_tf.contrastive.step import ReplicaStep, trainable_parameters
from lit_tf.texts.tokenizers import BertTokenizer

from ..processes import finish, launch, worker

IMAGE = ViTConfig(patch_size=8, image_size=16, width=16, depth=1, num_heads=2, mlp_dim=32)
TEXT = BertConfig(50, width=16, depth=1, num_heads=2, mlp_dim=32, max_length=8, out_dim=16)
TRAINER = OptimizerConfig("adam", clip=0.1, warmup=1, lr_mults=(("txt/head/.*", 3.0),))
OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "adam": lambda: keras.optimizers.Adam(1e-3),
    "trainer": lambda: TRAINER,
}


def build(bias=False, **kwargs):
    return lit_tf.LitModel(LitConfig(IMAGE, TEXT, token_length=8, has_bias=bias), seed=3, **kwargs)


def pairs(n=16):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, 16, 16, 3)).astype(np.uint8)
    return {"image": images, "tokens": rng.integers(1, 50, (n, 8)).astype(np.int32)}


def batches():
    return tf.data.Dataset.from_tensor_slices(pairs()).batch(8, drop_remainder=True)


class Rule:
    """What ReplicaStep asks of an optimizer, around Keras's."""

    def __init__(self, optimizer, parameters):
        self.parameters, self.iterations = parameters, optimizer.iterations.value
        self.scale_loss = lambda loss: loss


def steps_of_the_trainer(strategy, make_optimizer, bias, locking):
    with strategy.scope():
        optimizer = make_optimizer()
        model, loss = build(bias), LossConfig("sigmoid" if bias else "softmax")
        parameters = trainable_parameters(model, locking)
        if isinstance(optimizer, OptimizerConfig):
            step = ReplicaStep(model, Optimizer(parameters, optimizer, 6), loss)
        else:
            of_keras = [v for k, v in model.canonical_variables().items() if k in parameters]
            optimizer.build(of_keras)
            step = ReplicaStep(model, Rule(optimizer, parameters), loss)

    def on_replica(batch):
        if isinstance(optimizer, OptimizerConfig):
            return step(batch)["loss"]
        share, gradients = step.loss_and_gradients(batch)
        optimizer.apply_gradients(zip(gradients.values(), of_keras, strict=True))
        return step.collectives.all_reduce([share])[0]

    run = tf.function(lambda b: strategy.run(on_replica, args=(b,)), autograph=False)
    for batch in strategy.experimental_distribute_dataset(batches()):
        run(batch)
    return model


def compare(strategy, name, bias, locking):
    expected = steps_of_the_trainer(strategy, OPTIMIZERS[name], bias, locking)
    with strategy.scope():
        model = build(bias)
        model.compile(OPTIMIZERS[name](), locking=locking, steps=6 if name == "trainer" else None)
    history = model.fit(batches(), verbose=0).history
    assert set(history) == {"loss", "img2txt_recall", "txt2img_recall"}
    start, moved = build(bias).canonical_variables(), set()
    for key, variable in expected.canonical_variables().items():
        found = model.canonical_variables()[key].numpy()
        np.testing.assert_allclose(found, variable.numpy(), atol=1e-6, err_msg=key)
        if not np.array_equal(found, start[key].numpy()):
            moved.add(key)
    assert moved and moved <= set(trainable_parameters(model, locking))
    if locking == "LH":
        assert {key for key in moved if key.startswith("txt/")} <= {
            "txt/head/kernel",
            "txt/head/bias",
        }


@pytest.mark.parametrize(
    ("name", "bias", "locking"),
    [
        pytest.param("sgd", False, "LU", marks=pytest.mark.full),
        ("adam", True, "UU"),
        ("trainer", True, "LH"),
    ],
)
def test_steps_are_the_trainers(name, bias, locking):
    compare(tf.distribute.get_strategy(), name, bias, locking)


@pytest.mark.full
def test_steps_are_the_trainers_on_two_replicas():
    finish(launch(worker("fit_on_two_replicas")))


def refuse_on_two_replicas(strategy):
    with strategy.scope():
        model = build()
        model.compile(keras.optimizers.SGD(0.1, clipnorm=1.0))
    with pytest.raises(lit_tf.ConfigError, match="clipnorm would clip each one's share"):
        model.fit(batches(), verbose=0)
    with pytest.raises(lit_tf.DataError, match="drop_remainder=True"):
        model.fit(tf.data.Dataset.from_tensor_slices(pairs()).batch(8), verbose=0)


def test_a_saved_model_goes_on_with_its_loss_and_its_optimizers_state(tmp_path):
    model = build()
    model.compile(OptimizerConfig("adafactor", warmup=1), LossConfig(cache_chunk=4), steps=20)
    path = tmp_path / "best.keras"
    model.fit(pairs(), batch_size=8, verbose=0, callbacks=[keras.callbacks.ModelCheckpoint(path)])
    again = keras.saving.load_model(path)
    assert again.fitting.loss == LossConfig(cache_chunk=4) and again.optimizer.steps == 20
    state = again.optimizer.rule.variables
    assert int(state["iterations"]) == 2
    for name, variable in model.optimizer.rule.variables.items():
        np.testing.assert_array_equal(variable.numpy(), state[name].numpy())
    for one in (model, again):
        one.fit(batches(), verbose=0)
    found = again.canonical_variables()
    for name, variable in model.canonical_variables().items():
        np.testing.assert_allclose(found[name].numpy(), variable.numpy(), atol=1e-5)


@keras.saving.register_keras_serializable("tests")
def half_softmax(zimg, ztxt, t, b):
    logits = tf.exp(t) * tf.matmul(zimg, ztxt, transpose_b=True)
    own = tf.range(tf.shape(logits)[0])
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(own, logits))


def test_a_loss_of_ones_own_is_saved_by_its_registered_name(tmp_path):
    model = build()
    model.compile("sgd", half_softmax)
    model.fit(batches(), verbose=0)
    model.save(tmp_path / "own.keras")
    again = keras.saving.load_model(tmp_path / "own.keras")
    assert again.fitting.loss.name is half_softmax
    both = [one.evaluate(batches(), verbose=0, return_dict=True) for one in (model, again)]
    assert both[0] == pytest.approx(both[1])
    with pytest.raises(lit_tf.ConfigError, match="expected a scalar"):
        model.compile("sgd", lambda zimg, ztxt, t, b: zimg)
        model.fit(batches(), verbose=0)


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.full)])
def test_strings_precision_and_whole_epochs(jit_compile, fixtures):
    tokenizer = BertTokenizer(fixtures / "lit_bert_tiny.txt", 8)
    text = dataclasses.replace(TEXT, vocab_size=tokenizer.vocab_size)
    config = LitConfig(IMAGE, text, token_length=8)
    model = lit_tf.LitModel(config, tokenizer, seed=3, dtype="mixed_bfloat16")
    rng = np.random.default_rng(0)
    data = {
        "image": rng.integers(0, 256, (9, 16, 16, 3)).astype(np.uint8),
        "text": [f"a photo of {n} cats" for n in range(9)],
    }
    model.compile(keras.optimizers.Adam(1e-2), jit_compile=jit_compile, steps_per_execution=2)
    dataset = tf.data.Dataset.from_tensor_slices(data).batch(3)
    history = model.fit(dataset, epochs=3, verbose=0, validation_data=dataset).history
    assert np.isfinite(history["loss"]).all() and len(history["val_txt2img_recall"]) == 3


@pytest.mark.full
def test_what_is_left_over_is_a_smaller_batch():
    model, data = build(), pairs(9)
    model.compile(keras.optimizers.Adam(1e-2))  # a batch of 4, 4 and 1
    assert np.isfinite(model.fit(data, batch_size=4, verbose=0).history["loss"][0])
    assert set(model.evaluate(data, verbose=0, return_dict=True)) == set(model.metrics_names)


@pytest.mark.full
def test_float16_scales_the_loss_and_not_what_is_learned():
    models = build(True), build(True, dtype="mixed_float16")
    for model in models:
        optimizer = keras.optimizers.SGD(0.1)
        if model is models[1]:  # Keras's usual scale begins so high that it skips the first steps
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=8.0)
        model.compile(optimizer)
        model.fit(batches(), verbose=0)
    found = models[1].canonical_variables()
    for name, variable in models[0].canonical_variables().items():
        np.testing.assert_allclose(found[name].numpy(), variable.numpy(), atol=2e-2)


class Tokens(keras.layers.Layer):
    """As docs/finetuning.md has it."""

    def __init__(self, tower, **kwargs):
        super().__init__(**kwargs)
        self.tower = tower

    def call(self, images):
        return self.tower.tokens(images)


def test_a_layer_of_ones_own_has_the_patches_in_functional_models():
    tower = build().image_tower
    images = keras.Input((16, 16, 3))
    model = keras.Model(images, keras.layers.Dense(3)(Tokens(tower)(images)))
    pictures = np.zeros((2, 16, 16, 3), np.float32)
    assert model(pictures).shape == (2, 4, 3)
    features = keras.Model(images, model.layers[1].output)
    np.testing.assert_array_equal(features(pictures), tower.tokens(pictures))
    assert len(model.trainable_variables) == len(tower.trainable_variables) + 2


def test_kerass_own_training_stays_possible():
    model = build()
    model.compile("sgd", loss={"logits": lambda y, logits: tf.reduce_mean(logits)})
    data = {**pairs(8), "image": np.zeros((8, 16, 16, 3), np.float32)}
    model.fit(data, {"logits": np.zeros((8, 8))}, batch_size=8, verbose=0)


def test_what_fit_does_not_take_is_said_in_words():
    model, data = build(), pairs()
    model.compile("sgd")
    labelled = tf.data.Dataset.from_tensor_slices((data, np.zeros(16))).batch(8)
    for x, kwargs, message in (
        (data, {"y": np.zeros(16)}, "neither labels nor weights"),
        (data, {"sample_weight": np.zeros(16)}, "sample_weight"),
        (data, {"class_weight": {0: 1}}, "class_weight"),
        (labelled, {}, "neither labels nor weights"),
        ({"images": data["image"], "tokens": data["tokens"]}, {}, "found.*images"),
        ((data["image"], data["tokens"]), {}, 'arrays {"image"'),
        ({"image": data["image"], "tokens": data["tokens"][:3]}, {}, "as many images as texts"),
        ({"image": data["image"], "tokens": ["a"] * 16}, {}, "no vocabulary"),
    ):
        with pytest.raises(lit_tf.DataError, match=message):
            model.fit(x, verbose=0, **kwargs)
    for arguments, message in (
        ({"metrics": ["accuracy"]}, "metrics compares with labels"),
        ({"loss": "mse"}, "'mse'; expected one of softmax"),
        ({"locking": "XX"}, "'XX'; expected one of Lu"),
        ({"optimizer": TRAINER}, "steps=N"),
        ({"optimizer": OptimizerConfig(), "steps": 50}, "does not fit in a run of 50"),
        ({"optimizer": OptimizerConfig(lr_mults=(("x.*", 2.0),), warmup=1), "steps": 5}, "'x"),
    ):
        with pytest.raises(lit_tf.ConfigError, match=message):
            build().compile(**arguments)
    model.compile(TRAINER, steps=6, locking="LH")
    callback = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1)
    with pytest.raises(lit_tf.ConfigError, match="leave out callbacks that set learning_rate"):
        model.fit(batches(), verbose=0, callbacks=[callback])
    model.image_tower.trainable = model.text_tower.trainable = model.t.trainable = False
    with pytest.raises(lit_tf.ConfigError, match="nothing is left to train"):
        model.compile("sgd")
