"""The towers answer what the published JAX code answers, for every fixture and layout."""

import numpy as np
import pytest
import tensorflow as tf

import lit_tf
from lit_tf.checkpoints import layouts
from lit_tf.towers import ops
from lit_tf.towers.layers import Attention

FIXTURES = [
    "lit_bert_tiny",
    "lit_bert_head_tiny",
    "lit_small_tiny",
    "lit_tt_tiny",
    "bv_checkpoint_tiny",
    "bv_scan_tiny",
    "bv_old_tiny",
]


def tokens_of(name, expected):
    return expected["sp_tokens" if name in ("lit_tt_tiny", "bv_old_tiny") else "bert_tokens"]


def close(found, expected, bound):
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


@pytest.fixture(scope="module")
def models(fixtures):
    return {name: lit_tf.load(fixtures / f"{name}.npz") for name in FIXTURES}


@pytest.fixture(scope="module")
def upstream(fixtures):
    model = lit_tf.from_upstream(
        image=fixtures / "vit_upstream_tiny.npz", text=fixtures / "bert_tiny", resolution=48
    )
    with np.load(fixtures / "upstream_init_tiny.npz") as init:
        for name in ("txt/head/kernel", "txt/head/bias", "t"):
            model.canonical_variables()[name].assign(init[name])
    return model


def test_fixtures_are_the_ones_that_the_reference_used(fixture_module):
    import json
    import pathlib

    expected = json.loads(
        (pathlib.Path(fixture_module.HERE) / "expected" / "sha256.json").read_text()
    )
    for name in ("lit_bert_tiny", "lit_tt_tiny", "lit_small_tiny"):
        assert fixture_module.digest(fixture_module.weights(name)) == expected[name]


@pytest.mark.parametrize("name", FIXTURES)
def test_embeddings_and_logits_equal_the_reference(models, reference, name):
    expected, model = reference("towers"), models[name]
    out = model({"image": expected["images"], "tokens": tokens_of(name, expected)})
    close(out["image_embedding"], expected[f"{name}/zimg"], 1e-6)
    close(out["text_embedding"], expected[f"{name}/ztxt"], 1e-6)
    if f"{name}/logits" in expected:
        close(out["logits"], expected[f"{name}/logits"], 2e-5)
    assert model.temperature == pytest.approx(expected[f"{name}/t"][0], rel=1e-6)
    if f"{name}/b" in expected:
        assert model.bias == pytest.approx(expected[f"{name}/b"][0], rel=1e-6)
    else:
        assert model.bias is None


@pytest.mark.parametrize("name", [n for n in FIXTURES if n.startswith("lit_")])
def test_text_representation_before_the_head_equals_the_reference(models, reference, name):
    expected = reference("towers")
    found = models[name].text_tower.representation(tokens_of(name, expected))
    close(found, expected[f"{name}/txt_pre_logits"], 5e-6)


@pytest.mark.parametrize("name", ["lit_bert_tiny", "lit_tt_tiny"])
def test_raw_images_and_strings_give_the_reference_embeddings(
    models, reference, fixture_module, name
):
    expected, model = reference("towers"), models[name]
    texts = fixture_module.TEXTS if name == "lit_bert_tiny" else fixture_module.sp_texts()
    close(model.encode_image(fixture_module.images()), expected[f"{name}/zimg"], 1e-6)
    close(model.encode_text(texts), expected[f"{name}/ztxt"], 1e-6)


def test_upstream_towers_equal_the_reference(upstream, reference, fixture_module):
    expected = reference("towers")
    close(upstream.image_tower.pos_embedding.numpy(), expected["upstream_tiny/pos_embedding"], 1e-6)
    close(upstream.encode_image(fixture_module.images()), expected["upstream_tiny/zimg"], 1e-6)
    close(upstream.encode_tokens(expected["bert_tokens"]), expected["upstream_tiny/ztxt"], 1e-6)
    assert upstream.temperature == pytest.approx(10)


@pytest.mark.parametrize(("old", "new"), [(4, 6), (14, 24), (5, 3), (2, 7), (1, 3), (3, 1)])
def test_resampled_positions_equal_scipy(old, new):
    from scipy import ndimage

    grid = np.random.default_rng(0).standard_normal((1, old * old, 5), dtype=np.float32)
    square = grid.reshape(old, old, 5)
    expected = ndimage.zoom(square, (new / old, new / old, 1), order=1).reshape(1, new * new, 5)
    close(layouts.resample_positions(grid, new), expected, 1e-6)


def test_a_resolution_that_is_no_multiple_of_the_patch_is_refused(fixtures):
    with pytest.raises(lit_tf.ConfigError, match="resolution 50.*patch_size 8"):
        lit_tf.load(fixtures / "lit_bert_tiny.npz", resolution=50)


def test_another_resolution_keeps_everything_but_the_position_grid(models, fixtures):
    model, larger = (
        models["lit_bert_tiny"],
        lit_tf.load(fixtures / "lit_bert_tiny.npz", resolution=64),
    )
    assert larger.image_tower.pos_embedding.shape == (1, 64, 48)
    old, new = model.canonical_variables(), larger.canonical_variables()
    for name in old:
        if name != "img/pos_embedding":
            np.testing.assert_array_equal(old[name].numpy(), new[name].numpy())
    image = np.zeros((1, 50, 50, 3), np.uint8)
    assert larger.encode_image(image).shape == (1, 48)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("probe", [False, True], ids=["query of each", "query of all"])
def test_attention_from_one_position_equals_that_from_many_in_values_and_gradients(flat, probe):
    rng = np.random.default_rng(0)
    layer = Attention(24, 3, flat=flat, dtype="float64")
    for variable in layer.canonical_variables().values():
        variable.assign(0.3 * rng.standard_normal(variable.shape))
    x = tf.constant(rng.standard_normal((4, 7, 24)))
    query = x[:1, 2:3] if probe else x[:, 2:3]
    padding = tf.where(tf.range(7) < [[7], [5], [3], [4]], 0.0, -1e9)[:, None, None]
    many = tf.tile(query, (4 if probe else 1, 2, 1))

    def value_and_gradients(queries):
        with tf.GradientTape() as tape:
            y = layer(queries, x, padding=padding)[:, 0]
            loss = tf.reduce_sum(y**3)
        return [y, *tape.gradient(loss, [v.value for v in layer.canonical_variables().values()])]

    one, two = value_and_gradients(query), value_and_gradients(many)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
        assert a.shape == b.shape


def test_large_patches_are_embedded_to_float32s_last_bits():
    """A patch of 32 x 32 sums 3,072 products; oneDNN's convolution loses three times as much."""
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (4, 70, 70, 3)).astype(np.float32)  # 6 pixels fill no patch
    kernel, bias = (rng.standard_normal(s, np.float32) for s in ((32, 32, 3, 24), 24))
    patches = images[:, :64, :64].astype(np.float64).reshape(4, 2, 32, 2, 32, 3)
    want = np.einsum("nipjqc,pqcw->nijw", patches, kernel).reshape(4, 4, 24) + bias
    found = tf.function(ops.embed_patches)(*map(tf.constant, (images, kernel, bias)))
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-4)  # of sums of about 32
