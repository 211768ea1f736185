"""tf.distribute: strategies by name, the collectives of a step, and feeding other hosts."""
