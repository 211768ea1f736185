"""The SigLIP family answers what big_vision answers, from every layout that its files have had."""

import json
import shutil
import tarfile

import numpy as np
import pytest
import tensorflow as tf

import lit_tf
from lit_tf.checkpoints import zarr_folder
from lit_tf.checkpoints.npz import write_npz
from lit_tf.checkpoints.shapes import canonical_shapes, config_from_shapes
from lit_tf.config import LitConfig, ViTConfig

from .conftest import REFERENCE

FIXTURES = ["siglip_tiny", "siglip2_tiny", "siglip_i18n_tiny", "siglip_old_tiny"]


def close(found, expected, bound):
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


@pytest.fixture(scope="module")
def models(fixtures):
    return {name: lit_tf.load(fixtures / f"{name}.npz") for name in FIXTURES}


@pytest.fixture(scope="session")
def trainer_folder(tmp_path_factory):
    """What big_vision's trainer writes: a folder `checkpoint.bv-000001000`, here of siglip_tiny."""
    folder = tmp_path_factory.mktemp("trainer")
    with tarfile.open(REFERENCE / "bv_tensorstore_tiny.tar") as tar:
        tar.extractall(folder, filter="data")
    shutil.copy(REFERENCE / "sentencepiece.model", folder / "checkpoint.model")
    return folder


@pytest.mark.parametrize("name", FIXTURES)
def test_images_and_strings_give_the_reference_numbers(models, reference, fixture_module, name):
    expected, model = reference("siglip"), models[name]
    texts = fixture_module.siglip_texts()
    np.testing.assert_array_equal(model.tokenize(texts), expected[f"{name}/tokens"])
    zimg, ztxt = model.encode_image(fixture_module.images()), model.encode_text(texts)
    close(zimg, expected[f"{name}/zimg"], 1e-6)
    close(ztxt, expected[f"{name}/ztxt"], 1e-6)
    close(model.logits(zimg, ztxt), expected[f"{name}/logits"], 2e-5)
    assert model.temperature == pytest.approx(expected[f"{name}/t"][0], rel=1e-6)
    assert model.bias == pytest.approx(expected[f"{name}/b"][0], rel=1e-6)


@pytest.mark.parametrize("name", FIXTURES)
def test_representations_equal_the_reference(models, reference, name):
    expected, model = reference("siglip"), models[name]
    pooled = model.image_tower(expected["siglip_tiny/images"])
    close(pooled, expected[f"{name}/img_pre_logits"], 5e-6)
    last = model.text_tower.representation(expected[f"{name}/tokens"])
    close(last, expected[f"{name}/txt_pre_logits"], 5e-6)


@pytest.mark.parametrize("name", FIXTURES)
def test_every_layout_is_written_back_bit_for_bit(models, fixture_module, tmp_path, name):
    lit_tf.save_npz(models[name], tmp_path / "out.npz")
    prefix = "" if models[name].config.bare else "params/"
    expected = {f"{prefix}{k}": v for k, v in fixture_module.weights(name).items()}
    with np.load(tmp_path / "out.npz") as file:
        assert set(file) == set(expected)
        for key in file:
            assert file[key].tobytes() == expected[key].tobytes(), key
    with pytest.raises(lit_tf.CheckpointError, match="vit_jax.*attention pooling.*big_vision"):
        lit_tf.save_npz(models[name], tmp_path / "other.npz", "vit_jax")
    assert not (tmp_path / "other.npz").exists()


@pytest.mark.parametrize("name", ["checkpoint.bv", "checkpoint.bv-000001000", "checkpoint.bv-LAST"])
def test_the_trainers_folder_is_read(trainer_folder, models, name):
    model = lit_tf.load(trainer_folder / name)
    assert model.tokenizer is not None and not model.config.bare
    given = models["siglip_tiny"].canonical_variables()
    for key, variable in model.canonical_variables().items():
        np.testing.assert_array_equal(variable.numpy(), given[key].numpy())


def test_a_renamed_trainers_folder_is_read_too(trainer_folder, tmp_path):
    shutil.copytree(trainer_folder / "checkpoint.bv-000001000", tmp_path / "mine")
    assert lit_tf.load(tmp_path / "mine").config.image.pool == "attention"


