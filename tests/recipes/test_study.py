"""Locked against unlocked: equal compute is equal, and settings are chosen on validation."""

import pathlib

import pytest

import lit_tf
from recipes.digits import build, measure, pretrain, study


def test_pretraining_and_both_towers_count():
    config = lit_tf.load("LiT-digits").config
    locked = study.total_flops(config, 500, locking="Lu")
    assert study.total_flops(config, 500, locking="uu") > 1.5 * locked
    whole = study.total_flops(config, 500, locking="Lu", pretraining_steps=pretrain.STEPS)
    image = study.flops.image_tower(config)
    assert whole - locked == 3 * image * pretrain.STEPS * pretrain.BATCH_SIZE


@pytest.fixture
def workdir(tmp_path):
    """A build's folder, with the shipped model in place of the run's."""
    (tmp_path / "Lu").mkdir()
    for source, target in ((".npz", "vit.npz"), (".npz", "Lu/final.npz"), (".txt", "vocab.txt")):
        (tmp_path / target).symlink_to(build.DATA / f"LiT-digits{source}")
    (tmp_path / "card.md").write_text("a\n<!-- study -->\nold\n<!-- /study -->\nb\n")
    return tmp_path


def test_the_weight_decay_is_chosen_on_validation_and_the_table_is_about_the_test(
    workdir, monkeypatch
):
    runs = []

    def tune(folder, vit, vocab, data_dir, *, weight_decay, **arguments):
        runs.append((weight_decay, arguments))
        return workdir / "Lu" / "final.npz"

    # On validation the second run is the better one; on the test split it would not be.
    validation = iter([0.5, 0.6])

    def measured(model, split, data_dir=None):
        share = next(validation) if split == "validation" else 0.25
        return dict.fromkeys(study.SHOWN, share)

    monkeypatch.setattr(build, "tune", tune)
    monkeypatch.setattr(measure, "measure_model", measured)
    study.main(["--workdir", str(workdir), "--card", str(workdir / "card.md")])

    assert [arguments["steps"] for _, arguments in runs[:2]] == [build.STEPS] * 2
    assert runs[2][0] == study.WEIGHT_DECAYS[1] and {
        arguments["locking"] for _, arguments in runs
    } == {"uu"}
    config = lit_tf.load("LiT-digits").config
    spent = study.total_flops(config, build.STEPS, locking="Lu", pretraining_steps=pretrain.STEPS)
    unlocked = study.total_flops(config, runs[2][1]["steps"], locking="uu")
    assert unlocked == pytest.approx(spent, rel=1e-3)
    text = (workdir / "card.md").read_text()
    assert "old" not in text and text.count("25.0%") == 3 * len(study.SHOWN)


def test_it_says_what_has_to_run_first(tmp_path, capsys):
    with pytest.raises(SystemExit):
        study.main(["--workdir", str(tmp_path)])
    assert "vit.npz is missing: run" in capsys.readouterr().err
    assert not pathlib.Path(tmp_path / "study.json").exists()
