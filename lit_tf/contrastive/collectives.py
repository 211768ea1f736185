"""Everything that a training step asks of the other replicas, in one place.

A program that compiles the step outside of a strategy, such as the TPU preflight, subclasses
`Collectives`.
"""

from collections.abc import Sequence

import tensorflow as tf


class Collectives:
    """The collectives of the `tf.distribute` replica context in which they are called."""

    @property
    def num_replicas(self) -> int:
        """How many replicas run the step in sync."""
        return tf.distribute.get_strategy().num_replicas_in_sync

    def replica_id(self) -> tf.Tensor:
        """Returns this replica's number, an int32 scalar in [0, num_replicas)."""
        context = tf.distribute.get_replica_context()
        return tf.cast(context.replica_id_in_sync_group, tf.int32)

    def all_reduce(self, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Sums tensors over the replicas. Not differentiable; `gather` brings its own gradient."""
        if self.num_replicas == 1:
            return list(values)
        context = tf.distribute.get_replica_context()
        return list(context.all_reduce(tf.distribute.ReduceOp.SUM, list(values)))

    def assign(self, variables: Sequence[tf.Variable], values: Sequence[tf.Tensor]) -> None:
        """Assigns to each replica's own copy of each variable its value; all compute equal ones."""

        def update(strategy, *new_values):
            for variable, value in zip(variables, new_values, strict=True):
                strategy.extended.update(variable, _assign, args=(value,), group=False)

        tf.distribute.get_replica_context().merge_call(update, args=tuple(values))

    def gather(self, x: tf.Tensor) -> tf.Tensor:
        """Concatenates every replica's rows, in the order of the replicas.

        The gradient is the transpose: the gradients of all replicas' losses by a row are summed,
        and the sum goes to the replica that the row came from. (A gather without it still trains,
        but on wrong gradients: each replica would see only its own share of the loss.)
        """
        replicas = self.num_replicas
        if replicas == 1:
            return x
        local = x.shape[0]
        replica = self.replica_id()

        @tf.custom_gradient
        def gather_rows(rows):
            # TF has no gather op for replicas. So sum buffers that are zero except for the
            # replica's own rows, as is usual on TPUs.
            place, shape = replica[tf.newaxis, tf.newaxis], [replicas, *rows.shape]
            buffer = tf.scatter_nd(place, rows[tf.newaxis], shape)
            gathered = self.all_reduce([tf.reshape(buffer, [replicas * local, *rows.shape[1:]])])[0]

            def gradient(upstream):
                total = self.all_reduce([upstream])[0]
                begin = tf.concat([[replica * local], [0] * (rows.shape.rank - 1)], 0)
                return tf.ensure_shape(tf.slice(total, begin, rows.shape), rows.shape)

            return gathered, gradient

        return gather_rows(x)


def _assign(variable, value):
    return variable.assign(value)
