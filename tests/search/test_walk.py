"""Paths: what a folder holds, once each, and names that are not UTF-8."""

import os
import pathlib

import pytest

from lit_tf.errors import DataError
from lit_tf.files import printable
from lit_tf.search.paths import Walk, from_stored, to_stored


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def names(root, sources=None):
    walk = Walk()
    found = [os.path.relpath(p, root) for p in walk.pictures(sources or [root])]
    return found, walk


@pytest.mark.parametrize(
    "path",
    ["/a/b.jpg", "/é/漢.png", os.fsdecode(b"/a\xff\xfe/\xe9.jpg"), "/a\n\\xff'.jpg", "/\\0ff"],
)
def test_any_path_comes_back_as_it_was(path):
    stored = to_stored(path)
    stored.encode("utf-8")  # a table of UTF-8 can hold it
    assert from_stored(stored) == path
    printable(path).encode("utf-8")
    assert printable(path).isprintable()


def test_ordinary_paths_are_stored_as_they_are():
    assert to_stored("/home/é/漢 1.jpg") == "/home/é/漢 1.jpg"
    assert to_stored(os.fsdecode(b"\xff")) != to_stored("\\xff")


def test_pictures_are_found_by_suffix_in_order_and_hidden_ones_are_not(tmp_path):
    for name in (
        "b.JPG",
        "a.png",
        "c/x.webp",
        "c/d/y.jpeg",
        "notes.txt",
        ".hidden.jpg",
        ".t/a.jpg",
    ):
        touch(tmp_path / name)
    found, walk = names(tmp_path)
    assert found == ["a.png", "b.JPG", "c/x.webp", "c/d/y.jpeg"]
    assert walk.passed_over == {".txt": 1} and not walk.problems


def test_loops_end_and_a_folder_that_is_linked_is_entered_once(tmp_path):
    touch(tmp_path / "real" / "a.jpg")
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    (tmp_path / "0 link").symlink_to(tmp_path / "real")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "alias.jpg").symlink_to("real/a.jpg")
    found, walk = names(tmp_path)
    assert found == ["alias.jpg", "real/a.jpg"]
    left_out = {os.path.relpath(path, tmp_path): reason for path, reason in walk.problems}
    assert set(left_out) == {"real/loop", "0 link", "gone.jpg"}
    assert "entered before" in left_out["0 link"] and "broken link" in left_out["gone.jpg"]


def test_a_linked_folder_elsewhere_is_followed(tmp_path):
    touch(tmp_path / "elsewhere" / "a.jpg")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "link").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "mine")[0] == ["link/a.jpg"]


def test_sources_may_overlap_and_be_patterns(tmp_path, monkeypatch):
    for name in ("a/1.jpg", "a/2.jpg", "b/3.jpg", "odd[1].dat"):
        touch(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    sources = ["odd[1].dat", "a/2.jpg", pathlib.Path("a"), "?/*.jpg", str(tmp_path)]
    found, _ = names(tmp_path, sources)
    assert found == ["odd[1].dat", "a/2.jpg", "a/1.jpg", "b/3.jpg"]
    with pytest.raises(DataError, match="nowhere.*no file or folder"):
        names(tmp_path, ["nowhere"])


def test_what_might_never_end_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    found, walk = names(tmp_path, [tmp_path, tmp_path / "pipe.jpg"])
    assert found == [] and len(walk.problems) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    touch(tmp_path / "closed" / "a.jpg")
    (tmp_path / "closed").chmod(0)
    found, walk = names(tmp_path)
    (tmp_path / "closed").chmod(0o700)
    assert found == [] and walk.problems[0][1] == "Permission denied"
