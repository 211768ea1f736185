"""SigLIP's image tower, B/16 at 256 pixels: speed beside plain matrix products, and int8's.

    python benchmarks/siglip.py [--rounds 20]

The weights are those of the fixture of SigLIP2-B16-256 (tests/reference/reference_fixtures.py).
"""

import argparse
import os
import pathlib
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from timing import best_times, verdict
from towers import flops, matmuls, products

import lit_tf
from export import reference_weights
from lit_tf.checkpoints import npz
from lit_tf.export import samples, tflite
from lit_tf.towers.layers import PreNormBlock
from lit_tf.towers.vit import AttentionPooling

BATCH = 8


def tower_beside_matmuls(model, rounds):
    """Prints the tower's rate as a share of that of its own products; returns whether it holds."""
    config = model.config.image
    made = products(config, BATCH, config.grid**2)
    rng = np.random.default_rng(0)
    side = config.image_size
    pixels = tf.constant(rng.uniform(-1, 1, (BATCH, side, side, 3)).astype(np.float32))
    tower = tf.function(model.embed_images, autograph=False)
    functions = {"matmuls": matmuls(made, "float32"), "tower": lambda: tower(pixels).numpy()}
    times = best_times(functions, rounds)
    print(f"batch {BATCH} x {config.grid**2} tokens, {flops(made) / 1e9:.0f} GFLOP: {times}")
    share = times["matmuls"] / times["tower"]
    return verdict("image tower B/16 at 256 px / plain matmuls", share, 0.9)


def pooling_beside_a_block(config, rounds):
    """Prints what a block costs in units of the attention pooling; returns whether it is more."""
    sizes = (config.width, config.num_heads, config.mlp_dim)
    block, pooling = PreNormBlock(*sizes), AttentionPooling(*sizes)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, config.grid**2, config.width), dtype=np.float32)
    calls = {name: tf.function(f) for name, f in (("block", block), ("pooling", pooling))}
    tensor = tf.constant(x)
    functions = {name: (lambda f=f: f(tensor).numpy()) for name, f in calls.items()}
    times = best_times(functions, rounds)
    return verdict("one block / attention pooling", times["block"] / times["pooling"], 1)


def int8_beside_float(model, folder, rounds):
    """Prints the speed of dynamic_int8 beside float TFLite and its cosine; returns (both hold)."""
    from ai_edge_litert.interpreter import Interpreter

    pixels = samples.resized(model, samples.sample_images(model.config.image.image_size, BATCH))
    functions = {}
    for quantization in ("none", "dynamic_int8"):
        out = folder / quantization
        found = tflite(model, out, quantization=quantization)["image_encoder.tflite"]
        path = str(out / "image_encoder.tflite")
        runner = Interpreter(path, num_threads=os.cpu_count()).get_signature_runner()
        functions[quantization] = lambda run=runner: run(image=pixels)
    times = best_times(functions, rounds)
    ratio = times["none"] / times["dynamic_int8"]
    return [
        verdict("dynamic_int8 / float TFLite", ratio, 2),
        verdict("cosine of dynamic_int8 to Keras", found["mean_cosine"], 0.999),
    ]


def main():
    """Runs the benchmark; returns whether every bound holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="timed calls of each function")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        weights = reference_weights("siglip2_b16_256")
        npz.write_npz(folder / "image.npz", (w for w in weights if w[0].startswith("img/")))
        model = lit_tf.load(folder / "image.npz")
        held = [
            tower_beside_matmuls(model, rounds),
            pooling_beside_a_block(model.config.image, rounds),
            *int8_beside_float(model, folder, rounds),
        ]
    return all(held)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
