"""The step of a run, out of its config; `lit_tf/contrastive/step.py` has the step itself."""

from lit_tf.contrastive.optimizers import Optimizer
from lit_tf.contrastive.step import ReplicaStep, trainable_parameters


def build_step(config, model, collectives=None) -> ReplicaStep:
    """Builds the optimizer and the step of a run. Call it in the strategy's scope."""
    parameters = trainable_parameters(model, config.model.locking)
    return ReplicaStep(
        model,
        Optimizer(parameters, config.optimizer, config.steps),
        config.loss,
        seed=config.seed,
        collectives=collectives,
    )
