"""What evaluation costs beside the towers: reading and decoding images, and comparing pairs.

    python benchmarks/evaluate.py [--images 32] [--rounds 3] [--pairs 50000]

Prints the rate of the evaluator at ViT-B/16, from JPEG files to embeddings in their places, beside
that of the bare image tower on pixels that are already in memory; then how fast retrieval compares
pairs in blocks, and what memory that takes.
"""

import argparse
import os
import pathlib
import sys
import tempfile
import time
import tracemalloc

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from timing import best_times, verdict

from lit_tf import retrieval
from lit_tf.config import LitConfig, ViTConfig
from lit_tf.images import preprocessing
from lit_tf.model import LitModel
from lit_tf.training.evaluation.classification import open_classification
from lit_tf.training.evaluation.encoders import KerasEncoder

VIT = ViTConfig(
    patch_size=16, image_size=224, width=768, depth=12, num_heads=12, mlp_dim=3072, out_dim=None
)
BATCH = 8


def write_photos(folder, count):
    """Writes JPEG files of ImageNet's usual size, noisy enough to be as large (about 110 kB)."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:375, :500]
    for i in range(count):
        smooth = 127 + 90 * np.sin(x / (9 + i) + y[::-1] / 17)[..., None] * [1, 0.7, 0.4]
        noisy = smooth + rng.normal(0, 25, (375, 500, 3))
        path = pathlib.Path(folder) / f"class {i % 4}" / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        data = tf.io.encode_jpeg(tf.constant(noisy.clip(0, 255).astype(np.uint8)), quality=90)
        path.write_bytes(data.numpy())


def evaluator(count, rounds):
    """Compares the evaluator with the bare tower; returns whether it is fast enough."""
    model = LitModel(LitConfig(image=VIT, text=None))
    encoder = KerasEncoder(model, batch_size=BATCH)
    pixels = tf.constant(np.random.default_rng(0).integers(0, 256, (BATCH, 224, 224, 3), np.uint8))

    @tf.function
    def tower(x):
        return model.embed_images(preprocessing.normalize(x))

    with tempfile.TemporaryDirectory() as folder:
        write_photos(folder, count)
        images = open_classification(folder).images
        times = best_times(
            {
                "tower": lambda: [tower(pixels).numpy() for _ in range(count // BATCH)],
                "evaluator": lambda: encoder.embed_images(images),
            },
            rounds,
        )
    rates = {name: count / seconds for name, seconds in times.items()}
    print(
        f"image tower B/16, batches of {BATCH}: {rates['tower']:.2f} images/s; "
        f"evaluator from JPEG files: {rates['evaluator']:.2f} images/s"
    )
    return verdict("evaluator / bare image tower", rates["evaluator"] / rates["tower"], 0.9)


def pairs(count, width=64):
    """Compares `count` images with as many texts, and reports rate and memory."""
    rng = np.random.default_rng(0)
    zimg, ztxt = rng.standard_normal((2, count, width), np.float32)
    tracemalloc.start()
    start = time.perf_counter()
    retrieval.ranks(zimg, ztxt, rng.permutation(count))
    seconds = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(
        f"retrieval, {count:,} images x {count:,} texts, width {width}: {seconds:.1f} s, "
        f"{count**2 / seconds / 1e6:,.0f} million pairs/s, {peak / 2**20:.0f} MiB beside the "
        f"embeddings (all similarities would take {4 * count**2 / 2**30:.1f} GiB)"
    )


def main():
    """Runs the benchmark; the exit status says whether every bound was held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=50_000)
    args = parser.parse_args()
    pairs(args.pairs)
    return 0 if evaluator(args.images, args.rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
