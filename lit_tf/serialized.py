"""Lets Keras find lit_tf's classes in a new process, and lets our own programs start quickly.

Keras looks serialized classes up in its registry and imports nothing itself. The decorators of the
classes fill the registry, but only once their modules are imported, and that takes TensorFlow,
which `import lit_tf` leaves alone. So placeholders are registered as soon as Keras is imported,
whether that is before or after lit_tf. A placeholder imports its class when Keras first asks for
it, and the class then takes its place.
"""

import importlib
import importlib.abc
import sys
from typing import Any

from lit_tf.errors import wrong_backend

PACKAGE = "lit_tf"  # as in register_keras_serializable
# Keras imports these if they are installed, for wrappers and plots that no command uses. They take
# nearly as long to import as TensorFlow itself.
UNUSED_BY_KERAS = ("matplotlib", "pandas", "sklearn")
# class name -> module
CLASSES = {
    "LitModel": "lit_tf.model",
    "ViT": "lit_tf.towers.vit",
    "Bert": "lit_tf.towers.bert",
    "TextTransformer": "lit_tf.towers.text_transformer",
    "TrainerOptimizer": "lit_tf.contrastive.fit",
}


def _placeholder(name: str, module: str) -> type:
    """Returns a class that Keras can only call `from_config` of, which makes the real object."""

    def from_config(cls: type, config: dict[str, Any]) -> Any:
        return getattr(importlib.import_module(module), name).from_config(config)

    return type(name, (), {"from_config": classmethod(from_config)})


def _register(keras: Any) -> None:
    registry = keras.saving.get_custom_objects()
    for name, module in CLASSES.items():
        registry.setdefault(f"{PACKAGE}>{name}", _placeholder(name, module))


class _AroundKeras(importlib.abc.MetaPathFinder):
    """Finds Keras as the other finders do, and registers the placeholders once it is imported."""

    hidden: tuple[str, ...] = ()  # packages that are missing while Keras is imported

    def find_spec(self, name, path=None, target=None):
        if name != "keras":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next(filter(None, found), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module
            spec.loader.exec_module = lambda module: self._load(execute, module)
        return spec

    def _load(self, execute, module):
        hidden = [name for name in self.hidden if name not in sys.modules]
        sys.modules.update(dict.fromkeys(hidden))  # what is None there cannot be imported
        try:
            execute(module)
        except Exception as e:  # another backend's package may be missing
            config = sys.modules.get("keras.src.backend.config")
            if config and config.backend() != "tensorflow":
                raise wrong_backend(config.backend()) from e
            raise
        finally:
            for name in hidden:
                sys.modules.pop(name, None)
        _register(module)


_FINDER = _AroundKeras()


def register_with_keras() -> None:
    """Registers the placeholders now if Keras is imported already, else once it is."""
    keras = sys.modules.get("keras")
    if hasattr(keras, "saving"):
        _register(keras)
    else:  # not imported, or this runs in the midst of its import
        sys.meta_path.insert(0, _FINDER)


def lighten_keras() -> None:
    """Nearly halves the time that importing TensorFlow and Keras takes, in our own programs.

    `import lit_tf` does not call it: its process belongs to the user, who may need what Keras does
    with these packages.
    """
    _FINDER.hidden = UNUSED_BY_KERAS
