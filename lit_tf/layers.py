"""What both kinds of transformer are built from: normalization, attention, MLP, blocks.

Every variable has exactly the shape that it has in a published checkpoint, so that optimizers
whose update depends on the shape (Adafactor) do what the original does. Kernels with more than two
dimensions are viewed as matrices where they are used, which costs nothing.
"""

import dataclasses

import keras
import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops
from tensorflow.python.ops import control_flow_util

from lit_tf.initializers import initial_value


def compiled_by_xla() -> bool:
    """Whether what is being traced will be compiled as a whole: for a TPU, or by jit_compile=True.

    The same products are then written as einsums, whose layouts XLA is free to choose. Elsewhere
    they are two-dimensional, which oneDNN fuses with bias and GELU.
    """
    graph = tf.compat.v1.get_default_graph()
    return control_flow_util.GraphOrParentsInXlaContext(graph)


@tf.custom_gradient
def materialize(x):
    """Returns x, which XLA then stores rather than computes anew within whatever reads it."""
    return gen_xla_ops.xla_optimization_barrier([x])[0], lambda upstream: upstream


class Part(keras.layers.Layer):
    """A layer that knows the names of its variables in a checkpoint.

    Subclasses set `names`, which maps attributes (a variable, or another Part) to the name of that
    variable or group of variables.
    """

    names: dict[str, str] = {}

    def leaf(self, name, shape, **kwargs):
        """Returns a new variable, zero until it is filled from a checkpoint or by a rule."""
        return self.add_weight(name=name, shape=shape, initializer="zeros", **kwargs)

    def canonical_variables(self) -> dict[str, keras.Variable]:
        """Returns {name: variable} of this layer and all below it, names joined by '/'."""
        out = {}
        for attribute, name in self.names.items():
            item = getattr(self, attribute)
            if isinstance(item, Part):
                out.update({f"{name}/{k}": v for k, v in item.canonical_variables().items()})
            elif item is not None:
                out[name] = item
        return out


