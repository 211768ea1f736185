"""The model that ships with the package: that it loads from its name, and that it is good."""

import pathlib
import re
import socket

import numpy as np
import pytest

import lit_tf
from lit_tf.training.digits import captions
from lit_tf.training.digits.dataset import DigitPairs
from recipes.digits import build, measure

DATA = pathlib.Path(lit_tf.__file__).parent / "data"


@pytest.fixture(scope="module")
def model():
    return lit_tf.load("LiT-digits")


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """The test split of `digit_pairs`, as the dataset draws it, without writing a dataset."""
    builder = DigitPairs(data_dir=tmp_path_factory.mktemp("tfds"))
    drawn = [example for _, example in builder._generate_examples("test")]
    return {
        name: np.stack([example[name] for example in drawn])
        for name in ("image", "label", "left", "right", "ink", "paper")
    }


@pytest.fixture(scope="module")
def figures(model, examples):
    return measure.measure(
        lambda images: model.encode_image(images, batch_size=250),
        lambda texts: model.encode_text(texts, batch_size=500),
        examples,
        "test",
    )


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
        assert {file[k].dtype for k in keys - {"t"}} == {np.dtype(np.float16)}
        assert file["t"].dtype == np.float32
        # As LiT-B16B_2: one combined position embedding, a head on the text tower only.
        side = 48 // 8
        assert file["img/Transformer/posembed_input/pos_embedding"].shape == (1, 1 + side**2, 96)
        assert file["txt/head/kernel"].shape[1] == 96 and "img/head/kernel" not in keys
        assert file["t"].shape == (1,)
    assert {k.split("/")[0] for k in keys} == {"img", "txt", "t"}
    vocabulary = (DATA / "LiT-digits.txt").read_text("utf-8").splitlines()
    assert vocabulary == captions.vocabulary()


def test_it_meets_its_bars(figures):
    assert not build.unmet(figures), figures
    assert figures["retrieval/pool"] == 1000 and figures["retrieval/txt2img/Recall@1"] > 0.8


def test_the_card_states_what_is_measured(figures):
    card = (DATA / "LiT-digits.md").read_text("utf-8")
    for name, text in build.ROWS.items():
        stated = re.search(rf"^\| {re.escape(text)} \| ([0-9.]+)% \|$", card, re.MULTILINE)
        # Another processor rounds otherwise, and may turn a few of 5,000 images over.
        assert float(stated[1]) == pytest.approx(100 * figures[name], abs=0.3), name


@pytest.mark.full
def test_the_bars_catch_a_model_that_reads_right_to_left(model, examples):
    fifth = {name: values[::5] for name, values in examples.items()}
    mirrored = {**fifth, "label": 10 * fifth["right"] + fifth["left"]}
    figures = measure.measure(model.encode_image, model.encode_text, mirrored, "test")
    assert figures["ensemble/unseen"] < 0.3 and build.unmet(figures)


def test_classify_answers_a_plain_question(model, examples):
    chosen = np.flatnonzero((examples["label"] == 71) | (examples["label"] == 17))
    names = ["a seven next to a one", "a one next to a seven"]
    probabilities = model.classify(examples["image"][chosen], names, ["{}"])
    right = np.where(examples["label"][chosen] == 71, 0, 1)
    assert (probabilities.argmax(axis=1) == right).mean() >= 0.85
