"""Texts on their way to a text tower: tokenizers, prompts, files of lines, batches."""