def test_steps_that_are_there_are_named_for_one_that_is_not(tmp_path):
    (tmp_path / "a.bv-000000020").mkdir()
    with pytest.raises(lit_tf.CheckpointError, match="no such step; there are a.bv-000000020$"):
        lit_tf.load(tmp_path / "a.bv-000000030")
    with pytest.raises(lit_tf.CheckpointError, match="a.bv-LAST: no such file.*a.bv-000000020 ins"):
        lit_tf.load(tmp_path / "a.bv")


def test_a_text_tower_in_a_model_of_the_other_case_is_met_with_a_warning(fixtures):
    image, text = fixtures / "vit_upstream_tiny.npz", fixtures / "siglip_i18n_tiny.npz"
    with pytest.warns(UserWarning, match="takes lower-cased texts, and this one cased ones"):
        lit_tf.from_upstream(image, text, resolution=32)


def test_two_towers_meet_at_the_resolution_of_the_image_tower(fixtures):
    image, text = fixtures / "siglip_tiny.npz", fixtures / "siglip_tiny.npz"
    assert lit_tf.from_upstream(image, text).config.image.image_size == 32
    assert lit_tf.from_upstream(image, text, np.int64(64)).config.image.image_size == 64


def test_a_folder_whose_writing_was_not_finished_by_renaming_is_found(tmp_path):
    (tmp_path / "a.bv-000000020-tmp").mkdir()
    (tmp_path / "a.bv-LAST").write_text("000000020\n")
    for name in ("a.bv", "a.bv-000000020", "a.bv-000000020-tmp"):
        assert zarr_folder.find(tmp_path / name).name == "a.bv-000000020-tmp"
    (tmp_path / "a.bv-LAST").write_text("../x")
    with pytest.raises(lit_tf.CheckpointError, match="expected the number of a step"):
        zarr_folder.find(tmp_path / "a.bv")


def test_bare_and_bfloat16_arrays_in_a_folder_are_read(fixture_module, tmp_path):
    tensorstore = pytest.importorskip("tensorstore")
    bfloat16 = tensorstore.bfloat16.numpy_dtype
    for key, array in fixture_module.weights("siglip_tiny").items():
        path = str(tmp_path / "a.bv-000000001" / key.replace("/", "~"))
        spec = {
            "driver": "zarr",
            "kvstore": {"driver": "file", "path": path},
            "metadata": {"compressor": {"id": "zstd"}},
        }
        stored = tensorstore.open(spec, create=True, dtype=bfloat16, shape=array.shape).result()
        stored.write(array.astype(bfloat16)).result()
    model = lit_tf.load(tmp_path / "a.bv-000000001")
    assert model.config.bare and model.config.has_bias
    for key, array in fixture_module.weights("siglip_tiny").items():
        found = model.canonical_variables()[key].numpy()
        np.testing.assert_array_equal(found, array.astype(bfloat16).astype(np.float32))


def in_copy(trainer_folder, tmp_path):
    return shutil.copytree(trainer_folder / "checkpoint.bv-000001000", tmp_path / "a.bv-1")


BIAS = "params~img~embedding~bias"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [10**12], "chunks": [48]}, "would unpack to"),
        ({"shape": [10**12], "chunks": [10**12]}, "would unpack to"),
        ({"dtype": "|O"}, "zarray cannot be used.*dtype"),
        ({"dtype": "|S1"}, "expected numbers"),
        ({"shape": [48.5]}, "zarray cannot be used"),
        ({"shape": "48"}, "zarray cannot be used"),
        ({"zarr_format": 3}, "zarray cannot be used"),
    ],
)
def test_what_an_array_declares_is_not_believed(trainer_folder, tmp_path, change, message):
    path = in_copy(trainer_folder, tmp_path) / BIAS / ".zarray"
    path.chmod(0o644)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(lit_tf.CheckpointError, match=f"img/embedding/bias.*{message}"):
        lit_tf.load(tmp_path / "a.bv-1")


