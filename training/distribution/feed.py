"""Batches for the replicas of a strategy, from pipelines that run where they can.

The pipelines need Python and tensorflow-text. The other hosts of a TPU slice, or a TPU over the
network, run only TensorFlow's server, so there one pipeline on this machine feeds all replicas.
"""

import tensorflow as tf
from tensorflow.python.distribute.values import PerReplica


def distribute(strategy, make_dataset):
    """Returns a distributed dataset of what `make_dataset` builds."""
    if is_remote(strategy):
        return FedFromHere(strategy.num_replicas_in_sync, make_dataset)
    return strategy.distribute_datasets_from_function(make_dataset)


class FedFromHere:
    """The batches of one pipeline on this machine, for replicas on any machine."""

    def __init__(self, replicas, make_dataset):
        self._replicas = replicas
        context = tf.distribute.InputContext(
            num_input_pipelines=1, input_pipeline_id=0, num_replicas_in_sync=replicas
        )
        # Read one step ahead, so that a host call need not wait for its first batch.
        self.dataset = make_dataset(context).prefetch(replicas)

    def __iter__(self):
        return BatchIterator(iter(self.dataset), self._replicas)


class BatchIterator:
    """Gives each replica a batch of one iterator, eagerly and in graphs."""

    def __init__(self, iterator, replicas):
        self._iterator, self._replicas = iterator, replicas

    def __iter__(self):
        return self

    def __next__(self):
        """Returns a batch for each replica. Eagerly, raises StopIteration at the end."""
        try:
            with tf.device("CPU:0"):
                batches = [self._iterator.get_next() for _ in range(self._replicas)]
        except tf.errors.OutOfRangeError:
            raise StopIteration from None
        return tf.nest.map_structure(lambda *parts: PerReplica(parts), *batches)


def is_remote(strategy):
    """Whether any of a TPU's hosts is another machine."""
    if not isinstance(strategy, tf.distribute.TPUStrategy):
        return False  # the workers of other strategies run this program
    workers = {_task(device) for device in strategy.extended.worker_devices}
    return workers != {_task(tf.zeros([]).device)}


def _task(device):
    spec = tf.DeviceSpec.from_string(device)
    return spec.job, spec.task
