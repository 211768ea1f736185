"""Packages whose names and modules are imported when they are first asked for.

So `lit-tf --help` needs no TensorFlow, and `import lit_tf` is enough for `lit_tf.texts.prompts`.
"""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Mapping


def attributes(package: str, homes: Mapping[str, str | None]) -> tuple[Callable, Callable]:
    """Returns `__getattr__` and `__dir__` of a package.

    `homes` is {name: the module below the package that has it, or None for a module itself}; the
    modules in the package's own folder need not be named.
    """

    def get(name):
        home = homes.get(name) or name
        if name.startswith("_") or not importlib.util.find_spec(f"{package}.{home}"):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(f"{package}.{home}")
        return getattr(module, name) if homes.get(name) else module

    def names():
        package_itself = sys.modules[package]
        found = pkgutil.iter_modules(package_itself.__path__)
        return sorted({*vars(package_itself), *homes, *(module.name for module in found)})

    return get, names
