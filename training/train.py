"""Runs a training config: `lit-tf train`, or `python -m lit_tf.training.train`."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import sys
import tempfile

import keras
import tensorflow as tf

import lit_tf
from lit_tf import loading
from lit_tf.checkpoints import record
from lit_tf.errors import ConfigError
from lit_tf.files import replacing_path
from lit_tf.images.preparation import preparation

from .checkpoints import Best, writing_to
from .config import TrainConfig, check_batch, flat
from .data import Counters, make_train_dataset, make_validation_dataset, open_source
from .data.embeddings import check_embeddings
from .data.shards import shard_sizes
from .data.sources import TfdsSource
from .distribution import strategies
from .distribution.feed import distribute
from .distribution.strategies import check_agreement
from .evaluation.evaluators import make_evaluators
from .evaluation.images import Decoding
from .loop import Loop, WorkerLost, validation_loss
from .towers import build_model, build_step
from .workdir import PLACES, Beginning, taken

# What workers may each have their own of: where things are, and what changes nothing together.
_OWN = (*PLACES, "eval.data_dir", "name", "data.max_bad_share", "keep_checkpoints")


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
        loop.Preempted: SIGTERM or Ctrl-C stopped the run; a checkpoint has been written.
        loop.WorkerLost: another worker of the run is gone.
    """
    strategy = strategy or tf.distribute.get_strategy()
    workdir = os.fspath(workdir)
    check_batch(config, strategy.num_replicas_in_sync)
    if config.deterministic:
        keras.utils.set_random_seed(config.seed)
        tf.config.experimental.enable_op_determinism()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_naming_lost_workers(strategy))
        shared = {k: v for k, v in flat(config.to_dict()).items() if k not in _OWN}
        versions = {"lit_tf's version": lit_tf.__version__, "TensorFlow's version": tf.__version__}
        check_agreement(strategy, {**versions, **shared})
        source, held_out = _open_data(config)
        if strategies.is_chief(strategy):  # the other workers wait for the chief
            with writing_to(workdir):
                stack.enter_context(taken(workdir))
        return _train(config, workdir, strategy, source, held_out)


def _train(config, workdir, strategy, source, held_out):
    chief, sizes = strategies.is_chief(strategy), shard_sizes(source)
    check_agreement(strategy, {"the data's shards": sizes, "the data's lengths": source.lengths})
    with writing_to(workdir):
        beginning = Beginning(workdir, config)
        beginning.check_data(sizes)
    if chief:
        print(json.dumps(config.to_dict(), indent=2), file=sys.stderr)
        for line in _warnings(config, source):
            print(line, file=sys.stderr)
    with strategy.scope():
        model = build_model(config)
        step = build_step(config, model)
    if chief and (lost := record.sentence(loading.written_config(model), "final.npz")):
        print(lost, file=sys.stderr)
    start = _start(config, strategy, model, beginning)
    loop = Loop(config, strategy, step, workdir)
    first_step = loop.restore()
    if strategies.has_workers(strategy):
        check_agreement(strategy, {"the parameters": model.fingerprint()})
    if chief:
        with writing_to(workdir):
            beginning.write(sizes, start)
    for stored in (source, held_out):
        if stored is not None and stored.embeddings:  # by the tower that final.npz will hold
            check_embeddings(stored, model)
    counters = {"data": Counters(), "eval.validation": Counters()}
    evaluators = _evaluators(config, strategy, model, step, source, held_out, counters)
    if config.eval.keep_best:
        save = functools.partial(_save_model, model, workdir, "best")
        loop.best = Best(workdir, config.eval.keep_best, first_step, save)
    how = {"seed": config.seed, "start_step": first_step, "counters": counters["data"]}
    batches = _train_batches(strategy, source, **how, **_batch_options(config, model))
    loop.run(batches, evaluators, counters["data"])
    if chief:
        _save_model(model, workdir, "final")
    _report(strategy, counters)
    return loop.evaluated


@contextlib.contextmanager
def _naming_lost_workers(strategy):
    """Says which worker is gone, where TensorFlow says that a collective has failed."""
    try:
        yield
    except tf.errors.OpError as error:
        if gone := strategies.lost_worker(strategy, error):
            raise WorkerLost(f"{gone} is gone, so this run cannot go on") from error
        raise


