"""One embedder for all who embed under a strategy."""

import numpy as np
import tensorflow as tf

from lit_tf.training.distribution.embedder import ReplicatedEmbedder


def test_rows_keep_their_order_and_what_fills_a_batch_up_does_not_show():
    sizes = []

    def embed(x):
        sizes.append(x.shape)
        return tf.cast(x[:, :1] + 1, tf.float32)

    embedder = ReplicatedEmbedder(tf.distribute.get_strategy(), embed, 4)
    for count in (1, 4, 10):
        rows = np.arange(2 * count, dtype=np.int32).reshape(count, 2)
        np.testing.assert_array_equal(embedder.embed_rows(rows), rows[:, :1] + 1)
    assert set(map(tuple, sizes)) == {(4, 2)}  # one static shape


def test_a_dataset_is_embedded_with_the_numbers_of_its_examples():
    embedder = ReplicatedEmbedder(tf.distribute.get_strategy(), lambda x: 2.0 * x, 2)

    def batches(batch_size, context):
        numbers = tf.constant([3, 1, 2, -1])
        values = tf.constant([[3.0], [1.0], [2.0], [9.0]])
        return tf.data.Dataset.from_tensor_slices((numbers, values)).batch(batch_size)

    found = {}
    for index, z in embedder.run(batches):
        found.update(zip(index.tolist(), z[:, 0].tolist(), strict=True))
    assert {k: v for k, v in found.items() if k >= 0} == {1: 2.0, 2: 4.0, 3: 6.0}
