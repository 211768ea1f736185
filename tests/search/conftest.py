"""Pictures in a folder and an index of them, made once."""

import json
import shutil

import numpy as np
import PIL.Image
import pytest

import lit_tf
from lit_tf import cli
from lit_tf.search import index
from lit_tf.search.store import Store


def write_pictures(folder, numbers):
    """Writes small pictures that depend on their number only; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03d}.png" for number in numbers]
    for number, path in zip(numbers, paths, strict=True):
        rng = np.random.default_rng(number)
        blocks = rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)
        PIL.Image.fromarray(np.kron(blocks, np.ones((8, 8, 1), np.uint8))).save(path)
    return [str(path) for path in paths]


@pytest.fixture(scope="session")
def settings(fixtures):
    """How all tests embed: a tiny model, four pictures at a time."""
    return index.Settings(str(fixtures / "lit_bert_tiny.npz"), batch_size=4)


@pytest.fixture(scope="session")
def model(settings):
    return lit_tf.load(settings.checkpoint)


@pytest.fixture(autouse=True)
def one_model(monkeypatch, model, settings):
    """Loads the tiny model once for all tests; counts how often it would have been loaded."""
    load, loads = lit_tf.load, []

    def cached(name, **options):
        loads.append(name)
        if str(name) == settings.checkpoint and options.get("dtype") in (None, "float32"):
            return model
        return load(name, **options)

    monkeypatch.setattr(lit_tf, "load", cached)
    return loads


@pytest.fixture(scope="session")
def original(tmp_path_factory, settings):
    """A folder with `pictures` and their index `db`; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("original")
    write_pictures(folder / "pictures", range(10))
    return folder


@pytest.fixture
def workspace(original, tmp_path):
    """A copy of `original`, whose files keep their times."""
    shutil.copytree(original, tmp_path / "w")
    return tmp_path / "w"


@pytest.fixture
def run(workspace, settings):
    """Indexes the workspace's folder of pictures; returns the report."""

    def call(*sources, **options):
        return index.update(
            workspace / "db", sources or [workspace / "pictures"], settings, **options
        )

    return call


def stored(workspace, *names):
    """Rows of the table by path, as {path: {name: value}}."""
    names = ["path", *names]
    rows = Store.open(workspace / "db").columns(names).to_pylist()
    assert len({row["path"] for row in rows}) == len(rows), "a picture is there twice"
    return {row["path"]: row for row in rows}


@pytest.fixture
def command(capsys):
    """Runs a command; returns what it printed, JSON as its value, or errors."""

    def call(*argv, code=0):
        assert cli.main([str(a) for a in argv]) == code
        out, err = capsys.readouterr()
        call.err = err
        return (json.loads(out) if "--json" in argv else out) if code == 0 else err

    return call
