"""The functions of `ops.py` as every TFLite runtime, GPU and NPU reads them the same way.

The quantizer knows the patches by their convolution, and stores a product's weights smaller only if
it is FULLY_CONNECTED. GPUs take the first axis for the batch, so nothing else goes there.
"""

import tensorflow as tf

from lit_tf.towers.ops import attention_by_projections as attention
from lit_tf.towers.ops import layer_norm, lookup, split_heads
from lit_tf.towers.xla_ops import embed_patches

__all__ = ["attention", "attention_of_probe", "dense", "embed_patches", "layer_norm", "lookup"]
__all__ += ["zeros_first"]


def dense(x, kernel, bias, gelu):
    """As `ops.dense`, with all axes of x kept."""
    y = tf.matmul(x, kernel) + bias
    return tf.nn.gelu(y, approximate=True) if gelu else y


def zeros_first(x):
    """As `ops.zeros_first`, by a PAD of four axes: a GPU shifts the rows of a batch by three."""
    _, tokens, width = x.shape
    x = tf.pad(tf.reshape(x, (-1, 1, tokens, width)), [[0, 0], [0, 0], [1, 0], [0, 0]])
    return tf.reshape(x, (-1, 1 + tokens, width))


def attention_of_probe(layer, probe, keys, padding=None):
    """As `ops.attention_of_probe`, by q (x Wk)^T = x (Wk q^T), for GPUs."""
    heads = (layer.num_heads, layer.head_dim)
    # Computed here, to be a constant. The keys' bias would change nothing.
    with tf.init_scope():
        q = tf.reshape(layer.query(tf.convert_to_tensor(probe)), heads) * layer.head_dim**-0.5
        kernel = tf.reshape(layer.key.kernel, (-1, *heads))
        wanted = tf.reduce_sum(kernel * q, axis=-1).numpy()  # (width, heads)
    with tf.name_scope("probe"):
        logits = tf.matmul(keys, tf.constant(wanted))  # (batch, tokens, heads)
    logits = tf.transpose(logits, (0, 2, 1))[:, :, tf.newaxis]
    if padding is not None:
        logits += padding
    weights, values = tf.nn.softmax(logits), split_heads(layer.value(keys), layer)
    y = tf.matmul(weights, values)  # (batch, heads, 1, head_dim)
    return layer.out(tf.reshape(y, (-1, 1, heads[0] * heads[1])))
