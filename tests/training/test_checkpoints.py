"""A run's checkpoints are found by their files, read whole or refused, and the best is kept."""

import re

import pytest

from lit_tf.checkpoints import record
from lit_tf.errors import ConfigError, TrainingError
from lit_tf.training.checkpoints import Best, Checkpoints, steps_in

from .reference_runs import build_step


@pytest.fixture(scope="module")
def step(fixtures):
    return build_step(fixtures)


def save(step, workdir, *steps, keep=3):
    """Writes checkpoints at some steps."""
    checkpoints = Checkpoints(str(workdir), step, keep)
    for number in steps:
        step.optimizer.iterations.assign(number)
        checkpoints.save(number)


def test_a_checkpoint_of_another_model_is_refused(step, fixtures, tmp_path):
    save(step, tmp_path, 2)
    other = build_step(fixtures, rule="adafactor")
    with pytest.raises(TrainingError, match="ckpt-2 cannot be restored.*another config"):
        Checkpoints(str(tmp_path), other, 3).restore()


def test_checkpoints_are_found_by_their_own_files_and_the_last_few_kept(
    step, tmp_path, monkeypatch
):
    workdir = tmp_path / "a run"
    save(step, workdir, 2, 4, 6, 8, 10, keep=3)
    folder = workdir / "checkpoints"
    assert steps_in(str(folder)) == [6, 8, 10]
    assert (folder / "checkpoint").read_text().startswith('model_checkpoint_path: "ckpt-10"')
    assert {p.stem for p in folder.glob("*.txt")} == {"ckpt-6", "ckpt-8", "ckpt-10"}
    # A copy without TensorFlow's own note; then, the last one deleted to go back a step.
    (folder / "checkpoint").unlink()
    checkpoints = Checkpoints(str(workdir), step, 3)
    for newest in (10, 8):
        assert checkpoints.restore().endswith(f"ckpt-{newest}")
        assert int(step.optimizer.iterations) == newest
        for path in folder.glob("ckpt-10.*"):
            path.unlink()
    monkeypatch.setattr(record, "to_bytes", lambda config: None)
    (folder / "ckpt-12.json").write_text('{"lit_tf": {"token_length": 3}}')  # of another run's
    checkpoints.save(12)
    assert steps_in(str(folder)) == [6, 8, 12] and not (folder / "ckpt-12.json").exists()


@pytest.mark.parametrize("part", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("damage", ["cut off", "flipped", "empty", "gone"])
def test_a_damaged_checkpoint_is_called_that_and_the_whole_one_named(step, tmp_path, part, damage):
    save(step, tmp_path, 20, 30)
    path = tmp_path / "checkpoints" / f"ckpt-30.{part}"
    data = path.read_bytes()
    path.write_bytes(
        {"cut off": data[:-1000], "flipped": bytes([data[0] ^ 1]) + data[1:]}.get(damage, b"")
    )
    if damage == "gone":
        path.unlink()
    checkpoints = Checkpoints(str(tmp_path), step, 3)
    advice = r"ckpt-20 is whole; remove (.*)\.\* to go on from step 20"
    with pytest.raises(TrainingError, match=rf"ckpt-30 is damaged \(.*\); {advice}") as error:
        checkpoints.restore()
    prefix = re.search(advice, str(error.value))[1]
    for file in tmp_path.glob(f"checkpoints/{prefix.rpartition('/')[2]}.*"):
        file.unlink()
    assert checkpoints.restore().endswith("ckpt-20")
    (tmp_path / "checkpoints" / f"ckpt-20.{part}").write_bytes(b"")
    with pytest.raises(TrainingError, match="ckpt-20 is damaged .*no other is whole; remove it"):
        checkpoints.restore()


def test_the_best_model_is_kept_and_a_loss_is_best_when_small(tmp_path):
    written = []
    for name, values, kept in (("a/accuracy", (1, 3, 2, 3), 2), ("v/loss", (3.0, 1.0, 2.0), 2)):
        best = Best(str(tmp_path), name, 0, lambda: written.append(1))
        for step, value in enumerate(values):
            best.offer({name: value}, step, writes=True)
        assert len(written) == kept
        written.clear()
        # A resumed run knows the best so far; one that went back before it does not.
        Best(str(tmp_path), name, 3, written.append).offer({name: values[-1]}, 4, writes=False)
        Best(str(tmp_path), name, 0, lambda: written.append(1)).offer({name: 2}, 5, writes=True)
        assert len(written) == 1
        written.clear()
    with pytest.raises(ConfigError, match="'other'; the evaluators measure b, c"):
        Best(str(tmp_path), "other", 0, written.append).offer({"b": 1, "c": 2}, 1, writes=True)
