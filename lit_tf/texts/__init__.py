"""Texts on their way to a text tower: tokenizers, prompts, files of lines, batches."""

from lit_tf import lazy

__getattr__, __dir__ = lazy.attributes(__name__, {})
