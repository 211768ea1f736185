"""LiT (Locked-image text Tuning, arXiv:2111.07991) for TensorFlow.

import lit_tf
model = lit_tf.load("LiT-B16B_2")
model.classify(["cat.jpg"], ["cat", "dog"])
"""

import importlib.util
import os
import pkgutil
import typing

from lit_tf import errors, serialized

# Loaded when first asked for: `lit-tf --help` and `lit-tf models` need no TensorFlow.
_HOMES = {
    "load": "loading",
    "save_npz": "loading",
    "save_huggingface": "loading",
    "from_upstream": "loading",
    "list_models": "checkpoints.registry",
    "LitModel": "model",
    "LitConfig": "config",
    "ViTConfig": "config",
    "BertConfig": "config",
    "TextTransformerConfig": "config",
    "LitError": "errors",
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "DataError": "errors",
    "DownloadError": "errors",
    "ExportError": "errors",
    "ImageError": "errors",
    "MissingPackageError": "errors",
    "TokenizerError": "errors",
    "TrainingError": "errors",
}
__all__ = sorted([*_HOMES, "search"])

if typing.TYPE_CHECKING:  # the same names, for those who check types
    from lit_tf import search
    from lit_tf.checkpoints.registry import list_models
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
    from lit_tf.loading import from_upstream, load, save_huggingface, save_npz
    from lit_tf.model import LitModel
__version__ = "0.1.0"
serialized.register_with_keras()


def __getattr__(name: str) -> typing.Any:
    home = _HOMES.get(name, name)
    # Modules too, so that `import lit_tf` is enough for `lit_tf.images.preprocess`.
    if name.startswith("_") or not importlib.util.find_spec(f"lit_tf.{home}"):
        raise AttributeError(f"module 'lit_tf' has no attribute {name!r}")
    try:
        module = importlib.import_module(f"lit_tf.{home}")
    except ModuleNotFoundError as e:
        if e.name in ("jax", "torch"):  # Keras looks for them first
            raise errors.wrong_backend(os.environ.get("KERAS_BACKEND", e.name)) from e
        raise
    return getattr(module, name) if name in _HOMES else module


def __dir__() -> list[str]:
    modules = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted({*globals(), *__all__, *modules, "export", "training"})
