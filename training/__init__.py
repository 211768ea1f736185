"""Locked-image tuning under tf.distribute, and its evaluation."""
