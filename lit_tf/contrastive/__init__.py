"""A contrastive training step: losses, collectives, optimizers; `fit` and the trainer share it."""
