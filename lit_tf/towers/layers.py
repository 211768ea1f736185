"""What all towers are built from: normalization, linear maps, attention, MLP, blocks.

Every variable has its shape in a published checkpoint, for optimizers whose update depends on the
shape (Adafactor). Kernels of more than two dimensions are viewed as matrices where they are used.
"""

import contextlib
import contextvars
import dataclasses
import operator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state
from tensorflow.python.ops import control_flow_util

from lit_tf.errors import ConfigError, ExportError, LitError, TokenizerError
from lit_tf.towers import lite_ops, ops, xla_ops
from lit_tf.towers.initializers import initial_value


def compiled_by_xla() -> bool:
    """Whether XLA will compile what is being traced as a whole: for a TPU, or by jit_compile."""
    graph = tf.compat.v1.get_default_graph()
    return control_flow_util.GraphOrParentsInXlaContext(graph)


_FOR_TFLITE = contextvars.ContextVar("for_tflite", default=False)


@contextlib.contextmanager
def tracing_for_tflite():
    """A context in which towers are traced as TFLite runs them."""
    token = _FOR_TFLITE.set(True)
    try:
        yield
    finally:
        _FOR_TFLITE.reset(token)


def current_ops():
    """Returns the module that computes what is being traced."""
    if _FOR_TFLITE.get():
        return lite_ops
    return xla_ops if compiled_by_xla() else ops


def dtype_policy(dtype) -> keras.dtype_policies.DTypePolicy:
    """Returns what Keras makes of a dtype: `float32`, `bfloat16`, `mixed_bfloat16`, ..."""
    try:
        policy = keras.dtype_policies.get(dtype)
    except (TypeError, ValueError) as e:
        raise ConfigError(f"dtype {dtype!r}: {e}") from None
    quantized = isinstance(policy, keras.dtype_policies.QuantizedDTypePolicy)
    if quantized or not tf.as_dtype(policy.variable_dtype).is_floating:
        raise ConfigError(
            f"dtype {dtype!r}: expected floats, such as bfloat16. For int8, export the model: "
            'lit_tf.export.tflite(model, dir, quantization="int8")'
        )
    return policy


def shape_and_dtype(x) -> tuple[tuple[int | None, ...] | None, str]:
    """Returns (shape, None where its rank is unknown; dtype) of an array, tensor or Keras input."""
    x = x if hasattr(x, "shape") else np.asarray(x)
    known = getattr(x.shape, "rank", 0) is not None
    return tuple(x.shape) if known else None, keras.backend.standardize_dtype(x.dtype)


def limits(x) -> tuple[float, float] | None:
    """Returns the smallest and the largest value of what is computed now; None in graphs."""
    if not tf.executing_eagerly() or isinstance(x, keras.KerasTensor):
        return None
    x = x.numpy() if hasattr(x, "numpy") else np.asarray(x)
    return (float(x.min()), float(x.max())) if x.size else None


def first_values(seed):
    """Returns the seed of a layer that Keras makes from its config: None if a file fills it."""
    # Keras looks for shared objects only while it reads a file, and then fills every variable.
    reads_file = global_state.get_global_attribute("shared_objects/id_to_obj_map") is not None
    return None if reads_file else seed or 0


def parts(layer, name=""):
    """Yields (dotted name, layer or variable) of a layer and all below it, outer ones first."""
    yield name, layer
    for attribute, value in vars(layer).items():
        if isinstance(value, CanonicalLayer):
            yield from parts(value, f"{name}{attribute}.")
        elif isinstance(value, keras.Variable):
            yield f"{name}{attribute}", value


def frozen(layer) -> list[str]:
    """Returns the names of the layers and variables that do not train, as `parts` has them."""
    return [name for name, part in parts(layer) if not part.trainable]


def freeze(layer, names) -> None:
    """Lets exactly the parts train that `frozen` did not name."""
    for name, part in parts(layer):
        part.trainable = name not in names


class Freezable:
    """A mixin with which `trainable = False` reaches all parts, whatever it said before."""

    def quantize(self, *args: Any, **kwargs: Any) -> None:
        """Refuses: Keras quantizes its own layers only, and would leave this one as it is."""
        raise ExportError(
            "Keras cannot quantize models and layers of lit_tf. Use lit_tf.export.tflite(model, "
            'dir, quantization="int8")'
        )

    def __setattr__(self, name, value):
        # TensorFlow passes over what looks like no change, but parts may differ from the whole.
        if name == "trainable":
            keras.layers.Layer.trainable.fset(self, value)
        else:
            super().__setattr__(name, value)


