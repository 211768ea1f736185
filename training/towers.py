"""The model that a config describes, before its first step, and the step."""

import dataclasses

import tensorflow as tf

import lit_tf
from lit_tf.checkpoints import download
from lit_tf.config import BertConfig, LitConfig, TextTransformerConfig, ViTConfig
from lit_tf.contrastive.optimizers import Optimizer
from lit_tf.contrastive.step import ReplicaStep, trainable_parameters
from lit_tf.errors import ConfigError
from lit_tf.model import LitModel
from lit_tf.texts.tokenizers import tokenizer_from_bytes

from .config import ModelConfig, TrainConfig, parse_sizes
from .known_towers import BERT_VOCABULARY, BERTS, SIZES, TRANSFORMERS, known_tower

_TEXT_KINDS = {"bert": BertConfig, "transformer": TextTransformerConfig}


def build_model(config: TrainConfig) -> LitModel:
    """Builds and fills the two towers of a run. Call it in the strategy's scope."""
    c = config.model
    policy = config.dtype_policy
    _check_starts(c)
    if c.init:
        model = lit_tf.load(c.init, vocab=c.vocab, resolution=c.resolution, dtype=policy)
    else:
        model = lit_tf.from_upstream(
            image=c.image_init or image_config(c.image, c.resolution),
            text=c.text_init or text_config(c.text, c.vocab, c.token_length),
            resolution=c.resolution,
            image_head=c.image_head,
            seed=config.seed,
            vocab=c.vocab,
            temperature=c.temperature,
            bias=c.bias,
            dtype=policy,
        )
    if model.image_tower is None or model.text_tower is None:
        raise ConfigError(f"{c.init} has one tower only; training needs both")
    if model.tokenizer is None:
        file = c.text_init or c.init
        beside = f", or put it beside the text tower's checkpoint ({file})" if file else ""
        raise ConfigError(f"no vocabulary: set model.vocab{beside}")
    return _adapt(model, c, policy)


def build_step(config: TrainConfig, model: LitModel, collectives=None) -> ReplicaStep:
    """Builds the optimizer and the step of a run. Call it in the strategy's scope."""
    parameters = trainable_parameters(model, config.model.locking)
    optimizer = Optimizer(parameters, config.optimizer, config.steps)
    return ReplicaStep(model, optimizer, config.loss, seed=config.seed, collectives=collectives)


def tower_sizes(name: str) -> tuple[type, dict[str, int]]:
    """The kind and the sizes of a tower that `model.image` or `model.text` names, without its file.

    It leaves open what the name does: an image's side, a text's length, rows of the token table.
    """
    variant, _, patch = name.partition("/")
    kind, _, sizes = name.partition(":")
    if variant in TRANSFORMERS and patch.isdigit():
        sizes = dict(TRANSFORMERS[variant], patch_size=int(patch))
        return ViTConfig, sizes
    if name in TRANSFORMERS:
        return TextTransformerConfig, dict(TRANSFORMERS[name])
    if name in BERTS:
        return BertConfig, dict(BERTS[name])
    if kind in _TEXT_KINDS:
        return _TEXT_KINDS[kind], parse_sizes(sizes, (*SIZES, "max_length", "vocab_size"))
    if "=" in name:
        text, _, pool = name.partition(",pool=")
        sizes = parse_sizes(text, (*SIZES, "patch_size"))
        return ViTConfig, {**sizes, "pool": pool} if pool else sizes
    raise ConfigError(
        f"no tower {name!r}; images have {', '.join(TRANSFORMERS)} with a patch size, as in B/16, "
        "or sizes as in patch_size=8,width=96,depth=5,num_heads=3,mlp_dim=384; texts have "
        f"{', '.join(BERTS)}, bert:width=128,depth=3,num_heads=2,mlp_dim=512 or "
        "transformer:width=192,...; both also published models (`lit-tf models`) and local "
        "checkpoints"
    )


def image_config(name: str, resolution: int) -> ViTConfig:
    """Returns the ViT of "B/16", "patch_size=8,width=96,...", a published model or a file."""
    try:
        kind, sizes = tower_sizes(name)
    except ConfigError:
        known = known_tower(name, "image")
        if known is None:
            raise
        return dataclasses.replace(known, image_size=resolution, out_dim=None)
    if kind is not ViTConfig:
        raise ConfigError(f"model.image is {name!r}, which is a text tower")
    return _made(ViTConfig, name, image_size=resolution, **sizes)


