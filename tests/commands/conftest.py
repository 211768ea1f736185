"""Fixtures of the command line's tests: a checkpoint, photos, a way to run commands."""

import json
import os
import pathlib
import shutil

import PIL.Image
import pytest

from lit_tf import cli


@pytest.fixture(scope="module")
def checkpoint(fixtures):
    return str(fixtures / "lit_bert_tiny.npz")


@pytest.fixture(scope="module")
def photos(fixture_module, tmp_path_factory):
    """Paths of the reference's images, in its order."""
    folder = tmp_path_factory.mktemp("photos")
    for i, image in enumerate(fixture_module.images()):
        PIL.Image.fromarray(image).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def run(capsys):
    """Runs a command; returns its output, after checking its exit code."""

    def call(*argv, code=0):
        assert cli.main([str(a) for a in argv]) == code
        out, err = capsys.readouterr()
        if code == 0:
            return json.loads(out) if "--json" in argv else out
        assert out == ""
        assert err.count("\n") == 1 and err.startswith("lit-tf: error: "), err
        return err

    return call


@pytest.fixture
def user_files(fixtures, photos, tmp_path, monkeypatch):
    """A folder with one of each file that commands read; the working folder."""
    monkeypatch.chdir(tmp_path)
    for end in (".npz", ".txt"):
        shutil.copy(fixtures / f"lit_bert_tiny{end}", f"a{end}")
    shutil.copy(photos / "0.png", "p.png")
    for name in ("cap.txt", "names.txt", "templates.txt"):
        pathlib.Path(name).write_text("a {}\n")
    pathlib.Path("pairs.csv").write_text("image,caption\np.png,a cat\n")
    os.link("p.png", "hard.png")
    pathlib.Path("link.npz").symlink_to("a.npz")
    (tmp_path / "db").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "run").mkdir()
    shutil.copy("a.npz", "run/final.npz")
    for name in ("lit_manifest.json", "names.txt"):
        pathlib.Path("out", name).write_text("{}")
