"""What can be compiled: the train step of a config, and the two towers of its model."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from lit_tf.errors import ConfigError
from lit_tf.model import LitModel

from ..config import TrainConfig, check_batch
from ..towers import build_step, lit_config
from . import flops
from .lowering import XlaCollectives


@dataclasses.dataclass(frozen=True)
class Program:
    """A function to compile, as one replica runs it."""

    function: Callable
    arguments: list  # `tf.TensorSpec`s of a replica's share of the batch
    sizes: dict  # {"parameters", "optimizer"}: bytes that every chip holds of each
    model_flops: int  # what the model needs for one step, all replicas together


def train_step(config: TrainConfig, replicas: int) -> Program:
    """The trainer's step, with its model, loss, optimizer and precision, on zeros."""
    check_batch(config, replicas)
    model = _model(config)
    step = build_step(config, model, XlaCollectives(replicas))
    local = config.batch_size // replicas
    precomputed = config.data.format == "embeddings"
    images = {"image": _images(local, model, tf.uint8)}
    if precomputed:
        images = {"image_embedding": tf.TensorSpec((local, model.config.embedding_dim))}
    sizes = {"parameters": _size(model), "optimizer": _size_of(step.optimizer.variables.values())}
    how = {"lock_image": config.model.lock_image, "precomputed_images": precomputed}
    needed = flops.train_step(model.config, config.batch_size, **how)
    return Program(step, [{**images, "tokens": _tokens(local, model)}], sizes, needed)


def encode(what: str, config: TrainConfig, batch: int, replicas: int) -> Program:
    """A tower at inference ("encode_image" or "encode_text"), `batch` examples on each chip."""
    model = _model(config)
    if what == "encode_image":
        function, inputs = model.embed_images, _images(batch, model)
        tower, needed = model.image_tower, flops.image_tower(model.config)
    else:
        function, inputs = model.embed_tokens, _tokens(batch, model)
        tower, needed = model.text_tower, flops.text_tower(model.config)
    return Program(function, [inputs], {"parameters": _size(tower)}, replicas * batch * needed)


def _model(config):
    # Zeros: what is in the variables does not matter to a compiler.
    return LitModel(lit_config(config), seed=None, dtype=config.dtype_policy)


def _images(batch, model, dtype=tf.float32):
    if model.config.image.naflex:
        raise ConfigError("the preflight takes models of square images, not NaFlex")
    side = model.config.image.image_size
    return tf.TensorSpec((batch, side, side, 3), dtype)


def _tokens(batch, model):
    return tf.TensorSpec((batch, model.config.token_length), tf.int32)


def _size(layer):
    return _size_of(variable.value for variable in layer.canonical_variables().values())


def _size_of(variables):
    return sum(v.shape.num_elements() * v.dtype.size for v in variables)
