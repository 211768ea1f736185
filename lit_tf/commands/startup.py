"""Lets our own programs start quickly: Keras imports less."""

import sys

# Keras imports these if they are installed, for wrappers and plots that no command uses. They take
# nearly as long to import as TensorFlow itself.
UNUSED_BY_COMMANDS = ("matplotlib", "pandas", "sklearn")


class _HiddenFromKeras:
    """An entry of `sys.meta_path` that hides these packages from Keras only."""

    def find_spec(self, name, path=None, target=None):
        if name in UNUSED_BY_COMMANDS and _importer().split(".")[0] == "keras":
            raise ModuleNotFoundError(f"{name} is hidden from Keras: it takes long", name=name)
        return None


def _importer():
    """Returns the name of the module whose import statement runs."""
    frame = sys._getframe(2)
    while frame and frame.f_globals.get("__name__", "").startswith("importlib"):
        frame = frame.f_back
    return frame.f_globals.get("__name__", "") if frame else ""


def lighten_keras() -> None:
    """Nearly halves the time that importing TensorFlow and Keras takes, in our own programs.

    `import lit_tf` does not call it: its process belongs to the user, who may need what Keras does
    with these packages.
    """
    if not any(isinstance(finder, _HiddenFromKeras) for finder in sys.meta_path):
        sys.meta_path.insert(0, _HiddenFromKeras())
