import hashlib
import warnings

import numpy as np
import pandas
import pyarrow
import pytest
import tensorflow as tf

import lit_tf
from lit_tf import zero_shot
from lit_tf.errors import DataError
from lit_tf.texts import prompts


def sha256(lines):
    return hashlib.sha256("\n".join(lines).encode("utf-8")).hexdigest()


@pytest.mark.parametrize(
    ("lines", "count", "expected"),
    [
        (
            zero_shot.TEMPLATES["clip_paper"],
            81,
            "617764ae37ca494aff67b36e2f3b3919d44fd3eeb5b4dba56f207ad6723c3d05",
        ),
        (
            zero_shot.TEMPLATES["clip_best"],
            8,
            "5c945b4b35da9f638c63452151f797454d084aead4c1a8a90a8b592e93ed91ba",
        ),
        (
            prompts.imagenet_names(),
            1000,
            "571ae1c583b4be7da87519494c52bf405a46af05d5815627c7a0dee997068b60",
        ),
    ],
)
def test_lists_have_the_published_fingerprints(lines, count, expected):
    assert len(lines) == count
    assert sha256(lines) == expected


def test_imagenet_subsets_are_200_ascending_labels_each():
    a, r = prompts.imagenet_subset("imagenet_a"), prompts.imagenet_subset("imagenet_r")
    for labels in (a, r):
        assert len(labels) == 200
        assert sorted(set(labels)) == list(labels)
        assert 0 <= labels[0] and labels[-1] < 1000
    names = prompts.imagenet_names()
    # As the WordNet ids with which the two papers' lists begin and end.
    assert [names[i] for i in a[:3] + a[-2:]] == ["stingray", "goldfinch", "junco", "corn", "acorn"]
    assert [names[i] for i in r[:3]] == ["goldfish", "great white shark", "hammerhead shark"]
    assert [names[i] for i in r[-2:]] == ["scuba diver", "acorn"]


def test_canonical_strings_equal_the_reference(reference):
    expected = reference("evaluation")
    for keep, name in (("", "plain"), (",", "keep_comma"), ("{}", "keep_braces")):
        found = [zero_shot.canonicalize(text, keep) for text in expected["canonical_in"].tolist()]
        assert found == expected[f"canonical_{name}"].tolist()


def test_class_embeddings_equal_the_reference(reference):
    expected = reference("evaluation")
    z, labels = expected["prompt_embeddings"], expected["prompt_labels"]
    found = zero_shot.average_embeddings(z, labels, 7)
    np.testing.assert_allclose(found, expected["class_embeddings"], rtol=0, atol=1e-6)
    shuffled = np.random.default_rng(0).permutation(len(z))
    found = zero_shot.average_embeddings(z[shuffled], labels[shuffled], 7)
    np.testing.assert_allclose(found, expected["class_embeddings"], rtol=0, atol=1e-6)


def test_multilabel_accuracy_equals_the_reference(reference):
    expected = reference("evaluation")
    predictions, labels = expected["multilabel_predictions"], expected["multilabel_labels"]
    assert zero_shot.accuracy(predictions, labels) == expected["multilabel_accuracy"]


def test_prompts_hold_the_first_canonical_name_in_every_template():
    texts, labels = zero_shot.make_prompts(
        ["Hand-held_computer, hand-held microcomputer", "cat"], ["A {}!", "{}"]
    )
    assert texts == ["a handheld computer", "handheld computer", "a cat", "cat"]
    assert labels.tolist() == [0, 0, 1, 1]


def test_class_embeddings_average_what_the_encoder_returns():
    def encode(texts):
        z = np.array([[len(t), t.count("a"), 1.0] for t in texts], np.float32)
        return z / np.linalg.norm(z, axis=1, keepdims=True)

    found = zero_shot.class_embeddings(encode, ["a cat", "banana"], ["{}", "a photo of {}"])
    for row, name in zip(found, ["a cat", "banana"], strict=True):
        mean = encode([name, f"a photo of {name}"]).mean(axis=0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-6)


@pytest.mark.parametrize(
    ("names", "pair"),
    [
        (["🦊", "dog", "🐶"], "🦊 and 🐶"),
        ([f"{'very ' * 20}{animal} cat" for animal in ("old", "young")], "old cat and very"),
        (["cat", "dog", "Cat "], None),  # equal names: `checked_class_names` warns of them
    ],
)
def test_names_of_the_same_tokens_are_warned_of(fixtures, names, pair):
    model = lit_tf.load(fixtures / "lit_bert_tiny.npz")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        z = zero_shot.class_embeddings(model.encode_text, names, ["a photo of a {}", "{}"])
    found = [str(w.message) for w in caught if "tells these classes apart" in str(w.message)]
    assert len(found) == (pair is not None)
    if pair:
        assert pair in found[0] and "the same tokens" in found[0]
        np.testing.assert_allclose(z[0], z[-1], atol=1e-6)


