"""Evaluation by the published protocol: zero-shot classification and image-text retrieval."""
