"""Searches your own pictures by words, by other pictures, or by both (extra `search`).

from lit_tf import search
found = search.open("pictures.lance").text("a dog on a beach", top=20)
"""

from lit_tf import lazy

_HOMES = {"open": "query", "Searcher": "query", "Found": "query", "update": "index"}
_HOMES["Settings"] = "index"
__all__ = sorted(_HOMES)
__getattr__, __dir__ = lazy.attributes(__name__, _HOMES)
