"""Precomputed embeddings: the tower's own, restartable, shared by hosts, and trained on exactly."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

import lit_tf
from lit_tf.cli import main
from lit_tf.errors import ConfigError, DataError
from lit_tf.training.config import DataConfig
from lit_tf.training.data import Counters, make_train_dataset, open_source
from lit_tf.training.data.counters import CORRUPT_IMAGE, EMPTY_CAPTION
from lit_tf.training.data.embeddings import read_manifest
from lit_tf.training.precompute.shards import (
    Job,
    ShardWriter,
    is_finished,
    precompute,
    write_manifest_if_complete,
)

from ...processes import finish, launch, worker
from ..data import shards

COUNT = 50


@pytest.fixture(scope="module")
def job(fixtures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    shards.write_tfrecord(folder / "0.tfrecord", shards.pairs(30, bad_images=(4,)))
    shards.write_tar(folder / "0.tar", shards.pairs(1))  # another format: not matched
    shards.write_tfrecord(folder / "1.tfrecord", shards.pairs(20, first=30, empty_captions=(33,)))
    return Job(
        checkpoint=str(fixtures / "lit_bert_tiny.npz"),
        data=DataConfig(source=f"{folder}/*.tfrecord", max_bad_share=0.1),
        output=str(tmp_path_factory.mktemp("whole")),
        shards=4,
        batch_size=8,
    )


@pytest.fixture(scope="module")
def whole(job):
    counters = precompute(job, progress=False)
    assert (counters.examples, counters.count[CORRUPT_IMAGE], counters.count[EMPTY_CAPTION]) == (
        COUNT,
        1,
        1,
    )
    return job


def contents(folder):
    paths = sorted(tf.io.gfile.glob(f"{folder}/*.tfrecord"))
    return [[r.numpy() for r in tf.data.TFRecordDataset(path)] for path in paths]


def trained_on(folder, start=0, count=1, **kwargs):
    dataset = make_train_dataset(
        open_source(DataConfig(source=str(folder), shuffle_buffer=16)),
        shards.tokenize,
        global_batch_size=8,
        image_size=0,
        seed=1,
        start_step=start,
        **kwargs,
    )
    return [{k: v.numpy() for k, v in batch.items()} for batch in dataset.take(count)]


def test_training_on_them_gives_the_towers_embeddings_beside_their_texts(whole):
    model = lit_tf.load(whole.checkpoint)
    counters = Counters()
    batches = trained_on(whole.output, count=6, counters=counters)
    tokens = np.concatenate([b["tokens"][:, 0] for b in batches])
    assert sorted(tokens) == sorted(set(range(COUNT)) - {4, 33}) and counters.bad == 0
    expected = model.encode_image([shards.picture(n) for n in tokens])
    found = np.concatenate([b["image_embedding"] for b in batches])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_resumed_run_sees_the_same_embeddings(whole):
    batches = trained_on(whole.output, count=9)
    for start in (2, 8):
        resumed = trained_on(whole.output, start)[0]
        assert all(np.array_equal(resumed[k], batches[start][k]) for k in resumed)


def test_a_killed_run_continues_and_ends_with_the_same_shards(whole, tmp_path):
    job = dataclasses.replace(whole, output=str(tmp_path))
    ShardWriter(job)(2, Counters())
    # As SIGKILL leaves it: a shard half written, and one whole whose completion was not noted.
    (tmp_path / "embeddings-00001-of-00004.tfrecord.0.partial").write_bytes(b"half")
    (tmp_path / "embeddings-00003-of-00004.tfrecord").write_bytes(b"stale")
    assert not write_manifest_if_complete(job)
    with pytest.raises(DataError, match="has not finished"):
        open_source(DataConfig(source=str(tmp_path), format="embeddings"))
    counters = precompute(job, progress=False)
    assert 0 < counters.examples < COUNT  # shard 2 was not computed again
    assert contents(tmp_path) == contents(whole.output)


def test_the_command_takes_the_config_of_the_run_to_come(whole, tmp_path, capsys):
    side = lit_tf.load(whole.checkpoint).config.image.image_size
    sets = [f"data.source={whole.data.source}", "data.max_bad_share=0.1", "eval.batch_size=8"]
    sets += [f"model.image_init={whole.checkpoint}", f"model.resolution={side}"]
    sets += ["data.augment=flip_lr"]  # of several views only
    command = ["precompute", str(tmp_path / "e"), "--config", "digits", "--shards", "4"]
    assert main([*command, *(f"--set={setting}" for setting in sets)]) == 0
    assert "complete, without augmentation" in capsys.readouterr().out
    assert contents(tmp_path / "e") == contents(whole.output)


def test_hosts_together_write_what_one_writes(whole, tmp_path):
    job = dataclasses.replace(whole, output=str(tmp_path))
    precompute(job, host=0, hosts=2, progress=False)
    assert not (tmp_path / "manifest.json").exists()
    precompute(job, host=1, hosts=2, progress=False)
    assert contents(tmp_path) == contents(whole.output)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["image_tower"] == lit_tf.load(job.checkpoint).fingerprint("img/")
    assert sum(s["examples"] for s in manifest["shards"]) == COUNT - 2


@pytest.mark.full
def test_replicas_together_write_what_one_writes(whole, tmp_path):
    job = dataclasses.replace(whole, output=str(tmp_path))
    text = json.dumps(dataclasses.asdict(job))
    finish(launch(worker("precompute", text)))
    for mine, theirs in zip(contents(tmp_path), contents(whole.output), strict=True):
        for a, b in zip(map(parsed, mine), map(parsed, theirs), strict=True):
            assert a["texts"] == b["texts"]
            np.testing.assert_allclose(a["image_embedding"], b["image_embedding"], atol=1e-6)


def parsed(record):
    fields = tf.train.Example.FromString(record).features.feature
    return {
        "texts": list(fields["texts"].bytes_list.value),
        "image_embedding": np.frombuffer(fields["image_embedding"].bytes_list.value[0], "<f4"),
    }


def test_views_differ_repeat_and_are_drawn_in_training(whole, tmp_path):
    data = dataclasses.replace(whole.data, augment="flip_lr")
    job = dataclasses.replace(whole, output=str(tmp_path / "a"), data=data, views=2, shards=1)
    precompute(job, progress=False)
    again = dataclasses.replace(job, output=str(tmp_path / "b"))
    precompute(again, progress=False)
    assert contents(job.output) == contents(again.output)
    seen = {}
    for batch in trained_on(job.output, count=40):
        for number, embedding in zip(batch["tokens"][:, 0], batch["image_embedding"], strict=True):
            seen.setdefault(int(number), set()).add(embedding.tobytes())
    assert max(map(len, seen.values())) == 2 and len(seen) == COUNT - 2


@pytest.mark.parametrize(
    "damage",
    [
        {"views": "many"},
        {"width": 0},
        {"shards": None},
        {"shards": [{"name": "a"}]},
        {"shards": [{"name": 1, "examples": 1}]},
        {"settings": {}},
        {"image_tower": None},
    ],
)
def test_a_damaged_manifest_is_called_that(whole, tmp_path, damage):
    manifest = json.loads((pathlib.Path(whole.output) / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, **damage}))
    with pytest.raises(DataError, match="manifest.json is damaged: expected views, width"):
        read_manifest(str(tmp_path))


@pytest.mark.parametrize("content", ["", "[]", "[" * 100_000, "{}", '{"settings": []}'])
def test_damaged_notes_beside_a_shard_and_manifests_are_refused_by_name(whole, tmp_path, content):
    job = dataclasses.replace(whole, output=str(tmp_path))
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(DataError, match="manifest.json is damaged"):
        precompute(job, progress=False)
    (tmp_path / "manifest.json").unlink()
    note = tmp_path / f"embeddings-00000-of-{job.shards:05d}.tfrecord.json"
    note.write_text(content)
    with pytest.raises(DataError, match=f"{note.name} is damaged"):
        precompute(job, progress=False)


def test_a_folder_is_not_continued_with_files_that_have_changed(whole, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    shards.write_tfrecord(folder / "0.tfrecord", shards.pairs(6))
    data = dataclasses.replace(whole.data, source=f"{folder}/*.tfrecord")
    job = dataclasses.replace(whole, data=data, output=str(tmp_path / "out"), shards=2)
    precompute(job, host=0, hosts=2, progress=False)
    shards.write_tfrecord(folder / "0.tfrecord", shards.pairs(8))
    shards.write_tfrecord(folder / "1.tfrecord", shards.pairs(2))
    changes = r"1 new \(1.tfrecord\); 1 of another size \(0.tfrecord\)"
    with pytest.raises(DataError, match=rf"have changed since .*out was begun: {changes}"):
        precompute(job, host=1, hosts=2, progress=False)
    shards.write_tfrecord(folder / "0.tfrecord", shards.pairs(6))
    (folder / "1.tfrecord").unlink()
    precompute(job, host=1, hosts=2, progress=False)
    assert is_finished(job)
    shards.write_tfrecord(folder / "1.tfrecord", shards.pairs(2))
    with pytest.raises(DataError, match=r"1 new \(1.tfrecord\)"):
        precompute(job, progress=False)
    # Whoever has the embeddings may remove the images.
    for path in folder.iterdir():
        path.unlink()
    assert precompute(job, progress=False).examples == 0


def test_other_settings_in_the_same_folder_are_refused(whole):
    for field, value in (("seed", 5), ("shards", 2)):
        other = dataclasses.replace(whole, **{field: value})
        with pytest.raises(DataError, match=rf"other settings \({field}\)"):
            precompute(other, progress=False)
        with pytest.raises(DataError, match=rf"other settings \({field}\)"):
            is_finished(other)
    with pytest.raises(ConfigError, match="would all be the same"):
        dataclasses.replace(whole, views=2)
    with pytest.raises(ConfigError, match="precomputed embeddings have no pixels"):
        make_train_dataset(
            open_source(DataConfig(source=whole.output, augment="flip_lr")),
            shards.tokenize,
            global_batch_size=8,
            image_size=0,
            seed=0,
        )


def test_apache_beam_writes_the_same_shards(whole, tmp_path):
    pytest.importorskip("apache_beam")
    from lit_tf.training.precompute.shards import precompute_with_beam

    job = dataclasses.replace(whole, output=str(tmp_path))
    precompute_with_beam(job, [])
    assert contents(tmp_path) == contents(whole.output)
