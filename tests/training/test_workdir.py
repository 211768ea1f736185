"""A workdir is taken by one run; a run that goes on with other shards says so."""

import dataclasses
import subprocess
import sys

import pytest

from lit_tf.errors import TrainingError
from lit_tf.training import train
from lit_tf.training.config import DataConfig, load_config
from lit_tf.training.data.shard_sizes import shard_sizes
from lit_tf.training.workdir import note_shards, taken

from .data import shards


def test_a_workdir_that_a_run_has_is_refused_to_another(tmp_path):
    folder = str(tmp_path / "new" / "run")
    with taken(folder):
        with pytest.raises(TrainingError, match="run is in use by another run: choose another"):
            with taken(folder):
                raise AssertionError("two runs in one workdir")
        with taken(str(tmp_path / "other")):
            pass
    with taken(folder):
        pass


def test_the_workers_of_a_run_share_the_workdir_that_its_chief_takes(tmp_path, monkeypatch):
    config = dataclasses.replace(load_config("digits"), deterministic=False)
    monkeypatch.setattr(train, "_train", lambda *arguments: "trained")
    with taken(str(tmp_path)):
        monkeypatch.setattr(train.strategies, "is_chief", lambda strategy: False)
        assert train.train(config, tmp_path) == "trained"
        monkeypatch.setattr(train.strategies, "is_chief", lambda strategy: True)
        with pytest.raises(TrainingError, match="is in use by another run"):
            train.train(config, tmp_path)
    assert train.train(config, tmp_path) == "trained"


# Locks a file as `taken` does, without importing TensorFlow, and waits.
LOCKING = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("taken", flush=True)
time.sleep(60)
"""


def test_a_killed_run_leaves_no_lock_behind(tmp_path):
    command = [sys.executable, "-c", LOCKING, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "taken\n"
        with pytest.raises(TrainingError, match="in use"), taken(str(tmp_path)):
            pass
        process.kill()
    with taken(str(tmp_path)):
        pass


def test_a_resumed_run_says_which_shards_have_changed(tmp_path):
    for name in ("0", "1", "2"):
        shards.write_tar(tmp_path / f"{name}.tar", shards.pairs(2))
    config = DataConfig(source=f"{tmp_path}/*.tar")
    folder = str(tmp_path)
    sizes = shard_sizes(config)
    assert sorted(sizes) == ["0.tar", "1.tar", "2.tar"] and min(sizes.values()) > 1024
    assert note_shards(folder, sizes, 0) is None
    assert note_shards(folder, sizes, 5) is None
    (tmp_path / "0.tar").unlink()
    shards.write_tar(tmp_path / "1.tar", shards.pairs(30))
    shards.write_tar(tmp_path / "9.tar", shards.pairs(2))
    said = note_shards(folder, shard_sizes(config), 5)
    assert (
        "1 new (9.tar); 1 gone (0.tar); 1 of another size (1.tar). It goes on from step 5" in said
    )
    # It is said once, and a run that begins has nothing to compare with.
    assert note_shards(folder, shard_sizes(config), 7) is None
    assert note_shards(folder, {}, 0) is None
    (tmp_path / "shards.json").write_text("[" * 100_000)
    assert note_shards(folder, sizes, 5) is None


def test_shards_are_known_by_their_place_below_the_common_folder(tmp_path):
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
        shards.write_tar(tmp_path / part / "0.tar", shards.pairs(1))
    assert sorted(shard_sizes(DataConfig(source=f"{tmp_path}/*/0.tar"))) == ["a/0.tar", "b/0.tar"]
    assert list(shard_sizes(DataConfig(source=f"{tmp_path}/a/0.tar"))) == ["0.tar"]
