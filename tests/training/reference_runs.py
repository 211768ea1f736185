"""The four runs of expected/train.npz, on any number of replicas."""

import pathlib

import numpy as np

RUNS = {
    "adam_locked_softmax": {},
    "adafactor_locked_softmax": {"rule": "adafactor"},
    "adam_unlocked_softmax": {"lock_image": False},
    "adam_locked_sigmoid": {"loss": "sigmoid"},
}
TOLERANCE = {
    "loss": 1e-5,
    "l2_grads": 1e-4,
    "l2_updates": 1e-4,
    "l2_params": 1e-4,
    "schedule": 1e-6,
    "t": 1e-5,
}


def build_model(folder, *, bias=False, dropout=0.0, dtype=None):
    """The model that every run starts from; dropout 0 unless said otherwise."""
    import dataclasses

    import lit_tf
    from lit_tf.model import LitModel

    loaded = lit_tf.load(str(pathlib.Path(folder) / "train_init_tiny.npz"))
    config = dataclasses.replace(
        loaded.config,
        has_bias=bias,
        text=dataclasses.replace(loaded.config.text, dropout_rate=dropout),
    )
    model = LitModel(config, loaded.tokenizer, seed=None, dtype=dtype)
    variables = model.canonical_variables()
    for name, variable in loaded.canonical_variables().items():
        variables[name].assign(variable)
    if bias:
        variables["b"].assign([-2.71])
    return model


def build_step(
    folder,
    *,
    rule="adam",
    loss="softmax",
    lock_image=True,
    dropout=0.0,
    dtype=None,
    collectives=None,
    total_steps=10,
    seed=0,
    **chunks,
):
    from lit_tf.contrastive.optimizers import Optimizer
    from lit_tf.contrastive.step import ReplicaStep, trainable_parameters
    from lit_tf.training.config import LossConfig, OptimizerConfig

    model = build_model(folder, bias=loss == "sigmoid", dropout=dropout, dtype=dtype)
    parameters = trainable_parameters(model, "LU" if lock_image else "UU")
    config = OptimizerConfig(rule, lr=1e-3, weight_decay=1e-2, clip=1.0, warmup=3)
    return ReplicaStep(
        model,
        Optimizer(parameters, config, total_steps),
        LossConfig(loss, **chunks),
        seed=seed,
        collectives=collectives,
    )


def run(strategy, folder, batches, *, steps=10, jit_compile=False, **options):
    """Takes the steps; returns metrics by name, each (steps,), and final parameters."""
    import tensorflow as tf

    from lit_tf.contrastive.optimizers import global_norm
    from lit_tf.contrastive.step import all_parameters

    with strategy.scope():
        step = build_step(folder, **options)
    replicas = strategy.num_replicas_in_sync
    replica_fn = tf.function(step, jit_compile=True, autograph=False) if jit_compile else step

    @tf.function(autograph=False)
    def train_step(batch):
        return strategy.run(replica_fn, args=(batch,))

    parameters = all_parameters(step.model)
    history = []
    for images, tokens in zip(*batches, strict=True):
        if len(history) == steps:
            break
        local = len(tokens) // replicas

        def share(context, images=images, tokens=tokens, local=local):
            rows = slice(
                context.replica_id_in_sync_group * local,
                (context.replica_id_in_sync_group + 1) * local,
            )
            return {"image": tf.constant(images[rows]), "tokens": tf.constant(tokens[rows])}

        batch = strategy.experimental_distribute_values_from_function(share)
        before = {k: v.numpy() for k, v in parameters.items()}
        metrics = train_step(batch)
        metrics = {k: float(strategy.experimental_local_results(v)[-1]) for k, v in metrics.items()}
        changes = [parameters[k].numpy() - v for k, v in before.items()]
        metrics["l2_updates"] = float(np.sqrt(sum(np.sum(np.square(c)) for c in changes)))
        metrics["t"] = float(parameters["t"].numpy()[0])
        metrics["l2_params"] = float(
            global_norm(list(map(tf.convert_to_tensor, parameters.values())))
        )
        history.append(metrics)
    out = {k: np.array([m[k] for m in history]) for k in history[0]}
    return out, {k: v.numpy() for k, v in parameters.items()}
