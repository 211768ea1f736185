"""Precomputes embeddings on three logical CPUs: JOB, as JSON."""

import json
import sys

import tensorflow as tf

from lit_tf.training.config import DataConfig
from lit_tf.training.precompute.shards import Job, precompute


def main(job):
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 3)
    values = json.loads(job)
    job = Job(**{**values, "data": DataConfig(**values["data"])})
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(3)])
    precompute(job, progress=False, strategy=strategy)


if __name__ == "__main__":
    main(*sys.argv[1:])
