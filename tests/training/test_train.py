"""`train()` from a config to final.npz: what a run leaves behind, and what it refuses to start."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf

import lit_tf
from lit_tf import files
from lit_tf.contrastive.step import all_parameters, trainable_parameters
from lit_tf.errors import ConfigError, DataError, LitError, TrainingError
from lit_tf.training import loop as loop_module
from lit_tf.training import train as train_module
from lit_tf.training.config import DataConfig, EvalConfig, load_config
from lit_tf.training.data import (
    Counters,
    make_validation_dataset,
    open_source,
    tfds_builders,
)
from lit_tf.training.data.counters import CORRUPT_IMAGE, GOOD
from lit_tf.training.data.embeddings import check_embeddings
from lit_tf.training.data.tfds_builders import open_tfds
from lit_tf.training.evaluation.captioned import open_captioned
from lit_tf.training.loop import validation_loss
from lit_tf.training.precompute.shards import Job, precompute
from lit_tf.training.towers import build_model, build_step
from lit_tf.training.train import train

from .data import shards

# Tracing a step takes seconds a layer, and none of these tests is about the text tower's size.
SMALL_TEXT = "model.text=bert:width=64,depth=1,num_heads=1,mlp_dim=64,max_length=16"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    open_tfds("digit_pairs/tiny", data_dir=folder)
    return str(folder)


@pytest.fixture
def config(data_dir):
    """A function from overrides to a run of four steps on the small dataset of digits."""

    def make(*overrides):
        return load_config(
            f"digits:dataset=digit_pairs/tiny,data_dir={data_dir},steps=4,batch_size=16",
            # Whoever makes ops deterministic makes them so for the whole process.
            [
                *(SMALL_TEXT, "steps_per_loop=2", "checkpoint_every=4", "deterministic=false"),
                *overrides,
            ],
        )

    return make


def scalars(folder):
    """{name: {step: value}} of TensorBoard's files."""
    found = {}
    for path in sorted(folder.glob("events*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = float(tf.make_ndarray(value.tensor))
    return found


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory):
    """A run with evaluators: (workdir, figures, its config)."""
    workdir = tmp_path_factory.mktemp("run")
    run = load_config(
        f"digits:dataset=digit_pairs/tiny,data_dir={data_dir},steps=6,batch_size=16",
        [
            *(SMALL_TEXT, "steps_per_loop=2", "checkpoint_every=4", "deterministic=false"),
            "eval.every=2",
            *("eval.zero_shot=digit_pairs/tiny", "eval.retrieval=digit_pairs/tiny:test[:20]"),
            *("eval.validation=validation", f"eval.data_dir={data_dir}", "data.augment=flip_lr"),
        ],
    )
    return workdir, train(run, workdir), run


def test_final_npz_holds_the_locked_tower_bit_for_bit_and_a_trained_text_tower(finished):
    workdir, _, run = finished
    before = lit_tf.load(run.model.image_init).canonical_variables()
    after = lit_tf.load(workdir / "final.npz")
    locked = [k for k in before if k.startswith("img/")]
    assert len(locked) > 50
    for name in locked:
        np.testing.assert_array_equal(
            after.canonical_variables()[name].numpy(), before[name].numpy(), err_msg=name
        )
    assert after.tokenizer.vocab_size == after.config.text.vocab_size
    assert (workdir / "final.txt").read_bytes() == after.tokenizer.to_bytes()
    assert np.isfinite(after.encode_text(["a seven and a two"])).all()
    assert abs(after.temperature - 10.0) > 1e-3


def test_final_npz_has_the_keys_of_the_jax_layout(finished, fixtures):
    def keys(path):
        with np.load(path) as arrays:
            return {re.sub(r"\d+", "N", key) for key in arrays}

    assert keys(finished[0] / "final.npz") == keys(fixtures / "lit_bert_tiny.npz")


def test_evaluators_run_every_so_many_steps_and_at_the_end_and_show_in_tensorboard(finished):
    workdir, figures, _ = finished
    assert set(figures) >= {
        "zero_shot/digit_pairs/tiny/accuracy",
        "retrieval/digit_pairs/tiny/img2txt/Recall@1",
        "validation/loss",
    }
    shown = scalars(workdir / "eval")
    assert set(shown) == set(figures)
    for name, values in shown.items():
        assert sorted(values) == [2, 4, 6], name
        assert values[6] == pytest.approx(figures[name], rel=1e-6), name
    losses = shown["validation/loss"]
    assert losses[2] != losses[6]
    training = scalars(workdir / "train")
    assert sorted(training["loss"]) == [2, 4, 6]
    assert {"l2_grads", "l2_params", "temperature", "data/bad_share"} <= set(training)


def test_checkpoints_come_at_the_multiples_and_at_the_end(finished):
    found = {p.stem for p in (finished[0] / "checkpoints").glob("ckpt-*.index")}
    assert found == {"ckpt-4", "ckpt-6"}


def test_a_run_that_goes_on_from_a_checkpoint_ends_the_same(finished, tmp_path, capsys):
    """Without its evaluators, and to rounding; full tests of whole processes compare the bits."""
    whole, _, run = finished
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir, ignore=shutil.ignore_patterns("ckpt-6*", "final*"))
    train(dataclasses.replace(run, eval=EvalConfig()), workdir)
    assert "resumed from step 4 " in capsys.readouterr().err
    expected, found = (np.load(folder / "final.npz") for folder in (whole, workdir))
    for name in expected.files:
        # Adam makes steps of any size out of the gradient of a key's bias, which is rounding.
        atol = 1e-2 if "key/bias" in name else 1e-6
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=atol, err_msg=name)


