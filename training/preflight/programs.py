"""What can be compiled: the train step of a config, and the two towers of its model."""

import dataclasses
import pathlib
from collections.abc import Callable

import tensorflow as tf

from lit_tf.config import BertConfig, LitConfig, ViTConfig
from lit_tf.errors import ConfigError
from lit_tf.model import LitModel

from ..config import TrainConfig, check_batch
from ..optimizers import Optimizer
from ..step import ReplicaStep, trainable_parameters
from ..towers import image_config, tower_sizes
from . import flops
from .lowering import XlaCollectives

_BERT_VOCABULARY = 30_522  # arXiv:1810.04805, section 3, of the uncased models


@dataclasses.dataclass(frozen=True)
class Program:
    """A function to compile, as one replica runs it.

    Attributes:
        function: Takes `arguments`.
        arguments: `tf.TensorSpec`s of a replica's share of the batch.
        sizes: {"parameters", "optimizer"}: bytes that every chip holds of each.
        model_flops: What the model needs for one step, all replicas together.
    """

    function: Callable
    arguments: list
    sizes: dict
    model_flops: int


def lit_config(config: TrainConfig) -> LitConfig:
    """Returns the towers of a training config, without reading any checkpoint.

    Raises:
        ConfigError: A tower's name is unknown.
    """
    model = config.model
    text = _text(model)
    return LitConfig(
        image=_image(model, text.embedding_dim),
        text=text,
        has_bias=model.bias is not None,
        token_length=model.token_length,
    )


def train_step(config: TrainConfig, replicas: int) -> Program:
    """The trainer's step, with its model, loss, optimizer and precision, on zeros.

    Args:
        config: The run's config.
        replicas: How many chips share the global batch.

    Raises:
        ConfigError: The batch cannot be shared among that many.
    """
    check_batch(config, replicas)
    model = _model(config)
    lock = {"lock_image": config.model.lock_image, "lock_text": config.model.lock_text}
    optimizer = Optimizer(
        trainable_parameters(model, **lock),
        name=config.optimizer.name,
        learning_rate=config.optimizer.lr,
        weight_decay=config.optimizer.weight_decay,
        clip=config.optimizer.clip,
        total_steps=config.steps,
        warmup_steps=config.warmup_steps,
    )
    step = ReplicaStep(
        model,
        optimizer,
        loss=config.loss.name,
        **lock,
        seed=config.seed,
        loss_chunk=config.loss.chunk,
        cache_chunk=config.loss.cache_chunk,
        collectives=XlaCollectives(replicas),
    )
    local = config.batch_size // replicas
    precomputed = config.data.format == "embeddings"
    images = (
        {"image_embedding": tf.TensorSpec((local, model.config.embedding_dim))}
        if precomputed
        else {"image": _images(local, model)}
    )
    return Program(
        step,
        [{**images, "tokens": _tokens(local, model)}],
        {"parameters": _size(model), "optimizer": _size_of(optimizer.variables.values())},
        flops.train_step(model.config, config.batch_size, precomputed_images=precomputed, **lock),
    )


def encode_image(config: TrainConfig, batch: int, replicas: int) -> Program:
    """The image tower at inference, `batch` images on each of `replicas` chips."""
    model = _model(config)
    return Program(
        model.embed_images,
        [_images(batch, model)],
        {"parameters": _size(model.image_tower)},
        replicas * batch * flops.image_tower(model.config),
    )


def encode_text(config: TrainConfig, batch: int, replicas: int) -> Program:
    """The text tower at inference, `batch` texts on each of `replicas` chips."""
    model = _model(config)
    return Program(
        model.embed_tokens,
        [_tokens(batch, model)],
        {"parameters": _size(model.text_tower)},
        replicas * batch * flops.text_tower(model.config),
    )


def _model(config):
    # Zeros: what is in the variables does not matter to a compiler.
    dtype = "mixed_bfloat16" if config.dtype == "bfloat16" else config.dtype
    return LitModel(lit_config(config), seed=None, dtype=dtype)


def _images(batch, model):
    side = model.config.image.image_size
    return tf.TensorSpec((batch, side, side, 3))


def _tokens(batch, model):
    return tf.TensorSpec((batch, model.config.token_length), tf.int32)


def _size(layer):
    return _size_of(variable.value for variable in layer.canonical_variables().values())


def _size_of(variables):
    return sum(v.shape.num_elements() * v.dtype.size for v in variables)


def _image(model, text_width):
    config = image_config(model.image, model.resolution)
    return dataclasses.replace(config, out_dim=text_width if model.image_head else None)


def _text(model):
    kind, sizes = tower_sizes(model.text)
    if kind is ViTConfig:
        raise ConfigError(f"model.text is {model.text!r}, which is an image tower")
    # Where the image tower has no head, the text tower's is as wide as the image tower.
    out_dim = sizes.get("width") if model.image_head else _image(model, None).width
    sizes = {"vocab_size": _vocabulary(model.vocab), "out_dim": out_dim, **sizes}
    if ":" in model.text:  # published ones have 512 positions, whatever the texts' length
        sizes.setdefault("max_length", model.token_length)
    if kind is BertConfig:
        sizes["dropout_rate"] = model.dropout
    try:
        return kind(**sizes)
    except TypeError as error:
        raise ConfigError(f"tower {model.text!r} is incomplete: {error}") from error


def _vocabulary(path):
    """Rows of the token table: the vocabulary's lines where it is at hand, else BERT's."""
    if path and pathlib.Path(path).is_file():
        return len(pathlib.Path(path).read_text(encoding="utf-8").splitlines())
    return _BERT_VOCABULARY
