"""Layouts: what was loaded can be written back; what contradicts itself is refused by name."""

import contextlib
import dataclasses
import gc
import json
import warnings

import ml_dtypes
import numpy as np
import pytest

import lit_tf
from lit_tf.commands.info import summarize
from lit_tf.config import BertConfig
from lit_tf.texts.tokenizers import tokenizer_from_bytes


def read(path):
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def write(path, arrays):
    np.savez(path, **arrays)
    return path


@pytest.fixture
def arrays(fixtures):
    return read(fixtures / "lit_bert_tiny.npz")


@pytest.fixture
def old(fixtures):
    return read(fixtures / "bv_old_tiny.npz")


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("lit_bert_tiny", "vit_jax"),
        ("lit_bert_head_tiny", "vit_jax"),
        ("lit_tt_tiny", "vit_jax"),
    ],
)
def test_vit_jax_files_are_written_back_bit_for_bit(fixtures, tmp_path, name, layout):
    lit_tf.save_npz(lit_tf.load(fixtures / f"{name}.npz"), tmp_path / "out.npz", layout)
    before, after = read(fixtures / f"{name}.npz"), read(tmp_path / "out.npz")
    assert list(before) == list(after)
    for key in before:
        assert before[key].dtype == after[key].dtype
        assert before[key].tobytes() == after[key].tobytes(), key


@pytest.mark.parametrize("prefix", ["params/", ""])
def test_big_vision_files_are_written_back_bit_for_bit(fixtures, tmp_path, prefix):
    source = {f"{prefix}{k}": v for k, v in read(fixtures / "train_init_tiny.npz").items()}
    source[f"{prefix}b"] = np.full((1,), -2.71, np.float32)
    source[f"{prefix}img/cls"][0, 0, 0] = -0.0
    write(tmp_path / "in.npz", source)
    lit_tf.save_npz(lit_tf.load(tmp_path / "in.npz"), tmp_path / "out.npz", "big_vision")
    after = read(tmp_path / "out.npz")
    assert set(source) == set(after)
    for key in source:
        assert source[key].tobytes() == after[key].tobytes(), key


@pytest.mark.parametrize("name", ["lit_bert_tiny", "bv_checkpoint_tiny", "bv_old_tiny"])
@pytest.mark.parametrize("layout", ["vit_jax", "big_vision"])
def test_either_layout_embeds_the_same(fixtures, tmp_path, reference, name, layout):
    expected = reference("towers")
    lit_tf.save_npz(lit_tf.load(fixtures / f"{name}.npz"), tmp_path / "out.npz", layout)
    again = lit_tf.load(tmp_path / "out.npz")
    assert again.config.layout == layout
    assert again.tokenizer is not None, "the vocabulary was not written beside the file"
    found = again({"image": expected["images"]})["image_embedding"]
    np.testing.assert_allclose(found, expected[f"{name}/zimg"], rtol=0, atol=1e-6)


def test_half_precision_files_are_half_the_size_and_nearly_equal(fixtures, tmp_path, reference):
    model = lit_tf.load(fixtures / "lit_bert_tiny.npz")
    lit_tf.save_npz(model, tmp_path / "full.npz")
    lit_tf.save_npz(model, tmp_path / "half.npz", dtype="float16")
    sizes = [(tmp_path / n).stat().st_size for n in ("half.npz", "full.npz")]
    assert sizes[0] < 0.6 * sizes[1]
    found = lit_tf.load(tmp_path / "half.npz")({"image": reference("towers")["images"]})
    expected = reference("towers")["lit_bert_tiny/zimg"]
    cosine = (found["image_embedding"].numpy() * expected).sum(-1)
    assert cosine.min() > 0.99999