def _start(config, strategy, model, beginning):
    """Compares towers and vocabulary with those that the run began with; returns their digests."""
    vocabulary = hashlib.sha256(model.tokenizer.to_bytes()).hexdigest()
    check_agreement(strategy, {"the vocabulary": vocabulary})
    hosts = len(strategies.listed_workers()) if strategies.has_workers(strategy) else 1
    return beginning.check_start(model.fingerprint(), vocabulary, hosts)


def _warnings(config, source):
    if (
        "randaug" in config.data.augment
        and config.model.resolution <= 128
        and not source.embeddings
    ):
        yield (
            "data.augment: randaug moves pixels as far as in images of 224 pixels, so at "
            f"{config.model.resolution} it paints many of them one colour (at 96, a third)"
        )
    if config.batch_size > sum(source.lengths):
        yield (
            f"batch_size is {config.batch_size}, but the data has {sum(source.lengths)} examples: "
            "a batch holds copies of a pair, which the loss takes for different pairs"
        )


def _batch_options(config, model):
    size = preparation(model.config, config.data.max_patches)
    batch = config.batch_size
    return {"tokenizer": model.tokenizer, "global_batch_size": batch, "image_size": size}


def _evaluators(config, strategy, model, step, source, held_out, counters):
    counters, data = counters["eval.validation"], config.data
    how = {"decoding": Decoding(data.exif, data.max_pixels), "max_patches": data.max_patches}
    how["leave_out"] = not isinstance(source, TfdsSource)
    made = make_evaluators(model, config.eval, strategy, **how)
    check_agreement(strategy, {"the evaluators": [e.prefix for e in made]})
    prefixes, evaluators = [e.prefix for e in made], [e.run for e in made]
    if held_out is not None:
        make = functools.partial(
            make_validation_dataset, held_out, counters=counters, **_batch_options(config, model)
        )
        batches = distribute(strategy, lambda context: make(input_context=context))
        prefixes.append("validation")
        evaluators.append(validation_loss(strategy, step, batches, config.batch_size, counters))
    best = config.eval.keep_best
    if best and not any(best.startswith(f"{prefix}/") for prefix in prefixes):
        raise ConfigError(
            f"eval.keep_best is {best!r}; expected a figure of an evaluator"
            f"{': ' if prefixes else ', but there are none'}"
            f"{', '.join(f'{prefix}/...' for prefix in prefixes)}"
        )
    return evaluators


def _train_batches(strategy, source, **options):
    """The endless training batches from a step on, for the strategy's replicas."""

    def make(context):
        batches = make_train_dataset(source, input_context=context, **options)
        # Without this, tf.distribute would expect that several workers run out of data at different
        # times, and give up the batches' static shape.
        return batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

    return distribute(strategy, make)


def _open_data(config):
    source = open_source(config.data)
    if source.embeddings and not config.model.lock_image:
        raise ConfigError(
            f"{config.data.source} holds precomputed image embeddings, which only a locked tower "
            f"can use; model.locking is {config.model.locking!r}"
        )
    if not config.eval.validation:
        return source, None
    field = "split" if isinstance(source, TfdsSource) else "source"
    held_out = dataclasses.replace(config.data, **{field: config.eval.validation})
    return source, open_source(held_out)


def _report(strategy, counters):
    """Prints which examples could not be used. Every worker reports those that it read."""
    who = ""
    if strategies.has_workers(strategy):
        resolver = strategy.cluster_resolver
        who = f"{resolver.task_type} {resolver.task_id}: "
    for what, counted in counters.items():
        if counted.bad:
            print(f"{who}{what}: {counted.report()}", file=sys.stderr)


def _save_model(model, workdir, name):
    """Writes NAME.npz and what belongs beside it, local or remote, each whole or not at all."""
    with writing_to(workdir), tempfile.TemporaryDirectory() as local:
        lit_tf.save_npz(model, f"{local if '://' in workdir else workdir}/{name}.npz")
        made, record_path = os.listdir(local), f"{workdir}/{name}.json"
        if made and f"{name}.json" not in made and tf.io.gfile.exists(record_path):
            tf.io.gfile.remove(record_path)  # of another run's model
        for file in made:
            with replacing_path(f"{workdir}/{file}") as new:
                tf.io.gfile.copy(f"{local}/{file}", new)


def main(argv=None) -> int:
    """Runs `lit-tf train` with the given arguments; returns its exit code."""
    from lit_tf.cli import main as lit_tf_main

    return lit_tf_main(["train", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
