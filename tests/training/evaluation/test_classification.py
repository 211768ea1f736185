"""Folders of classes and the names that are given to them."""

import PIL.Image
import pytest

from lit_tf.errors import DataError
from lit_tf.training.evaluation import classification
from lit_tf.training.evaluation.classification import open_classification


@pytest.fixture
def opened(tmp_path):
    """Opens class folders of these names with a file of these lines; returns {folder: name}."""

    def open_folders(folders, lines, order=None):
        for name in folders:
            (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
            PIL.Image.new("RGB", (2, 2)).save(tmp_path / "photos" / name / "a.png")
        (tmp_path / "names.txt").write_text("\n".join(lines), encoding="utf-8")
        data = open_classification(
            str(tmp_path / "photos"), class_names=str(tmp_path / "names.txt"), class_order=order
        )
        names = {}
        for path, (label,) in zip(data.images.paths, data.labels, strict=True):
            names[path.split("/")[-2]] = data.class_names[label]
        if data.folders is not None:
            assert dict(zip(data.folders, data.class_names, strict=True)) == names
        return names

    return open_folders


def test_what_systems_keep_is_no_class_and_no_picture(opened, tmp_path, monkeypatch):
    monkeypatch.setattr(classification, "IMAGE_SUFFIXES", (".png",))  # as without pillow-heif
    kept = ("__MACOSX", "@eaDir", "#recycle", "lost+found", ".git")
    for name in kept:
        for folder in (tmp_path / "photos", tmp_path / "photos" / "cat"):
            (folder / name).mkdir(parents=True)
            PIL.Image.new("RGB", (2, 2)).save(folder / name / "a.png")
    for name in ("a.heic", "a.txt"):
        (tmp_path / "photos" / "cat" / name).touch()
    assert opened(["cat", "dog"], ["a cat", "a dog"]) == {"cat": "a cat", "dog": "a dog"}
    data = open_classification(str(tmp_path / "photos"))
    assert len(data.images) == 2
    assert "pip install 'lit_tf[heif]'" in data.notes[0] and "2 files" in data.notes[0]


NAMES = [f"name {chr(97 + i)}" for i in range(12)]


@pytest.mark.parametrize("form", ["{}", "{:02d}"])
def test_folders_from_0_on_are_their_own_index(opened, form):
    found = opened([form.format(i) for i in range(12)], NAMES)
    assert found == {form.format(i): name for i, name in enumerate(NAMES)}


@pytest.mark.parametrize("form", ["{}", "class{}"])
def test_other_numbers_need_an_order_to_be_named(opened, tmp_path, form):
    folders = [form.format(i) for i in range(1, 13)]
    with pytest.raises(DataError, match="unknown order.*FOLDER<tab>NAME, or say --class-order"):
        opened(folders, NAMES)


def test_an_order_that_is_named_holds(opened):
    assert opened([str(i) for i in range(1, 13)], NAMES, "natural")["12"] == NAMES[11]


def test_alphabetical_order_holds_if_it_is_named(opened):
    found = opened([str(i) for i in range(12)], NAMES, "alphabetical")
    assert [found[name] for name in ("0", "1", "10", "11", "2")] == NAMES[:5]


def test_orders_that_agree_need_not_be_named(opened):
    assert opened(["1", "2", "9"], NAMES[:3]) == {"1": NAMES[0], "2": NAMES[1], "9": NAMES[2]}


def test_a_line_may_say_its_folder(opened):
    found = opened(["1", "2", "10"], ["10\tten", "2\ttwo", "", "1\tone"])
    assert found == {"1": "one", "2": "two", "10": "ten"}


def test_the_folders_own_names_in_any_order_change_nothing(opened):
    assert opened(["a10", "a2"], ["a2", "a10"]) == {"a10": "a10", "a2": "a2"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1\tone", "3\tthree"], "only in one of the two: 2, 3"),
        (["1\tone", "1\tuno"], "stands there twice"),
        (["1\tone", "two"], "columns, separated by tabs"),
        (["one"], "2 class folders, but there are 1 class names"),
    ],
)
def test_names_that_do_not_fit_the_folders_are_refused(opened, lines, message):
    with pytest.raises(DataError, match=message):
        opened(["1", "2"], lines)
