"""Canonical names and shapes of a model's parameters.

A model's configuration gives the shape of every parameter (`canonical_shapes`). The other way
round, the shapes in a checkpoint give the configuration (`config_from_shapes`).
"""

import dataclasses
import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from lit_tf.config import BertConfig, LitConfig, TextTransformerConfig, ViTConfig, side_of_images
from lit_tf.errors import CheckpointError, ConfigError, nearest

Shapes = Mapping[str, tuple[int, ...]]

IMG_BLOCK = "img/Transformer/encoderblock_"
TXT_BLOCK = "txt/Encoder_0/encoderblock_"
POOLING = "img/MAPHead_0/"
BERT_BLOCK = "txt/BertEncoder_0/encoder_block/layer_sequence/layers_"
# BERT's kernels are (width, width), so they do not show the number of heads. It is width / 64.
BERT_HEAD_DIM = 64


def _dense(fan_in: int, fan_out: int) -> dict:
    return {"kernel": (fan_in, fan_out), "bias": (fan_out,)}


def _norm(width: int) -> dict:
    return {"scale": (width,), "bias": (width,)}


def _join(prefix: str, children: Mapping) -> dict:
    """Flattens nested dictionaries of shapes, joining keys by '/'."""
    out: dict = {}
    for key, value in children.items():
        nested = isinstance(value, Mapping)
        out |= _join(f"{prefix}{key}/", value) if nested else {prefix + key: value}
    return out


def _pooling(width: int, num_heads: int, mlp_dim: int) -> dict:
    head_dim = width // num_heads
    projection = {"kernel": (width, num_heads, head_dim), "bias": (num_heads, head_dim)}
    return {
        "probe": (1, 1, width),
        "LayerNorm_0": _norm(width),
        "MultiHeadDotProductAttention_0": {
            "query": projection,
            "key": projection,
            "value": projection,
            "out": {"kernel": (num_heads, head_dim, width), "bias": (width,)},
        },
        "MlpBlock_0": {"Dense_0": _dense(width, mlp_dim), "Dense_1": _dense(mlp_dim, width)},
    }


def _vit_block(width: int, num_heads: int, mlp_dim: int) -> dict:
    block = {**_pooling(width, num_heads, mlp_dim), "LayerNorm_1": _norm(width)}
    del block["probe"]
    return block


def _bert_layer(width: int, mlp_dim: int) -> dict:
    return {
        "attention_block": {
            "attention_layer": {name: _dense(width, width) for name in ("query", "key", "value")},
            "dense_layer": _dense(width, width),
            "layer_norm": _norm(width),
        },
        "mlp_block": {
            "mlp": {"dense_layer": _dense(width, mlp_dim)},
            "dense_layer": _dense(mlp_dim, width),
            "layer_norm": _norm(width),
        },
    }


def canonical_shapes(config: LitConfig) -> dict[str, tuple[int, ...]]:
    """Returns {canonical name (see layouts.py): shape} of every parameter, ordered by name."""
    out: dict = {}
    if c := config.image:
        block = _vit_block(c.width, c.num_heads, c.mlp_dim)
        blocks = {f"encoderblock_{i}": block for i in range(c.depth)}
        # NaFlex has a grid, and a dense layer of patches that are cut outside of the model.
        places = (c.grid, c.grid) if c.naflex else (1, c.grid**2)
        patch = (3 * c.patch_size**2,) if c.naflex else (c.patch_size, c.patch_size, 3)
        out["img"] = {
            "embedding": {"kernel": (*patch, c.width), "bias": (c.width,)},
            "pos_embedding": (*places, c.width),
            "Transformer": {"encoder_norm": _norm(c.width), **blocks},
        }
        if c.pool == "cls":
            out["img"] |= dict.fromkeys(("cls", "cls_pos_embedding"), (1, 1, c.width))
        else:
            out["img"]["MAPHead_0"] = _pooling(c.width, c.num_heads, c.mlp_dim)
        if c.out_dim:
            out["img"]["head"] = _dense(c.width, c.out_dim)
    if txt := config.text:
        if txt.kind == "bert":
            layer = _bert_layer(txt.width, txt.mlp_dim)
            tables = {"token": txt.vocab_size, "position": txt.max_length, "segment": txt.segments}
            tables = {f"embedders_{k}_ids/embedding": (n, txt.width) for k, n in tables.items()}
            layers = {f"layers_{i}": layer for i in range(txt.depth)}
            tower = {"embedder": tables, "layer_norm": _norm(txt.width)}
            out["txt"] = {"BertEncoder_0": {**tower, "encoder_block/layer_sequence": layers}}
        else:
            block = _vit_block(txt.width, txt.num_heads, txt.mlp_dim)
            blocks = {f"encoderblock_{i}": block for i in range(txt.depth)}
            out["txt"] = {
                "Embed_0": {"embedding": (txt.vocab_size, txt.width)},
                "pos_embedding": (1, txt.max_length, txt.width),
                "Encoder_0": {"encoder_norm": _norm(txt.width), **blocks},
            }
        if txt.out_dim:
            out["txt"]["head"] = _dense(txt.width, txt.out_dim)
    if config.image and config.text:
        out |= dict.fromkeys(("t", "b") if config.has_bias else ("t",), (1,))
    return dict(sorted(_join("", out).items()))


