"""LitModel as a Keras model, and as people call it."""

import importlib
import sys

import keras
import numpy as np
import pandas
import pyarrow
import pytest
import tensorflow as tf

import lit_tf
from lit_tf import serialized
from lit_tf.checkpoints.shapes import canonical_shapes
from lit_tf.config import BertConfig, LitConfig, TextTransformerConfig, ViTConfig
from lit_tf.towers.text_transformer import TextTransformer

from .processes import finish, launch

IMAGE = ViTConfig(patch_size=8, image_size=32, width=48, depth=2, num_heads=4, mlp_dim=96)
BERT = BertConfig(100, width=64, depth=2, num_heads=1, mlp_dim=128, max_length=32, out_dim=48)
PLAIN = TextTransformerConfig(100, width=48, depth=2, num_heads=3, mlp_dim=96, out_dim=48)


@pytest.fixture(scope="module")
def model(fixtures):
    return lit_tf.load(fixtures / "lit_bert_tiny.npz")


@pytest.fixture(scope="module")
def pictures(fixture_module):
    return fixture_module.images()


def test_either_input_may_be_missing(model, reference):
    images = reference("towers")["images"]
    assert set(model({"image": images})) == {"image_embedding"}
    tokens = reference("towers")["bert_tokens"]
    assert set(model({"tokens": tokens})) == {"text_embedding"}
    out = model({"image": images, "tokens": tokens})
    assert out["logits"].shape == (5, 17)
    with pytest.raises(lit_tf.LitError, match="images"):
        model({"images": images})


def test_predict_compares_all_images_with_all_texts_whatever_the_batches(model, reference):
    expected = reference("towers")
    images = expected["images"]
    inputs = {"image": images, "tokens": expected["bert_tokens"][: len(images)]}
    whole = model(inputs)
    dataset = tf.data.Dataset.from_tensor_slices(inputs).batch(3)
    for out in (
        model.predict(inputs, batch_size=2, verbose=0),  # five: the last batch holds one
        model.predict(dataset, verbose=0),
        model.predict_on_batch(inputs),
    ):
        assert set(out) == set(whole)
        for key, value in whole.items():
            np.testing.assert_allclose(out[key], value, atol=2e-5)
    several = {"image": images[:3], "tokens": expected["bert_tokens"][:5]}
    out = model.predict(several, batch_size=2, verbose=0)
    np.testing.assert_allclose(out["logits"], whole["logits"][:3], atol=2e-5)
    alone = model.predict({"tokens": expected["bert_tokens"]}, batch_size=4, verbose=0)
    assert {k: v.shape for k, v in alone.items()} == {"text_embedding": (17, 48)}


def test_a_functional_models_embeddings_give_the_logits_of_all_batches(model, reference):
    inputs = {
        "image": reference("towers")["images"][:4],
        "tokens": reference("towers")["bert_tokens"][:4],
    }
    symbolic = {k: keras.Input(v.shape[1:], dtype=v.dtype, name=k) for k, v in inputs.items()}
    embeddings = {k: v for k, v in model(symbolic).items() if k != "logits"}
    out = keras.Model(symbolic, embeddings).predict(inputs, batch_size=2, verbose=0)
    logits = model.logits(out["image_embedding"], out["text_embedding"])
    np.testing.assert_allclose(logits, model(inputs)["logits"], atol=2e-5)


def test_kerass_own_export_names_the_functions_that_export(model, tmp_path):
    model.predict({"tokens": np.ones((2, 32), np.int32)}, verbose=0)  # called or not
    for arguments in ({}, {"format": "litert"}):
        with pytest.raises(lit_tf.LitError, match=r"lit_tf\.export\.saved_model\(model, dir\)"):
            model.export(tmp_path / "out", **arguments)
    assert not list(tmp_path.iterdir())


