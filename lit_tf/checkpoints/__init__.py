"""Reading and writing of every published checkpoint layout."""

from lit_tf import lazy

__getattr__, __dir__ = lazy.attributes(__name__, {})
