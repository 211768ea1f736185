"""Embeddings of texts, kept between runs."""

import hashlib
import os
import pathlib

import numpy as np
import tensorflow as tf

import lit_tf
from lit_tf.checkpoints import download
from lit_tf.files import replacing

from ..distribution import strategies


class TextCache:
    """A folder of arrays, each named by a digest of everything that it was computed from.

    Several workers do not use it: one that found an entry would not join the others' collectives.
    """

    def __init__(self, folder: str | os.PathLike | None = None):
        self.folder = pathlib.Path(folder or download.cache_dir() / "text_embeddings")
        self._fingerprints = {}

    def get(self, encoder, texts: list[str], compute) -> np.ndarray:
        """Returns what `compute()` returns, from the cache if it is there."""
        if strategies.has_workers(encoder.strategy):
            return compute()
        if id(encoder) not in self._fingerprints:
            self._fingerprints[id(encoder)] = encoder.fingerprint("text")
        digest = hashlib.sha256(f"{lit_tf.__version__} {tf.__version__}".encode())
        digest.update(self._fingerprints[id(encoder)].encode())
        for text in texts:
            data = text.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "big") + data)
        path = self.folder / f"{digest.hexdigest()}.npy"
        try:
            return np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):  # missing or damaged
            pass
        z = compute()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                np.save(file, z)
        except OSError:
            pass  # a cache that cannot be written costs time, not the result
        return z
