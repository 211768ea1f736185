"""`make demo`: a checkpoint in the published layout, rebuilt, checked, and asked which text fits.

The checkpoint is a small one with made-up weights, for which the published JAX code's answers are
known: so this shows that the numbers are right, not that the model is clever.
"""

import importlib.util
import os
import pathlib
import shutil
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import sklearn.datasets

import lit_tf
from lit_tf.plots import heat_map

ROOT = pathlib.Path(__file__).parents[1]
REFERENCE = ROOT / "tests" / "reference"
OUT = pathlib.Path("demo_output")
TEXTS = [
    "a photo of a flower",
    "a Chinese temple by a lake",
    "an orange dahlia in front of dark leaves",
    "a photo of two zebras",
]


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

    photos = sklearn.datasets.load_sample_images().images
    similarities = model.encode_image(photos) @ model.encode_text(TEXTS).T
    probabilities = model.classify(photos, TEXTS, ["{}"])
    print("Two photographs (the weights are made up, so the answers mean nothing):")
    for i, photo in enumerate(("china.jpg", "flower.jpg")):
        best = probabilities[i].argmax()
        print(f"  {photo:<11} {100 * probabilities[i, best]:3.0f} %  {TEXTS[best]}")
    picture = OUT / "compare.png"
    heat_map(picture, similarities, photos, TEXTS, f"{name}: cosine similarity, best text framed")
    print(f"Picture: {picture}")
    print("All equal to the reference." if equal else "NOT equal to the reference.")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
