"""Evaluation by the published protocol: zero-shot classification and image-text retrieval."""

from lit_tf import lazy

__getattr__, __dir__ = lazy.attributes(__name__, {})
