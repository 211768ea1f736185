"""Sizes of the towers of published models and of local checkpoints, by name or path."""

import pathlib

from lit_tf.checkpoints import hub, registry, zarr_folder
from lit_tf.config import BertConfig, TextTransformerConfig, ViTConfig
from lit_tf.errors import ConfigError

# {name: fields of the tower's configuration}
TRANSFORMERS = {n: s for n, s in registry.SIZES.items() if not n.startswith("bert_")}
BERTS = {n: s for n, s in registry.SIZES.items() if n.startswith("bert_")}
BERT_VOCABULARY = 30_522  # arXiv:1810.04805, section 3, of the uncased models
SIZES = ("width", "depth", "num_heads", "mlp_dim")


def known_tower(name: str, tower: str) -> ViTConfig | BertConfig | TextTransformerConfig | None:
    """Returns the "image" or "text" tower of a published model or of a checkpoint, or None."""
    if model := registry.find_published(name):
        return getattr(model, tower)
    if name.startswith(hub.SCHEME):
        path = hub.fetch(name, with_vocab=False)
    else:
        known = registry.embedded_models().get(name)
        path = known or zarr_folder.find(name) or pathlib.Path(name)
    if not path.exists() and not path.with_name(f"{path.name}.index").exists():
        return None
    # These import TensorFlow, which a config of published names does not need.
    from lit_tf.checkpoints.shapes import config_of
    from lit_tf.loading import open_checkpoint

    with open_checkpoint(path) as file:
        config = config_of(file)
    found = getattr(config, tower)
    if found is None:
        raise ConfigError(f"{name} has no {tower} tower")
    return found