def _shape(shapes: Shapes, key: str, rank: int, source: str) -> tuple[int, ...]:
    if key not in shapes:
        raise CheckpointError(f"{source}: {key!r} is missing{_nearest(key, shapes)}")
    if len(shapes[key]) != rank or 0 in shapes[key]:
        raise CheckpointError(
            f"{source}: {key!r} has shape {tuple(shapes[key])}, "
            f"expected {rank} dimensions, none of them 0"
        )
    return tuple(shapes[key])


def _nearest(key: str, keys) -> str:
    return nearest(key, keys, "; nearest keys in the file: {}")


def _depth(shapes: Shapes, prefix: str) -> int:
    """Returns the number of blocks; where their numbers have gaps, `check_keys` says so."""
    pattern = re.compile(re.escape(prefix) + r"(0|[1-9]\d{0,5})/")
    return len({m[1] for m in map(pattern.match, shapes) if m})


def _out_dim(shapes: Shapes, tower: str, source: str) -> int | None:
    has_head = any(k.startswith(f"{tower}/head/") for k in shapes)
    return _shape(shapes, f"{tower}/head/kernel", 2, source)[1] if has_head else None


def _blocks(shapes: Shapes, prefix: str, width: int, source: str) -> dict:
    depth = _depth(shapes, prefix)
    block = f"{prefix}0/"
    query = f"{block}MultiHeadDotProductAttention_0/query/kernel"
    heads = _shape(shapes, query, 3, source)[1]
    mlp_dim = _shape(shapes, f"{block}MlpBlock_0/Dense_0/kernel", 2, source)[1]
    return {"width": width, "depth": depth, "num_heads": heads, "mlp_dim": mlp_dim}


def _vit_config(shapes: Shapes, source: str, stated: Mapping) -> ViTConfig:
    if len(shapes.get("img/embedding/kernel", ())) == 2:
        return _naflex_config(shapes, source)
    kernel = _shape(shapes, "img/embedding/kernel", 4, source)
    positions = _shape(shapes, "img/pos_embedding", 3, source)[1]
    side = math.isqrt(positions)
    if side**2 != positions:
        raise CheckpointError(
            f"{source}: the position embedding has {positions} rows, expected a square number of "
            "patches, with or without one more row for the class token"
        )
    pool = "attention" if any(k.startswith(POOLING) for k in shapes) else "cls"
    return ViTConfig(
        patch_size=kernel[0],
        image_size=stated.get("image.image_size", side_of_images(side, kernel[0], pool)),
        out_dim=_out_dim(shapes, "img", source),
        pool=pool,
        **_blocks(shapes, IMG_BLOCK, kernel[3], source),
    )


