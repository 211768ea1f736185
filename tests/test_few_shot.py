"""Few-shot accuracy equals the published evaluator's, and a few pictures make a classifier."""

import pathlib

import numpy as np
import pytest

import lit_tf
from lit_tf import few_shot

REFERENCE = pathlib.Path(__file__).parent / "reference" / "few_shot" / "few_shot.npz"


@pytest.fixture(scope="module")
def published():
    with np.load(REFERENCE, allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("shots", [1, 5, 10, 25])
def test_accuracies_equal_the_published_evaluators_to_the_example(published, seed, shots):
    features = (published[k] for k in ("train", "labels_train", "test", "labels_test"))
    found = few_shot.accuracy(*features, shots=shots, seed=seed)
    expected = published[f"accuracy/l2=1024/seed={seed}/shots={shots}"]
    assert round(found * 400) == round(float(expected) * 400)


def test_choice_and_weights_equal_the_published_evaluators(published):
    labels = published["labels_train"]
    chosen = few_shot.choose(labels, 5, 0)
    np.testing.assert_array_equal(chosen, published["index/seed=0/shots=5"])
    weights, *_ = few_shot.least_squares(published["train"][chosen], labels[chosen], 12)
    np.testing.assert_allclose(weights, published["weights/l2=1024/seed=0/shots=5"], atol=2e-6)


def test_what_is_not_features_is_refused():
    x, y = np.zeros((4, 3)), np.array([0, 1, 0, 1])
    for train, labels, message in (
        (np.full((4, 3), np.nan), y, "train: the features hold NaN"),
        (x, y[:3], r"train: expected features \(N, D\)"),
        (x, y - 1, "integers from 0"),
        (x, y + 0.5, "integers from 0"),
        (np.zeros((4, 2)), y, "one width"),
    ):
        with pytest.raises(lit_tf.DataError, match=message):
            few_shot.accuracy(train, labels, x, y, shots=1, seed=0)
    with pytest.raises(lit_tf.DataError, match="1 shot"):
        few_shot.accuracy(x, y, x, y, shots=0, seed=0)


def clusters(count, seed, spread=0.7):
    """Returns unit-length embeddings of 8 classes, their labels, and the classes' centres."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((8, 24))
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(8), count)
    z = centres[labels] + spread * rng.standard_normal((len(labels), 24))
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    return unit(z), labels, unit(centres + rng.standard_normal((8, 24)))


@pytest.mark.parametrize("count", [1, 2, 5, 20])
@pytest.mark.parametrize("names", ["good", "wrong"])
def test_mixed_is_about_as_good_as_the_better_of_both(count, names):
    z, labels, texts = clusters(count, 1)
    test, answers, _ = clusters(200, 2)
    texts = texts if names == "good" else texts[::-1]
    for held_out in (None, clusters(20, 3)[:2]):
        made = few_shot.adapt(z, labels, texts, list("abcdefgh"), 50.0, held_out=held_out)
        right = {k: (c.logits(test).argmax(axis=1) == answers).mean() for k, c in made.items()}
        assert right["mixed"] >= max(right.values()) - 0.02, right


def test_a_classifier_is_its_weights_and_comes_back_from_its_file(tmp_path):
    z, labels, texts = clusters(5, 1)
    mixed = few_shot.adapt(z, labels, texts, [f"class {n}" for n in range(8)], 50.0)["mixed"]
    mixed.save(tmp_path / "x.npz")
    again = few_shot.load(tmp_path / "x.npz")
    assert again.names == mixed.names and again.share == mixed.share
    np.testing.assert_array_equal(again.logits(z), mixed.logits(z))
    np.savez(tmp_path / "other.npz", a=1)
    for name in ("other.npz", "none.npz"):
        with pytest.raises(lit_tf.DataError, match="not a classifier that"):
            few_shot.load(tmp_path / name)
    with pytest.raises(lit_tf.DataError, match="each of 8 classes"):
        few_shot.adapt(z[:5], labels[:5], texts, list("abcdefgh"), 50.0)
