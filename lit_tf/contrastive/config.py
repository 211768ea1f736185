"""What a contrastive step is made of: the names of losses and optimizers, and their settings.

It needs no TensorFlow, so `--help` and the refusal of a wrong name are quick.
"""

import dataclasses
import math
import re

from lit_tf.errors import ConfigError

LOSSES = SOFTMAX, SIGMOID = ("softmax", "sigmoid")
OPTIMIZERS = ADAM, ADAFACTOR = ("adam", "adafactor")
# Image tower first: L locked, U tuned from pre-trained, u from scratch, H locked but for the head.
LOCKINGS = ("Lu", "LU", "Uu", "UU", "uu", "uU", "LH")
KERNELS = ("(.*/)?kernel", 1.0)

# The class token's position row is a constant of the model: zeros in all that training starts from.
_NEVER_TRAINED = ("img/cls_pos_embedding",)


def trains(name: str, locking: str) -> bool:
    """Whether the parameter of a canonical name trains under a locking."""
    letter = {"img": locking[0], "txt": locking[1]}.get(name.split("/")[0], "U")
    if letter == "H":
        return name.startswith("txt/head/")
    return letter != "L" and name not in _NEVER_TRAINED


def factor(name: str, multipliers, default: float) -> float:
    """Returns the factor of the first pattern that matches a whole parameter's name."""
    found = (value for pattern, value in multipliers if re.fullmatch(pattern, name))
    return next(found, default)


def number(default: float | None, low: float, high: float = math.inf):
    """A field of a config, with its default and the range that its value has to lie in."""
    return dataclasses.field(default=default, metadata={"range": (low, high)})


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer.

    Attributes:
        name: "adam" or "adafactor".
        lr: learning rate at the schedule's top.
        weight_decay: times each kernel, not times the learning rate.
        clip: global norm of the gradients to clip to, 0 for none.
        warmup: steps of linear warmup, or None for 3 % of the run but at least 100.
        lr_mults: pairs of a regular expression and a factor of the learning rate. The first one
            that matches a parameter's whole canonical name, as in "txt/head/.*", counts.
        wd_mults: likewise of the weight decay; what matches none does not decay.
    """

    name: str = ADAM
    lr: float = number(1e-3, 0)
    weight_decay: float = number(1e-2, 0)
    clip: float = number(1.0, 0)
    warmup: int | None = number(None, 0)
    lr_mults: tuple[tuple[str, float], ...] = ()
    wd_mults: tuple[tuple[str, float], ...] = (KERNELS,)

    def check(self, total_steps: int) -> None:
        """Raises ConfigError for an unknown rule, a bad multiplier, or too long a warmup."""
        if self.name not in OPTIMIZERS:
            raise ConfigError(f"optimizer.name: {self.name!r}; expected {' or '.join(OPTIMIZERS)}")
        for field, least in (("lr_mults", "above 0"), ("wd_mults", "at least 0")):
            for pattern, value in getattr(self, field):
                try:
                    re.compile(pattern)
                except re.error as e:
                    raise ConfigError(f"optimizer.{field}: {pattern!r}: {e}") from None
                if value < 0 or (field == "lr_mults" and not value):
                    raise ConfigError(f"optimizer.{field}: {value}; expected a factor {least}")
        if self.warmup_steps(total_steps) >= total_steps:
            raise ConfigError(
                f"warmup of {self.warmup_steps(total_steps)} steps does not fit in a run of "
                f"{total_steps}; set optimizer.warmup, or more steps"
            )

    def warmup_steps(self, total_steps: int) -> int:
        """Returns the steps of warmup in a run of `total_steps`."""
        if self.warmup is not None:
            return self.warmup
        return max(int(0.03 * total_steps), 100)


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The loss.

    Attributes:
        name: "softmax", "sigmoid", or "module:function" for one's own: a function of unit-length
            image and text embeddings (global batch, width), t and b to a scalar.
        chunk: how much of the logits a replica holds at a time, 0 for all: rows with the softmax
            loss, columns with the sigmoid loss.
        cache_chunk: examples that a replica embeds at a time with exact gradient caching, 0 for the
            whole batch at once. A locked tower needs no activations for the backward pass, so it
            embeds its share of the batch at once in either case.
    """

    name: str = SOFTMAX
    chunk: int = number(0, 0)
    cache_chunk: int = number(0, 0)
