"""What is written is there whole or not at all, on this machine and at addresses."""

import pytest
import tensorflow as tf

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
