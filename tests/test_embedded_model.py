"""The model that ships with the package: that it loads from its name, and that it is good."""

import pathlib
import socket

import numpy as np
import pytest
from lit_tf.training.digits import build, captions, measure, render

import lit_tf

DATA = pathlib.Path(lit_tf.__file__).parent / "data"


@pytest.fixture(scope="module")
def model():
    return lit_tf.load("LiT-digits")


@pytest.fixture(scope="module")
def examples():
    """A thousand test images: drawn as the dataset draws them, without writing a dataset."""
    rng = np.random.default_rng(7)
    pairs = np.repeat(np.array(measure.ALL_PAIRS), 10, axis=0)
    left = render.choose_digits(pairs[:, 0], "test", rng)
    right = render.choose_digits(pairs[:, 1], "test", rng)
    ink = rng.integers(len(render.INKS), size=len(pairs))
    paper = rng.integers(len(render.PAPERS), size=len(pairs))
    return {
        "image": render.draw(left, right, ink, paper, rng),
        "label": pairs @ [10, 1],
        "left": pairs[:, 0],
        "right": pairs[:, 1],
        "ink": ink,
        "paper": paper,
    }


def test_it_is_listed_and_loads_without_a_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the embedded model must not need a network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert "LiT-digits" in lit_tf.list_models()
    assert lit_tf.load("LiT-digits").tokenizer.kind == "bert"


def test_files_are_small_and_in_the_published_layout():
    assert (DATA / "LiT-digits.npz").stat().st_size <= build.MAX_BYTES
    with np.load(DATA / "LiT-digits.npz", allow_pickle=False) as file:
        keys = set(file.files)
        assert {file[k].dtype for k in keys} == {np.dtype(np.float16)}
        # As LiT-B16B_2: one combined position embedding, a head on the text tower only.
        side = 48 // 8
        assert file["img/Transformer/posembed_input/pos_embedding"].shape == (1, 1 + side**2, 96)
        assert file["txt/head/kernel"].shape[1] == 96 and "img/head/kernel" not in keys
        assert file["t"].shape == (1,)
    assert {k.split("/")[0] for k in keys} == {"img", "txt", "t"}
    vocabulary = (DATA / "LiT-digits.txt").read_text("utf-8").splitlines()
    # The grammar may have grown since; the special tokens and the spelling of numerals may not.
    assert vocabulary[:5] == captions.vocabulary()[:5] and {"3", "##7"} <= set(vocabulary)


@pytest.mark.xfail(
    reason="the first LiT-digits is below two bars on never-captioned pairs; see its model card",
    raises=AssertionError,
    strict=True,
)
def test_it_meets_its_bars_on_fresh_test_images(model, examples):
    figures = measure.measure(model.encode_image, model.encode_text, examples, "test")
    assert not build.unmet(figures), figures
    assert figures["retrieval/pool"] > 800 and figures["retrieval/txt2img/Recall@1"] > 0.5


def test_it_knows_captioned_pairs_and_inks_on_fresh_test_images(model, examples):
    figures = measure.measure(model.encode_image, model.encode_text, examples, "test")
    assert figures["ensemble/seen"] >= 0.92 and figures["ink"] >= 0.99
    assert figures["ensemble/unseen"] >= 0.8


def test_the_bars_catch_a_model_that_reads_right_to_left(model, examples):
    mirrored = {**examples, "label": 10 * examples["right"] + examples["left"]}
    figures = measure.measure(model.encode_image, model.encode_text, mirrored, "test")
    assert figures["ensemble/unseen"] < 0.3 and build.unmet(figures)


def test_the_card_states_what_the_build_measured():
    card = (DATA / "LiT-digits.md").read_text("utf-8")
    for text in build.ROWS.values():
        assert f"| {text} |" in card


def test_classify_answers_a_plain_question(model, examples):
    chosen = np.flatnonzero((examples["label"] == 71) | (examples["label"] == 17))
    names = ["a seven next to a one", "a one next to a seven"]
    probabilities = model.classify(examples["image"][chosen], names, ["{}"])
    right = np.where(examples["label"][chosen] == 71, 0, 1)
    assert (probabilities.argmax(axis=1) == right).mean() >= 0.85
