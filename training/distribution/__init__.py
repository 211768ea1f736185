"""tf.distribute: strategies by name, the collectives of a step, and feeding other hosts."""

# The names that `strategies.make_strategy` knows. Here, because `--help` needs no TensorFlow.
STRATEGIES = ("auto", "tpu", "mirrored", "multi_worker", "one_device")
