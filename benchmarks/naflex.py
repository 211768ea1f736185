"""NaFlex beside the square tower of the same size: 256 patches of square pictures, B/16.

    python benchmarks/naflex.py [--rounds 20]

It also prints what is lost to padding in batches of pictures of all shapes, and how long the tower
takes for pictures sorted by their number of patches, as a share of the time for them as they come.
The number is nearly the limit for every shape, so batches are not bucketed. The weights are random
and do not change the time.
"""

import argparse
import dataclasses
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from timing import best_times, verdict

from lit_tf.checkpoints.registry import MODELS
from lit_tf.config import LitConfig
from lit_tf.images import naflex
from lit_tf.images.preparation import on_cpu, preparation
from lit_tf.model import LitModel

BATCH, PATCHES = 8, 256


def models():
    """Returns B/16 on squares of 256 pixels, and the NaFlex tower of the same sizes."""
    square = MODELS["SigLIP2-B16-256"].image
    flexible = dataclasses.replace(square, naflex=True)
    assert flexible == MODELS["SigLIP2-B16-NaFlex"].image
    return [LitModel(LitConfig(image=image, text=None)) for image in (square, flexible)]


def towers(square, flexible, rounds):
    """Prints NaFlex's rate as a share of the square tower's; returns whether it holds."""
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, 256, 256, 3), dtype=np.uint8)
    prepare = preparation(flexible.config, PATCHES)
    patches = prepare.stack([on_cpu(prepare, image) for image in pixels])
    masked = {**patches, "mask": np.ones((BATCH, PATCHES), np.int32)}
    inputs = {
        "square": (square, tf.constant(pixels)),
        "NaFlex": (flexible, tf.nest.map_structure(tf.constant, patches)),
        "NaFlex with a mask": (flexible, tf.nest.map_structure(tf.constant, masked)),
    }
    functions = {
        name: (lambda model=model, x=x: model.image_function(x).numpy())
        for name, (model, x) in inputs.items()
    }
    times = best_times(functions, rounds)
    print(f"batch {BATCH} x {PATCHES} patches: {times}")
    print(
        f"  with a mask: {times['square'] / times['NaFlex with a mask']:.3f} of the square's rate"
    )
    return verdict("NaFlex / square tower", times["square"] / times["NaFlex"], 0.95)


def bucketing(flexible, rounds):
    """Prints the time of batches of like length as a share of that of batches as they come."""
    rng, pixels = np.random.default_rng(1), 3 * flexible.config.image.patch_size**2
    sides = np.exp(rng.uniform(np.log(100), np.log(4000), (4 * BATCH, 2))).astype(int)
    grids = [naflex.target_grid(int(h), int(w), 16, PATCHES) for h, w in sides]
    pictures = [np.zeros((*grid, pixels), np.float32) for grid in grids]
    functions = {}
    for name, order in (
        ("as they come", pictures),
        ("bucketed", sorted(pictures, key=lambda picture: picture.shape[0] * picture.shape[1])),
    ):
        starts = range(0, len(order), BATCH)
        batches = [naflex.batched(order[start : start + BATCH]) for start in starts]
        batches = [tf.nest.map_structure(tf.constant, batch) for batch in batches]
        functions[name] = lambda batches=batches: [
            flexible.image_function(batch).numpy() for batch in batches
        ]
    times = best_times(functions, rounds)
    share = times["bucketed"] / times["as they come"]
    print(f"bucketed / padded as they come: {share:.3f} of the time ({times})")


def padding():
    """Prints which share of a batch's patches is padding, for pictures of random shapes."""
    rng = np.random.default_rng(0)
    for limit in (128, 256, 576, 1024):
        sides = np.exp(rng.uniform(np.log(100), np.log(4000), (64 * 32, 2))).astype(int)
        grids = [naflex.target_grid(int(h), int(w), 16, limit) for h, w in sides]
        counts = np.array([rows * columns for rows, columns in grids]).reshape(64, 32)
        share = 1 - counts.sum() / (counts.max(axis=1).sum() * 32)
        print(f"  padding in batches of 32 at max_patches {limit}: {share:.1%}")


def main():
    """Runs the benchmark; returns whether every bound holds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    padding()
    square, flexible = models()
    bucketing(flexible, args.rounds)
    return towers(square, flexible, args.rounds)


if __name__ == "__main__":
    raise SystemExit(0 if main() else 1)
