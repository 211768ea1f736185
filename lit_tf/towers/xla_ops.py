"""The functions of `lit_tf/towers/ops.py` as XLA runs them best: for a TPU, or by jit_compile=True.

Products are einsums, whose layouts XLA is free to choose. Attention leaves the heads where the
projections put them: a transpose between two products would copy all queries, keys or values.
"""

import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

from lit_tf.towers import ops
from lit_tf.towers.ops import attention_of_probe, lookup, zeros_first  # noqa: F401  the same


def layer_norm(x, scale, bias, epsilon):
    """As `ops.layer_norm`, with both sums in one pass, as in the original."""
    y = tf.cast(x, tf.float32)
    mean = tf.reduce_mean(y, axis=-1, keepdims=True)
    centered = y - mean
    squares = tf.reduce_mean(tf.square(y), axis=-1, keepdims=True)
    variance = tf.nn.relu(squares - tf.square(mean))  # this can round below 0, hence the relu
    return ops.scale_and_shift(centered, variance, scale, bias, epsilon, x.dtype)


def embed_patches(images, kernel, bias):
    """As `ops.embed_patches`, by a convolution whose stride is its size."""
    patch, _, _, width = kernel.shape
    x = tf.nn.conv2d(images, kernel, strides=patch, padding="VALID")
    grid = images.shape[1] // patch
    return tf.nn.bias_add(tf.reshape(x, (-1, grid * grid, width)), bias)


def dense(x, kernel, bias, gelu):
    """As `ops.dense`."""
    # Axes have names instead of "...". With "...", TensorFlow computes a kernel's gradient for each
    # token and then adds. XLA merges that into one product for a TPU, but not for CUDA.
    axes = "abcdefgh"[: x.shape.rank - 1]
    y = tf.einsum(f"{axes}i,io->{axes}o", x, kernel) + bias
    # Stored, because a TPU would otherwise compute GELU again for every tile of the next product.
    return _materialize(tf.nn.gelu(y, approximate=True)) if gelu else y


@tf.custom_gradient
def _materialize(x):
    """Returns x, which XLA then stores rather than computes anew within whatever reads it."""
    return gen_xla_ops.xla_optimization_barrier([x])[0], lambda upstream: upstream


def attention(layer, queries, keys, padding=None, dropout_rate=0.0, dropout_seed=None):
    """As `ops.attention`."""
    q, k, v = (
        _project(linear, x, layer)  # (batch, tokens, heads, head_dim)
        for linear, x in ((layer.query, queries), (layer.key, keys), (layer.value, keys))
    )
    q *= tf.cast(layer.head_dim**-0.5, q.dtype)
    if queries.shape[0] == 1:  # attention pooling's probe, projected once for all images
        q = tf.repeat(q, tf.shape(k)[0], axis=0)
    logits = tf.einsum("bqhd,bkhd->bhqk", q, k)
    if padding is not None:
        logits += tf.cast(padding, logits.dtype)
    weights = tf.nn.softmax(logits)  # (batch, heads, queries, keys)
    if dropout_seed is not None:
        weights = ops.dropout(weights, dropout_rate, dropout_seed)
    y = tf.einsum("bhqk,bkhd->bqhd", weights, v)
    kernel = tf.reshape(tf.cast(layer.out.kernel, y.dtype), (*y.shape[2:], -1))
    return tf.einsum("bqhd,hdw->bqw", y, kernel) + tf.cast(layer.out.bias, y.dtype)


def _project(linear, x, layer):
    """Maps (batch, tokens, width) to (batch, tokens, heads, head_dim) in one product."""
    heads = (layer.num_heads, layer.head_dim)
    kernel = tf.reshape(tf.cast(linear.kernel, x.dtype), (-1, *heads))
    return tf.einsum("btw,whd->bthd", x, kernel) + tf.reshape(tf.cast(linear.bias, x.dtype), heads)
