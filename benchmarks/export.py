"""What exporting costs and gives at B/16 + BERT base: sizes, cosines, speed; ratios in one run.

    python benchmarks/export.py [CHECKPOINT]

Without a checkpoint, a model of LiT-B16B_2's sizes from tests/reference/reference_fixtures.py.
"""

import argparse
import pathlib
import sys
import tempfile
import time

import numpy as np
import tensorflow as tf
from timing import verdict

import lit_tf
from lit_tf.export import samples, saved_model, tflite
from lit_tf.images import preprocessing

ROOT = pathlib.Path(__file__).parent.parent
# What files of LiT-B16B_2's sizes may take in dynamic_int8.
MOST_MB = {"image_encoder.tflite": 90, "text_encoder.tflite": 115}


def reference_weights(name):
    """Yields (key, array) of a full-size model of tests/reference, each made when asked for."""
    sys.path.insert(0, str(ROOT / "tests" / "reference"))
    import reference_fixtures

    seed = reference_fixtures.SEEDS[name]
    for key, shape in reference_fixtures.shapes(name).items():
        yield key, reference_fixtures.array(seed, key, shape)


def _fixture(folder):
    from lit_tf.checkpoints import npz

    path = folder / "fixture.npz"
    npz.write_npz(path, reference_weights("LiT-B16B_2"))
    return path


def _best(functions, rounds=5):
    """Returns the least seconds of each, taken in turns, so that a busy machine slows all alike."""
    best = [np.inf] * len(functions)
    for function in functions:
        function()
    for _ in range(rounds):
        for i, function in enumerate(functions):
            start = time.perf_counter()
            function()
            best[i] = min(best[i], time.perf_counter() - start)
    return best


def _lite(path, threads):
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(str(path), num_threads=threads).get_signature_runner()


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model = lit_tf.load(args.checkpoint or _fixture(folder))
        size = model.config.image.image_size
        graphs, held = {}, []
        for quantization in ("none", "float16", "dynamic_int8", "int8"):
            out = folder / quantization
            calibration = samples.sample_images(size, 22)[6:]
            files = tflite(model, out, quantization=quantization, calibration=calibration)
            for name, found in files.items():
                left = sum(found["delegation"]["left"].values())
                print(
                    f"{quantization:13s} {name:22s} {found['bytes'] / 1e6:8.1f} MB   cosine mean "
                    f"{found['mean_cosine']:.6f} least {found['min_cosine']:.6f}   "
                    f"{found['delegation']['in_xnnpack']} of {found['delegation']['nodes']} nodes "
                    f"in XNNPACK, {left} left",
                    flush=True,
                )
                if quantization == "dynamic_int8" and not args.checkpoint and name in MOST_MB:
                    share = MOST_MB[name] * 1e6 / found["bytes"]
                    held.append(verdict(f"{MOST_MB[name]} MB beside {name}", share, 1))
            graphs[quantization] = _lite(out / "image_encoder.tflite", args.threads)
        saved_model(model, folder / "saved", parts=("image",))
        served = tf.saved_model.load(str(folder / "saved")).signatures
        pixels = samples.resized(model, samples.sample_images(size, 8))
        tensor, floats = tf.constant(pixels), preprocessing.normalize(tf.constant(pixels))
        keras = tf.function(model.embed_images)
        times = _best(
            [
                lambda: keras(floats).numpy(),
                lambda: served["encode_image"](image=tensor)["embedding"].numpy(),
                lambda: graphs["none"](image=pixels),
                lambda: graphs["dynamic_int8"](image=pixels),
                lambda: graphs["int8"](image=pixels),
            ]
        )
        k, s, f, d, i = times
        held += [
            verdict("SavedModel's encode_image, 8 images, beside the Keras model", k / s, 0.95),
            verdict("float TFLite beside the Keras model", k / f, 0.8),
            verdict("dynamic_int8 beside float TFLite", f / d, 2),
        ]
        print(f"  int8 beside float TFLite: {f / i:.2f}")
        data = tf.constant([tf.io.encode_jpeg(pixels[0]).numpy()])
        whole, bare = _best(
            [
                lambda: served["encode_image_bytes"](image_bytes=data)["embedding"].numpy(),
                lambda: keras(floats[:1]).numpy(),
            ],
            rounds=12,
        )
        held.append(verdict("one JPEG: share of the call inside the tower", bare / whole, 0.95))
        sys.exit(not all(held))


if __name__ == "__main__":
    main()
