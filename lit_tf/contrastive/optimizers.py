"""The optimizers of big_vision's recipe, to the last rounding, and their schedule.

Keras's own AdamW and Adafactor give other numbers from the sixth digit on: epsilon, the order of
decay and learning rate, factored dimensions and rounding differ.
"""

import math
import re

import numpy as np
import tensorflow as tf

from lit_tf.contrastive.config import ADAFACTOR, ADAM, KERNELS, factor
from lit_tf.errors import ConfigError


def warmup_cosine(step: tf.Tensor, *, total_steps: int, warmup_steps: int) -> tf.Tensor:
    """Returns a float32 scalar in [0, 1]: linear warmup from 0, then half a cosine to 0.

    `0.5 (1 + cos(pi clip((step - warmup) / (total - warmup), 0, 1))) * min(1, step / warmup)`
    """
    step = tf.cast(step, tf.float32)
    progress = (step - warmup_steps) / float(total_steps - warmup_steps)
    cosine = 0.5 * (1.0 + tf.cos(math.pi * tf.clip_by_value(progress, 0.0, 1.0)))
    return cosine * tf.minimum(1.0, step / float(warmup_steps)) if warmup_steps else cosine


def global_norm(tensors) -> tf.Tensor:
    """Returns the L2 norm of all tensors taken as one vector, a float32 scalar."""
    return tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(tf.cast(x, tf.float32))) for x in tensors]))


def clip_by_global_norm(gradients, clip: float):
    """Scales gradients down to a global norm `clip` (0 for none); returns them, and their norm."""
    norm = global_norm(gradients.values())
    if not clip:
        return gradients, norm
    factor = tf.where(norm < clip, 1.0, clip / norm)
    return {name: gradient * factor for name, gradient in gradients.items()}, norm


class Adam:
    """Adam, bias-corrected, with epsilon outside the root (arXiv:1412.6980, algorithm 1)."""

    # Decay of the first and the second moment, and what is added to the root of the second.
    _B1, _B2, _EPSILON = 0.9, 0.999, 1e-8

    def __init__(self, shapes):
        names = [(f"{moment}/{k}", s) for moment in ("mu", "nu") for k, s in shapes.items()]
        self.variables = {name: _zeros(shape, name) for name, shape in names}

    def update(self, name, gradient, step):
        """Returns (update before rate, decay and schedule; [(variable, new value), ...])."""
        mu_var, nu_var = self.variables[f"mu/{name}"], self.variables[f"nu/{name}"]
        mu = self._B1 * mu_var + (1 - self._B1) * gradient
        nu = self._B2 * nu_var + (1 - self._B2) * tf.square(gradient)
        count = tf.cast(step + 1, tf.float32)
        mu_hat = mu / (1 - tf.pow(self._B1, count))
        nu_hat = nu / (1 - tf.pow(self._B2, count))
        return mu_hat / (tf.sqrt(nu_hat) + self._EPSILON), [(mu_var, mu), (nu_var, nu)]


class Adafactor:
    """big_vision's Adafactor ("Scaling Vision Transformers", arXiv:2106.04560, section 3.4).

    The second moment is factored over the two largest dimensions if the smaller of them has at
    least 32 entries; otherwise it is kept whole. The momentum is stored as bfloat16. No update
    clipping, no scaling by the parameter's size.
    """

    # 0.9 and its product as JAX rounds them: the state and its decay are bfloat16, the sum float32.
    _MOMENTUM_DECAY = 0.8984375
    _MOMENTUM_ADD = 0.1
    _EPSILON = 1e-30
    _MIN_DIM_TO_FACTOR = 32

    def __init__(self, shapes):
        self._momentum, self._second = {}, {}
        self.variables = {}
        for name, shape in shapes.items():
            dims = _factored_dims(shape, self._MIN_DIM_TO_FACTOR)
            if dims is None:
                parts = {"v": shape}
            else:
                smaller, larger = dims
                parts = {
                    "v_row": [n for i, n in enumerate(shape) if i != larger],
                    "v_col": [n for i, n in enumerate(shape) if i != smaller],
                }
            self._second[name] = {k: _zeros(s, f"{k}/{name}") for k, s in parts.items()}
            self._momentum[name] = _zeros(shape, f"momentum/{name}", tf.bfloat16)
            self.variables |= {f"{k}/{name}": v for k, v in self._second[name].items()}
            self.variables[f"momentum/{name}"] = self._momentum[name]

    def update(self, name, gradient, step):
        """Returns (update before rate, decay and schedule; [(variable, new value), ...])."""
        second = self._second[name]
        count = tf.cast(step + 1, tf.float32)
        decay = tf.minimum(0.999, 1.0 - tf.pow(count, -0.8))
        squared = tf.square(gradient) + self._EPSILON
        dims = _factored_dims(gradient.shape, self._MIN_DIM_TO_FACTOR)
        if dims is None:
            v = decay * second["v"] + (1 - decay) * squared
            update = gradient * tf.math.rsqrt(v)
            new = [(second["v"], v)]
        else:
            smaller, larger = dims
            v_row = decay * second["v_row"] + (1 - decay) * tf.reduce_mean(squared, larger)
            v_col = decay * second["v_col"] + (1 - decay) * tf.reduce_mean(squared, smaller)
            mean_axis = smaller - 1 if smaller > larger else smaller
            row = tf.math.rsqrt(v_row / tf.reduce_mean(v_row, mean_axis, keepdims=True))
            col = tf.math.rsqrt(v_col)
            update = gradient * tf.expand_dims(row, larger) * tf.expand_dims(col, smaller)
            new = [(second["v_row"], v_row), (second["v_col"], v_col)]

        state = tf.cast(self._momentum[name], tf.float32)
        update = self._MOMENTUM_DECAY * state + self._MOMENTUM_ADD * update
        new.append((self._momentum[name], tf.cast(update, tf.bfloat16)))
        return update, new