def test_the_configuration_is_read_off_the_checkpoint(model):
    assert model.config.image == ViTConfig(8, 32, 48, 3, 4, 96)
    assert model.config.text == BertConfig(1000, 128, 2, 2, 256, 32, 48)
    assert model.config.tokenizer_kind == "bert"
    assert LitConfig.from_dict(model.config.to_dict()) == model.config


def test_embeddings_have_unit_length(model, pictures):
    for z in (model.encode_image(pictures), model.encode_text(["a cat", "a dog"])):
        assert z.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(z, axis=-1), 1, atol=1e-6)


def test_results_do_not_depend_on_batching(model, pictures):
    many = pictures * 3
    whole = model.encode_image(many)
    texts = ["a cat", "a photo of a dog", "x", ""] * 3
    ztxt = model.encode_text(texts)
    for size in (1, 2, 7):
        np.testing.assert_allclose(model.encode_image(many, batch_size=size), whole, atol=1e-6)
        np.testing.assert_allclose(model.encode_text(texts, batch_size=size), ztxt, atol=1e-6)


def test_empty_lists_give_empty_embeddings(model):
    assert model.encode_image([]).shape == (0, 48)
    assert model.encode_text([]).shape == (0, 48)
    assert model({"image": np.zeros((0, 32, 32, 3))})["image_embedding"].shape == (0, 48)


def test_classify_prefers_the_class_whose_text_is_nearest(model, pictures):
    names = ["cat", "dog", "red bicycle"]
    probabilities = model.classify(pictures, names, ["a photo of a {}"])
    ztxt = model.encode_text([f"a photo of a {n}" for n in names])
    logits = model.temperature * model.encode_image(pictures) @ ztxt.T
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)


@pytest.mark.parametrize("name", ["lit_bert_tiny", "lit_tt_tiny", "bv_scan_tiny"])
def test_keras_gives_back_what_it_saved_with_the_tokenizer(fixtures, tmp_path, pictures, name):
    model = lit_tf.load(fixtures / f"{name}.npz")
    model.save(tmp_path / "x.keras")
    again = keras.saving.load_model(tmp_path / "x.keras")
    assert again.config == model.config
    np.testing.assert_array_equal(again.encode_image(pictures), model.encode_image(pictures))
    texts = ["a cat", "naïve café"]
    np.testing.assert_array_equal(again.encode_text(texts), model.encode_text(texts))
    assert (again.temperature, again.bias) == (model.temperature, model.bias)


def test_towers_are_layers_that_keras_can_save_alone(model, tmp_path, reference):
    images = reference("towers")["images"]
    inputs = keras.Input((32, 32, 3))
    alone = keras.Model(inputs, model.image_tower(inputs))
    alone.save(tmp_path / "tower.keras")
    again = keras.saving.load_model(tmp_path / "tower.keras")
    np.testing.assert_array_equal(again(images), model.image_tower(images))


def test_importing_lit_tf_is_enough_to_load_what_keras_saved(model, tmp_path, reference):
    images = reference("towers")["images"]
    model.save(tmp_path / "model.keras")
    expected = {}
    towers = {
        "TextTransformer": (TextTransformer(PLAIN, name="plain"), np.ones((2, 16), np.int32)),
        "ViT": (model.image_tower, images),
    }
    for name, (tower, x) in towers.items():
        inputs = keras.Input(x.shape[1:], dtype=x.dtype)
        around = keras.Model(inputs, keras.layers.Dense(3)(tower(inputs)))
        around.save(tmp_path / f"{name}.keras")
        np.save(tmp_path / f"{name}.npy", x)
        expected[name] = around(x).numpy()
    code = (
        "import sys, lit_tf, numpy as np\n"
        "assert 'keras' not in sys.modules\n"
        "import keras\n"
        "assert 'lit_tf.model' not in sys.modules\n"
        f"for name in {sorted(expected)}:\n"
        "    around = keras.saving.load_model(f'{name}.keras')\n"
        "    np.save(f'{name}.out.npy', around(np.load(f'{name}.npy')))\n"
        "model = keras.saving.load_model('model.keras')\n"
        "assert type(model) is lit_tf.LitModel\n"
        "np.save('z.npy', model.encode_text(['a cat']))\n"
    )
    finish(launch([sys.executable, "-c", code], cwd=tmp_path))
    z = model.encode_text(["a cat"])
    np.testing.assert_allclose(np.load(tmp_path / "z.npy"), z, atol=1e-6)
    for name, z in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.out.npy"), z, atol=1e-6)


