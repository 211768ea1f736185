"""A workdir is taken by one run; a run that goes on with other shards says so."""

import dataclasses
import subprocess
import sys

import pytest

from lit_tf.errors import TrainingError
from lit_tf.training import train
from lit_tf.training.config import DataConfig, load_config
from lit_tf.training.data import open_source
from lit_tf.training.data.shards import shard_sizes
from lit_tf.training.workdir import Beginning, taken

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


def test_a_workdir_whose_checkpoints_would_not_be_found_again_is_refused(tmp_path):
    for name in ("run [1]", "run*", "what?"):
        with pytest.raises(TrainingError, match="for a pattern.*choose another --workdir"):
            with taken(f"{tmp_path}/{name}"):
                pass
    assert not list(tmp_path.iterdir())


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


def begun(folder, config, sizes=None, steps=(20, 30), **start):
    """A workdir as a run of this config leaves it."""
    workdir = folder / "run"
    (workdir / "checkpoints").mkdir(parents=True)
    values = {"parameters": "p", "vocabulary": "v", "hosts": 1, **start}
    Beginning(str(workdir), config).write(sizes or {"0.tar": 1}, values)
    for step in steps:
        for end in ("index", "data-00000-of-00001"):
            (workdir / "checkpoints" / f"ckpt-{step}.{end}").write_bytes(b"")
    return str(workdir)


def digits(*overrides):
    return load_config("digits", overrides)


def test_a_resumed_run_says_which_shards_have_changed(tmp_path, capsys):
    for name in ("0", "1", "2"):
        shards.write_tar(tmp_path / f"{name}.tar", shards.pairs(2))
    config = DataConfig(source=f"{tmp_path}/*.tar")
    sizes = shard_sizes(open_source(config))
    assert sorted(sizes) == ["0.tar", "1.tar", "2.tar"] and min(sizes.values()) > 1024
    workdir = begun(tmp_path, digits(), sizes)
    Beginning(workdir, digits()).check_data(sizes)
    assert not capsys.readouterr().err
    (tmp_path / "0.tar").unlink()
    shards.write_tar(tmp_path / "1.tar", shards.pairs(30))
    shards.write_tar(tmp_path / "9.tar", shards.pairs(2))
    Beginning(workdir, digits()).check_data(shard_sizes(open_source(config)))
    said = capsys.readouterr().err
    assert (
        "1 new (9.tar); 1 gone (0.tar); 1 of another size (1.tar). It goes on from step 30" in said
    )
    # A run that begins has nothing to compare with.
    Beginning(str(tmp_path / "new"), digits()).check_data(sizes)
    (tmp_path / "run" / "shards.json").write_text("[" * 100_000)
    Beginning(workdir, digits()).check_data(sizes)
    assert not capsys.readouterr().err


def test_what_changes_no_number_may_change(tmp_path):
    workdir = begun(tmp_path, digits())
    free = ["name=other", "eval.every=100", "data.max_bad_share=0.2", "keep_checkpoints=9"]
    free += ["steps_per_loop=10", "checkpoint_every=100", "eval.zero_shot=a,b"]
    moved = ["data.source=/elsewhere/*.tar", "data.format=tar", "data.data_dir=/elsewhere"]
    moved += ["model.image_init=./moved.npz", "model.vocab=/elsewhere/vocab.txt"]
    run = Beginning(workdir, digits(*free, *moved))
    run.check_data({"0.tar": 1})
    assert run.check_start("p", "v", 1) == {"parameters": "p", "vocabulary": "v", "hosts": 1}


def test_a_refusal_names_the_field_its_two_values_and_the_command_of_a_new_run(tmp_path):
    workdir = begun(tmp_path, digits())
    with pytest.raises(TrainingError, match="another config: optimizer.lr is 0.01 and was 0.001"):
        Beginning(workdir, digits("optimizer.lr=0.01"))
    begins = f"--set model.init={workdir}/checkpoints/ckpt-30 --set model.locking=LU"
    with pytest.raises(TrainingError, match=f"seed is 1 and was 0.*--workdir NEW {begins}"):
        Beginning(workdir, digits("seed=1", "name=x"))
    run = Beginning(workdir, digits("data.source=/elsewhere/*.tar"))
    with pytest.raises(TrainingError, match="data.source is '/else.* and was 'digit_pairs'.*1 new"):
        run.check_data({"0.tar": 1, "1.tar": 1})
    run = Beginning(workdir, digits("model.image_init=other.npz", "model.vocab=other.txt"))
    with pytest.raises(TrainingError, match="image_init is 'other.npz'.*not the same parameters"):
        run.check_start("q", "v", 1)
    with pytest.raises(TrainingError, match="vocab is 'other.txt' .*not the same vocabulary"):
        run.check_start("p", "w", 1)


def test_another_number_of_hosts_is_said(tmp_path, capsys):
    run = Beginning(begun(tmp_path, digits()), digits())
    assert run.check_start("p", "v", 2)["hosts"] == 2
    assert "there are 2 hosts and were 1" in capsys.readouterr().err


@pytest.mark.parametrize("left", ["index", "data-00000-of-00001"])
def test_any_file_of_a_checkpoint_makes_the_config_count(tmp_path, left):
    workdir = begun(tmp_path, digits(), steps=())
    assert Beginning(workdir, digits("seed=1")).steps == []
    (tmp_path / "run" / "checkpoints" / f"ckpt-40.{left}").touch()
    with pytest.raises(TrainingError, match="another config: seed is 1 and was 0"):
        Beginning(workdir, digits("seed=1"))
    (tmp_path / "run" / "config.json").unlink()
    with pytest.raises(TrainingError, match="holds checkpoints, but no config.json"):
        Beginning(workdir, digits())


def test_shards_are_known_by_their_place_below_the_common_folder(tmp_path):
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
        shards.write_tar(tmp_path / part / "0.tar", shards.pairs(1))
    both = open_source(DataConfig(source=f"{tmp_path}/*/0.tar"))
    assert sorted(shard_sizes(both)) == ["a/0.tar", "b/0.tar"]
    one = open_source(DataConfig(source=f"{tmp_path}/a/0.tar"))
    assert list(shard_sizes(one)) == ["0.tar"]
