"""The functions of `lit_tf/towers/ops.py` as XLA runs them best: for a TPU, or by jit_compile=True.

Products are einsums, whose layouts XLA is free to choose. Attention leaves the heads where the
projections put them: a transpose between two products would copy all queries, keys or values. It
also takes several short texts as one row, to fill the 128 rows of a matrix unit.
"""

import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

from lit_tf.towers import ops
from lit_tf.towers.ops import lookup  # noqa: F401  the same


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
    batch, tokens = keys.shape[:2]
    packed = _texts_per_row(batch, tokens) if queries.shape[1] == tokens else 1
    if packed > 1:
        queries, keys = (
            tf.reshape(x, (batch // packed, packed * tokens, x.shape[2])) for x in (queries, keys)
        )
        padding = _within_each_text(padding, packed, tokens)
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
    if dropout_seed is not None and packed > 1:
        weights = _dropout_packed(weights, dropout_rate, dropout_seed, packed)
    elif dropout_seed is not None:
        weights = ops.dropout(weights, dropout_rate, dropout_seed)
    y = tf.einsum("bhqk,bkhd->bqhd", weights, v)
    kernel = tf.reshape(tf.cast(layer.out.kernel, y.dtype), (*y.shape[2:], -1))
    y = tf.einsum("bqhd,hdw->bqw", y, kernel) + tf.cast(layer.out.bias, y.dtype)
    return tf.reshape(y, (batch, tokens, y.shape[2])) if packed > 1 else y


def _project(linear, x, layer):
    """Maps (batch, tokens, width) to (batch, tokens, heads, head_dim) in one product."""
    heads = (layer.num_heads, layer.head_dim)
    kernel = tf.reshape(tf.cast(linear.kernel, x.dtype), (-1, *heads))
    return tf.einsum("btw,whd->bthd", x, kernel) + tf.reshape(tf.cast(linear.bias, x.dtype), heads)


def _texts_per_row(batch, tokens):
    """Returns how many texts of a batch share a row of at most 128 tokens; 1 for none."""
    if batch is None:
        return 1
    return max((n for n in range(2, 128 // tokens + 1) if batch % n == 0), default=1)


def _within_each_text(padding, packed, tokens):
    """Returns what to add to the logits of a row of texts: -inf between tokens of two texts.

    Args:
        padding: None, or float (batch, 1, 1, tokens), as in `Attention`.
        packed: texts in a row.
        tokens: tokens of each text.

    Returns:
        float32 (batch / packed or 1, 1, packed * tokens, packed * tokens).
    """
    text = np.arange(packed * tokens) // tokens
    mask = np.where(text[:, None] == text, np.float32(0), np.float32(-np.inf))
    if padding is None:
        return tf.constant(mask[None, None])
    return tf.reshape(tf.cast(padding, tf.float32), (-1, 1, 1, packed * tokens)) + mask


def _dropout_packed(weights, rate, seed, packed):
    """Drops attention weights (rows, heads, packed * tokens, packed * tokens).

    Every query draws for the keys of its own text only; its other weights are zero anyway.
    """
    rows, heads, queries, keys = weights.shape
    keep = ops.keep_mask((rows, heads, queries // packed, keys), rate, seed)
    keep = tf.tile(keep, (1, 1, packed, 1))
    return ops.drop(weights, tf.transpose(keep, (0, 1, 3, 2)), rate)
