"""How LiT-digits is measured."""

import numpy as np

from lit_tf.training.digits import captions
from recipes.digits import measure


def test_perfect_embeddings_measure_as_perfect_and_mirrored_ones_do_not():
    """Embeddings that state pair, ink and paper; texts are read by a few regular words."""
    n = 1000
    rng = np.random.default_rng(1)
    pairs = rng.integers(10, size=(n, 2))
    examples = {"left": pairs[:, 0], "right": pairs[:, 1], "label": pairs @ [10, 1]}
    examples |= {"ink": rng.integers(8, size=n), "paper": rng.integers(6, size=n)}
    examples["image"] = np.zeros((n, 1), np.uint8)
    facts = {}
    for split_kind in ("pair", "words"):
        for pair in captions.ALL_PAIRS:
            for phrasing in captions.held_out(split_kind, "test"):
                facts[phrasing.format(**captions.fields(*pair))] = 10 * pair[0] + pair[1]

    def encode_text(texts):
        z = np.zeros((len(texts), 100), np.float32)
        for row, text in zip(z, texts, strict=True):
            row[facts.get(text, 0)] = 1
        return z

    for labels, expected in ((examples["label"], 1.0), (pairs @ [1, 10], 0.2)):
        zimg = np.eye(100, dtype=np.float32)[labels]
        figures = measure.measure(lambda images, z=zimg: z, encode_text, examples, "test")
        if expected == 1.0:
            assert figures["ensemble/unseen"] == figures["single/seen/worst"] == 1.0
        else:
            assert figures["ensemble/seen"] < expected
