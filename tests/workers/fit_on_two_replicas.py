"""Compares `fit` with the trainer's steps on two replicas, which need a process of their own."""

import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from tests.contrastive.test_fit import compare, refuse_on_two_replicas  # noqa: E402

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
compare(strategy, "sgd", True, "UU")
compare(strategy, "trainer", False, "LU")
refuse_on_two_replicas(strategy)
