"""Runs a training config: `lit-tf train`, or `python -m lit_tf.training.train`."""

import contextlib
import dataclasses
import json
import os
import sys
import tempfile

import keras
import tensorflow as tf

import lit_tf
from lit_tf import loading
from lit_tf.checkpoints import record
from lit_tf.errors import ConfigError, DataError, TrainingError
from lit_tf.files import parse_object, replacing_path, write_text
from lit_tf.images.preparation import preparation

from .config import TrainConfig, check_batch
from .data import Counters, make_train_dataset, make_validation_dataset, source_format
from .data.embeddings import check_embeddings
from .data.shard_sizes import shard_sizes
from .distribution import strategies
from .distribution.feed import distribute
from .evaluation.evaluators import make_evaluators
from .evaluation.images import Decoding
from .loop import Loop, validation_loss
from .step import build_step
from .towers import build_model
from .workdir import note_shards, taken

# Fields that may change when a run is resumed.
_FREE = ("eval", "steps_per_loop", "checkpoint_every", "keep_checkpoints")


def train(config: TrainConfig, workdir, *, strategy=None):
    """Trains from the last checkpoint in `workdir`, or from the beginning, to the end.

    Args:
        config: the run's config.
        workdir: folder of this run, local or gs://. Afterwards it holds `config.json`,
            `checkpoints/`, TensorBoard's `train/` and `eval/`, and `final.npz` (in the layout
            that `docs/training.md` names) with its vocabulary beside it.
        strategy: a `tf.distribute` strategy, by default the current one.

    Returns:
        {name: figure} of the last evaluation.

    Raises:
        LitError: something is wrong with the config, data, checkpoints or the run itself.
        loop.Preempted: SIGTERM stopped the run; a checkpoint has been written.
    """
    strategy = strategy or tf.distribute.get_strategy()
    workdir = os.fspath(workdir)
    check_batch(config, strategy.num_replicas_in_sync)
    if config.deterministic:
        keras.utils.set_random_seed(config.seed)
        tf.config.experimental.enable_op_determinism()
    precomputed = source_format(config.data) == "embeddings"
    if precomputed and not config.model.lock_image:
        raise ConfigError(
            f"{config.data.source} holds precomputed image embeddings, which only a locked tower "
            f"can use; model.locking is {config.model.locking!r}"
        )
    with contextlib.ExitStack() as stack:
        if strategies.is_chief(strategy):  # the other workers wait for the chief
            with _writing_to(workdir):
                stack.enter_context(taken(workdir))
        return _train(config, workdir, strategy, precomputed)


def _train(config, workdir, strategy, precomputed):
    chief = strategies.is_chief(strategy)
    _write_config(config, workdir, chief)
    with strategy.scope():
        model = build_model(config)
        step = build_step(config, model)
    if chief and (lost := record.sentence(loading.written_config(model), "final.npz")):
        print(lost, file=sys.stderr)
    loop = Loop(config, strategy, step, workdir)
    start = loop.restore()
    if chief:
        with _writing_to(workdir):
            changes = note_shards(workdir, shard_sizes(config.data), start)
        if changes:
            print(f"data: {changes}", file=sys.stderr)
    if precomputed:  # by the tower that final.npz will hold
        for data in filter(None, (config.data, _held_out(config))):
            check_embeddings(data.source, model)
    counters, validation_counters = Counters(), Counters()
    # Everything that is read is opened here, so that what is missing is refused now.
    evaluators = [
        e.run
        for e in make_evaluators(
            model,
            config.eval,
            strategy,
            decoding=Decoding(config.data.exif, config.data.max_pixels),
            max_patches=config.data.max_patches,
        )
    ]
    if config.eval.validation:
        batches = _validation_batches(config, strategy, model, validation_counters)
        evaluators.append(
            validation_loss(strategy, step, batches, config.batch_size, validation_counters)
        )
    batches = _train_batches(config, strategy, model, start, counters)
    loop.run(batches, evaluators, counters)
    if chief:
        _save_final(model, workdir)
    _report(strategy, {"data": counters, "eval.validation": validation_counters})
    return loop.evaluated


def _train_batches(config, strategy, model, start, counters):
    """The endless training batches from a step on, for the strategy's replicas."""

    def make(context):
        batches = make_train_dataset(
            config.data,
            model.tokenizer,
            global_batch_size=config.batch_size,
            image_size=preparation(model.config, config.data.max_patches),
            seed=config.seed,
            start_step=start,
            input_context=context,
            counters=counters,
        )
        # Without this, tf.distribute would expect that several workers run out of data at different
        # times, and give up the batches' static shape.
        return batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

    return distribute(strategy, make)


def _validation_batches(config, strategy, model, counters):
    """The batches of one pass over the held-out data, for the strategy's replicas."""

    def make(context):
        return make_validation_dataset(
            _held_out(config),
            model.tokenizer,
            global_batch_size=config.batch_size,
            image_size=preparation(model.config, config.data.max_patches),
            input_context=context,
            counters=counters,
        )

    return distribute(strategy, make)


def _held_out(config):
    """The data of the validation loss, or None."""
    if not config.eval.validation:
        return None
    field = "split" if source_format(config.data) == "tfds" else "source"
    return dataclasses.replace(config.data, **{field: config.eval.validation})


def _report(strategy, counters):
    """Prints which examples could not be used. Every worker reports those that it read."""
    who = ""
    if strategies.has_workers(strategy):
        resolver = strategy.cluster_resolver
        who = f"{resolver.task_type} {resolver.task_id}: "
    for what, counted in counters.items():
        if counted.bad:
            print(f"{who}{what}: {counted.report()}", file=sys.stderr)


def _write_config(config, workdir, chief):
    """Prints the config and writes it; refuses a folder that belongs to another run."""
    path = f"{workdir}/config.json"
    text = json.dumps(config.to_dict(), indent=2)
    with _writing_to(workdir):
        if tf.io.gfile.exists(path) and tf.train.latest_checkpoint(f"{workdir}/checkpoints"):
            old, new = _read_config(path), json.loads(text)
            changed = [k for k in new if k not in _FREE and old.get(k) != new[k]]
            if changed:
                raise TrainingError(
                    f"{workdir} holds a run with another config (different: "
                    f"{', '.join(changed)}); choose another --workdir, or the same config to resume"
                )
        if chief:
            print(text, file=sys.stderr)
            tf.io.gfile.makedirs(workdir)
            write_text(path, text + "\n")


@contextlib.contextmanager
def _writing_to(workdir):
    """Explains errors of reading and writing a workdir."""
    try:
        yield
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise TrainingError(f"cannot write to {workdir}: {str(error).splitlines()[0]}") from error


def _read_config(path):
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return parse_object(file.read(), path)
    except DataError as error:
        raise TrainingError(f"{path} is damaged: expected the JSON of a config") from error


def _save_final(model, workdir):
    """Writes final.npz and its vocabulary, local or remote, each whole or not at all."""
    try:
        with tempfile.TemporaryDirectory() as local:
            remote = "://" in workdir
            lit_tf.save_npz(model, f"{local if remote else workdir}/final.npz")
            for name in os.listdir(local):
                with replacing_path(f"{workdir}/{name}") as new:
                    tf.io.gfile.copy(f"{local}/{name}", new)
    except (OSError, tf.errors.OpError) as error:
        raise TrainingError(f"cannot write {workdir}/final.npz: {error}") from error


def main(argv=None) -> int:
    """Runs `lit-tf train` with the given arguments; returns its exit code."""
    from lit_tf.cli import main as lit_tf_main

    return lit_tf_main(["train", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
