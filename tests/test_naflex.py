"""SigLIP 2 NaFlex: images of any shape, held to big_vision's own answers."""

import copy
import dataclasses
import json
import pathlib

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

import lit_tf
from lit_tf.cli import main
from lit_tf.errors import CheckpointError, ConfigError, ImageError
from lit_tf.images import naflex
from lit_tf.images.preparation import preparation
from lit_tf.towers.vit import interpolated_positions

from .conftest import without_verification

LENGTHS = (36, 144)
VOCABULARY = pathlib.Path(__file__).parent / "reference" / "bytes_bpe.model"


@pytest.fixture(scope="module")
def want(reference):
    return reference("naflex")


@pytest.fixture(scope="module")
def model(naflex_file):
    return lit_tf.load(naflex_file)


@pytest.fixture(scope="module")
def images(want):
    return [want[f"image_{i}"] for i in range(5)]


@pytest.fixture(scope="module")
def files(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for i, image in enumerate(images):
        PIL.Image.fromarray(image).save(folder / f"{i}.png")
    return folder


def test_target_sizes_are_big_visions_in_numpy_and_in_graphs(want):
    @tf.function(input_signature=[tf.TensorSpec([], tf.int32)] * 4, autograph=False)
    def in_graph(height, width, patch, length):
        return naflex.target_grid(
            height, width, tf.cast(patch, tf.float64), tf.cast(length, tf.float32)
        )

    for (h, w, patch, length), size in zip(want["sizes/hwPL"], want["sizes/result"], strict=True):
        grid = naflex.target_grid(int(h), int(w), int(patch), int(length))
        assert (grid[0] * patch, grid[1] * patch) == tuple(size)
        assert tuple(int(n) for n in in_graph(h, w, patch, length)) == grid


@pytest.mark.parametrize("length", LENGTHS)
def test_patches_are_big_visions_eagerly_in_datasets_and_as_a_batch(images, want, length):
    cut = [naflex.to_patches(image, 8, length).numpy() for image in images]
    assert [c.shape[:2] for c in cut][2] == ((2, 18) if length == 36 else (3, 40))
    batch = naflex.batched(cut)
    longest = batch["patches"].shape[1]
    assert longest == want[f"{length}/type"].sum(1).max()
    np.testing.assert_array_equal(batch["patches"], want[f"{length}/patches"][:, :longest])
    np.testing.assert_array_equal(batch["mask"], want[f"{length}/type"][:, :longest])
    for axis, key in enumerate(("yidx", "xidx")):
        np.testing.assert_array_equal(
            batch["coordinates"][..., axis], want[f"{length}/{key}"][:, :longest]
        )
    assert "mask" not in naflex.batched(cut[:1] * 2)  # nothing to mask
    dataset = tf.data.Dataset.from_generator(
        lambda: images, output_signature=tf.TensorSpec([None, None, 3], tf.uint8)
    ).map(lambda image: naflex.padded(naflex.to_patches(image, 8, length), length))
    found = next(iter(dataset.batch(5)))
    np.testing.assert_array_equal(found["patches"], want[f"{length}/patches"])
    np.testing.assert_array_equal(found["mask"], want[f"{length}/type"])
    np.testing.assert_array_equal(found["coordinates"][..., 1], want[f"{length}/xidx"])


@pytest.mark.parametrize("shape", [(9, 16), (2, 18), (24, 6)])
def test_positions_are_interpolated_as_in_the_original(model, want, shape):
    places = np.stack(np.indices(shape), -1).reshape(1, -1, 2).astype(np.int32)
    found = interpolated_positions(model.image_tower.pos_embedding, tf.constant(places))
    expected = want["pos_{}x{}".format(*shape)]
    np.testing.assert_allclose(tf.reshape(found, expected.shape), expected, atol=1e-6)


@pytest.mark.parametrize("length", LENGTHS)
def test_embeddings_and_logits_are_big_visions(model, images, want, fixture_module, length):
    zimg = model.encode_image(images, max_patches=length)
    np.testing.assert_allclose(zimg, want[f"{length}/zimg"], atol=1e-6)
    tokens = model.tokenize(fixture_module.siglip_texts())
    np.testing.assert_array_equal(tokens, want["tokens"])
    ztxt = model.encode_tokens(tokens)
    np.testing.assert_allclose(ztxt, want["ztxt"], atol=1e-6)
    np.testing.assert_allclose(model.logits(zimg, ztxt), want[f"{length}/logits"], atol=1e-5)


def test_padding_and_the_rest_of_a_batch_change_no_embedding(model, images, want):
    length = 36
    for batch_size in (1, 2, 5):
        zimg = model.encode_image(images[::-1], batch_size, max_patches=length)[::-1]
        np.testing.assert_allclose(zimg, want[f"{length}/zimg"], atol=1e-6)
    cut = [naflex.to_patches(image, 8, length) for image in images]
    longer = [naflex.padded(c, length + 20) for c in cut]
    longer = {key: tf.stack([each[key] for each in longer]) for key in longer[0]}
    for embed in (model.embed_images, tf.function(model.embed_images, jit_compile=True)):
        np.testing.assert_allclose(embed(longer), want[f"{length}/zimg"], atol=1e-6)


def test_a_coordinate_beyond_64_is_a_place_like_any_other(model):
    line = np.random.default_rng(0).integers(0, 256, (8, 1000, 3), dtype=np.uint8)
    z = model.encode_image([line], max_patches=100)
    assert naflex.to_patches(line, 8, 100).shape[:2] == (1, 100) and np.isfinite(z).all()


def test_everything_that_takes_images_takes_max_patches(model, images, want):
    names = ["cat", "dog"]
    few, many = (model.class_logits(images, names, max_patches=n) for n in LENGTHS)
    assert np.abs(few - many).max() > 1e-3
    np.testing.assert_allclose(
        model.classify(images, names, max_patches=36), tf.nn.softmax(few), atol=1e-6
    )
    texts = ["a cat", "a dog"]
    match = model.match(images, texts, max_patches=36)
    logits = model.logits(want["36/zimg"], model.encode_text(texts))
    np.testing.assert_allclose(match, tf.sigmoid(logits), atol=1e-5)
    default = model.encode_image(images[:1])
    np.testing.assert_array_equal(default, model.encode_image(images[:1], max_patches=256))


def test_a_square_model_has_no_patches_to_choose_and_this_one_no_resolution(naflex_file, fixtures):
    square = lit_tf.load(fixtures / "siglip2_tiny.npz")
    with pytest.raises(ImageError, match="takes square images of one size; only NaFlex"):
        square.encode_image([np.zeros((4, 4, 3), np.uint8)], max_patches=16)
    with pytest.raises(ConfigError, match="NaFlex model takes images of any shape"):
        lit_tf.load(naflex_file, resolution=64)


def test_bad_numbers_of_patches_and_bad_inputs_are_named(model, images):
    for bad in (0, -1, 2.5, "36", True):
        with pytest.raises(ImageError, match="max_patches must be a positive integer"):
            model.encode_image(images, max_patches=bad)
    batch = naflex.batched([naflex.to_patches(images[0], 8, 9).numpy()])
    for bad in (
        images[0][None],
        {"patches": batch["patches"]},
        {**batch, "patches": batch["patches"][..., :5]},
        {**batch, "coordinates": batch["patches"]},
        {**batch, "mask": np.ones((1, 2, 3), np.int32)},
    ):
        with pytest.raises(ImageError, match=r"NaFlex\) takes a dictionary: patches, floats"):
            model.image_tower(bad)
    batch = naflex.batched([naflex.to_patches(image, 8, 9).numpy() for image in images])
    patches, coordinates, mask = (batch[k] for k in ("patches", "coordinates", "mask"))
    for name, value, message in (  # each would be broadcast, or be a picture that never was
        ("coordinates", coordinates[:, :1], r"found coordinates int32 \(5, 1, 2\)"),
        ("coordinates", coordinates[:1], r"found coordinates int32 \(1, 9, 2\)"),
        ("coordinates", coordinates - 1, "found coordinates from -1"),
        ("mask", mask[:, :1], r"found mask int32 \(5, 1\), beside patches \(5, 9\)"),
        ("mask", mask * 2, "found mask from 0 to 2"),
        ("patches", patches * 255, "found patches from -252"),
        ("patches", patches * np.nan, "found patches from nan"),
    ):
        with pytest.raises(ImageError, match=message):
            model.image_tower({**batch, name: value})
    inputs = {k: keras.Input(v.shape[1:], dtype=v.dtype) for k, v in batch.items()}
    assert model.image_tower(inputs).shape == (None, model.config.embedding_dim)
    with pytest.raises(ImageError, match="found mask"):
        model.image_tower({**inputs, "mask": keras.Input((7,), dtype="int32")})
    with pytest.raises(ImageError, match="expected one image"):
        naflex.to_patches(images[0][None], 8, 9)


def test_files_come_back_equal_and_stacked_blocks_are_read(model, naflex_file, tmp_path):
    lit_tf.save_npz(model, tmp_path / "x.npz")
    with np.load(naflex_file) as first, np.load(tmp_path / "x.npz") as second:
        original, written = dict(first), dict(second)
    text = [k for k in original if "/encoderblock/" in k]  # written block by block
    assert set(original) - set(text) == {
        k for k in written if "txt/Encoder_0/encoderblock" not in k
    }
    for key in set(original) - set(text):
        np.testing.assert_array_equal(written[key], original[key])
    blocks = "params/img/Transformer/encoderblock"
    names = [k.removeprefix(f"{blocks}_0/") for k in original if k.startswith(f"{blocks}_0/")]
    for name in names:
        parts = [original.pop(f"{blocks}_{i}/{name}") for i in range(2)]
        original[f"{blocks}/{name}"] = np.stack(parts)
    np.savez(tmp_path / "stacked.npz", **original)
    assert lit_tf.load(tmp_path / "stacked.npz").fingerprint() == model.fingerprint()
    with pytest.raises(CheckpointError, match="no attention pooling"):
        lit_tf.save_npz(model, tmp_path / "y.npz", layout="vit_jax")


@pytest.mark.parametrize("leaf", ["patchln_pre/scale", "pre_logits/kernel", "head/kernel"])
def test_options_that_no_published_file_uses_are_refused_by_name(naflex_file, tmp_path, leaf):
    with np.load(naflex_file) as file:
        arrays = {**file, f"params/img/{leaf}": np.zeros((48, 48), np.float32)}
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(CheckpointError, match=f"unexpected keys: img/{leaf.split('/')[0]}"):
        lit_tf.load(tmp_path / "x.npz")


@pytest.mark.parametrize("grid", [2, 5, 10, 17])
def test_grids_that_look_like_one_with_a_class_token_are_read(naflex_file, tmp_path, grid):
    with np.load(naflex_file) as file:
        arrays = dict(file)
    arrays["params/img/pos_embedding"] = np.zeros((grid, grid, 48), np.float32)
    np.savez(tmp_path / "x.npz", **arrays)
    assert lit_tf.load(tmp_path / "x.npz").config.image.grid == grid


def test_it_survives_keras(model, images, want, tmp_path):
    model.save(tmp_path / "x.keras")
    import keras

    loaded = keras.saving.load_model(tmp_path / "x.keras")
    for other in (loaded, copy.deepcopy(model)):
        zimg = other.encode_image(images, max_patches=36)
        np.testing.assert_allclose(zimg, want["36/zimg"], atol=1e-6)
    half = model.with_dtype("mixed_bfloat16").encode_image(images, max_patches=36)
    assert ((half * want["36/zimg"]).sum(1) > 0.999).all()
    batch = naflex.batched([naflex.to_patches(i, 8, 36).numpy() for i in images])
    out = model({"image": batch, "tokens": want["tokens"]})
    np.testing.assert_allclose(out["logits"], want["36/logits"], atol=1e-5)


def test_the_published_ones_are_known():
    for name in ("SigLIP2-B16-NaFlex", "SigLIP2 So400m/16 NaFlex", "siglip2_b16_naflex"):
        found = lit_tf.checkpoints.registry.find_published(name)
        assert found.image.naflex and found.image.grid == 16 and "any shape" in found.image_words


def test_commands_take_max_patches(naflex_file, files, want, tmp_path, capsys):
    pictures = str(files / "*.png")
    out = tmp_path / "z.npz"
    embed = ["embed", str(naflex_file), "--images", pictures, "-o", str(out)]
    assert main([*embed, "--max-patches", "36"]) == 0
    np.testing.assert_allclose(np.load(out)["embeddings"], want["36/zimg"], atol=1e-6)
    capsys.readouterr()
    compare = ["compare", str(naflex_file), "--images", pictures, "--texts", "a cat", "--json"]
    assert main([*compare, "--max-patches", "144"]) == 0
    found = np.array(json.loads(capsys.readouterr().out)["similarities"])
    ztxt = lit_tf.load(naflex_file).encode_text(["a cat"])
    np.testing.assert_allclose(found, want["144/zimg"] @ ztxt.T, atol=1e-6)
    assert main([*embed, "--max-patches", "0"]) == 2
    assert "max_patches must be a positive integer" in capsys.readouterr().err
    assert main([*embed, "--resolution", "64"]) == 2


def test_an_index_records_its_number_of_patches(naflex_file, files, tmp_path, capsys):
    db = str(tmp_path / "db")
    command = ["index", str(naflex_file), str(files), "--db", db]
    assert main([*command, "--max-patches", "36"]) == 0
    assert main(command) == 0  # what the index was made with
    assert main([*command, "--max-patches", "144"]) == 2
    assert "max_patches 36, not 144" in capsys.readouterr().err
    found = lit_tf.search.open(db).image([str(files / "2.png")])
    assert found[0].path.endswith("2.png") and found[0].score > 0.9999


def test_tokens_and_attention_tell_patches_from_padding(model, images):
    vit = model.image_tower
    batch = naflex.batched([naflex.to_patches(image, 8, 36).numpy() for image in images])
    tokens, attention = vit.tokens(batch), vit.attention(batch).numpy()  # (5, heads, L)
    np.testing.assert_allclose(attention.sum(-1), 1, atol=1e-5)
    padding = batch["mask"] == 0
    assert padding.any() and attention.transpose(0, 2, 1)[padding].max() == 0
    for i, image in enumerate(images):  # as alone, without padding
        alone = naflex.batched([naflex.to_patches(image, 8, 36).numpy()])
        count = alone["patches"].shape[1]
        np.testing.assert_allclose(tokens[i, :count], vit.tokens(alone)[0], atol=1e-5)
        np.testing.assert_allclose(attention[i, :, :count], vit.attention(alone)[0], atol=1e-5)
        pooled = vit.pooling(vit.tokens(alone))[0, 0]  # the pooling reads exactly the tokens
        np.testing.assert_allclose(pooled, vit(batch)[i], atol=2e-5)


def test_a_saved_model_takes_jpegs_of_any_shape(naflex_file, images, want, tmp_path):
    folder = tmp_path / "1"
    command = ["export", str(naflex_file), str(folder), "--saved-model", "--max-patches", "36"]
    command += ["--json"]
    with without_verification():
        assert main([*command, "--parts", "image"]) == 0
    manifest = json.loads((folder / "lit_manifest.json").read_text())
    assert (manifest["max_patches"], manifest["resolution"]) == (36, None)
    served = tf.saved_model.load(str(folder))
    encoded = tf.constant([tf.io.encode_png(image).numpy() for image in images])
    np.testing.assert_allclose(served.encode_image_bytes(encoded), want["36/zimg"], atol=1e-6)
    for i, image in enumerate(images):
        found = served.encode_image(np.stack([image, image]))
        np.testing.assert_allclose(found, want["36/zimg"][[i, i]], atol=1e-6)


def test_a_run_trains_on_images_that_keep_their_shape(naflex_file, files, want, tmp_path):
    pytest.importorskip("tensorflow_datasets")
    from lit_tf.training.config import DataConfig
    from lit_tf.training.data import make_train_dataset, open_source

    rows = [f"{files / f'{i}.png'},picture {i}" for i in range(5)]
    (tmp_path / "pairs.csv").write_text("\n".join(["image,caption", *rows]))
    model = lit_tf.load(naflex_file)
    data = DataConfig(source=str(tmp_path / "pairs.csv"), shuffle_buffer=1)
    how = {"global_batch_size": 5, "image_size": preparation(model.config, 36), "seed": 0}
    (batch,) = make_train_dataset(open_source(data), model.tokenizer, **how).take(1)
    found = model.embed_images(batch["image"])
    nearest = np.argmax(found @ want["36/zimg"].T, axis=1)
    np.testing.assert_allclose(found, want["36/zimg"][nearest], atol=1e-6)
    assert sorted(nearest) == list(range(5))
    augmented = dataclasses.replace(data, augment="flip_lr")
    (other,) = make_train_dataset(open_source(augmented), model.tokenizer, **how).take(1)
    np.testing.assert_array_equal(other["image"]["mask"], batch["image"]["mask"])
    found, flipped = (x["image"]["patches"][..., :3].numpy() for x in (batch, other))
    assert 0.1 < np.abs(found - flipped).max() and np.abs(flipped).max() <= 1


@pytest.mark.full
def test_locked_training_and_evaluation_run_from_the_command_line(naflex_file, files, tmp_path):
    pytest.importorskip("tensorflow_datasets")
    rows = [f"{files / f'{i}.png'},picture {i}" for i in range(5)]
    (tmp_path / "pairs.csv").write_text("\n".join(["image,caption", *rows]))
    spec = f"siglit_coco:img={naflex_file},txt={naflex_file},init="
    values = (
        *(f"data.source={tmp_path / 'pairs.csv'}", "data.max_patches=36", "batch_size=4"),
        *("steps=2", "optimizer.warmup=0", "eval.zero_shot=", "eval.retrieval="),
        *(
            "data.shuffle_buffer=1",
            "data.augment=flip_lr|randaug(2,10)",
            f"model.vocab={VOCABULARY}",
        ),
    )
    command = ["train", "--config", spec, "--workdir", str(tmp_path / "run")]
    assert main([*command, *(word for value in values for word in ("--set", value))]) == 0
    trained = lit_tf.load(tmp_path / "run" / "final.npz")
    before = lit_tf.load(naflex_file)
    assert trained.config.image.naflex
    assert trained.fingerprint("img/") == before.fingerprint("img/")
    assert trained.fingerprint("txt/") != before.fingerprint("txt/")
    evaluate = ["eval", str(naflex_file), "--retrieval", str(tmp_path / "pairs.csv")]
    assert main([*evaluate, "--max-patches", "36", "--json", str(tmp_path / "x.json")]) == 0
