"""Sizes of the towers of published models and of local checkpoints, by name or path."""

import pathlib
import re

from lit_tf.checkpoints import registry, zarr_folder
from lit_tf.config import BertConfig, TextTransformerConfig, ViTConfig
from lit_tf.errors import ConfigError

# Width, depth, heads, MLP: arXiv:2010.11929, table 1; Ti and S of arXiv:2106.10270, table 1; So400m
# of arXiv:2305.13035; g-opt of arXiv:2502.14786.
TRANSFORMERS = {
    "Ti": (192, 12, 3, 768),
    "S": (384, 12, 6, 1536),
    "B": (768, 12, 12, 3072),
    "L": (1024, 24, 16, 4096),
    "H": (1280, 32, 16, 5120),
    "So400m": (1152, 27, 16, 4304),
    "g-opt": (1536, 40, 16, 6144),
}
# arXiv:1810.04805, section 3.
BERTS = {"bert_base": (768, 12, 12, 3072), "bert_large": (1024, 24, 16, 4096)}
BERT_VOCABULARY = 30_522  # the same, of the uncased models
SIZES = ("width", "depth", "num_heads", "mlp_dim")


def image_tower(name: str) -> ViTConfig | None:
    """Returns the image tower of a published model or of a checkpoint; None if there is neither."""
    model = registry.find_published(name)
    if model is None:
        return _read(name, "image")
    variant, patch = re.fullmatch(r"ViT-(.+)/(\d+), \d+", model.image).groups()
    return ViTConfig(
        **dict(zip(SIZES, TRANSFORMERS[variant], strict=True)),
        patch_size=int(patch),
        image_size=model.resolution,
        pool="cls" if model.family == "LiT" else "attention",
    )


def text_tower(name: str) -> BertConfig | TextTransformerConfig | None:
    """Returns the text tower of a published model or of a checkpoint; None if there is neither."""
    model = registry.find_published(name)
    if model is None:
        return _read(name, "text")
    if model.tokenizer == "bert":
        sizes = BERTS[model.text.lower().replace(" ", "_")]
        return BertConfig(**dict(zip(SIZES, sizes, strict=True)), vocab_size=model.vocab_size)
    width = int(re.search(r"width (\d+)", model.text)[1])
    sizes = next(s for s in TRANSFORMERS.values() if s[0] == width)
    return TextTransformerConfig(
        **dict(zip(SIZES, sizes, strict=True)),
        vocab_size=model.vocab_size,
        max_length=model.token_length,
    )


def _read(name, tower):
    """Returns a tower's configuration, read off the shapes in a local checkpoint, or None."""
    path = registry.embedded_models().get(name) or zarr_folder.find(name) or pathlib.Path(name)
    if not path.exists() and not path.with_name(f"{path.name}.index").exists():
        return None
    # These import TensorFlow, which a config of published names does not need.
    from lit_tf.checkpoints.shapes import config_from_shapes
    from lit_tf.loading import open_checkpoint

    with open_checkpoint(path) as file:
        config = config_from_shapes(file.shapes, layout=file.layout, source=file.source)
    found = getattr(config, tower)
    if found is None:
        raise ConfigError(f"{name} has no {tower} tower")
    return found