def text_config(
    name: str, vocab: str | None, length: int, default_rows: int | None = None
) -> BertConfig | TextTransformerConfig:
    """Returns the text tower of "bert_base", "transformer:width=192,...", a model or a file."""
    try:
        kind, sizes = tower_sizes(name)
    except ConfigError:
        known = known_tower(name, "text")
        if known is None:
            raise
        return dataclasses.replace(known, out_dim=None)
    if kind is ViTConfig:
        raise ConfigError(f"model.text is {name!r}, which is an image tower")
    if vocab is not None:
        tokenizer_kind = "bert" if kind is BertConfig else "sentencepiece"
        rows = tokenizer_from_bytes(tokenizer_kind, download.resolve(vocab), length).vocab_size
        if sizes.setdefault("vocab_size", rows) < rows:
            raise ConfigError(f"model.text {name!r} has fewer rows than {vocab} tokens ({rows})")
    elif default_rows is not None:
        sizes.setdefault("vocab_size", default_rows)
    else:
        raise ConfigError(f"a text tower from scratch ({name}) needs model.vocab")
    if name not in BERTS:  # these have 512 positions for texts of any length
        sizes.setdefault("max_length", length)
    return _made(kind, name, **sizes)


def lit_config(config: TrainConfig) -> LitConfig:
    """Returns the two towers of a training config, without reading any checkpoint."""
    c = config.model
    image = image_config(c.image, c.resolution)
    text = text_config(c.text, c.vocab, c.token_length, BERT_VOCABULARY)
    # If the image tower has no head, the text tower's head is as wide as the image tower.
    text = dataclasses.replace(text, out_dim=text.width if c.image_head else image.width)
    if isinstance(text, BertConfig):
        text = dataclasses.replace(text, dropout_rate=c.dropout)
    return LitConfig(
        image=dataclasses.replace(image, out_dim=text.out_dim if c.image_head else None),
        text=text,
        has_bias=c.bias is not None,
        token_length=c.token_length,
    )


def _made(kind, text, **values):
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigError(f"tower {text!r} is incomplete: {error}") from error


def _check_starts(c: ModelConfig):
    for tower, letter, init in (
        ("image", c.locking[0], c.image_init),
        ("text", c.locking[1], c.text_init),
    ):
        fresh = f"model.locking {c.locking!r} starts the {tower} tower from scratch, but"
        if letter == "u" and init:
            raise ConfigError(f"{fresh} model.{tower}_init is {init!r}; clear one of the two")
        if letter == "u" and c.init:
            raise ConfigError(f"{fresh} model.init {c.init!r} contains it")
        if letter != "u" and not (init or c.init):
            raise ConfigError(
                f"model.locking {c.locking!r} starts from a pre-trained {tower} tower, but "
                f"neither model.{tower}_init nor model.init is set"
            )


def _adapt(model, c: ModelConfig, policy):
    """Returns a model with the config's dropout, bias and token length: itself if it has them."""
    text = model.config.text
    if isinstance(text, BertConfig):
        text = dataclasses.replace(text, dropout_rate=c.dropout)
    if c.token_length > text.max_length:
        raise ConfigError(
            f"model.token_length is {c.token_length}, but the text tower has positions for "
            f"{text.max_length}"
        )
    has_bias = model.config.has_bias or c.bias is not None
    own = {"text": text, "token_length": c.token_length, "has_bias": has_bias}
    wanted = dataclasses.replace(model.config, **own)
    if wanted == model.config:
        return model
    tokenizer = tokenizer_from_bytes(
        *(model.tokenizer.kind, model.tokenizer.to_bytes(), c.token_length),
        *(wanted.lowercase, wanted.preprocessing),
    )
    adapted = LitModel(wanted, tokenizer, seed=None, dtype=policy)
    old = model.canonical_variables()
    for name, variable in adapted.canonical_variables().items():
        if name in old:
            variable.assign(tf.convert_to_tensor(old[name]))
        else:
            variable.assign([c.bias])
    return adapted
