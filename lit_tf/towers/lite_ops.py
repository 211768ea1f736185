"""The functions of `ops.py` as TFLite runs them: so that the quantizer finds all weights.

The quantizer knows the patches by their convolution, reads a token table in int8 only through
EMBEDDING_LOOKUP, and stores a product's weights smaller only if it is FULLY_CONNECTED.
"""

import tensorflow as tf

from lit_tf.towers.ops import attention_by_projections as attention
from lit_tf.towers.ops import dense, layer_norm
from lit_tf.towers.xla_ops import embed_patches

__all__ = ["attention", "dense", "embed_patches", "layer_norm", "lookup"]


@tf.function(experimental_implements="embedding_matmul", autograph=False)
def _rows(table, ids):
    return tf.gather(table, ids)


def lookup(table, ids):
    """As `ops.lookup`, by TFLite's EMBEDDING_LOOKUP."""
    rows = _rows(table, tf.reshape(ids, [-1]))
    return tf.reshape(rows, [-1, ids.shape[1], table.shape[1]])