RULES: dict[str, type[Adam] | type[Adafactor]] = {ADAM: Adam, ADAFACTOR: Adafactor}


class Optimizer:
    """Update rule, learning rate, weight decay and schedule, in big_vision's order.

    Build it within the strategy's scope. It holds state for the given parameters only, so a locked
    tower costs none. The learning rate multiplies the rule's update. Weight decay times the
    parameter is added after that, so it does not depend on the learning rate.
    """

    def __init__(self, parameters, config, total_steps: int, iterations=None):
        self.parameters, self.config = dict(parameters), config
        self._total_steps = total_steps
        self._lr_mult = {k: factor(k, config.lr_mults, 1.0) for k in parameters}
        self._wd_mult = {k: factor(k, config.wd_mults, 0.0) for k in parameters}
        self._refuse_unmatched()
        self.iterations = iterations
        if iterations is None:
            self.iterations = tf.Variable(
                0,
                dtype=tf.int64,
                trainable=False,
                name="iterations",
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
        shapes = {k: v.shape.as_list() for k, v in self.parameters.items()}
        self._rule = RULES[config.name](shapes)
        self.variables = {"iterations": self.iterations, **self._rule.variables}

    def _refuse_unmatched(self):
        """Raises ConfigError for a pattern that matches no parameter: it would change nothing."""
        for field in ("lr_mults", "wd_mults"):
            for pattern, _ in getattr(self.config, field):
                used = any(re.fullmatch(pattern, name) for name in self.parameters)
                if not used and pattern != KERNELS[0]:
                    raise ConfigError(
                        f"optimizer.{field}: {pattern!r} matches no parameter that trains, such "
                        f"as {', '.join(list(self.parameters)[-3:])}"
                    )

    def scale_loss(self, loss):
        """Returns the loss as it is; Keras's optimizers may scale it up for float16."""
        return loss

    def update(self, gradients, collectives) -> tf.Tensor:
        """Moves the parameters, in replica context; returns the schedule's multiplier, a scalar."""
        steps_before, total = tf.identity(self.iterations), self._total_steps
        warmup = self.config.warmup_steps(total)
        multiplier = warmup_cosine(steps_before, total_steps=total, warmup_steps=warmup)
        variables, values = [self.iterations], [steps_before + 1]
        for name, parameter in self.parameters.items():
            update, state = self._rule.update(name, gradients[name], steps_before)
            update = self.config.lr * update
            if self._lr_mult[name] != 1:
                update = self._lr_mult[name] * update
            if decay := self.config.weight_decay * self._wd_mult[name]:
                update += decay * parameter
            variables += [parameter, *(variable for variable, _ in state)]
            values += [parameter - multiplier * update, *(value for _, value in state)]
        collectives.assign(variables, values)
        return multiplier


def _zeros(shape, name, dtype=tf.float32):
    """Returns a state variable. Its name has no `/`, which a strategy would take for a scope."""
    return tf.Variable(tf.zeros(shape, dtype), trainable=False, name=name.replace("/", "."))


def _factored_dims(shape, min_dim):
    """Returns (axis of the second largest, axis of the largest dimension), or None: not factored.

    Of equal dimensions the later one counts as larger, as in `np.argsort`.
    """
    if len(shape) < 2:
        return None
    order = np.argsort(np.asarray(shape), kind="stable")
    if shape[order[-2]] < min_dim:
        return None
    return int(order[-2]), int(order[-1])