# --- locking -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "locking",
    ["Lu", *(pytest.param(x, marks=pytest.mark.full) for x in ("LU", "Uu", "uu", "uU")), "UU"],
)
def test_locking_decides_what_trains_what_has_slots_and_where_it_starts(
    locking, fixtures, fixture_module
):
    image, text = fixtures / "vit_upstream_tiny.npz", fixtures / "lit_bert_tiny.npz"
    run = load_config(
        "lit_coco:runlocal",
        [
            *("model.resolution=32", f"model.locking={locking}", "dtype=float32"),
            "model.image=patch_size=8,width=48,depth=3,num_heads=4,mlp_dim=96",
            "model.text=bert:width=64,depth=2,num_heads=1,mlp_dim=96",
            f"model.vocab={fixtures / 'lit_bert_tiny.txt'}",
            f"model.image_init={'none' if locking[0] == 'u' else image}",
            f"model.text_init={'none' if locking[1] == 'u' else text}",
        ],
    )
    model = build_model(run)
    step = build_step(run, model)
    before = {k: v.numpy() for k, v in all_parameters(model).items()}
    for letter, prefix, path in zip(locking, ("img/", "txt/"), (image, text), strict=True):
        stored = lit_tf.load(path, resolution=32).canonical_variables()
        kernels = [k for k in stored if k.startswith(prefix) and k.endswith("query/kernel")]
        assert kernels
        for name in kernels:
            assert np.array_equal(before[name], stored[name].numpy()) == (letter != "u"), name

    images, tokens = fixture_module.train_batches(steps=1)
    step.optimizer.iterations.assign(1)  # warmup starts from 0: the very first step is none
    step({"image": tf.constant(images[0]), "tokens": tf.constant(tokens[0])})
    moved = {k for k, v in all_parameters(model).items() if not np.array_equal(v, before[k])}
    trained = {k for k in trainable_parameters(model, "UU")}
    trained = {k for k in trained if not (locking[0] == "L" and k.startswith("img/"))}
    assert {"t", "txt/head/kernel"} <= moved <= trained
    # Rows of tables that the batch does not name may stay; no whole variable should.
    assert trained - moved <= {k for k in trained if "embedders_type_ids" in k}
    assert ("img/embedding/kernel" in moved) == (locking[0] != "L")
    slots = {k.partition("/")[2] for k in step.optimizer.variables} - {""}
    assert slots == trained