@pytest.mark.parametrize("layout", ["vit_jax", "big_vision"])
def test_temperature_and_bias_stay_float32_in_half_precision_files(fixtures, tmp_path, layout):
    model = lit_tf.load(fixtures / "bv_checkpoint_tiny.npz")
    assert model.b is not None
    lit_tf.save_npz(model, tmp_path / "half.npz", layout, dtype="float16")
    with np.load(tmp_path / "half.npz") as file:
        exact = {k: file[k] for k in file.files if k.removeprefix("params/") in ("t", "b")}
        rest = {file[k].dtype for k in set(file.files) - set(exact)}
    assert rest == {np.dtype(np.float16)} and len(exact) == 2
    for key, array in exact.items():
        want = {"t": model.t, "b": model.b}[key.removeprefix("params/")].numpy()
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, want)


def test_stacked_text_transformers_are_read(old, tmp_path, reference):
    prefix, depth = "params/txt/Encoder_0/encoderblock", 3
    leaves = [k[len(f"{prefix}_0/") :] for k in old if k.startswith(f"{prefix}_0/")]
    for leaf in leaves:
        blocks = [old.pop(f"{prefix}_{i}/{leaf}") for i in range(depth)]
        old[f"{prefix}/{leaf}"] = np.stack(blocks)
    model = lit_tf.load(write(tmp_path / "x.npz", old))
    expected = reference("towers")
    found = model.encode_tokens(expected["sp_tokens"])
    np.testing.assert_allclose(found, expected["bv_old_tiny/ztxt"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("place", ["img/Transformer/pos_embedding", "img/pos_embedding"])
@pytest.mark.parametrize("with_row", [True, False])
def test_every_placement_of_the_position_embedding_is_read(
    old, tmp_path, reference, place, with_row
):
    combined = old.pop("params/img/Transformer/posembed_input/pos_embedding")
    if not with_row:
        old["params/img/cls"] = old["params/img/cls"] + combined[:, :1]
        combined = combined[:, 1:]
    old[f"params/{place}"] = combined
    model = lit_tf.load(write(tmp_path / "x.npz", old))
    expected = reference("towers")
    found = model({"image": expected["images"]})["image_embedding"]
    np.testing.assert_allclose(found, expected["bv_old_tiny/zimg"], rtol=0, atol=1e-6)


def test_a_lone_vit_embeds_images_and_says_that_it_has_no_text_tower(fixtures):
    model = lit_tf.load(fixtures / "vit_upstream_tiny.npz")
    assert model.config.layout == "augreg"
    assert model.encode_image(np.zeros((2, 9, 9, 3), np.uint8)).shape == (2, 48)
    with pytest.raises(lit_tf.LitError, match="no text tower"):
        model.encode_text(["a cat"])


def test_a_lone_bert_folder_is_read(fixtures):
    model = lit_tf.load(fixtures / "bert_tiny")
    assert model.config.text.out_dim is None
    assert model.encode_text(["a cat"]).shape == (1, 128)


def test_without_a_vocabulary_tokens_work_and_text_says_what_is_missing(
    arrays, tmp_path, reference
):
    model = lit_tf.load(write(tmp_path / "lonely.npz", arrays))
    assert model.encode_tokens(reference("towers")["bert_tokens"]).shape == (17, 48)
    with pytest.raises(lit_tf.TokenizerError, match="vocab"):
        model.encode_text(["a cat"])


HEAD = "txt/head/kernel"
FAULTS = {
    "missing": (lambda a: a.pop(HEAD), [HEAD, "is missing"]),
    "renamed": (lambda a: a.update({"txt/haed/kernel": a.pop(HEAD)}), ["txt/haed/kernel"]),
    "misshapen": (lambda a: a.update({HEAD: a[HEAD][:5]}), [HEAD, r"\(5, 48\)", r"\(128, 48\)"]),
    "extra": (lambda a: a.update({"img/extra": np.zeros(3, np.float32)}), ["img/extra"]),
    "integers": (lambda a: a.update({HEAD: a[HEAD].astype(np.int32)}), [HEAD, "int32", "float32"]),
    "not a number": (lambda a: a[HEAD].__setitem__((0, 0), np.nan), [HEAD, "NaN"]),
    "infinity": (lambda a: a[HEAD].__setitem__((0, 0), np.inf), [HEAD, "infinite"]),
    "more than float32 holds": (
        lambda a: a.update({HEAD: a[HEAD].astype(np.float64) * 1e300}),
        [HEAD, "infinite"],
    ),
    "an infinite temperature": (
        lambda a: a.update(t=np.array([100.0], np.float32)),
        ["'t' is 100", "logarithm"],
    ),
    "parameters twice": (
        lambda a: a.update({f"params/{k}": v for k, v in a.items()}),
        ["both under params/ and at top level", "img/"],
    ),
    "missing block": (
        lambda a: [a.pop(k) for k in list(a) if "encoderblock_1/" in k],
        ["encoderblock_1/.* missing"],
    ),
    "far too many blocks": (
        lambda a: a.update({"img/Transformer/encoderblock_99999/x": np.zeros(1, np.float32)}),
        ["encoderblock_3/.* missing"],
    ),
    "missing in a block": (
        lambda a: a.pop("img/Transformer/encoderblock_1/LayerNorm_0/scale"),
        ["img/Transformer/encoderblock_1/LayerNorm_0/scale", "missing"],
    ),
    "no square of patches": (
        lambda a: a.update(
            {
                "img/Transformer/posembed_input/pos_embedding": a[
                    "img/Transformer/posembed_input/pos_embedding"
                ][:, :12]
            }
        ),
        ["12 rows", "square"],
    ),
    "two position embeddings": (
        lambda a: a.update({"img/pos_embedding": np.zeros((1, 16, 48), np.float32)}),
        ["is given twice"],
    ),
    "other towers": (
        lambda a: a.update(
            {HEAD: np.zeros((128, 50), np.float32), "txt/head/bias": np.zeros(50, np.float32)}
        ),
        ["48", "50", "differ"],
    ),
    "no LiT model": (
        lambda a: (a.clear(), a.update({"conv1/w": np.zeros(3, np.float32)})),
        ["no layout", "conv1/w"],
    ),
    "empty": (lambda a: a.clear(), ["empty archive"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_contents_are_refused_by_name(arrays, tmp_path, fault):
    break_it, says = FAULTS[fault]
    break_it(arrays)
    path = write(tmp_path / "broken.npz", arrays)
    with warnings.catch_warnings(), pytest.raises(lit_tf.CheckpointError) as caught:
        warnings.simplefilter("error", RuntimeWarning)  # the error says it all
        lit_tf.load(path)
    import re

    for pattern in ["broken.npz", *says]:
        assert re.search(pattern, str(caught.value)), (pattern, str(caught.value))


def test_a_missing_key_is_reported_with_the_nearest_ones(arrays, tmp_path):
    arrays["txt/head/bais"] = arrays.pop("txt/head/bias")
    with pytest.raises(lit_tf.CheckpointError, match="'txt/head/bias'.*nearest.*txt/head/bais"):
        lit_tf.load(write(tmp_path / "x.npz", arrays))


def test_stacked_and_single_blocks_together_are_refused(arrays, tmp_path):
    key = "img/Transformer/encoderblock_0/LayerNorm_0/scale"
    arrays["img/Transformer/encoderblock/LayerNorm_0/scale"] = np.stack([arrays[key]] * 3)
    with pytest.raises(lit_tf.CheckpointError, match="given twice"):
        lit_tf.load(write(tmp_path / "x.npz", arrays))


def test_bfloat16_files_are_read_as_bfloat16(arrays, tmp_path):
    half = {k: v.astype(ml_dtypes.bfloat16) for k, v in arrays.items()}
    model = lit_tf.load(write(tmp_path / "x.npz", half))
    for name, variable in model.canonical_variables().items():
        if name in half:
            np.testing.assert_array_equal(variable.numpy(), half[name].astype(np.float32))


def test_an_unknown_layout_cannot_be_written(fixtures, tmp_path):
    model = lit_tf.load(fixtures / "lit_bert_tiny.npz")
    with pytest.raises(lit_tf.CheckpointError, match="'torch'.*vit_jax"):
        lit_tf.save_npz(model, tmp_path / "x.npz", layout="torch")
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_vocabularys_place_is_not_overwritten(fixtures, tmp_path):
    model = lit_tf.load(fixtures / "lit_bert_tiny.npz")
    (tmp_path / "pets.txt").write_text("cat\ndog\n")
    with pytest.raises(lit_tf.CheckpointError, match="pets.txt is in the way"):
        lit_tf.save_npz(model, tmp_path / "pets.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["pets.txt"]
    assert (tmp_path / "pets.txt").read_text() == "cat\ndog\n"
    (tmp_path / "pets.txt").write_bytes(model.tokenizer.to_bytes())  # its own may be there
    lit_tf.save_npz(model, tmp_path / "pets.npz")
    assert lit_tf.load(tmp_path / "pets.npz").tokenizer is not None


@pytest.mark.parametrize("name", ["x.txt", "x", "x.model"])
def test_a_checkpoint_is_called_npz(fixtures, tmp_path, name):
    model = lit_tf.load(fixtures / "lit_bert_tiny.npz")
    with pytest.raises(lit_tf.CheckpointError, match="ends in .npz"):
        lit_tf.save_npz(model, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_named(fixtures, tmp_path):
    model = lit_tf.load(fixtures / "lit_bert_tiny.npz")
    with pytest.raises(lit_tf.CheckpointError, match="nowhere.*cannot be written"):
        lit_tf.save_npz(model, tmp_path / "nowhere" / "x.npz")


def test_what_float16_cannot_hold_is_named_and_nothing_is_left(fixtures, tmp_path):
    model = lit_tf.load(fixtures / "lit_bert_tiny.npz")
    model.text_tower.head.bias.assign(np.full(48, 7e4, np.float32))
    with pytest.raises(lit_tf.CheckpointError, match="'txt/head/bias'.*7e.04.*65,504"):
        lit_tf.save_npz(model, tmp_path / "x.npz", dtype="float16")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fault", [False, True])
def test_files_are_closed_after_loading_and_after_a_fault(arrays, fixtures, tmp_path, fault):
    path = fixtures / "lit_bert_tiny.npz"
    if fault:
        arrays["img/pos_embedding"] = np.zeros((1, 16, 48), np.float32)
        path = write(tmp_path / "x.npz", arrays)
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        for read in (lit_tf.load, summarize):
            with contextlib.suppress(lit_tf.CheckpointError):
                read(path)
        if not fault:
            lit_tf.from_upstream(fixtures / "vit_upstream_tiny.npz", path, resolution=32)
        gc.collect()
    assert not [w for w in caught if ".npz" in str(w.message)]


def changed(path, **fields):
    """A model with another configuration, whose weights are arbitrary."""
    model, fields = lit_tf.load(path), dict(fields)
    config, tokenizer = model.config, model.tokenizer
    towers = {k: fields.pop(k) for k in ("image", "text") if fields.get(k)}
    for kind, values in towers.items():
        towers[kind] = dataclasses.replace(getattr(config, kind), **values)
    config = dataclasses.replace(config, **towers, **fields)
    if config.text:
        tokenizer = tokenizer_from_bytes(
            tokenizer.kind, tokenizer.to_bytes(), config.token_length, config.lowercase
        )
    return lit_tf.LitModel(config, tokenizer if config.text else None)


@pytest.mark.parametrize(
    ("name", "fields", "record"),
    [
        ("lit_bert_tiny", {"text": {"num_heads": 4}}, {"text.num_heads": 4}),
        ("lit_bert_tiny", {"text": {"width": 48, "num_heads": 3}}, {"text.num_heads": 3}),
        ("lit_bert_tiny", {"text": {"dropout_rate": 0.0}}, {"text.dropout_rate": 0.0}),
        ("lit_bert_tiny", {"token_length": 32}, {"token_length": 32}),
        ("lit_bert_tiny", {"crop": True}, {"crop": True}),
        ("lit_tt_tiny", {"lowercase": True}, {"lowercase": True}),
        ("siglip_tiny", {"lowercase": False}, {"lowercase": False}),
        (
            "siglip_tiny",
            {"image": {"patch_size": 14, "image_size": 56}},
            {"image.image_size": 56},
        ),
        ("siglip_tiny", {"image": {"patch_size": 14, "image_size": 64}}, {}),
        ("siglip_old_tiny", {"image": None, "has_bias": False}, {"lowercase": True}),
        ("lit_bert_tiny", {}, {}),
    ],
)
def test_what_the_arrays_do_not_show_comes_back(fixtures, tmp_path, name, fields, record):
    model = changed(fixtures / f"{name}.npz", **fields)
    path = tmp_path / "x.npz"
    lit_tf.save_npz(model, path)
    beside = tmp_path / "x.json"
    found = json.loads(beside.read_text())["lit_tf"] if beside.exists() else {}
    assert {k: found.get(k) for k in record} == record and bool(found) == bool(record)
    again = lit_tf.load(path)
    same = {"layout": again.config.layout, "bare": again.config.bare}
    assert again.config == dataclasses.replace(model.config, **same)
    texts = ["A Photo of a Cat on the RED Sofa " * 3, "a dog"]
    np.testing.assert_array_equal(again.tokenizer(texts), model.tokenizer(texts))
    found = again.canonical_variables()
    for name, variable in model.canonical_variables().items():
        np.testing.assert_array_equal(found[name].numpy(), variable.numpy(), err_msg=name)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("siglip_tiny", {"lowercase": False}),
        ("siglip_tiny", {"preprocessing": "huggingface"}),
        ("lit_bert_tiny", {"token_length": 32, "crop": True, "text": {"num_heads": 4}}),
    ],
)
def test_tuning_starts_from_either_tower_of_a_recorded_file(fixtures, tmp_path, name, fields):
    path, config = tmp_path / "x.npz", lit_tf.load(fixtures / f"{name}.npz").config
    lit_tf.save_npz(changed(fixtures / f"{name}.npz", **fields), path)
    text = BertConfig(50, width=64, depth=1, num_heads=1, mlp_dim=32)
    assert lit_tf.from_upstream(path, text).config.image.width == config.image.width
    model = lit_tf.from_upstream(config.image, path)
    assert model.config.text.num_heads == fields.get("text", {}).get(
        "num_heads", config.text.num_heads
    )


def test_a_record_is_replaced_with_its_checkpoint_and_checked_strictly(fixtures, tmp_path):
    path, beside = tmp_path / "x.npz", tmp_path / "x.json"
    usual = lit_tf.load(fixtures / "lit_bert_tiny.npz")
    lit_tf.save_npz(changed(fixtures / "lit_bert_tiny.npz", token_length=32), path)
    lit_tf.save_npz(usual, path)
    assert not beside.exists() and lit_tf.load(path).config.token_length == 16
    for fields, message in (
        ({"text.num_heads": 3}, "width 128 is not a multiple"),
        ({"text.num_heads": 0}, "num_heads must be a positive integer"),
        ({"token_length": "32"}, "token_length is '32', expected int"),
        ({"token_length": 0}, "token_length must be a positive integer"),
        ({"token_length": 1000}, "more than the text tower's"),
        ({"lowercase": 1}, "expected bool"),
        ({"text.width": 64}, "expected 'lit_tf' to hold some of"),
        ({"image.image_size": 64}, "'img/pos_embedding' has shape"),
        ([], "expected 'lit_tf' to hold some of"),
    ):
        beside.write_text(json.dumps({"lit_tf": fields}))
        with pytest.raises(lit_tf.CheckpointError, match=message):
            lit_tf.load(path)
    beside.write_text('{"lit_tf": ')
    with pytest.raises(lit_tf.CheckpointError, match="x.json is damaged"):
        lit_tf.load(path)
    beside.write_text('{"accuracy": 0.5}')  # another program's: read past, and never overwritten
    assert lit_tf.load(path).config == dataclasses.replace(usual.config, layout="vit_jax")
    with pytest.raises(lit_tf.CheckpointError, match="x.json is in the way"):
        lit_tf.save_npz(changed(fixtures / "lit_bert_tiny.npz", token_length=32), path)
    lit_tf.save_npz(usual, path)
    assert beside.read_text() == '{"accuracy": 0.5}'
