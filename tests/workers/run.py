"""Trains the tiny reference model on a fixed dataset of embeddings: for tests that kill a run.

    python -m tests.workers.run FIXTURES WORKDIR [SLEEP_PER_CALL [DROPOUT]]

Dropout is on, batches are shuffled by (seed, step), an evaluator runs in the loop. The batches are
the same for any number of replicas and workers.
"""

import os
import sys
import time


def main():
    fixtures, workdir = sys.argv[1:3]
    pause = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    dropout = float(sys.argv[4]) if len(sys.argv) > 4 else 0.1
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import numpy as np
    import tensorflow as tf

    from lit_tf import save_npz
    from lit_tf.training.config import EvalConfig, OptimizerConfig, TrainConfig
    from lit_tf.training.distribution import strategies
    from lit_tf.training.loop import Loop, Preempted

    from ..training.reference_runs import build_step

    tf.config.experimental.enable_op_determinism()
    tf.random.set_seed(0)
    strategy = strategies.make_strategy("auto")
    with strategy.scope():
        step = build_step(fixtures, dropout=dropout, total_steps=24, seed=5)
    batch = 16
    config = TrainConfig(
        optimizer=OptimizerConfig(warmup=3),
        eval=EvalConfig(every=4),
        batch_size=batch,
        steps=24,
        steps_per_loop=2,
        checkpoint_every=2,
        keep_checkpoints=2,
    )
    loop = Loop(config, strategy, step, workdir)
    start = loop.restore()
    rng = np.random.default_rng(0)
    zimg = tf.constant(rng.normal(size=(64, 48)), tf.float32)
    tokens = rng.integers(104, 1000, (64, 16)).astype(np.int32)
    tokens[:, 0] = 101
    tokens = tf.constant(tokens)

    def batches(context):
        local = batch // context.num_replicas_in_sync
        workers = context.num_input_pipelines

        def make(k):
            seed = tf.random.fold_in(tf.constant([7, 0], tf.int64), k)
            rows = tf.argsort(tf.random.stateless_uniform([64], seed))[:batch]
            rows = rows[context.input_pipeline_id * batch // workers :][: batch // workers]
            return {
                "image_embedding": tf.ensure_shape(tf.gather(zimg, rows), [batch // workers, 48]),
                "tokens": tf.ensure_shape(tf.gather(tokens, rows), [batch // workers, 16]),
            }

        dataset = tf.data.Dataset.range(start, 2**31).map(make).unbatch()
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        dataset = dataset.batch(local, drop_remainder=True).with_options(options)
        return dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

    def figure():
        time.sleep(pause)
        return {"temperature": step.model.temperature}

    try:
        loop.run(strategy.distribute_datasets_from_function(batches), [figure])
    except Preempted as stop:
        print(stop)
        sys.exit(75)
    if strategies.is_chief(strategy):
        save_npz(step.model, f"{workdir}/final.npz")


if __name__ == "__main__":
    main()
