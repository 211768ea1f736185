"""The cache of text embeddings: an entry is never wrong, and never divides workers."""

import types

import numpy as np
import pytest

from lit_tf.training.evaluation.text_cache import TextCache


class Encoder:
    """An encoder as far as the cache looks at it, in one process or in one of several."""

    def __init__(self, workers):
        extended = types.SimpleNamespace(_in_multi_worker_mode=lambda: workers > 1)
        self.strategy = types.SimpleNamespace(extended=extended)

    def fingerprint(self, tower):
        return tower


@pytest.fixture
def filled(tmp_path):
    """A cache that a run in one process has filled."""
    cache = TextCache(tmp_path)
    cache.get(Encoder(1), ["a"], lambda: np.zeros(2))
    return cache


def test_one_process_computes_once(filled):
    found = filled.get(Encoder(1), ["a"], lambda: pytest.fail("computed again"))
    np.testing.assert_array_equal(found, np.zeros(2))


def test_a_worker_with_an_entry_still_joins_the_others_in_computing(filled, tmp_path):
    before = sorted(tmp_path.iterdir())
    for texts in (["a"], ["b"]):
        found = filled.get(Encoder(2), texts, lambda: np.ones(2))
        np.testing.assert_array_equal(found, np.ones(2))
    assert sorted(tmp_path.iterdir()) == before