class LayerNorm(Part):
    """Normalizes the last axis to mean 0 and variance 1, in float32, then scales and shifts."""

    names = {"scale": "scale", "bias": "bias"}

    def __init__(self, width, epsilon, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.scale = self.leaf("scale", (width,))
        self.bias = self.leaf("bias", (width,))
        self.built = True

    def call(self, x):
        """Maps (..., width) to the same shape and dtype."""
        y = tf.cast(x, tf.float32)  # bfloat16 sums would lose the variance
        mean = tf.reduce_mean(y, axis=-1, keepdims=True)
        centered = y - mean
        if compiled_by_xla():
            # As in the original: both sums in one pass over the activations, or in the pass of the
            # product that makes them. The difference may round to less than nothing.
            squares = tf.reduce_mean(tf.square(y), axis=-1, keepdims=True)
            variance = tf.nn.relu(squares - tf.square(mean))
        else:
            variance = tf.reduce_mean(tf.square(centered), axis=-1, keepdims=True)
        scale = tf.cast(self.scale, tf.float32)
        # The scale meets the small factor first: one pass less over the activations.
        y = centered * (tf.math.rsqrt(variance + self.epsilon) * scale)
        return tf.cast(y + tf.cast(self.bias, tf.float32), x.dtype)


class Dense(Part):
    """A linear map of the last `len(in_shape)` axes to `out_shape`, computed as one matrix product.

    Args:
      in_shape: sizes of the axes that are contracted.
      out_shape: sizes of the axes that are made.
    """

    names = {"kernel": "kernel", "bias": "bias"}

    def __init__(self, in_shape, out_shape, **kwargs):
        super().__init__(**kwargs)
        self.fan_in, self.fan_out = int(np.prod(in_shape)), int(np.prod(out_shape))
        self.kernel = self.leaf("kernel", (*in_shape, *out_shape))
        self.bias = self.leaf("bias", out_shape)
        self.built = True

    def call(self, x, gelu=False):
        """Maps (..., fan_in) to (..., fan_out), then through GELU (tanh form) where asked."""
        kernel = tf.reshape(tf.cast(self.kernel, x.dtype), (self.fan_in, self.fan_out))
        bias = tf.reshape(tf.cast(self.bias, x.dtype), (self.fan_out,))
        if compiled_by_xla():
            y = tf.einsum("...i,io->...o", x, kernel) + bias
            # Stored: a TPU would rather compute GELU again for every tile of the next product.
            return materialize(tf.nn.gelu(y, approximate=True)) if gelu else y
        # One two-dimensional product: what oneDNN fuses with bias and GELU.
        y = tf.nn.bias_add(tf.matmul(tf.reshape(x, (-1, self.fan_in)), kernel), bias)
        if gelu:  # before the reshape, which would come between what oneDNN fuses
            y = tf.nn.gelu(y, approximate=True)
        return tf.reshape(y, (-1, *x.shape[1:-1], self.fan_out))


def dropout(x, rate, seed, noise_shape=None):
    """Returns x with a share of its values zeroed and the rest scaled up; stateless.

    Args:
      x: float tensor.
      rate: share of values dropped.
      seed: int32 (2,), which alone decides the mask.
      noise_shape: shape of the mask, which is broadcast; None for x's.
    """
    keep = _kept(tf.shape(x) if noise_shape is None else noise_shape, rate, seed)
    return _masked(x, keep, rate)


def _kept(shape, rate, seed):
    return tf.random.stateless_uniform(shape, seed, dtype=tf.float32) >= rate


def _masked(x, keep, rate):
    return tf.where(keep, x / tf.cast(1 - rate, x.dtype), tf.zeros((), x.dtype))


class Attention(Part):
    """Multi-head dot-product attention.

    Args:
      width: width of the residual stream.
      num_heads: heads.
      flat: whether kernels are stored as (width, width), as BERT does, rather than with an axis
        of heads.
    """

    names = {"query": "query", "key": "key", "value": "value", "out": "out"}

    def __init__(self, width, num_heads, flat=False, **kwargs):
        super().__init__(**kwargs)
        self.num_heads, self.head_dim = num_heads, width // num_heads
        heads = (width,) if flat else (num_heads, self.head_dim)
        policy = self.dtype_policy
        self.query = Dense((width,), heads, dtype=policy, name="query")
        self.key = Dense((width,), heads, dtype=policy, name="key")
        self.value = Dense((width,), heads, dtype=policy, name="value")
        self.out = Dense(heads, (width,), dtype=policy, name="out")
        self.built = True

    def _heads(self, x):
        x = tf.reshape(x, (-1, x.shape[1], self.num_heads, self.head_dim))
        return tf.transpose(x, (0, 2, 1, 3))  # (batch, heads, tokens, head_dim)

    def _project(self, dense, x):
        """Maps (batch, tokens, width) to (batch, tokens, heads, head_dim) in one product."""
        kernel = tf.reshape(tf.cast(dense.kernel, x.dtype), (-1, self.num_heads, self.head_dim))
        bias = tf.reshape(tf.cast(dense.bias, x.dtype), (self.num_heads, self.head_dim))
        return tf.einsum("btw,whd->bthd", x, kernel) + bias

    def call(self, queries, keys, padding=None, dropout_rate=0.0, dropout_seed=None):
        """Attends from every query to every key.

        Args:
          queries: (batch, queries, width).
          keys: (batch, keys, width), also the values.
          padding: None, or float (batch, 1, 1, keys) that is added to the logits: 0 where a key
            counts, very negative where it does not.
          dropout_rate: share of attention weights dropped where `dropout_seed` is given.
          dropout_seed: int32 (2,), or None outside training.

        Returns:
          (batch, queries, width).
        """
        xla = compiled_by_xla()
        batch, tokens = keys.shape[:2]
        packed = _texts_per_row(batch, tokens) if xla and queries.shape[1] == tokens else 1
        if packed > 1:
            queries, keys = (
                tf.reshape(x, (batch // packed, packed * tokens, x.shape[2]))
                for x in (queries, keys)
            )
            padding = _among_own_tokens(padding, packed, tokens)
        # For XLA the heads stay where the projections put them: a transpose between two products
        # would be a copy of all queries, keys or values, for which it finds no better place.
        q, k, v = (
            self._project(dense, x) if xla else self._heads(dense(x))
            for dense, x in ((self.query, queries), (self.key, keys), (self.value, keys))
        )
        q *= tf.cast(self.head_dim**-0.5, q.dtype)
        # (batch, heads, queries, keys)
        logits = tf.einsum("bqhd,bkhd->bhqk", q, k) if xla else tf.matmul(q, k, transpose_b=True)
        if padding is not None:
            logits += tf.cast(padding, logits.dtype)
        weights = tf.nn.softmax(logits)
        if dropout_seed is not None and packed > 1:
            # Every query draws for the keys of its own sequence; all other weights are zero anyway.
            shape = (batch // packed, self.num_heads, tokens, packed * tokens)
            keep = tf.tile(_kept(shape, dropout_rate, dropout_seed), (1, 1, packed, 1))
            weights = _masked(weights, tf.transpose(keep, (0, 1, 3, 2)), dropout_rate)
        elif dropout_seed is not None:
            weights = dropout(weights, dropout_rate, dropout_seed)
        if xla:
            y = tf.einsum("bhqk,bkhd->bqhd", weights, v)
            kernel = tf.reshape(tf.cast(self.out.kernel, y.dtype), (*y.shape[2:], -1))
            y = tf.einsum("bqhd,hdw->bqw", y, kernel) + tf.cast(self.out.bias, y.dtype)
            return tf.reshape(y, (batch, tokens, y.shape[2])) if packed > 1 else y
        y = tf.transpose(tf.matmul(weights, v), (0, 2, 1, 3))  # (batch, queries, heads, head_dim)
        return self.out(tf.reshape(y, (-1, y.shape[1], self.num_heads * self.head_dim)))


def _texts_per_row(batch, tokens):
    """How many short sequences attention takes as one, to fill the 128 rows of a matrix unit."""
    if batch is None:
        return 1
    return max((n for n in range(2, 128 // tokens + 1) if batch % n == 0), default=1)


def _among_own_tokens(padding, packed, tokens):
    """Returns what to add to the logits of `packed` sequences in a row: -inf between two of them.

    Args:
      padding: None, or float (batch, 1, 1, tokens), as in Attention.
      packed: sequences in a row.
      tokens: tokens of each.

    Returns:
      float32 (batch / packed or 1, 1, packed * tokens, packed * tokens).
    """
    sequence = np.arange(packed * tokens) // tokens
    mask = np.where(sequence[:, None] == sequence, np.float32(0), np.float32(-np.inf))
    if padding is None:
        return tf.constant(mask[None, None])
    return tf.reshape(tf.cast(padding, tf.float32), (-1, 1, 1, packed * tokens)) + mask


class Mlp(Part):
    """Two linear maps with a GELU between them (the tanh approximation, in all towers)."""

    names = {"hidden": "Dense_0", "out": "Dense_1"}

    def __init__(self, width, mlp_dim, **kwargs):
        super().__init__(**kwargs)
        self.hidden = Dense((width,), (mlp_dim,), dtype=self.dtype_policy, name="hidden")
        self.out = Dense((mlp_dim,), (width,), dtype=self.dtype_policy, name="out")
        self.built = True

    def call(self, x):
        """Maps (batch, tokens, width) to the same shape."""
        return self.out(self.hidden(x, gelu=True))


class PreNormBlock(Part):
    """The block of ViT and of the plain text transformer: x + MHA(LN(x)), then x + MLP(LN(x))."""

    names = {
        "attention_norm": "LayerNorm_0",
        "attention": "MultiHeadDotProductAttention_0",
        "mlp_norm": "LayerNorm_1",
        "mlp": "MlpBlock_0",
    }

    def __init__(self, width, num_heads, mlp_dim, **kwargs):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.attention_norm = LayerNorm(width, 1e-6, dtype=policy, name="attention_norm")
        self.attention = Attention(width, num_heads, dtype=policy, name="attention")
        self.mlp_norm = LayerNorm(width, 1e-6, dtype=policy, name="mlp_norm")
        self.mlp = Mlp(width, mlp_dim, dtype=policy, name="mlp")
        self.built = True

    def call(self, x, only=None):
        """Maps (batch, tokens, width) to the same shape, or to one token.

        Args:
          x: (batch, tokens, width).
          only: None, or the one position to compute. In a tower's last block nothing else is used,
            which saves nearly all of that block's work.

        Returns:
          (batch, tokens, width), or (batch, 1, width) where `only` is given.
        """
        y = self.attention_norm(x)
        queries = y
        if only is not None:
            x, queries = x[:, only : only + 1], y[:, only : only + 1]
        x += self.attention(queries, y)
        return x + self.mlp(self.mlp_norm(x))


class PostNormBlock(Part):
    """BERT's layer: LN(x + dense(MHA(x))), then LN(x + dense(gelu(dense(x))))."""

    names = {"attention_norm": "attention_block/layer_norm", "mlp_norm": "mlp_block/layer_norm"}

    def __init__(self, width, num_heads, mlp_dim, dropout_rate=0.0, **kwargs):
        super().__init__(**kwargs)
        self.dropout_rate = dropout_rate
        policy = self.dtype_policy
        self.attention = Attention(width, num_heads, flat=True, dtype=policy, name="attention")
        self.attention_norm = LayerNorm(width, 1e-12, dtype=policy, name="attention_norm")
        self.mlp = Mlp(width, mlp_dim, dtype=policy, name="mlp")
        self.mlp_norm = LayerNorm(width, 1e-12, dtype=policy, name="mlp_norm")
        self.built = True

    def canonical_variables(self):
        """As in Part; BERT files its projections under names of its own."""
        out = super().canonical_variables()
        groups = {
            "attention_block/attention_layer/query": self.attention.query,
            "attention_block/attention_layer/key": self.attention.key,
            "attention_block/attention_layer/value": self.attention.value,
            "attention_block/dense_layer": self.attention.out,
            "mlp_block/mlp/dense_layer": self.mlp.hidden,
            "mlp_block/dense_layer": self.mlp.out,
        }
        for prefix, dense in groups.items():
            out.update({f"{prefix}/{k}": v for k, v in dense.canonical_variables().items()})
        return out

    def call(self, x, padding=None, only=None, dropout_seeds=None):
        """Maps (batch, tokens, width) to the same shape, or to one token.

        Args:
          x: (batch, tokens, width).
          padding: as in Attention.
          only: None, or the one position to compute.
          dropout_seeds: int32 (3, 2), one seed a mask; None outside training.

        Returns:
          (batch, tokens, width), or (batch, 1, width) where `only` is given.
        """
        seeds = [None] * 3 if dropout_seeds is None else tf.unstack(dropout_seeds)
        queries = x if only is None else x[:, only : only + 1]
        y = self.attention(
            queries, x, padding=padding, dropout_rate=self.dropout_rate, dropout_seed=seeds[0]
        )
        if seeds[1] is not None:
            y = dropout(y, self.dropout_rate, seeds[1])
        x = self.attention_norm(queries + y)
        y = self.mlp(x)
        if seeds[2] is not None:
            # As in the original, all positions share one mask here, and only here.
            y = dropout(y, self.dropout_rate, seeds[2], (tf.shape(y)[0], 1, y.shape[2]))
        return self.mlp_norm(x + y)


class Tower(Part):
    """What the three towers share: blocks held as attributes, a head, filling by a rule.

    Blocks are attributes (`block_0`, ...), not a list: tf.train.Checkpoint leaves out Keras layers
    that are held in lists, without a word.
    """

    block_prefix = ""
    config_class = None  # of `config`

    def finish(self, seed):
        """Makes the head, if there is one, and fills all variables unless `seed` is None."""
        width, out_dim = self.config.width, self.config.out_dim
        policy = self.dtype_policy
        self.head = Dense((width,), (out_dim,), dtype=policy, name="head") if out_dim else None
        self.built = True
        if seed is not None:
            self.initialize(seed)

    def compute_output_shape(self, input_shape):
        """Returns (batch, embedding width)."""
        return (input_shape[0], self.config.embedding_dim)

    def get_config(self):
        """Returns what `from_config` needs."""
        return {**super().get_config(), "config": dataclasses.asdict(self.config)}

    @classmethod
    def from_config(cls, config):
        """Rebuilds the tower with all variables at zero, to be filled."""
        config = dict(config)
        return cls(cls.config_class(**config.pop("config")), seed=None, **config)

    def add_blocks(self, make_block, depth):
        """Makes `depth` blocks, where `make_block(name)` makes one."""
        self.depth = depth
        for i in range(depth):
            setattr(self, f"block_{i}", make_block(f"block_{i}"))

    @property
    def blocks(self):
        """The blocks, first to last."""
        return [getattr(self, f"block_{i}") for i in range(self.depth)]

    def canonical_variables(self):
        """Returns {canonical name without img/ or txt/: variable}."""
        out = super().canonical_variables()
        for i, block in enumerate(self.blocks):
            prefix = f"{self.block_prefix}{i}"
            out.update({f"{prefix}/{k}": v for k, v in block.canonical_variables().items()})
        return out

    def initialize(self, seed):
        """Fills every variable by the original's rule for its name; equal seeds, equal values."""
        for name, variable in self.canonical_variables().items():
            variable.assign(initial_value(name, tuple(variable.shape), seed))

    def initialize_head(self, seed):
        """Fills only the head by that rule, for a tower whose rest comes from a checkpoint."""
        for name, variable in self.head.canonical_variables().items():
            variable.assign(initial_value(f"head/{name}", tuple(variable.shape), seed))