# --- what is refused, before anything is compiled ------------------------------------------------


@pytest.fixture
def no_step(monkeypatch):
    """Makes any attempt to train an error of its own."""

    def run(*args, **kwargs):
        raise AssertionError("the run was started")

    monkeypatch.setattr(train_module.Loop, "run", run)


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["model.vocab=none"], ConfigError, "needs model.vocab"),
        (["model.vocab=/nowhere/vocab.txt"], LitError, "/nowhere/vocab.txt"),
        (["model.image_init=none"], ConfigError, "neither model.image_init nor model.init"),
        (["model.locking=uu"], ConfigError, "starts the image tower from scratch"),
        (["model.token_length=40"], ConfigError, "positions for 16"),
        (["data.split=nonsense"], DataError, "no split 'nonsense'"),
        (["data.text_key=captions/words"], DataError, "no feature 'captions/words'"),
        (["data.augment=mixup"], ConfigError, "unknown augmentation 'mixup'"),
        (["eval.zero_shot=digit_pears"], DataError, "digit_pairs"),
        (["eval.validation=nonsense"], DataError, "no split 'nonsense'"),
    ],
)
def test_what_a_run_lacks_is_said_before_anything_is_compiled(
    overrides, error, message, config, no_step, tmp_path
):
    with pytest.raises(error, match=message):
        train(config(*overrides), tmp_path)


def test_a_batch_that_replicas_cannot_share_is_refused_first(config, no_step, tmp_path):
    strategy = types.SimpleNamespace(num_replicas_in_sync=3)
    with pytest.raises(ConfigError, match="16 is not divisible by 3 replicas"):
        train(config(), tmp_path / "run", strategy=strategy)
    assert not (tmp_path / "run").exists()


