"""What is written is there whole or not at all, on this machine and at addresses."""

import os

import pytest
import tensorflow as tf

from lit_tf.commands.outputs import check_output_files, check_output_folder
from lit_tf.errors import ConfigError
from lit_tf.files import replacing, replacing_folder, replacing_path


@pytest.fixture(params=["here", "at an address"])
def folder(request, tmp_path):
    if request.param == "here":
        return str(tmp_path)
    address = f"ram://{request.node.name}"  # TensorFlow's file system in memory stands in for gs://
    tf.io.gfile.makedirs(address)
    return address


def read(path):
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read()


def test_a_file_takes_the_place_of_the_old_one_when_it_is_whole(folder):
    path = f"{folder}/a.txt"
    for content in (b"old", b"new"):
        with replacing(path) as file:
            file.write(content)
        assert read(path) == content
    with replacing_path(path) as beside, tf.io.gfile.GFile(beside, "w") as file:
        file.write("newer")
    assert read(path) == b"newer"
    assert tf.io.gfile.listdir(folder) == ["a.txt"]


def test_a_failed_write_leaves_the_old_file_and_nothing_new(folder):
    path = f"{folder}/a.txt"
    with replacing(path) as file:
        file.write(b"old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        file.write(b"half of the new one")
        raise KeyboardInterrupt
    assert read(path) == b"old"
    assert tf.io.gfile.listdir(folder) == ["a.txt"]


def test_a_failed_write_of_a_folder_leaves_the_old_one(tmp_path):
    path = tmp_path / "out"
    with replacing_folder(path) as new:
        (new / "a").write_text("old")
    with pytest.raises(OSError), replacing_folder(path) as new:
        (new / "a").write_text("new")
        raise OSError("no space left on device")
    assert (path / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.fixture
def names_of_one_file(tmp_path):
    """A file; and other names for it: in other words, a link, a link to a link, a hard link."""
    file = tmp_path / "a.npz"
    file.write_bytes(b"of the user")
    (tmp_path / "link").symlink_to("a.npz")
    (tmp_path / "chain").symlink_to(tmp_path / "link")
    (tmp_path / "hard").hardlink_to(file)
    (tmp_path / "sub").mkdir()
    return file, [
        file,
        f"{tmp_path}/sub/../a.npz",
        *(tmp_path / n for n in ("link", "chain", "hard")),
    ]


def test_an_output_that_is_an_input_under_any_name_is_refused(names_of_one_file, tmp_path):
    file, names = names_of_one_file
    for name in names:
        for output, source in ((name, file), (file, name)):
            with pytest.raises(ConfigError, match="which is read"):
                check_output_files([output], ["LiT-B16B", None, source])
            with pytest.raises(ConfigError, match="which is read"):
                check_output_folder(output, [source])
        if name != file:
            with pytest.raises(ConfigError, match="are one file"):
                check_output_files([file, name])
    (tmp_path / "copy").write_bytes(file.read_bytes())
    check_output_files([tmp_path / "copy", None, "gs://bucket/a"], [*names, "gs://bucket/b", 0])
    with pytest.raises(ConfigError, match="which is read"):
        check_output_files(["gs://bucket/a"], ["gs://bucket/a"])
    with pytest.raises(ConfigError, match="are one file"):
        check_output_files([tmp_path / "new", f"{tmp_path}/sub/../new"])


def test_an_output_over_redirected_standard_input_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "captions"
    path.write_text("a cat")
    monkeypatch.setattr(os, "stat", lambda p, stat=os.stat: stat(path if p == 0 else p))
    with pytest.raises(ConfigError, match="over standard input"):
        check_output_files([path], [0])


def test_a_folder_that_is_replaced_may_hold_no_input(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.npz").touch()
    (tmp_path / "link").symlink_to("out")
    with pytest.raises(ConfigError, match="is replaced as a whole"):
        check_output_folder(tmp_path / "link", [tmp_path / "out" / "a.npz"], replaced=True)
    check_output_folder(tmp_path / "out", [tmp_path / "out" / "a.npz"])
    check_output_folder(tmp_path / "ou", [tmp_path / "out" / "a.npz"], replaced=True)


def test_images_in_a_folder_that_is_read_are_no_outputs(tmp_path):
    (tmp_path / "cats").mkdir()
    for name in ("cat.jpg", "figures.json"):
        (tmp_path / "cats" / name).touch()
    with pytest.raises(ConfigError, match="which is read"):
        check_output_files([tmp_path / "cats" / "cat.jpg"], [tmp_path])
    check_output_files([tmp_path / "cats" / "figures.json"], [tmp_path])


def test_links_are_followed_and_devices_and_loops_are_refused(tmp_path):
    link, missing, loop = (tmp_path / name for name in ("link", "missing", "loop"))
    link.symlink_to("new")
    check_output_files([link])
    for content in (b"old", b"new"):  # first it dangles
        with replacing(link) as file:
            file.write(content)
        assert link.is_symlink() and (tmp_path / "new").read_bytes() == content
    missing.symlink_to("nowhere/new")
    loop.symlink_to("loop")
    for path, what in ((missing, "nowhere"), (loop, "itself"), ("/dev/null", "a device")):
        with pytest.raises(ConfigError, match=what):
            check_output_files([path])
    ends = os.pipe()
    with pytest.raises(ConfigError, match="a pipe"):
        check_output_files([f"/dev/fd/{ends[1]}"])
    for end in ends:
        os.close(end)
    with pytest.raises(ConfigError, match="itself"):
        check_output_folder(loop)
    assert sorted(os.listdir(tmp_path)) == ["link", "loop", "missing", "new"]
