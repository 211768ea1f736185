"""Patch tokens, attention, and which patches speak for a text."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

import lit_tf
from lit_tf import plots
from lit_tf.cli import main
from lit_tf.config import ViTConfig
from lit_tf.towers import ops
from lit_tf.towers.vit import ViT

IMAGES = pathlib.Path(__file__).parents[2] / "examples" / "images"


def tower(pool, head=None):
    return ViT(ViTConfig(8, 24, 16, 2, 2, 32, head, pool))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(-1, 1, (3, 24, 24, 3)).astype(np.float32)


@pytest.mark.parametrize("pool", ["cls", "attention"])
def test_the_parts_give_the_whole(pool, images):
    vit = tower(pool)
    tokens, attention = vit.tokens(images), vit.attention(images)
    assert tokens.shape == (3, 9, 16) and attention.shape == (3, 2, 9)
    if pool == "attention":  # the pooling head reads exactly the tokens
        np.testing.assert_allclose(vit.pooling(tokens)[:, 0], vit(images), atol=1e-5)
        np.testing.assert_allclose(tf.reduce_sum(attention, -1), 1, atol=1e-6)
    else:
        assert np.all(tf.reduce_sum(attention, -1) < 1)


@pytest.mark.parametrize("pool", ["cls", "attention"])
def test_relevance_equals_the_papers_rule_by_finite_differences(pool, images, monkeypatch):
    """One block: each of its attention weights is changed a little, for the slope of the cosine."""
    vit = ViT(ViTConfig(12, 24, 8, 1, 2, 16, 6, pool), dtype="float64")
    x = images[:1].astype(np.float64)
    direction = np.random.default_rng(1).standard_normal(6)
    direction /= np.linalg.norm(direction)
    layers = [vit.block_0.attention, *([vit.pooling.attention] if vit.pooling else [])]
    plain, changes = ops.attention_by_projections, {}

    def changed(layer, queries, keys, padding, see):
        change = changes.get(id(layer), 0.0)
        return plain(layer, queries, keys, padding, see=lambda weights: see(weights + change))

    monkeypatch.setattr(ops, "attention_by_projections", changed)
    maps, _ = vit._attended(tf.constant(x))
    relevance = np.eye(maps[0].shape[-1])
    for layer, found in zip(layers, maps, strict=True):
        slopes = np.zeros(found.shape)
        for place in np.ndindex(*found.shape):
            ends = []
            for step in (1e-3, -1e-3):
                changes[id(layer)] = np.zeros(found.shape)
                changes[id(layer)][place] = step
                z = vit.head(vit._attended(tf.constant(x))[1]).numpy()[0]
                ends.append(z @ direction / np.linalg.norm(z))
            slopes[place] = (ends[0] - ends[1]) / 2e-3
        changes.clear()
        below = np.maximum(found.numpy() * slopes, 0).mean(axis=1)[0] @ relevance
        relevance = below if len(below) == 1 else relevance + below
    answer = vit.relevance(x, direction.astype(np.float32))
    np.testing.assert_allclose(answer[0], relevance[0, -4:], rtol=2e-2, atol=1e-5)


def test_explain_draws_the_parts_that_speak_for_the_text(tmp_path, capsys):
    """Of a three beside a seven, the left half speaks for the three, the right for the seven."""
    path, plot = str(IMAGES / "37.png"), tmp_path / "a.png"
    assert main(["explain", "LiT-digits", path, "three", "--plot", str(plot), "--json"]) == 0
    relevance = np.array(json.loads(capsys.readouterr().out)["relevance"])
    assert relevance.shape == (6, 6) and plot.stat().st_size > 5000
    seven = plots.attention_map(lit_tf.load("LiT-digits"), path, "seven")
    left = [r[:, :3].sum() / r.sum() for r in (relevance, seven)]
    assert left[0] > left[1]
    assert main(["explain", "LiT-digits", path, "x", "--plot", str(plot), "--max-pixels", "9"]) == 2
    assert "64 x 32 pixels" in capsys.readouterr().err
