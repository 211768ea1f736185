"""Locked-image tuning under tf.distribute, and its evaluation."""

from lit_tf import lazy

__getattr__, __dir__ = lazy.attributes(__name__, {})
