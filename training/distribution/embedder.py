"""Embedding under a strategy: the replicas share each batch, and every host gets all of it back."""

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from lit_tf.contrastive.collectives import Collectives
from lit_tf.images.stream import in_flight

from .feed import distribute


class ReplicatedEmbedder:
    """A function of a batch, of which each replica of a strategy computes its share.

    Each embedding comes with the number of its example. Padding has the number -1. So all batches
    have one static shape, and padding cannot change a result.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        embed: Callable[[tf.Tensor], tf.Tensor],
        batch_size: int,
    ):
        replicas = strategy.num_replicas_in_sync
        self._strategy, self._local = strategy, -(-batch_size // replicas)
        self.batch_size = self._local * replicas
        collectives = Collectives()

        def on_replica(index, inputs):
            return collectives.gather(index), collectives.gather(embed(inputs))

        @tf.function(autograph=False)
        def step(index, inputs):
            # After the gather every replica holds the whole batch: the first one's is taken.
            outputs = strategy.run(on_replica, args=(index, inputs))
            return [strategy.experimental_local_results(x)[0] for x in outputs]

        self.step = step

    def run(self, make_batches: Callable) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields (numbers, -1 for padding; embeddings) of global batches, shared by the hosts."""

        def make(context):
            return make_batches(context.get_per_replica_batch_size(self.batch_size), context)

        dataset = distribute(self._strategy, make)
        for _, outputs in in_flight(dataset, lambda batch: self.step(*batch)):
            yield outputs

    def embed_rows(self, rows: np.ndarray) -> np.ndarray:
        """Embeds what this host holds."""
        starts = range(0, len(rows), self.batch_size)
        parts = in_flight((rows[i : i + self.batch_size] for i in starts), self._start)
        return np.concatenate([z[index >= 0] for _, (index, z) in parts])

    def _start(self, rows):
        """Starts a batch of at most `batch_size` rows, filled up with zeros."""
        index = np.full(self.batch_size, -1, np.int32)
        index[: len(rows)] = np.arange(len(rows))
        whole = np.zeros((self.batch_size, *rows.shape[1:]), rows.dtype)
        whole[: len(rows)] = rows

        def share(values):
            def of_replica(context):
                first = context.replica_id_in_sync_group * self._local
                return tf.constant(values[first : first + self._local])

            return self._strategy.experimental_distribute_values_from_function(of_replica)

        return self.step(share(index), share(whole))