def test_a_missing_or_damaged_chunk_is_not_taken_for_zeros(trainer_folder, tmp_path):
    chunk = in_copy(trainer_folder, tmp_path) / BIAS / "0"
    chunk.chmod(0o644)
    chunk.write_bytes(chunk.read_bytes()[:-20])
    with pytest.raises(lit_tf.CheckpointError, match="img/embedding/bias.*damaged"):
        lit_tf.load(tmp_path / "a.bv-1")
    chunk.unlink()
    with pytest.raises(lit_tf.CheckpointError, match="img/embedding/bias.*chunk .* is missing"):
        lit_tf.load(tmp_path / "a.bv-1")


def test_parameters_in_two_places_are_refused(fixture_module, tmp_path):
    arrays = fixture_module.siglip_old()
    for more in ("params/t", "img/probe"):
        write_npz(tmp_path / "x.npz", {**arrays, more: np.zeros((1,), np.float32)})
        with pytest.raises(lit_tf.CheckpointError, match="parameters both under"):
            lit_tf.load(tmp_path / "x.npz")
    twice = {**arrays, "opt/target/img/MAPHead_0/probe": arrays["opt/target/img/probe"]}
    write_npz(tmp_path / "x.npz", twice)
    with pytest.raises(lit_tf.CheckpointError, match="pooling is given twice"):
        lit_tf.load(tmp_path / "x.npz")


def test_another_resolution_resamples_the_grid(models, fixtures):
    larger = lit_tf.load(fixtures / "siglip_tiny.npz", resolution=48)
    assert larger.image_tower.pos_embedding.shape == (1, 36, 48)
    assert larger.encode_image(np.zeros((2, 50, 50, 3), np.uint8)).shape == (2, 48)
    assert models["siglip_tiny"].encode_image([]).shape == (0, 48)


def test_the_model_is_the_same_after_keras_saved_it(models, tmp_path, reference):
    import keras

    expected, model = reference("siglip"), models["siglip2_tiny"]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.config == model.config and again.tokenizer.lowercase
    found = again.image_tower(expected["siglip_tiny/images"])
    close(found, expected["siglip2_tiny/img_pre_logits"], 5e-6)


def test_so400m_at_384_pixels_has_patches_that_do_not_cover_them():
    sizes = dict(patch_size=14, width=12, depth=1, num_heads=2, mlp_dim=12, pool="attention")
    config = LitConfig(image=ViTConfig(image_size=384, **sizes), text=None)
    shapes = canonical_shapes(config)
    assert shapes["img/pos_embedding"] == (1, 27 * 27, 12)
    read = config_from_shapes(shapes, layout="big_vision", source="x")
    assert read.image.image_size == 384
    assert lit_tf.LitModel(read).encode_image([np.zeros((9, 9, 3), np.uint8)]).shape == (1, 12)
    assert ViTConfig(image_size=378, **sizes).grid == 27  # it has to be asked for
    with pytest.raises(lit_tf.ConfigError, match="image_size 380 is not a multiple of patch_size"):
        ViTConfig(image_size=380, **sizes)


def test_xla_projects_the_probe_once_too(models, reference):
    expected = reference("siglip")
    compiled = tf.function(models["siglip_tiny"].image_tower, jit_compile=True)
    found = compiled(tf.constant(expected["siglip_tiny/images"]))
    close(found, expected["siglip_tiny/img_pre_logits"], 5e-6)


def test_match_is_the_sigmoid_of_the_logits(models, reference, fixture_module, fixtures):
    expected, model = reference("siglip")["siglip_tiny/logits"], models["siglip_tiny"]
    found = model.match(fixture_module.images(), fixture_module.siglip_texts())
    close(found, 1 / (1 + np.exp(-expected.astype(np.float64))), 2e-5)
    logits = model.class_logits(fixture_module.images(), ["cat", "dog"])
    odds = np.exp(logits)
    probabilities = model.classify(fixture_module.images(), ["cat", "dog"])
    close(probabilities, odds / odds.sum(axis=1, keepdims=True), 1e-6)
    with pytest.raises(lit_tf.LitError, match="match needs a model with a bias"):
        lit_tf.load(fixtures / "lit_bert_tiny.npz").match(fixture_module.images(), ["a"])