def test_keras_knows_every_serialized_class_by_its_name():
    registered = keras.saving.get_custom_objects()
    names = {name for name in registered if name.startswith("lit_tf>")}
    assert names == {f"{serialized.PACKAGE}>{name}" for name in serialized.CLASSES}
    for name, module in serialized.CLASSES.items():
        real = getattr(importlib.import_module(module), name)
        assert keras.saving.get_registered_name(real) == f"{serialized.PACKAGE}>{name}"
    serialized.register_with_keras()  # Keras is imported: no placeholder replaces a class
    assert registered["lit_tf>LitModel"] is lit_tf.LitModel


def test_summary_shows_both_towers_with_their_shapes(model):
    lines = []
    model.summary(print_fn=lambda line, **_: lines.append(line))
    text = "\n".join(lines)
    assert "image_tower (ViT)" in text and "text_tower (Bert)" in text
    assert "(None, 48)" in text and "?" not in text
    lines.clear()
    model.summary(expand_nested=True, print_fn=lambda line, **_: lines.append(line))
    text = "\n".join(lines)
    assert "block_2 (PreNormBlock)" in text and "head (Dense)" in text


@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16"])
def test_bfloat16_embeds_nearly_the_same_with_float32_normalization(fixtures, reference, dtype):
    model = lit_tf.load(fixtures / "lit_bert_tiny.npz", dtype=dtype)
    expected = reference("towers")
    out = model({"image": expected["images"], "tokens": expected["bert_tokens"]})
    for key, name in (("image_embedding", "zimg"), ("text_embedding", "ztxt")):
        z = out[key].numpy()
        assert z.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(z, axis=-1), 1, atol=1e-6)
        assert (z * expected[f"lit_bert_tiny/{name}"]).sum(-1).min() > 0.999
    kept = "float32" if dtype == "mixed_bfloat16" else "bfloat16"
    assert model.text_tower.tokens.table.dtype == kept
    assert model.t.dtype == "float32"


@pytest.mark.parametrize("text", [BERT, PLAIN])
def test_variables_are_exactly_the_leaves_of_a_checkpoint(text):
    config = LitConfig(image=IMAGE, text=text, has_bias=True)
    variables = lit_tf.LitModel(config).canonical_variables()
    assert {k: tuple(v.shape) for k, v in variables.items()} == canonical_shapes(config)


def test_every_variable_is_in_a_tensorflow_checkpoint(tmp_path):
    model = lit_tf.LitModel(LitConfig(image=IMAGE, text=BERT, has_bias=True))
    path = tf.train.Checkpoint(model=model).save(str(tmp_path / "ckpt"))
    saved = [k for k, _ in tf.train.list_variables(path) if k.startswith("model/")]
    assert len(saved) == len(model.canonical_variables()) == len(model.variables)


def test_the_class_row_of_old_layouts_is_not_trained():
    model = lit_tf.LitModel(LitConfig(image=IMAGE, text=BERT))
    frozen = [v.path for v in model.non_trainable_variables]
    assert len(frozen) == 1 and frozen[0].endswith("cls_pos_embedding")


def test_equal_seeds_start_equal_and_other_seeds_do_not():
    make = lambda seed: lit_tf.LitModel(LitConfig(image=IMAGE, text=BERT), seed=seed)  # noqa: E731
    kernel = lambda m: m.text_tower.head.kernel.numpy()  # noqa: E731
    np.testing.assert_array_equal(kernel(make(1)), kernel(make(1)))
    assert not np.array_equal(kernel(make(1)), kernel(make(2)))


