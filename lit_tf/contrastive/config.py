"""What a contrastive step is made of: the names of losses and optimizers, and their settings.

It needs no TensorFlow, so `--help` and the refusal of a wrong name are quick.
"""

import dataclasses
import math

LOSSES = SOFTMAX, SIGMOID = ("softmax", "sigmoid")
OPTIMIZERS = ADAM, ADAFACTOR = ("adam", "adafactor")


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
    """

    name: str = ADAM
    lr: float = number(1e-3, 0)
    weight_decay: float = number(1e-2, 0)
    clip: float = number(1.0, 0)
    warmup: int | None = number(None, 0)

    def warmup_steps(self, total_steps: int) -> int:
        """Returns the steps of warmup in a run of `total_steps`."""
        if self.warmup is not None:
            return self.warmup
        return max(int(0.03 * total_steps), 100)


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The loss.

    Attributes:
        name: "softmax" or "sigmoid".
        chunk: how much of the logits a replica holds at a time, 0 for all: rows with the softmax
            loss, columns with the sigmoid loss.
        cache_chunk: examples that a replica embeds at a time with exact gradient caching, 0 for the
            whole batch at once. A locked tower needs no activations for the backward pass, so it
            embeds its share of the batch at once in either case.
    """

    name: str = SOFTMAX
    chunk: int = number(0, 0)
    cache_chunk: int = number(0, 0)
