"""LiT (Locked-image text Tuning, arXiv:2111.07991) for TensorFlow.

import lit_tf
model = lit_tf.load("LiT-B16B_2")
model.classify(["cat.jpg"], ["cat", "dog"])
"""

import typing

from lit_tf import lazy, serialized
from lit_tf.config import BertConfig, LitConfig, TextTransformerConfig, ViTConfig
from lit_tf.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DownloadError,
    ExportError,
    ImageError,
    LitError,
    MissingPackageError,
    TokenizerError,
    TrainingError,
)

_HOMES = {
    "load": "loading",
    "save_npz": "loading",
    "save_huggingface": "loading",
    "from_upstream": "loading",
    "list_models": "checkpoints.registry",
    "LitModel": "model",
}
__all__ = ["BertConfig", "CheckpointError", "ConfigError", "DataError", "DownloadError"]
__all__ += ["ExportError", "ImageError", "LitConfig", "LitError", "LitModel", "MissingPackageError"]
__all__ += ["TextTransformerConfig", "TokenizerError", "TrainingError", "ViTConfig"]
__all__ += ["from_upstream", "list_models", "load", "save_huggingface", "save_npz", "search"]

if typing.TYPE_CHECKING:  # the same names, for those who check types
    from lit_tf import search
    from lit_tf.checkpoints.registry import list_models
    from lit_tf.loading import from_upstream, load, save_huggingface, save_npz
    from lit_tf.model import LitModel
__version__ = "0.1.0"
serialized.register_with_keras()
__getattr__, __dir__ = lazy.attributes(__name__, {**_HOMES, "export": None, "training": None})