def _naflex_config(shapes: Shapes, source: str) -> ViTConfig:
    rows, width = _shape(shapes, "img/embedding/kernel", 2, source)
    patch_size = math.isqrt(rows // 3)
    return ViTConfig(
        patch_size=patch_size,
        image_size=_shape(shapes, "img/pos_embedding", 3, source)[0] * patch_size,
        pool="attention",
        naflex=True,
        **_blocks(shapes, IMG_BLOCK, width, source),
    )


def _bert_config(shapes: Shapes, source: str, stated: Mapping) -> BertConfig:
    table = "txt/BertEncoder_0/embedder/embedders_{}_ids/embedding"
    vocab_size, width = _shape(shapes, table.format("token"), 2, source)
    if "text.num_heads" not in stated and width % BERT_HEAD_DIM:
        raise CheckpointError(f"{source}: BERT is {width} wide, not a multiple of {BERT_HEAD_DIM}")
    mlp = f"{BERT_BLOCK}0/mlp_block/mlp/dense_layer/kernel"
    return BertConfig(
        vocab_size=vocab_size,
        width=width,
        depth=_depth(shapes, BERT_BLOCK),
        num_heads=stated.get("text.num_heads", width // BERT_HEAD_DIM),
        mlp_dim=_shape(shapes, mlp, 2, source)[1],
        max_length=_shape(shapes, table.format("position"), 2, source)[0],
        out_dim=_out_dim(shapes, "txt", source),
        segments=_shape(shapes, table.format("segment"), 2, source)[0],
        dropout_rate=stated.get("text.dropout_rate", 0.1),
    )


def _text_transformer_config(shapes: Shapes, source: str) -> TextTransformerConfig:
    vocab_size, width = _shape(shapes, "txt/Embed_0/embedding", 2, source)
    return TextTransformerConfig(
        vocab_size=vocab_size,
        max_length=_shape(shapes, "txt/pos_embedding", 3, source)[1],
        out_dim=_out_dim(shapes, "txt", source),
        **_blocks(shapes, TXT_BLOCK, width, source),
    )


def config_from_shapes(shapes: Shapes, *, layout, source, stated=None) -> LitConfig:
    """Returns the configuration of the model whose parameters have these {canonical name: shape}.

    `stated` is {field: value} of what no shape shows, as in `record.FIELDS`. `canonical_shapes` of
    the result equals `shapes`; else a CheckpointError names the key, and what was expected.
    """
    stated = stated or {}
    try:
        config = _config(shapes, layout, source, stated)
    except ConfigError as error:
        raise CheckpointError(f"{source}: {error}") from None
    for field, value in stated.items():
        if (found := field_value(config, field)) not in (None, value):
            raise CheckpointError(f"{source}: {field} is said to be {value}, arrays show {found}")
    check_shapes(shapes, canonical_shapes(config), source)
    return config


def _config(shapes, layout, source, stated):
    image = text = None
    if any(k.startswith("img/") for k in shapes):
        image = _vit_config(shapes, source, stated)
    if any(k.startswith("txt/BertEncoder_0/") for k in shapes):
        text = _bert_config(shapes, source, stated)
    elif any(k.startswith("txt/") for k in shapes):
        text = _text_transformer_config(shapes, source)
    length = text.usual_token_length if text else 16
    return LitConfig(
        image=image,
        text=text,
        has_bias="b" in shapes,
        token_length=stated.get("token_length", length),
        layout=layout,
        crop=stated.get("crop", False),
        lowercase=stated.get("lowercase"),
        preprocessing=stated.get("preprocessing", "big_vision"),
        resample=stated.get("resample"),
    )


def field_value(config: LitConfig | None, field: str) -> Any:
    """Returns the value of a field such as `text.num_heads`, None where there is no such tower."""
    value: Any = config
    for name in field.split("."):
        value = getattr(value, name, None)
    return value


def config_of(file, shapes: Shapes | None = None) -> LitConfig:
    """Returns the configuration of a `CanonicalCheckpoint`, or of the tower that has `shapes`."""
    shapes, stated = file.shapes if shapes is None else shapes, dict(file.stated)
    if not any(k.startswith("txt/") for k in shapes):
        stated.pop("lowercase", None)  # it is said of a text tower that is left out
    config = config_from_shapes(shapes, layout=file.layout, source=file.source, stated=stated)
    return dataclasses.replace(config, bare=file.bare)


def check_shapes(found: Shapes, expected: Shapes, source: str) -> None:
    """Raises CheckpointError unless both hold the same keys with the same shapes."""
    check_keys(found, expected, source)
    for key, wanted in expected.items():
        if (shape := tuple(found[key])) != tuple(wanted):
            raise CheckpointError(f"{source}: {key!r} has shape {shape}, expected {tuple(wanted)}")


def check_keys(found: Collection[str], expected: Collection[str], source: str) -> None:
    """Raises CheckpointError unless all keys that are expected are there, and no other."""
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        hint = _nearest(missing[0], extra or found)
        raise CheckpointError(f"{source}: {missing[0]!r}{more} missing{hint}")
    if extra:
        raise CheckpointError(
            f"{source}: {len(extra)} unexpected keys: {', '.join(extra[:5])}"
            f"{_nearest(extra[0], expected)}"
        )
