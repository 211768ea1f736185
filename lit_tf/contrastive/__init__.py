"""A contrastive training step: losses, collectives, optimizers; `fit` and the trainer share it."""

from lit_tf import lazy

__getattr__, __dir__ = lazy.attributes(__name__, {})