def test_class_names_come_from_any_sequence_of_strings():
    names = ["a cat", "naïve"]
    forms = {
        "NumPy's str": np.array(names),
        "NumPy's StringDType": np.array(names, np.dtypes.StringDType()),
        "bytes": np.char.encode(names, "utf-8"),
        "pandas": pandas.Series(names, dtype="str"),
        "pandas' objects": pandas.Series(names, dtype=object),
        "Arrow": pyarrow.array(names),
        "Arrow in chunks": pyarrow.chunked_array([names[:1], names[1:]]),
        "tuple": tuple(names),
        "generator": (name for name in names),
        "tensor": tf.constant(names),
    }
    for form, values in forms.items():
        assert zero_shot.checked_class_names(values) == names, form
    for values in (pandas.DataFrame({"a": names}), dict.fromkeys(names), 5, tf.constant("a")):
        with pytest.raises(DataError, match="class names: expected a list"):
            zero_shot.checked_class_names(values)
    with pytest.raises(DataError, match="class 1: .* NoneType"):
        zero_shot.checked_class_names(pyarrow.array(["a", None]))


def test_a_numbered_file_of_templates_is_refused(tmp_path):
    (tmp_path / "t").write_text("1. a photo of a {}.\n2. a {}\n")
    with pytest.raises(DataError, match="numbers or ids before the templates"):
        zero_shot.get_templates(tmp_path / "t")


def test_predictions_take_the_first_of_equal_classes():
    zimg, ztxt = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[[1, 0, 0, 2]]
    assert zero_shot.predict(zimg, ztxt).tolist() == [1, 0, 3]


def test_predictions_do_not_depend_on_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    zimg, ztxt = rng.standard_normal((100, 8)), rng.standard_normal((9, 8))
    whole = zero_shot.predict(zimg, ztxt)
    monkeypatch.setattr(zero_shot, "_BLOCK", 7)
    assert (zero_shot.predict(zimg, ztxt) == whole).all()


def test_templates_come_by_name_file_or_list(tmp_path):
    path = tmp_path / "templates.txt"
    path.write_text("a photo of {}\n\nthe {}.\n", encoding="utf-8")
    assert zero_shot.get_templates(path) == ("a photo of {}", "the {}.")
    assert zero_shot.get_templates(str(path)) == ("a photo of {}", "the {}.")
    assert zero_shot.get_templates(["{}"]) == zero_shot.get_templates("class_name_only")
    assert zero_shot.get_templates("clip") == zero_shot.get_templates("clip_best")


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ("clip_papr", "clip_paper, clip_best, class_name_only"),
        ([], "empty"),
        (["a photo"], "'a photo'"),
        (["{} and {}"], "once"),
        ([3], "3"),
    ],
)
def test_unusable_templates_are_refused(templates, message):
    with pytest.raises(DataError, match=message):
        zero_shot.get_templates(templates)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: zero_shot.list_class_names([]).canonical, "no class names"),
        (lambda: zero_shot.list_class_names(["cat", "?!"]).canonical, "class 1"),
        (lambda: zero_shot.list_class_names(["cat", 3]).canonical, "class 1"),
        (lambda: zero_shot.average_embeddings(np.ones((2, 3)), np.array([0, 2]), 3), r"\[1\]"),
        (lambda: zero_shot.average_embeddings(np.ones((2, 3)), np.array([0, 2]), 2), "0 to 2"),
        (lambda: zero_shot.average_embeddings(np.full((1, 3), np.nan), np.array([0]), 1), "NaN"),
        (lambda: zero_shot.predict(np.ones((2, 3)), np.ones((2, 4))), r"\(2, 4\)"),
        (lambda: zero_shot.predict(np.full((2, 3), np.nan), np.ones((2, 3))), "NaN"),
        (lambda: zero_shot.accuracy(np.array([1, 0]), np.array([[1], [-1]])), "number 1"),
        (lambda: zero_shot.accuracy(np.array([1, 0]), np.array([1])), "expected"),
        (lambda: zero_shot.accuracy(np.array([], int), np.array([], int)), "no examples"),
    ],
)
def test_what_would_give_a_wrong_number_is_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()


def test_what_is_no_list_of_names_or_templates_is_refused():
    with pytest.raises(DataError, match="expected a list of names, found None"):
        zero_shot.checked_class_names(None)
    with pytest.raises(DataError, match="expected a name, a file or a list, found 5"):
        zero_shot.get_templates(5)
