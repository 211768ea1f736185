"""Lets our own programs start quickly: Keras imports less."""

import importlib.util
import sys

# Keras imports these if they are installed, for wrappers and plots that no command uses. They take
# nearly as long to import as TensorFlow itself.
UNUSED_BY_KERAS = ("matplotlib", "pandas", "sklearn")


class _LightKeras:
    """An entry of `sys.meta_path` that has these packages missing while Keras is imported."""

    def find_spec(self, name, path=None, target=None):
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        sys.meta_path.insert(0, self)  # TensorFlow asks where Keras is before it imports it
        if spec is not None:
            load = spec.loader.exec_module
            spec.loader.exec_module = lambda module: self._without_unused(load, module)
        return spec

    def _without_unused(self, load, module):
        """Loads a module; what has None in `sys.modules` cannot be imported meanwhile."""
        sys.meta_path.remove(self)
        hidden = [name for name in UNUSED_BY_KERAS if name not in sys.modules]
        sys.modules.update(dict.fromkeys(hidden))
        try:
            load(module)
        finally:
            for name in hidden:
                sys.modules.pop(name, None)


def lighten_keras() -> None:
    """Nearly halves the time that importing TensorFlow and Keras takes, in our own programs.

    `import lit_tf` does not call it: its process belongs to the user, who may need what Keras does
    with these packages.
    """
    if "keras" not in sys.modules and not any(isinstance(f, _LightKeras) for f in sys.meta_path):
        sys.meta_path.insert(0, _LightKeras())
