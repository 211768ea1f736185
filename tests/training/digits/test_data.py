"""The data behind LiT-digits: real digits that do not leak, captions that keep their promises."""

import hashlib
import itertools
import string

import numpy as np
import pytest
import tensorflow_datasets as tfds

from lit_tf.errors import DataError
from lit_tf.training.digits import captions, render
from lit_tf.training.digits.dataset import DigitPairs


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    builder = tfds.builder("digit_pairs/tiny", data_dir=tmp_path_factory.mktemp("tfds"))
    builder.download_and_prepare()
    return {
        split: list(tfds.as_numpy(builder.as_dataset(split=split))) for split in builder.info.splits
    }


def all_training_phrasings():
    kinds = ("pairs", "coloured_pairs", "singles", "colours")
    return [phrasing for kind in kinds for phrasing in captions.PHRASINGS[kind]]


def test_captions_are_those_that_the_shipped_model_was_trained_on():
    rng = np.random.default_rng(0)
    colours = itertools.cycle(render.INKS), itertools.cycle(render.PAPERS)
    texts = [
        captions.training_caption(*pair, ink, paper, rng)
        for pair, ink, paper in zip(captions.SEEN_PAIRS * 25, *colours, strict=False)
    ]
    kinds = ("pair", "words", "ink", "paper", "full")
    for split, kind in itertools.product(("validation", "test"), kinds):
        texts += captions.held_out(kind, split)
    texts += captions.vocabulary()
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    assert digest == "f5b9ee4b201c5ad8d65b9133dfb02dd8c1591a286c45e3503b360da8ccbdce78"


def test_no_digit_is_in_two_splits_of_the_digits():
    parts = render.digit_splits()
    merged = np.concatenate(list(parts.values()))
    assert sorted(merged) == list(range(1797))


def test_images_are_drawn_with_the_digits_of_their_split_and_class(splits):
    _, classes = render.load_digits()
    parts = render.digit_splits()
    source = {"pretrain": "train", "train": "train", "validation": "validation", "test": "test"}
    assert set(splits) == set(source)
    for split, examples in splits.items():
        drawn = np.array([e["digits"] for e in examples])
        assert set(drawn.ravel()) <= set(parts[source[split]])
        labels = np.array([(e["left"], e["right"]) for e in examples])
        np.testing.assert_array_equal(classes[drawn], labels)
        np.testing.assert_array_equal(labels @ [10, 1], [e["label"] for e in examples])


def test_twenty_pairs_are_never_captioned_for_training(splits):
    assert len(captions.UNSEEN_PAIRS) == 20 and len(captions.SEEN_PAIRS) == 80
    captioned = {(e["left"], e["right"]) for e in splits["train"]}
    assert captioned == set(captions.SEEN_PAIRS)
    assert all(len(e["captions"]["text"]) == 0 for e in splits["pretrain"])
    assert {e["label"] for e in splits["pretrain"]} == set(range(100))
    unseen_words = {captions.in_words(*pair) for pair in captions.UNSEEN_PAIRS}
    unseen_numbers = {f"{a}{b}" for a, b in captions.UNSEEN_PAIRS}
    for example in splits["train"]:
        for text in example["captions"]["text"]:
            words = text.decode().translate(str.maketrans(",:", "  ")).split()
            assert not unseen_words.intersection(words)
            assert not unseen_numbers.intersection(words)


def test_every_digit_is_unseen_twice_on_each_side():
    for side in (0, 1):
        counts = np.bincount([pair[side] for pair in captions.UNSEEN_PAIRS])
        assert counts.tolist() == [2] * 10


def test_an_unseen_pair_is_refused_a_training_caption():
    with pytest.raises(ValueError, match="held out"):
        captions.training_caption(
            *captions.UNSEEN_PAIRS[0], "red", "white", np.random.default_rng(0)
        )


def test_held_out_phrasings_are_in_no_training_caption():
    def as_text(phrasing):
        return phrasing.format(**captions.fields(3, 6, "red", "yellow"))

    trained = {as_text(p) for p in all_training_phrasings()}
    trained |= {
        f"{opening} {p}".strip() for opening in captions.PHRASINGS["openings"] for p in trained
    }
    trained |= {f"{aside} {p}" for aside in captions.PHRASINGS["asides"] for p in set(trained)}
    trained |= {f"{p} {as_text(c)}" for c in captions.PHRASINGS["colours_after"] for p in trained}
    kinds = ("pair", "words", "ink", "paper", "full")
    for kind, split in itertools.product(kinds, ("validation", "test")):
        for phrasing in captions.held_out(kind, split):
            assert as_text(phrasing) not in trained
    for kind in kinds:
        both = [set(captions.held_out(kind, split)) for split in ("validation", "test")]
        assert not both[0] & both[1]
    assert len(captions.held_out("pair", "test")) == 16


