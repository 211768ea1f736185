"""Searches your own pictures by words, by other pictures, or by both (extra `search`).

from lit_tf import search
found = search.open("pictures.lance").text("a dog on a beach", top=20)
"""

import importlib

# Loaded when first asked for: `lit-tf index --help` needs neither TensorFlow nor LanceDB.
_HOMES = {"open": "query", "Searcher": "query", "Found": "query", "update": "index"}
__all__ = sorted(_HOMES)


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(f"lit_tf.search.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'lit_tf.search' has no attribute {name!r}")