def test_dropout_follows_its_seed_alone_and_only_in_training():
    tower = lit_tf.LitModel(LitConfig(image=IMAGE, text=BERT)).text_tower
    tokens = np.tile(np.arange(1, 17, dtype=np.int32), (3, 1))
    seed = tf.constant([1, 2])
    once = tower(tokens, training=True, dropout_seed=seed)
    np.testing.assert_array_equal(once, tower(tokens, training=True, dropout_seed=seed))
    other = tower(tokens, training=True, dropout_seed=tf.constant([1, 3]))
    assert not np.allclose(once, other)
    assert not np.allclose(once[0], once[1]), "every text has a mask of its own"
    still = tower(tokens, dropout_seed=seed)
    np.testing.assert_array_equal(still, tower(tokens))


@pytest.mark.parametrize("text", [BERT, PLAIN])
def test_the_whole_model_compiles_with_xla_and_agrees(text):
    model = lit_tf.LitModel(LitConfig(image=IMAGE, text=text, has_bias=True))

    def embed(image, tokens):
        return model({"image": image, "tokens": tokens})["logits"]

    image = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    tokens = np.arange(48, dtype=np.int32).reshape(3, 16)
    compiled = tf.function(embed, jit_compile=True)(image, tokens)
    np.testing.assert_allclose(compiled, embed(image, tokens), atol=2e-5)


def test_tokens_outside_the_vocabulary_are_refused(model):
    with pytest.raises(lit_tf.TokenizerError, match=r"\[0, 1000\).*1000"):
        model.encode_tokens(np.full((1, 16), 1000))
    with pytest.raises(lit_tf.TokenizerError, match=r"\(N, 16\).*\(1, 5\)"):
        model.encode_tokens(np.zeros((1, 5), np.int32))


def test_texts_come_from_any_sequence_of_strings_but_not_as_one_string(model):
    texts = ["a cat", "a dog"]
    expected = model.encode_text(texts)
    for form in (pyarrow.array(texts), pandas.Series(texts), tf.constant(texts), iter(texts)):
        np.testing.assert_array_equal(model.encode_text(form), expected)
    for one in ("a cat", b"a cat", np.array("a cat"), tf.constant("a cat")):
        with pytest.raises(lit_tf.TokenizerError, match="a list of texts, found one string"):
            model.encode_text(one)


@pytest.mark.parametrize("length", [8, 24])
def test_a_text_transformer_takes_as_many_tokens_as_it_has_positions(tmp_path, length):
    text = TextTransformerConfig(100, 48, 1, 3, 96, max_length=length, out_dim=48)
    lit_tf.save_npz(lit_tf.from_upstream(IMAGE, text, resolution=32), tmp_path / "x.npz")
    model = lit_tf.load(tmp_path / "x.npz")
    assert model.config.token_length == length
    assert model.encode_tokens(np.ones((2, length), np.int32)).shape == (2, 48)
    with pytest.raises(lit_tf.ConfigError, match=f"exactly|more than the text tower's {length}"):
        LitConfig(image=None, text=text, token_length=16)


def test_impossible_configurations_are_refused():
    for change, says in (
        ({"width": 50}, "not a multiple"),
        ({"depth": 0}, "depth"),
        ({"image_size": 33}, "33"),
    ):
        with pytest.raises(lit_tf.ConfigError, match=says):
            ViTConfig(**{**vars(IMAGE), **change})
    with pytest.raises(lit_tf.ConfigError, match="48.*64"):
        LitConfig(image=IMAGE, text=BertConfig(100, 64, 2, 1, 128))


@pytest.mark.parametrize("temperature", [0, -1.0, float("inf"), float("nan")])
def test_temperatures_without_a_logarithm_are_refused(temperature):
    with pytest.raises(lit_tf.ConfigError, match="temperature"):
        lit_tf.from_upstream(IMAGE, PLAIN, resolution=32, temperature=temperature)
