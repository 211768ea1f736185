"""Normalization, linear maps and attention as oneDNN runs them.

`xla_ops.py` has the same functions as XLA runs them, `lite_ops.py` as TFLite does; `layers.py`
chooses.
"""

import tensorflow as tf


def lookup(table, ids):
    """Returns the rows (..., width) of a table (rows, width) with these ids, int32 (...)."""
    return tf.gather(table, ids)


def layer_norm(x, scale, bias, epsilon):
    """Returns x (..., width) with its last axis at mean 0 and variance 1, scaled and shifted."""
    y = tf.cast(x, tf.float32)  # bfloat16 would lose the variance
    centered = y - tf.reduce_mean(y, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centered), axis=-1, keepdims=True)
    return scale_and_shift(centered, variance, scale, bias, epsilon, x.dtype)


def scale_and_shift(centered, variance, scale, bias, epsilon, dtype):
    """Returns centered / sqrt(variance + epsilon) * scale + bias, computed in float32."""
    scale, bias = tf.cast(scale, tf.float32), tf.cast(bias, tf.float32)
    # The scale is multiplied by the small factor first: one pass less over the activations.
    return tf.cast(centered * (tf.math.rsqrt(variance + epsilon) * scale) + bias, dtype)


def embed_patches(images, kernel, bias):
    """Maps images (batch, side, side, 3) to (batch, patches, width), by one product.

    oneDNN's convolution is slower and less exact. What does not fill a patch is left out.
    """
    patch, _, channels, width = kernel.shape
    grid = images.shape[1] // patch
    images = images[:, : grid * patch, : grid * patch]
    rows = tf.reshape(images, (-1, patch, grid, patch * channels))  # (batch * grid, ...)
    patches = tf.transpose(rows, (0, 2, 1, 3))  # (batch * grid, grid, patch, patch * channels)
    patches = tf.reshape(patches, (-1, grid * grid, patch * patch * channels))
    return dense(patches, tf.reshape(kernel, (-1, width)), bias, gelu=False)


def dense(x, kernel, bias, gelu):
    """Returns x (..., fan_in) @ kernel + bias, through GELU (tanh approximation) if asked."""
    fan_in, fan_out = kernel.shape  # one two-dimensional product, which oneDNN fuses with the rest
    y = tf.nn.bias_add(tf.matmul(tf.reshape(x, (-1, fan_in)), kernel), bias)
    if gelu:  # before the reshape, which would come between what oneDNN fuses
        y = tf.nn.gelu(y, approximate=True)
    return tf.reshape(y, (-1, *inner_sizes(x), fan_out))


def inner_sizes(x):
    """Returns the sizes of all axes of x but the first and the last; an unknown one is a tensor."""
    return [tf.shape(x)[i] if n is None else n for i, n in enumerate(x.shape)][1:-1]


def zeros_first(x):
    """Returns tokens (batch, tokens, width) with a row of zeros before them."""
    # Nothing here asks for the batch size, which XNNPACK could not run.
    return tf.pad(x, [[0, 0], [1, 0], [0, 0]])


def attention_of_probe(layer, probe, keys, padding=None):
    """As `attention` of a learned query, a variable (1, 1, width), for all of a batch."""
    return layer(tf.cast(probe, keys.dtype), keys, padding)


def attention(layer, queries, keys, padding=None, dropout_rate=0.0, dropout_seed=None):
    """Returns softmax(q k^T / sqrt(head_dim)) v per head, projected; see `layers.Attention`."""
    if queries.shape[1] == 1 and dropout_seed is None:
        return _attention_of_one_query(layer, queries, keys, padding)
    return attention_by_projections(layer, queries, keys, padding, dropout_rate, dropout_seed)


def attention_by_projections(
    layer, queries, keys, padding=None, dropout_rate=0.0, dropout_seed=None, see=lambda w: w
):
    """As `attention`, by the projections of all queries, keys and values.

    `see` is given the weights (batch, heads, queries, keys), and returns those to use.
    """
    q, k, v = (
        split_heads(project(x), layer)  # (batch, heads, tokens, head_dim)
        for project, x in ((layer.query, queries), (layer.key, keys), (layer.value, keys))
    )
    q *= tf.cast(layer.head_dim**-0.5, q.dtype)
    logits = tf.matmul(q, k, transpose_b=True)  # (batch, heads, queries, keys)
    if padding is not None:
        logits += tf.cast(padding, logits.dtype)
    weights = see(tf.nn.softmax(logits))
    if dropout_seed is not None:
        weights = dropout(weights, dropout_rate, dropout_seed)
    y = tf.transpose(tf.matmul(weights, v), (0, 2, 1, 3))  # (batch, queries, heads, head_dim)
    return layer.out(tf.reshape(y, (-1, *inner_sizes(queries), layer.num_heads * layer.head_dim)))


def _attention_of_one_query(layer, query, keys, padding):
    """As `attention`, of one query an example: a class token, or the probe of attention pooling.

    By associativity, q (x Wk)^T = (q Wk^T) x^T and w (x Wv) = (w x) Wv, and the right-hand sides
    multiply one row per head where the left-hand sides multiply one per key.
    """
    heads = (layer.num_heads, layer.head_dim)

    def per_head(variable):
        return tf.reshape(tf.cast(variable, keys.dtype), (-1, *heads))

    q = tf.reshape(layer.query(query), (-1, *heads)) * tf.cast(layer.head_dim**-0.5, keys.dtype)
    wanted = tf.einsum("bhd,whd->bhw", q, per_head(layer.key.kernel))
    logits = tf.matmul(wanted, keys, transpose_b=True)  # (batch, heads, keys)
    # The same for all keys of a head: it changes no weight, but its variable keeps a gradient.
    logits += tf.reduce_sum(q * per_head(layer.key.bias), axis=-1, keepdims=True)
    if padding is not None:
        logits += tf.cast(tf.squeeze(padding, axis=1), logits.dtype)
    x = tf.matmul(tf.nn.softmax(logits), keys)  # (batch, heads, width)
    # The weights of a head sum to 1, so the values' bias is added once.
    y = tf.einsum("bhw,whd->bhd", x, per_head(layer.value.kernel)) + per_head(layer.value.bias)
    return layer.out(tf.reshape(y, (-1, 1, heads[0] * heads[1])))


def split_heads(x, layer):
    """Maps (batch, tokens, width) to (batch, heads, tokens, head_dim)."""
    x = tf.reshape(x, (-1, *inner_sizes(x), layer.num_heads, layer.head_dim))
    return tf.transpose(x, (0, 2, 1, 3))


def dropout(x, rate, seed, noise_shape=None):
    """Returns x with the share `rate` of its values zeroed, by a seed, and the rest scaled up."""
    shape = tf.shape(x) if noise_shape is None else noise_shape
    keep = tf.random.stateless_uniform(shape, seed, dtype=tf.float32) >= rate
    return tf.where(keep, x / tf.cast(1 - rate, x.dtype), tf.zeros((), x.dtype))
