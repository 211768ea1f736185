"""The commands of docs/training.md on pairs of one's own, and its own config, run as they stand."""

import re
import shlex
import shutil

import pyarrow as pa
import pyarrow.parquet
import pytest
import tensorflow as tf

import lit_tf
from lit_tf.cli import main
from lit_tf.training import train as train_module
from lit_tf.training.config import load_config
from lit_tf.training.data import tfds_builders

from ..processes import ROOT
from .data import shards

DOCS = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def commands(start, end):
    """The `lit-tf` commands of a part of the page."""
    lines = DOCS[DOCS.index(start) : DOCS.index(end)].splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("lit-tf ")]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with pairs in every format that the page names, without a network."""
    monkeypatch.chdir(tmp_path)
    for name in ("shards", "records", "data", "images"):
        (tmp_path / name).mkdir()
    rows = shards.pairs(24)
    shards.write_tar(tmp_path / "shards" / "00000.tar", rows[:12])
    shards.write_tar(tmp_path / "shards" / "00001.tar", rows[12:])
    with tf.io.TFRecordWriter(str(tmp_path / "records" / "0.tfrecord")) as writer:
        for _, image, caption in rows:
            fields = {"jpg": image, "caption": caption.encode()}
            feature = {
                k: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v]))
                for k, v in fields.items()
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())
    images = [{"bytes": image, "path": None} for _, image, _ in rows]
    table = pa.table({"image": images, "text": [caption for *_, caption in rows]})
    pyarrow.parquet.write_table(table, tmp_path / "data" / "train-00000.parquet")
    lines = ["image,caption"]
    for key, image, caption in rows:
        (tmp_path / "images" / f"{key}.png").write_bytes(image)
        lines.append(f"images/{key}.png,{caption}")
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n")
    shutil.copy(load_config("digits").model.vocab, tmp_path / "vocab.txt")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setattr(tfds_builders, "_unreachable", lambda builder: "there is no network")
    return tmp_path


def test_commands_on_ones_own_pairs_open_all_that_they_need(here, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(
        train_module, "build_model", lambda config: lit_tf.load("LiT-digits")
    )  # in place of downloads
    monkeypatch.setattr(train_module.Loop, "run", lambda *arguments: None)
    monkeypatch.setattr(
        train_module,
        "make_train_dataset",
        lambda source, **options: opened.append(sum(source.lengths)) or tf.data.Dataset.range(1),
    )
    found = commands("## Training on your own pairs", "### What can be wrong with shards")
    assert [words[0] for words in found] == ["train"] * 4 + ["eval"]
    for words in found:
        assert main(words) == 0, words
    assert opened == [24] * 4
    said = capsys.readouterr().err
    assert said.count("eval: zero_shot on imagenet2012 is left out") == 4
    assert said.count("eval: retrieval on coco_captions is left out") == 4


@pytest.mark.full
def test_the_pages_own_config_trains(here):
    (here / "own.py").write_text(re.search(r"```python\n(# own.py.*?)```", DOCS, re.S)[1])
    (command,) = [c for c in commands("# Training", "## What is locked") if "own.py:steps=40" in c]
    assert main(command) == 0
    assert lit_tf.load(here / "runs/own/final.npz").config.embedding_dim == 96


def test_the_pages_own_config_is_a_config(here):
    (here / "own.py").write_text(re.search(r"```python\n(# own.py.*?)```", DOCS, re.S)[1])
    assert load_config("own.py:steps=40").steps == 40
