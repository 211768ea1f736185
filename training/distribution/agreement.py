"""Workers that are to train together have to agree, or each trains on something of its own."""

import hashlib

import numpy as np
import tensorflow as tf

from lit_tf.contrastive.collectives import Collectives
from lit_tf.errors import TrainingError

from . import strategies


def check_agreement(strategy, values: dict) -> None:
    """Stops all workers if a value differs between them, and says which. All have to call it."""
    if not strategies.has_workers(strategy):
        return
    digests = [hashlib.sha256(repr(value).encode()).digest() for value in values.values()]
    # Two numbers of 24 bits for each value: float32 carries and sums them exactly.
    parts = [[int.from_bytes(d[i : i + 3], "big") for i in (0, 3)] for d in digests]
    mine = tf.constant([parts], tf.float32)  # (1, values, 2)
    gather = tf.function(
        lambda: strategy.run(lambda: Collectives().gather(mine + 0.0)), autograph=False
    ).get_concrete_function()  # or TensorFlow would warn of retracing
    found = strategy.experimental_local_results(gather())[0].numpy()  # (replicas, values, 2)
    differ = np.flatnonzero((found != found[0]).any(axis=(0, 2)))
    if differ.size:
        names = list(values)
        here = [f"{names[i]} (here {values[names[i]]!r:.60})" for i in differ]
        raise TrainingError(
            f"the workers disagree on {', '.join(here)}; start all of them with the same "
            "configuration, data and checkpoints"
        )
