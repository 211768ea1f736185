"""Contrastive losses over the global batch. Each replica computes only its own rows of logits.

Every function returns this replica's share: the shares of all replicas add up to the loss over the
global batch, and so do their gradients. A replica holds (local batch x global batch) logits, never
(global x global); chunked, it holds (chunk x global).

Softmax as in "LiT" (arXiv:2111.07991, section 3.1): the mean of image-to-text and text-to-image
cross-entropy. Sigmoid as in "Sigmoid Loss for Language Image Pre-Training" (arXiv:2303.15343,
section 3.2), its chunks over replicas (section 3.3) included.
"""

import importlib
import os
import sys
from collections.abc import Callable

import tensorflow as tf

from lit_tf.contrastive.config import SIGMOID, SOFTMAX
from lit_tf.contrastive.gradient_cache import loop
from lit_tf.errors import ConfigError


def _rows(x):
    """Returns the size of a batch: a number, or a tensor where one replica's batches differ."""
    return tf.shape(x)[0] if x.shape[0] is None else x.shape[0]


def _own_rows(local_batch, collectives):
    """Returns the numbers in the global batch of this replica's examples, int32 (local batch,)."""
    rows = tf.range(local_batch)
    return rows if collectives.num_replicas == 1 else collectives.replica_id() * local_batch + rows


def softmax_loss(zimg, ztxt, t, b=None, *, collectives, chunk=0) -> tf.Tensor:
    """This replica's share of the softmax contrastive loss over the global batch.

    Embeddings are unit-length float32 (local batch, width) of the same examples; `t` is the
    temperature's logarithm, not clipped. `b` is ignored: it would not change a softmax. `chunk`
    rows of logits are held at a time, a divisor of the local batch. With 0 all are, and autodiff
    makes the gradient; the numbers are the same.
    """
    local = _rows(zimg)
    all_zimg, all_ztxt = collectives.gather(zimg), collectives.gather(ztxt)
    total = _rows(all_zimg)
    own = _own_rows(local, collectives)
    scale = tf.exp(tf.reshape(t, []))
    if chunk:
        share = _chunked_cross_entropy(zimg, all_ztxt, scale, own, chunk)
        share += _chunked_cross_entropy(ztxt, all_zimg, scale, own, chunk)
        return share / tf.cast(2 * total, tf.float32)

    share = 0.0
    for rows, columns in ((zimg, all_ztxt), (ztxt, all_zimg)):
        logits = scale * tf.matmul(rows, columns, transpose_b=True)  # (local, global)
        share += tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(own, logits))
    return share / tf.cast(2 * total, tf.float32)