def test_captions_in_test_and_validation_are_held_out_and_name_pair_ink_and_paper(splits):
    example = splits["test"][0]
    texts = [t.decode() for t in example["captions"]["text"]]
    ink, paper = list(render.INKS)[example["ink"]], list(render.PAPERS)[example["paper"]]
    expected = [
        p.format(**captions.fields(int(example["left"]), int(example["right"]), ink, paper))
        for p in captions.held_out("full", "test")
    ]
    assert texts == expected
    assert all(ink in t and paper in t for t in texts)


def test_captions_fit_in_the_tower_and_in_the_vocabulary():
    from lit_tf.texts.wordpiece import WordPiece

    vocabulary = captions.vocabulary()
    assert vocabulary[0] == "[PAD]" and len(set(vocabulary)) == len(vocabulary)
    encode = WordPiece(vocabulary, length=40).encode
    unknown = vocabulary.index("[UNK]")
    rng = np.random.default_rng(0)
    for pair, ink, paper in zip(
        itertools.islice(itertools.cycle(captions.SEEN_PAIRS), 2000),
        itertools.cycle(render.INKS),
        itertools.cycle(render.PAPERS),
    ):
        caption = captions.training_caption(*pair, ink, paper, rng)
        tokens = [t for t in encode(caption) if t]
        assert len(tokens) <= captions.MAX_TOKENS
        assert len(tokens) == captions.count_tokens(caption.replace("-", " - "))
        assert unknown not in tokens


def test_vocabulary_spells_a_number_digit_by_digit():
    assert not [
        t for t in captions.vocabulary() if t.strip("#").isdigit() and len(t.strip("#")) > 1
    ]


def test_articles_and_numbers_in_words():
    assert captions.fields(8, 1)["a"] == "an eight" and captions.fields(8, 1)["b"] == "a one"
    words = {captions.in_words(a, b) for a, b in captions.ALL_PAIRS}
    assert len(words) == 100
    assert {"thirty-seven", "forty", "twelve", "zero-five"} <= words


def test_the_dataset_is_the_same_when_made_again(splits, tmp_path):
    builder = tfds.builder("digit_pairs/tiny", data_dir=tmp_path)
    builder.download_and_prepare()
    again = list(tfds.as_numpy(builder.as_dataset(split="train")))
    assert len(again) == len(splits["train"]) == 320
    for old, new in zip(splits["train"], again, strict=True):
        np.testing.assert_array_equal(old["image"], new["image"])
        assert old["captions"]["text"].tolist() == new["captions"]["text"].tolist()


def test_drawing_keeps_left_left_and_the_colours_apart():
    rng = np.random.default_rng(0)
    blank = np.argmin([d.sum() for d in render.load_digits()[0]])
    images = render.draw(np.array([blank]), np.array([0]), np.array([1]), np.array([1]), rng)
    assert images.shape == (1, 32, 64, 3) and images.dtype == np.uint8
    darkness = 255.0 - images[0].min(axis=-1)
    assert darkness[:, 32:].sum() > darkness[:, :32].sum()
    paper = images[0, 0, 0].astype(int)
    assert np.abs(paper - render.PAPERS["yellow"]).max() <= 6
    inked = images[0].reshape(-1, 3)[darkness.argmax()].astype(int)
    assert np.abs(inked - render.INKS["red"]).max() <= 30


def test_phrasings_use_only_known_fields():
    known = set(captions.fields(1, 2))
    held_out = [
        p for k in ("pair", "words", "ink", "paper", "full") for p in captions.held_out(k, "test")
    ]
    for phrasing in [*all_training_phrasings(), *captions.PHRASINGS["colours_after"], *held_out]:
        assert {name for _, name, _, _ in string.Formatter().parse(phrasing) if name} <= known


def test_only_the_split_that_is_asked_for_is_drawn(tmp_path):
    whole = DigitPairs(data_dir=tmp_path)
    for split in ("test", "test[:60]", "test[:20%]+test[80%:]"):
        assert list(whole.for_split(split).builder_config.per_pair) == ["test"]
    assert whole.for_split("train+validation").builder_config.name == "default"
    tiny = DigitPairs(config="tiny", data_dir=tmp_path)
    assert tiny.for_split("test") is tiny
    with pytest.raises(DataError, match=r"no split 'tset'; it has pretrain, train, validation"):
        whole.for_split("tset")


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_split_drawn_alone_is_the_same_to_the_bit(split, tmp_path):
    whole = DigitPairs(data_dir=tmp_path)
    both = whole._generate_examples(split), whole.for_split(split)._generate_examples(split)
    for (key, one), (other_key, other) in itertools.islice(zip(*both, strict=True), 20):
        assert key == other_key and one["captions"] == other["captions"]
        np.testing.assert_array_equal(one["image"], other["image"])