class CanonicalLayer(Freezable, keras.layers.Layer):
    """A layer that knows the names of its variables in a checkpoint."""

    # Attributes (variables or such layers), perhaps dotted, to their names or groups of names.
    canonical_names: dict[str, str] = {}

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.built = True  # constructors make all parts

    def parameter(self, name, shape, **kwargs):
        """Returns a new variable, zero until it is filled from a checkpoint or by a rule."""
        return self.add_weight(name=name, shape=shape, initializer="zeros", **kwargs)

    def enable_lora(self, *args, **kwargs):
        """Refuses: a checkpoint has no place for low-rank parts."""
        raise LitError(
            "the layers of lit_tf have no LoRA. Freeze what stays (trainable = False), or tune "
            'the head alone: model.compile(optimizer, locking="LH")'
        )

    def canonical_variables(self) -> dict[str, keras.Variable]:
        """Returns {name: variable} of this layer and all below it, names joined by '/'."""
        out = {}
        for attribute, name in self.canonical_names.items():
            item = operator.attrgetter(attribute)(self)
            if isinstance(item, CanonicalLayer):
                out.update({f"{name}/{k}": v for k, v in item.canonical_variables().items()})
            elif item is not None:
                out[name] = item
        return out


class LayerNorm(CanonicalLayer):
    """Normalizes the last axis to mean 0 and variance 1, in float32, then scales and shifts."""

    canonical_names = {"scale": "scale", "bias": "bias"}

    def __init__(self, width, epsilon, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.scale = self.parameter("scale", (width,))
        self.bias = self.parameter("bias", (width,))

    def call(self, x):
        """Maps (..., width) to the same shape and dtype."""
        return current_ops().layer_norm(x, self.scale, self.bias, self.epsilon)


class Dense(CanonicalLayer):
    """A linear map of the last `len(in_shape)` axes to `out_shape`, computed as one product."""

    canonical_names = {"kernel": "kernel", "bias": "bias"}

    def __init__(self, in_shape, out_shape, **kwargs):
        super().__init__(**kwargs)
        self.fan_in, self.fan_out = int(np.prod(in_shape)), int(np.prod(out_shape))
        self.kernel = self.parameter("kernel", (*in_shape, *out_shape))
        self.bias = self.parameter("bias", out_shape)

    def call(self, x, gelu=False):
        """Maps (..., fan_in) to (..., fan_out), then through GELU (tanh approximation) if asked."""
        kernel = tf.reshape(tf.cast(self.kernel, x.dtype), (self.fan_in, self.fan_out))
        bias = tf.reshape(tf.cast(self.bias, x.dtype), (self.fan_out,))
        return current_ops().dense(x, kernel, bias, gelu)


class Attention(CanonicalLayer):
    """Multi-head dot-product attention; `flat` kernels have no axis of heads."""

    canonical_names = {"query": "query", "key": "key", "value": "value", "out": "out"}

    def __init__(self, width, num_heads, flat=False, **kwargs):
        super().__init__(**kwargs)
        self.num_heads, self.head_dim = num_heads, width // num_heads
        heads = (width,) if flat else (num_heads, self.head_dim)
        policy = self.dtype_policy
        self.query = Dense((width,), heads, dtype=policy, name="query")
        self.key = Dense((width,), heads, dtype=policy, name="key")
        self.value = Dense((width,), heads, dtype=policy, name="value")
        self.out = Dense(heads, (width,), dtype=policy, name="out")

    def call(self, queries, keys, padding=None, dropout_rate=0.0, dropout_seed=None):
        """Attends from (batch, queries, width) to keys (batch, keys, width), also the values.

        `padding` (batch, 1, 1, keys) is added to the logits: 0 where a key counts, very negative
        where it does not. With a seed, int32 (2,), a share of the attention weights is dropped.
        """
        return current_ops().attention(self, queries, keys, padding, dropout_rate, dropout_seed)


class Mlp(CanonicalLayer):
    """Two linear maps with a GELU between them (the tanh approximation, in all towers)."""

    canonical_names = {"hidden": "Dense_0", "out": "Dense_1"}

    def __init__(self, width, mlp_dim, **kwargs):
        super().__init__(**kwargs)
        self.hidden = Dense((width,), (mlp_dim,), dtype=self.dtype_policy, name="hidden")
        self.out = Dense((mlp_dim,), (width,), dtype=self.dtype_policy, name="out")

    def call(self, x):
        """Maps (batch, tokens, width) to the same shape."""
        return self.out(self.hidden(x, gelu=True))


# Added to the logits of padding. It is finite, so a text without tokens gives no NaN. In float16 it
# overflows to -inf, so there every text needs a token; all texts here begin with [CLS].
MASKED = -1e9


class PreNormBlock(CanonicalLayer):
    """The block of ViT and of the plain text transformer: x + MHA(LN(x)), then x + MLP(LN(x))."""

    canonical_names = {
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

    def call(self, x, padding=None, position=None):
        """Maps (batch, tokens, width) to the same shape; of one position, to (batch, 1, width)."""
        y = self.attention_norm(x)
        queries = y
        if position is not None:
            x, queries = x[:, position : position + 1], y[:, position : position + 1]
        return self.complete(x + self.attention(queries, y, padding))

    def complete(self, x):
        """Maps the block's first sum (batch, tokens, width) to the same shape."""
        return x + self.mlp(self.mlp_norm(x))


class PostNormBlock(CanonicalLayer):
    """BERT's layer: LN(x + dense(MHA(x))), then LN(x + dense(gelu(dense(x))))."""

    canonical_names = {
        "attention_norm": "attention_block/layer_norm",
        "mlp_norm": "mlp_block/layer_norm",
        "attention.query": "attention_block/attention_layer/query",
        "attention.key": "attention_block/attention_layer/key",
        "attention.value": "attention_block/attention_layer/value",
        "attention.out": "attention_block/dense_layer",
        "mlp.hidden": "mlp_block/mlp/dense_layer",
        "mlp.out": "mlp_block/dense_layer",
    }

    def __init__(self, width, num_heads, mlp_dim, dropout_rate=0.0, **kwargs):
        super().__init__(**kwargs)
        self.dropout_rate = dropout_rate
        policy = self.dtype_policy
        self.attention = Attention(width, num_heads, flat=True, dtype=policy, name="attention")
        self.attention_norm = LayerNorm(width, 1e-12, dtype=policy, name="attention_norm")
        self.mlp = Mlp(width, mlp_dim, dtype=policy, name="mlp")
        self.mlp_norm = LayerNorm(width, 1e-12, dtype=policy, name="mlp_norm")

    def call(self, x, padding=None, position=None, dropout_seeds=None):
        """As PreNormBlock; `dropout_seeds`, int32 (3, 2), has one seed a mask."""
        seeds = [None] * 3 if dropout_seeds is None else tf.unstack(dropout_seeds)
        queries = x if position is None else x[:, position : position + 1]
        y = self.attention(
            queries, x, padding=padding, dropout_rate=self.dropout_rate, dropout_seed=seeds[0]
        )
        if seeds[1] is not None:
            y = ops.dropout(y, self.dropout_rate, seeds[1])
        x = self.attention_norm(queries + y)
        y = self.mlp(x)
        if seeds[2] is not None:
            # As in the original, all positions share one mask here, and only here.
            y = ops.dropout(y, self.dropout_rate, seeds[2], (tf.shape(y)[0], 1, y.shape[2]))
        return self.mlp_norm(x + y)


class Tower(CanonicalLayer):
    """What all towers share: blocks, a head, filling by a rule."""

    block_prefix = ""
    config_class: type  # of `config`

    def __init__(self, config, seed, dtype=None, **kwargs):
        super().__init__(dtype=dtype_policy(dtype), **kwargs)
        self.config, self.seed = config, seed

    def finish(self):
        """Makes the linear head, if there is one, and fills all variables; ends the constructor."""
        width, out_dim = self.config.width, self.config.out_dim
        policy = self.dtype_policy
        self.head = Dense((width,), (out_dim,), dtype=policy, name="head") if out_dim else None
        if not self.trainable:  # asked for in the constructor, before there were parts
            self.trainable = False
        for name, variable in self.canonical_variables().items():
            variable._path = f"{self.name}/{name}"  # Keras's .h5 needs names that differ
        if self.seed is not None:
            self.initialize(self.seed)

    def __call__(self, inputs, *args, **kwargs):
        """Computes the layer, or adds it to a Keras graph; refuses what it does not take."""
        self.check(inputs)
        return super().__call__(inputs, *args, **kwargs)

    def check(self, inputs):
        """Raises a LitError if a tensor, array or Keras input is not what this tower takes."""
        raise NotImplementedError

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.config.embedding_dim)

    def get_config(self):
        sizes = dataclasses.asdict(self.config)
        return {**super().get_config(), "config": sizes, "seed": self.seed, "frozen": frozen(self)}

    @classmethod
    def from_config(cls, config):
        """Rebuilds the tower: frozen where it was, and started as the constructor does."""
        config = dict(config)
        sizes, names = cls.config_class(**config.pop("config")), config.pop("frozen", None)
        tower = cls(sizes, first_values(config.pop("seed", None)), **config)
        if names is not None:
            freeze(tower, names)
        return tower

    def add_blocks(self, block, *more):
        """Makes the blocks: `block(width, num_heads, mlp_dim, *more)` each."""
        # Attributes, since tf.train.Checkpoint silently leaves out Keras layers held in lists.
        c, self.depth = self.config, self.config.depth
        sizes = (c.width, c.num_heads, c.mlp_dim, *more)
        for name in (f"block_{i}" for i in range(c.depth)):
            setattr(self, name, block(*sizes, dtype=self.dtype_policy, name=name))

    @property
    def layers(self):
        """The parts, as `summary(expand_nested=True)` shows them."""
        return [part for part in vars(self).values() if isinstance(part, CanonicalLayer)]

    def __dir__(self):
        """Without `layers`: Keras would save the parts under that name too."""
        return [name for name in super().__dir__() if name != "layers"]

    @property
    def blocks(self):
        return [getattr(self, f"block_{i}") for i in range(self.depth)]

    def canonical_variables(self):
        """Returns {canonical name without img/ or txt/: variable}."""
        out = super().canonical_variables()
        for i, block in enumerate(self.blocks):
            prefix = f"{self.block_prefix}{i}"
            out.update({f"{prefix}/{k}": v for k, v in block.canonical_variables().items()})
        return out

    def initialize(self, seed, prefix=""):
        """Fills the variables whose names start with `prefix` by the original's rule for each."""
        for name, variable in self.canonical_variables().items():
            if name.startswith(prefix):
                variable.assign(initial_value(name, tuple(variable.shape), seed))


class TextTower(Tower):
    """What both text towers share."""

    shortest = 2  # tokens of a text: BERT's first and last

    def call(self, tokens, training=False, dropout_seed=None):
        """Maps tokens (batch, length) to (batch, embedding width); BERT's padding is 0.

        All dropout masks, in training, follow from `dropout_seed` (int32 (2,)); None draws one.
        """
        x = self.representation(tokens, training, dropout_seed)
        return x if self.head is None else self.head(x)

    def check(self, tokens):
        """Raises TokenizerError for what is not integers (batch, length) in the token table."""
        shape, dtype = shape_and_dtype(tokens)
        rows, longest = self.config.vocab_size, self.config.max_length
        shortest = min(self.shortest, longest)
        length = f"{longest}" if shortest == longest else f"{shortest} to {longest}"
        wanted = f"the text tower takes integers in [0, {rows}) of shape (N, {length}), found"
        if "int" not in dtype:
            raise TokenizerError(f"{wanted} {dtype}. model.tokenize makes tokens of texts")
        if shape is None or len(shape) != 2:
            raise TokenizerError(f"{wanted} {'an unknown shape' if shape is None else shape}")
        # A batch that is cut to its longest text has no static length.
        if shape[0] != 0 and shape[1] is not None and not shortest <= shape[1] <= longest:
            raise TokenizerError(f"{wanted} {shape}")
        found = limits(tokens)
        if found and not 0 <= found[0] <= found[1] < rows:
            raise TokenizerError(
                f"{wanted} {found[0]:.0f} to {found[1]:.0f}; "
                "does the vocabulary belong to this checkpoint?"
            )
