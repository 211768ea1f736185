"""A host call: many steps on the device, after which the host learns how they went."""

import tensorflow as tf

from lit_tf.contrastive.optimizers import global_norm
from lit_tf.contrastive.step import all_parameters
from lit_tf.errors import TrainingError


class HostCall:
    """Runs a `ReplicaStep`, many steps per call; until the last, its figures stay on the device."""

    def __init__(self, strategy, step):
        self._strategy, self._step = strategy, step
        with strategy.scope():
            self._loss_sum = _metric(0.0)
            self._last = {name: _metric(0.0) for name in ("l2_grads", "schedule")}
            # The first step whose loss or gradients were not finite.
            self._bad_step = _metric(-1)

    def __call__(self, iterator, steps: int) -> dict:
        """Takes steps; returns their figures."""
        self._loss_sum.assign(0.0)
        self._bad_step.assign(-1)
        self.take_steps(iterator, tf.constant(steps))
        bad_step = int(self._bad_step.numpy())
        if bad_step >= 0:
            raise TrainingError(
                f"the loss or its gradients became NaN or infinite at step {bad_step}; stopped "
                "there. The checkpoints before it are whole; try a lower optimizer.lr, a longer "
                "warmup or float32"
            )
        model = self._step.model
        metrics = {
            "loss": self._loss_sum.numpy() / steps,
            **{name: v.numpy() for name, v in self._last.items()},
            "l2_params": self._norm().numpy(),
            "temperature": model.temperature,
        }
        if model.bias is not None:
            metrics["bias"] = model.bias
        return metrics

    @tf.function(autograph=False)
    def take_steps(self, iterator, steps: tf.Tensor) -> None:
        """Takes `steps` steps (an int32 scalar) on every replica, in one loop on the device."""

        def body(i):
            with tf.name_scope(""):  # or every op's name would begin with "while/"
                self._strategy.run(self.replica_step, args=(next(iterator),))
            return i + 1

        tf.while_loop(lambda i: i < steps, body, [tf.constant(0)])

    def replica_step(self, batch):
        """Takes a step in replica context, and keeps what the host wants to know of it."""
        step = tf.identity(self._step.optimizer.iterations)
        metrics = self._step(batch)
        finite = tf.math.is_finite(metrics["loss"]) & tf.math.is_finite(metrics["l2_grads"])
        known = tf.identity(self._bad_step)
        bad_step = tf.where(finite | (known >= 0), known, step)
        variables = [self._loss_sum, self._bad_step, *self._last.values()]
        values = [self._loss_sum + metrics["loss"], bad_step, *(metrics[n] for n in self._last)]
        self._step.collectives.assign(variables, values)

    @tf.function(autograph=False)
    def _norm(self):
        def norm():
            return global_norm([tf.identity(v) for v in all_parameters(self._step.model).values()])

        return self._strategy.experimental_local_results(self._strategy.run(norm))[0]


def _metric(value):
    dtype = tf.int64 if isinstance(value, int) else tf.float32
    first = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return tf.Variable(value, dtype=dtype, trainable=False, aggregation=first)