def _chunked_cross_entropy(rows, columns, scale, labels, chunk):
    """Sum of cross-entropies of rows with columns; its gradient is accumulated going forward."""
    local, width = rows.shape
    total = columns.shape[0]

    @tf.custom_gradient
    def cross_entropy(rows, columns, scale):
        def body(i, loss, d_rows, d_columns, d_scale):
            begin = i * chunk
            part = tf.slice(rows, [begin, 0], [chunk, width])
            cosines = tf.matmul(part, columns, transpose_b=True)  # (chunk, global)
            answers = tf.one_hot(tf.slice(labels, [begin], [chunk]), total)
            logits = scale * cosines
            logs = tf.nn.log_softmax(logits)
            error = tf.exp(logs) - answers  # d loss / d logits
            loss -= tf.reduce_sum(answers * logs)
            places = (begin + tf.range(chunk))[:, tf.newaxis]
            d_part = scale * tf.matmul(error, columns)
            d_rows = tf.tensor_scatter_nd_update(d_rows, places, d_part)
            d_columns += scale * tf.matmul(error, part, transpose_a=True)
            d_scale += tf.reduce_sum(error * cosines)
            return i + 1, loss, d_rows, d_columns, d_scale

        zero = tf.zeros([], rows.dtype)
        state = (zero, tf.zeros_like(rows), tf.zeros_like(columns), zero)
        _, loss, *gradients = loop(local // chunk, body, state)
        return loss, lambda up: tuple(up * gradient for gradient in gradients)

    return cross_entropy(rows, columns, scale)


def sigmoid_loss(zimg, ztxt, t, b=None, *, collectives, chunk=0) -> tf.Tensor:
    """This replica's share of the sigmoid loss over all pairs of the global batch.

    The replica's images meet the texts of one replica at a time, so that it holds
    (local batch x local batch) logits, or with `chunk` (local batch x chunk). Arguments are as in
    `softmax_loss`; `b` is added to the logits.
    """
    local = _rows(zimg)
    all_ztxt = collectives.gather(ztxt)
    total = _rows(all_ztxt)
    own = _own_rows(local, collectives)
    scale = tf.exp(tf.reshape(t, []))
    bias = tf.zeros([]) if b is None else tf.reshape(b, [])
    if (chunk and chunk == total) or (not chunk and collectives.num_replicas == 1):
        pair_sign = 2 * tf.eye(total) - 1
        logits = scale * tf.matmul(zimg, all_ztxt, transpose_b=True) + bias
        pairs = tf.reduce_sum(tf.math.log_sigmoid(pair_sign * logits))
        return -pairs / tf.cast(total, tf.float32)

    return _chunked_log_sigmoid(zimg, all_ztxt, scale, bias, own, chunk or local) / total


def _chunked_log_sigmoid(zimg, all_ztxt, scale, bias, own, chunk):
    """Sum of negative log-sigmoids of all pairs, `chunk` texts at a time, likewise."""
    total, width = all_ztxt.shape

    @tf.custom_gradient
    def pairs(zimg, all_ztxt, scale, bias):
        def body(i, loss, d_zimg, d_ztxt, d_scale, d_bias):
            begin = i * chunk
            part = tf.slice(all_ztxt, [begin, 0], [chunk, width])
            cosines = tf.matmul(zimg, part, transpose_b=True)  # (local, chunk)
            places = begin + tf.range(chunk)
            match = own[:, tf.newaxis] == places
            sign = 2 * tf.cast(match, zimg.dtype) - 1
            signed = sign * (scale * cosines + bias)
            loss -= tf.reduce_sum(tf.math.log_sigmoid(signed))
            error = -sign * tf.sigmoid(-signed)  # d loss / d logits
            d_zimg += scale * tf.matmul(error, part)
            d_part = scale * tf.matmul(error, zimg, transpose_a=True)
            d_ztxt = tf.tensor_scatter_nd_update(d_ztxt, places[:, tf.newaxis], d_part)
            d_scale += tf.reduce_sum(error * cosines)
            d_bias += tf.reduce_sum(error)
            return i + 1, loss, d_zimg, d_ztxt, d_scale, d_bias

        zero = tf.zeros([], zimg.dtype)
        state = (zero, tf.zeros_like(zimg), tf.zeros_like(all_ztxt), zero, zero)
        _, loss, *gradients = loop(total // chunk, body, state)
        return loss, lambda up: tuple(up * gradient for gradient in gradients)

    return pairs(zimg, all_ztxt, scale, bias)


LOSS_FUNCTIONS = {SOFTMAX: softmax_loss, SIGMOID: sigmoid_loss}


def loss_function(name: str | Callable) -> Callable:
    """Returns a loss by its name, or one's own: a function, or "module:function" (`LossConfig`)."""
    if isinstance(name, str) and ":" not in name:
        return LOSS_FUNCTIONS[name]
    own = _imported(name) if isinstance(name, str) else name

    def share(zimg, ztxt, t, b=None, *, collectives, chunk=0):
        if chunk:
            raise ConfigError("loss.chunk is for softmax and sigmoid, not for a loss of one's own")
        loss = own(collectives.gather(zimg), collectives.gather(ztxt), t, b)
        if loss.shape.rank != 0:
            raise ConfigError(f"the loss {name} returns {loss.shape}; expected a scalar")
        # Every replica computes it whole.
        return loss / collectives.num_replicas

    return share


def _imported(name):
    """Returns the function "module:function", where the module may lie in the current folder."""
    module, _, function = name.partition(":")
    sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(module), function, None)
    except ImportError as e:
        raise ConfigError(f"loss {name!r}: {e}") from None
    finally:
        sys.path.remove(os.getcwd())
    if not callable(found):
        raise ConfigError(f"loss {name!r}: {module} has no function {function!r}")
    return found
