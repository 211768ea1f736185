"""`make demo`: the numbers are the reference's, and the embedded model reads handwriting.

First a small checkpoint with made-up weights, for which the published JAX code's answers are known;
then LiT-digits, which ships with the package, on digits that it was not trained on.
"""

import importlib.util
import os
import pathlib
import shutil
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from lit_tf.training.digits import render

import lit_tf
from lit_tf.plots import heat_map

ROOT = pathlib.Path(__file__).parents[1]
REFERENCE = ROOT / "tests" / "reference"
OUT = pathlib.Path("demo_output")


def fixture(name):
    """Writes a checkpoint of the reference with its vocabulary; returns its path and inputs."""
    spec = importlib.util.spec_from_file_location("fixtures", REFERENCE / "reference_fixtures.py")
    fixtures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fixtures)
    path = OUT / f"{name}.npz"
    np.savez(path, **fixtures.SMALL[name]())
    shutil.copy(REFERENCE / "vocab.txt", path.with_suffix(".txt"))
    return path, fixtures.images(), fixtures.TEXTS


def check(model, name, images, texts):
    """Prints how far the model is from the reference's answers; returns whether it is equal."""
    equal = True
    with np.load(REFERENCE / "expected" / "towers.npz") as expected:
        for what, found, key, bound in (
            ("tokens", model.tokenizer(texts), "bert_tokens", 0),
            ("image embeddings", model.encode_image(images), f"{name}/zimg", 1e-6),
            ("text embeddings", model.encode_text(texts), f"{name}/ztxt", 1e-6),
        ):
            error = np.abs(np.asarray(found) - expected[key]).max()
            equal &= bool(error <= bound)
            print(f"  {what:<17} {str(found.shape):<9} off by {error:.1e}, allowed {bound:.0e}")
    return equal


def digits():
    """Asks the embedded model, which is a real one, about digits it was not trained on."""
    model = lit_tf.load("LiT-digits")
    rng = np.random.default_rng(0)
    # 37, 59, 10, 87, 71 and 26 are in no caption that the model was trained on.
    pairs = np.array([(3, 7), (5, 9), (1, 0), (8, 7), (1, 7), (7, 1), (4, 4), (2, 6)])
    left, right = (render.choose_digits(pairs[:, side], "test", rng) for side in (0, 1))
    inks = np.arange(len(pairs)) % len(render.INKS)
    images = render.draw(left, right, inks, inks % len(render.PAPERS), rng)
    texts = [
        f"a photo of the number {a}{b} in {list(render.INKS)[i]}" for i, (a, b) in enumerate(pairs)
    ]
    similarities = model.encode_image(images) @ model.encode_text(texts).T
    print("LiT-digits (in the package, no network), eight pairs of handwritten test digits:")
    for (a, b), row in zip(pairs, similarities, strict=True):
        print(f"  image of {a}{b}   best text: {texts[row.argmax()]}")
    picture = OUT / "digits.png"
    heat_map(picture, similarities, list(images), texts, "LiT-digits: cosine similarity")
    print(f"Picture: {picture}")


def main():
    """Runs the demo; returns the exit code."""
    OUT.mkdir(exist_ok=True)
    name = "lit_bert_tiny"
    path, images, texts = fixture(name)
    start = time.perf_counter()
    model = lit_tf.load(path)
    print(f"Loaded {path} in {time.perf_counter() - start:.1f} s: {model.count_params():,} numbers")
    print("Beside the published JAX code's answers:")
    equal = check(model, name, images, texts)

    digits()
    print("All equal to the reference." if equal else "NOT equal to the reference.")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
