"""What people really pass to a model: odd images and texts, and vocabularies that do not fit."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lit_tf

from .conftest import REFERENCE

CONTROLS = [chr(c) for c in [*range(32), 127, *range(0x80, 0xA0), 0x200B, 0xFEFF, 0x2028, 0xFFFF]]
ODD_TEXT = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from([*CONTROLS, "a", " "]), max_size=30).map("".join),
    st.sampled_from(["", " ", "\0", "x" * 10_000, "cat " * 5_000, "猫" * 1_000, "e\u0301" * 300]),
)


@pytest.fixture(scope="module", params=["lit_bert_tiny", "lit_tt_tiny"])
def model(request, fixtures):
    return lit_tf.load(fixtures / f"{request.param}.npz")


@settings(max_examples=60, deadline=None)
@given(st.lists(ODD_TEXT, min_size=1, max_size=4))
def test_any_text_has_an_embedding_of_its_own(model, texts):
    z = model.encode_text(texts)
    assert z.shape == (len(texts), 48) and z.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(model.encode_text(texts[-1:])[0], z[-1], atol=1e-6)


@pytest.mark.parametrize("bad", [None, 3, float("nan"), ["a"], b"\xff", "\ud83d"])
def test_what_is_not_a_text_is_named(model, bad):
    with pytest.raises(lit_tf.TokenizerError, match="^Text 2 "):
        model.encode_text(["a", "b", bad])


def test_a_bad_image_is_named_by_its_place_in_the_whole_list(model):
    images = [np.zeros((5, 7, 3), np.uint8)] * 40
    images[37] = b"\xff\xd8 broken"
    for batch_size in (1, 8, 64):
        with pytest.raises(lit_tf.ImageError, match="^Image 37 "):
            model.encode_image(images, batch_size)
    images[37] = np.zeros((5, 7), np.uint8)
    assert model.encode_image(iter(images), 8).shape == (40, 48)


@pytest.mark.parametrize(
    "images", ["cat.jpg", b"...", np.zeros((8, 8, 3), np.uint8), None, 3], ids=str
)
def test_one_image_that_is_no_list_is_refused(model, images):
    with pytest.raises(lit_tf.ImageError, match="expected"):
        model.encode_image(images)


@pytest.mark.parametrize("size", [0, -1, None, 1.5, "8"])
def test_batch_sizes_that_are_none_are_refused(model, size):
    with pytest.raises(lit_tf.LitError, match="batch_size"):
        model.encode_image([np.zeros((5, 7, 3), np.uint8)], batch_size=size)
    with pytest.raises(lit_tf.LitError, match="batch_size"):
        model.encode_text(["a"], batch_size=size)


@pytest.mark.parametrize("names", ["cat", b"cat"])
def test_one_class_name_that_is_no_list_is_refused(model, names):
    with pytest.raises(lit_tf.LitError, match="found one string"):
        model.classify([np.zeros((5, 7, 3), np.uint8)], names)


def test_tokens_of_different_lengths_are_refused(model):
    with pytest.raises(lit_tf.TokenizerError, match="rectangular array"):
        model.encode_tokens([[1, 2], [3]])


@pytest.mark.parametrize("dtype", ["float7", "int8", "int32", 3])
def test_dtypes_that_no_model_can_have_are_refused(fixtures, dtype):
    with pytest.raises(lit_tf.ConfigError, match="dtype"):
        lit_tf.load(fixtures / "lit_bert_tiny.npz", dtype=dtype)


@pytest.mark.parametrize(
    "name, vocab, message",
    [
        ("lit_bert_tiny", "sentencepiece.model", "not a WordPiece vocabulary"),
        ("lit_tt_tiny", "vocab.txt", "not a sentencepiece model"),
        ("lit_bert_tiny", "nowhere.txt", "nowhere.txt"),
        ("vit_upstream_tiny", "vocab.txt", "no text tower"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused(fixtures, name, vocab, message):
    with pytest.raises(lit_tf.LitError, match=message):
        lit_tf.load(fixtures / f"{name}.npz", vocab=REFERENCE / vocab)


def test_a_vocabulary_with_more_tokens_than_the_model_is_refused(fixtures, tmp_path):
    vocab = tmp_path / "long.txt"
    vocab.write_bytes((REFERENCE / "vocab.txt").read_bytes() + b"onemore\n")
    with pytest.raises(lit_tf.TokenizerError, match="1001 tokens.*1000 rows"):
        lit_tf.load(fixtures / "lit_bert_tiny.npz", vocab=vocab)


@pytest.mark.parametrize("name, file", [("lit_bert_tiny", "x.txt"), ("lit_tt_tiny", "x.model")])
def test_without_a_vocabulary_it_embeds_tokens_and_says_what_is_missing(
    fixtures, tmp_path, reference, name, file
):
    shutil.copy(fixtures / f"{name}.npz", tmp_path / "x.npz")
    model = lit_tf.load(tmp_path / "x.npz")
    assert model.tokenizer is None
    key = "sp_tokens" if file.endswith("model") else "bert_tokens"
    ztxt = model.encode_tokens(reference("towers")[key])
    np.testing.assert_allclose(ztxt, reference("towers")[f"{name}/ztxt"], atol=1e-6, rtol=0)
    with pytest.raises(lit_tf.TokenizerError, match="without a vocabulary.*vocab="):
        model.encode_text(["a"])
    shutil.copy((fixtures / f"{name}.npz").with_suffix(f".{file[2:]}"), tmp_path / file)
    assert lit_tf.load(tmp_path / "x.npz").encode_text(["a"]).shape == (1, 48)
