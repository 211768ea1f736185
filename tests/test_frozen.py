"""What is frozen stays frozen; what Keras makes from a config starts as the constructor does."""

import copy
import pickle

import keras
import numpy as np
import pytest

import lit_tf
from lit_tf.config import BertConfig, LitConfig, ViTConfig
from lit_tf.towers.vit import ViT

IMAGE = ViTConfig(patch_size=8, image_size=16, width=16, depth=2, num_heads=2, mlp_dim=32)
TEXT = BertConfig(50, width=16, depth=2, num_heads=2, mlp_dim=32, max_length=8, out_dim=16)
CONFIG = LitConfig(image=IMAGE, text=TEXT, token_length=8)


def saved(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.saving.load_model(tmp_path / "model.keras")


AGAIN = {
    "keras": saved,
    "clone_model": lambda model, _: keras.models.clone_model(model),
    "from_config": lambda model, _: type(model).from_config(model.get_config()),
    "json": lambda model, _: keras.models.model_from_json(model.to_json()),
    "deepcopy": lambda model, _: copy.deepcopy(model),
    "pickle": lambda model, _: pickle.loads(pickle.dumps(model)),
    "with_dtype": lambda model, _: model.with_dtype("bfloat16"),
}
FILES = ("keras", "deepcopy", "pickle", "with_dtype")


def trained(model):
    return [name for name, v in model.canonical_variables().items() if v.trainable]


@pytest.fixture
def half_frozen():
    model = lit_tf.LitModel(CONFIG, seed=3)
    model.image_tower.trainable = False
    for part in (model.text_tower.tokens, model.text_tower.block_0):
        part.trainable = False
    model.t.trainable = False
    return model


@pytest.mark.parametrize("way", AGAIN)
def test_frozen_layers_stay_frozen_and_clones_start_as_the_constructor_does(
    half_frozen, tmp_path, way
):
    for v in half_frozen.text_tower.head.canonical_variables().values():
        v.assign(v + 1)
    again = AGAIN[way](half_frozen, tmp_path)
    assert trained(again) == trained(half_frozen) != []
    assert len(again.trainable_variables) == len(half_frozen.trainable_variables)
    expected = half_frozen if way in FILES else lit_tf.LitModel(CONFIG, seed=3)
    found = again.canonical_variables()
    for name, variable in expected.canonical_variables().items():
        np.testing.assert_allclose(found[name].numpy(), variable.numpy(), atol=1e-2)
        if way != "with_dtype":
            np.testing.assert_array_equal(found[name].numpy(), variable.numpy())


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_tower_alone_stays_frozen_too(half_frozen, again):
    for tower in (half_frozen.image_tower, half_frozen.text_tower):
        copied = again(tower)
        assert trained(copied) == trained(tower)
        np.testing.assert_array_equal(copied.block_1.mlp.out.kernel, tower.block_1.mlp.out.kernel)


def test_a_classifier_on_a_frozen_tower_comes_back_from_h5(tmp_path):
    tower = ViT(IMAGE, seed=5)
    tower.trainable = False
    x = keras.Input((16, 16, 3))
    model = keras.Model(x, keras.layers.Dense(3)(tower(x)))
    model.save(tmp_path / "x.h5")
    again = keras.saving.load_model(tmp_path / "x.h5")
    assert len(again.trainable_variables) == 2
    images = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16, 3))
    np.testing.assert_array_equal(again(images), model(images))


@pytest.mark.parametrize("last_block_trains", [pytest.param(False, marks=pytest.mark.full), True])
def test_a_classifier_on_a_frozen_tower_goes_on_where_it_was(tmp_path, last_block_trains):
    tower = ViT(IMAGE)
    tower.trainable = False
    tower.block_1.trainable = last_block_trains
    x = keras.Input((16, 16, 3))
    model = keras.Model(x, keras.layers.Dense(3)(tower(x)))
    model.compile("adam", "mse")
    rng = np.random.default_rng(0)
    data = rng.uniform(-1, 1, (4, 16, 16, 3)), rng.standard_normal((4, 3))
    path = tmp_path / "best.keras"
    model.fit(*data, verbose=0, callbacks=[keras.callbacks.ModelCheckpoint(path)])
    again = keras.saving.load_model(path)
    assert len(again.trainable_variables) == (18 if last_block_trains else 2)
    for a, b in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    before = [v.numpy() for v in again.layers[1].variables]
    again.layers[1].trainable = False  # it said so before
    again.compile("adam", "mse")
    again.fit(*data, verbose=0)
    for v, old in zip(again.layers[1].variables, before, strict=True):
        np.testing.assert_array_equal(v.numpy(), old)
    assert len(keras.models.clone_model(model).trainable_variables) == len(
        model.trainable_variables
    )


def test_freezing_in_the_constructor_reaches_all_parts():
    tower, model = ViT(IMAGE, trainable=False), lit_tf.LitModel(CONFIG, trainable=False)
    assert not any(v.trainable for v in (*tower.variables, *model.variables))


def test_a_file_is_read_without_values_that_it_replaces(tmp_path, monkeypatch):
    model = lit_tf.LitModel(CONFIG)
    model.save(tmp_path / "model.keras")
    monkeypatch.setattr(ViT, "initialize", lambda *_: pytest.fail("computes starting values"))
    keras.saving.load_model(tmp_path / "model.keras")