def test_an_unwritable_workdir_is_refused(config, no_step, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    folders = [str(tmp_path / "file" / "run"), "/proc/run"]
    if os.geteuid():  # root may write anywhere
        (tmp_path / "readonly").mkdir(mode=0o500)
        folders.append(str(tmp_path / "readonly" / "run"))
    for workdir in folders:
        with pytest.raises(TrainingError, match=f"cannot write to {workdir}"):
            train(config(), workdir)


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_damaged_config_is_called_that(content, finished, config, no_step, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    (workdir / "config.json").write_text(content)
    with pytest.raises(TrainingError, match="config.json is damaged: expected the JSON"):
        train(config(), workdir)


def test_a_workdir_of_another_run_is_refused(finished, config, no_step):
    with pytest.raises(TrainingError, match="another config: .*steps is 4 and was 6"):
        train(config(), finished[0])


def test_a_run_says_what_is_odd_about_its_settings(config, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(train_module.Loop, "run", lambda *arguments: None)
    monkeypatch.setattr(train_module, "_train_batches", lambda *args, **options: None)
    odd = ("data.augment=randaug(2,10)", "batch_size=2048", "optimizer.warmup=0")
    train(config(*odd), tmp_path)
    said = capsys.readouterr().err
    assert "at 48 it paints many of them one colour" in said
    assert "batch_size is 2048, but the data has 320 examples: a batch holds copies" in said


def test_a_checkpoint_of_a_run_is_read_like_any_other(finished, tmp_path, capsys):
    from lit_tf.cli import main

    path = str(finished[0] / "checkpoints" / "ckpt-6")
    final = lit_tf.load(finished[0] / "final.npz")
    for place in (path, f"{path}.index"):
        assert lit_tf.load(place).fingerprint() == final.fingerprint()
    assert lit_tf.load(path).config.to_dict() == {**final.config.to_dict(), "layout": "run"}
    assert main(["info", path]) == 0 and "vocabulary   245 tokens" in capsys.readouterr().out
    assert main(["convert", path, str(tmp_path / "out.npz")]) == 0
    assert (tmp_path / "out.npz").read_bytes() == (finished[0] / "final.npz").read_bytes()


def test_a_figure_that_no_evaluator_has_is_refused(config, no_step, tmp_path):
    with pytest.raises(ConfigError, match="'accuracy'; expected a figure of .*, but there are"):
        train(config("eval.keep_best=accuracy"), tmp_path)
    with pytest.raises(ConfigError, match="of an evaluator: validation/...$"):
        train(config("eval.keep_best=loss", "eval.validation=validation"), tmp_path)


def test_with_pairs_of_ones_own_evaluators_without_data_are_left_out(
    config, monkeypatch, tmp_path, capsys
):
    asked = []
    monkeypatch.setattr(
        tfds_builders, "_unreachable", lambda builder: asked.append(builder.name) or "no network"
    )
    monkeypatch.setattr(train_module.Loop, "run", lambda *arguments: None)
    shards.write_tar(tmp_path / "0.tar", shards.pairs(20))
    missing = ("eval.zero_shot=imagenet2012", "eval.data_dir=/nowhere")
    train(config(*missing, f"data.source={tmp_path}/0.tar"), tmp_path / "run")
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("eval:")]
    assert line.startswith("eval: zero_shot on imagenet2012 is left out: imagenet2012 is not prep")
    assert "--set eval.data_dir=DIR" in line and not asked  # and nothing is downloaded
    with pytest.raises(DataError, match="imagenet2012 is not prepared .*could not be: no network"):
        train(config(*missing), tmp_path / "other")
    with pytest.raises(DataError, match="no dataset 'cifar1000'"):
        train(config("eval.zero_shot=cifar1000", f"data.source={tmp_path}/0.tar"), tmp_path / "x")


# --- what goes wrong, or is gone on with, while it runs ------------------------------------------


class Told:
    """An evaluator that counts its runs, and may fail; with steps that only count, and move t."""

    prefix = "told"

    def __init__(self, monkeypatch, error=None, name="told/figure", values=(1.0, 1.0, 1.0)):
        self.runs, self._error, self._name, self._values = 0, error, name, values
        monkeypatch.setattr(train_module, "make_evaluators", lambda *args, **options: [self])
        monkeypatch.setattr(loop_module, "HostCall", self.Call)

    class Call:
        def __init__(self, strategy, step):
            self._step = step

        def __call__(self, iterator, steps):
            self._step.optimizer.iterations.assign_add(steps)
            self._step.model.t.assign_add([0.1 * steps])
            return {"loss": 0.0}

    def run(self):
        self.runs += 1
        if self._error:
            raise self._error
        return {self._name: self._values[self.runs - 1]}


@pytest.mark.parametrize(
    ("figure", "step", "value"),
    [("loss", 4, 0.4), pytest.param("accuracy", 2, 0.5, marks=pytest.mark.full)],
)
def test_the_best_model_by_a_figure_is_kept_and_comes_back_as_it_was(
    figure, step, value, config, monkeypatch, tmp_path, capsys
):
    # BERT's heads and dropout are what the arrays do not show.
    sizes = ("model.text=bert:width=64,depth=1,num_heads=2,mlp_dim=64,max_length=16",)
    run = config(*sizes, "model.dropout=0", f"eval.keep_best=told/{figure}", "eval.every=2")
    Told(monkeypatch, name=f"told/{figure}", values=(0.5, 0.4, 0.3, 0.2))
    train(run, tmp_path)
    said = capsys.readouterr().err
    unsaid = "final.npz: its arrays do not show text.num_heads 2, text.dropout_rate 0.0"
    assert -1 < said.find(unsaid) < said.find("step 2:")
    about = {"metric": f"told/{figure}", "value": value, "step": step}
    assert json.loads((tmp_path / "best_figure.json").read_text()) == about
    best, final = (lit_tf.load(tmp_path / f"{name}.npz") for name in ("best", "final"))
    for model in (best, final):
        assert model.tokenizer is not None
        assert (model.config.text.num_heads, model.config.text.dropout_rate) == (2, 0.0)
    assert (best.fingerprint() == final.fingerprint()) == (step == 4)
    # Gone on with, it knows the best so far, and keeps a better one in its place.
    train(run, tmp_path)
    about = json.loads((tmp_path / "best_figure.json").read_text())
    assert about["value"] == {"loss": 0.3, "accuracy": 0.5}[figure]
    assert lit_tf.load(tmp_path / "best.npz").config.text.num_heads == 2
    (tmp_path / "final.txt").write_text("a list of the user's own")
    with pytest.raises(TrainingError, match="in the way.* checkpoint is .*ckpt-4; run the same"):
        train(run, tmp_path)


def test_a_remote_model_does_not_get_the_record_of_another(monkeypatch):
    def save(model, path):
        pathlib.Path(path).write_bytes(b"")

    monkeypatch.setattr(lit_tf, "save_npz", save)
    files.write_text("ram://remote-run/final.json", "{}")
    train_module._save_model(None, "ram://remote-run", "final")
    assert tf.io.gfile.listdir("ram://remote-run") == ["final.npz"]


@pytest.mark.parametrize("kind", [pytest.param("os", marks=pytest.mark.full), "tf"])
def test_an_error_that_is_no_write_keeps_its_words_and_leaves_checkpoints(
    kind, config, monkeypatch, tmp_path
):
    error = OSError("the network is down")
    if kind == "tf":
        error = tf.errors.DataLossError(None, None, f"{tmp_path}/shard is damaged")
    Told(monkeypatch, error)
    another_workers = tmp_path / "checkpoints" / "ckpt-2_temp"
    another_workers.mkdir(parents=True)
    with pytest.raises(type(error), match="network|damaged"):
        train(config("eval.every=2"), tmp_path)
    assert another_workers.is_dir()


def test_summaries_that_cannot_be_written_are_explained(config, monkeypatch, tmp_path):
    Told(monkeypatch)
    (tmp_path / "train").write_text("in the way")
    with pytest.raises(TrainingError, match=f"cannot write to {tmp_path}: .*same command again"):
        train(config(), tmp_path)


@pytest.mark.full
def test_bad_data_is_named_whatever_the_workdir_is_called(config, monkeypatch, tmp_path):
    shards.write_tfrecord(tmp_path / "0.tfrecord", shards.pairs(64, bad_images=range(0, 64, 2)))
    monkeypatch.chdir(tmp_path)
    source = (f"data.source={tmp_path}/0.tfrecord", "data.data_dir=none")
    with pytest.raises(DataError, match="repair the data.*corrupt image in 0.tfrecord"):
        train(config(*source), "data")


def test_bad_validation_data_is_counted_by_pass_and_too_much_of_it_refused(tmp_path):
    strategy = tf.distribute.get_strategy()
    step = types.SimpleNamespace(loss=lambda batch: tf.reduce_sum(batch["tokens"][0, :1]) * 0.0)

    def evaluator(bad):
        path, counters = tmp_path / f"{len(bad)}.tfrecord", Counters()
        shards.write_tfrecord(path, shards.pairs(32, bad_images=bad))
        dataset = make_validation_dataset(
            open_source(DataConfig(source=str(path))),
            lambda texts: tf.cast(shards.tokenize(texts), tf.float32),
            global_batch_size=8,
            image_size=16,
            counters=counters,
        )
        return validation_loss(strategy, step, dataset, 8, counters), counters

    evaluate, counters = evaluator((3,))
    for _ in range(2):
        assert evaluate() == {"validation/loss": 0.0}
        assert counters.report().startswith("1 of 32 examples could not be used")
        assert counters.report().count("corrupt image in 1.tfrecord #3") == 1
    evaluate, _ = evaluator(range(0, 32, 2))
    with pytest.raises(DataError, match="corrupt image in 16.tfrecord #0"):
        evaluate()


def test_every_worker_reports_its_own_bad_examples(capsys):
    counters = Counters()
    counters.add(np.array([GOOD, CORRUPT_IMAGE]), lambda i: f"a #{i}", 0.5)
    worker = types.SimpleNamespace(
        extended=types.SimpleNamespace(_in_multi_worker_mode=lambda: True),
        cluster_resolver=types.SimpleNamespace(task_type="worker", task_id=1),
    )
    train_module._report(worker, {"data": counters, "eval.validation": Counters()})
    assert capsys.readouterr().err.startswith("worker 1: data: 1 of 2 examples could not be used")


def test_a_finished_run_is_evaluated_once_more_and_not_twice(config, monkeypatch, tmp_path):
    told = Told(monkeypatch)
    train(config("eval.every=2"), tmp_path)
    assert told.runs == 2
    assert train(config("eval.every=2"), tmp_path) == {"told/figure": 1.0}
    assert told.runs == 3


# --- precomputed embeddings ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def embeddings(data_dir, tmp_path_factory):
    checkpoint = load_config("digits").model.image_init
    job = Job(
        checkpoint=checkpoint,
        data=DataConfig(source="digit_pairs/tiny", data_dir=data_dir),
        output=str(tmp_path_factory.mktemp("embeddings")),
        shards=2,
    )
    precompute(job, progress=False)
    return job


def test_a_run_on_embeddings_ends_with_the_tower_that_made_them(embeddings, config, tmp_path):
    made_by = lit_tf.load(embeddings.checkpoint).fingerprint("img/")
    figures = train(
        config(f"data.source={embeddings.output}", f"eval.validation={embeddings.output}"),
        tmp_path,
    )
    assert 0 < figures["validation/loss"] < 10
    assert lit_tf.load(tmp_path / "final.npz").fingerprint("img/") == made_by


def test_embeddings_of_another_tower_are_refused(embeddings, config, no_step, tmp_path):
    with pytest.raises(DataError, match="holds embeddings of images.*name the images that"):
        open_captioned(embeddings.output)
    other = lit_tf.load(embeddings.checkpoint)
    kernel = other.canonical_variables()["img/embedding/kernel"]
    kernel.assign(kernel + 1e-6 * np.float32(kernel.numpy() == kernel.numpy().max()))
    lit_tf.save_npz(other, tmp_path / "other.npz")
    source = f"data.source={embeddings.output}"
    with pytest.raises(
        DataError, match="another image tower, or of other pixels, from .*LiT-digits"
    ):
        train(config(source, f"model.image_init={tmp_path / 'other.npz'}"), tmp_path / "run")
    other = lit_tf.load(embeddings.checkpoint)
    lit_tf.save_npz(other, tmp_path / "cut.npz")
    (tmp_path / "cut.json").write_text('{"lit_tf": {"crop": true}}')
    stored = open_source(DataConfig(source=embeddings.output))
    check_embeddings(stored, other)
    with pytest.raises(DataError, match="or of other pixels, from .*LiT-digits"):
        check_embeddings(stored, lit_tf.load(tmp_path / "cut.npz"))
    with pytest.raises(DataError, match="of 48 pixels, but model.resolution is 64"):
        train(config(source, "model.resolution=64"), tmp_path / "run")
    with pytest.raises(ConfigError, match="only a locked tower"):
        train(config(source, "model.locking=Uu"), tmp_path / "run")
    with pytest.raises(ConfigError, match="precomputed embeddings have no pixels"):
        train(config(source, "data.augment=flip_lr"), tmp_path / "run")
