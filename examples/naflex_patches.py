"""From a picture to what a NaFlex graph reads, with NumPy alone: no TensorFlow, no lit_tf.

    lit-tf export SigLIP2-B16-NaFlex device --tflite --max-patches 256
    python examples/naflex_patches.py device picture.jpg

The picture keeps its shape: it is resized so that its patches just fit into `max_patches`, cut, and
padded. Prints the picture's embedding, by LiteRT.
"""

import argparse
import json
import pathlib

import numpy as np


def target_grid(height, width, patch, most):
    """Returns rows and columns of patches: the largest scale at which they are `most`.

    All of it is float32, since the result depends on it.
    """

    def count(scale, side):
        return max(int(np.ceil(scale * np.float32(side) / np.float32(patch))), 1)

    low, high = np.float32(1e-6), np.float32(100)
    while high - low >= np.float32(1e-5):
        middle = (low + high) / np.float32(2)
        if count(middle, height) * count(middle, width) <= most:
            low = middle
        else:
            high = middle
    return count(low, height), count(low, width)


def triangles(count, wanted):
    """Returns the weights (wanted, count) of a bilinear resize with antialias along one side."""
    step = np.float32(1) / (np.float32(wanted) / np.float32(count))
    centres = (np.arange(wanted, dtype=np.float32) + np.float32(0.5)) * step
    distances = np.abs(centres[:, None] - (np.arange(count, dtype=np.float32) + np.float32(0.5)))
    weights = np.maximum(0, 1 - distances / max(step, np.float32(1)))
    return weights / weights.sum(1, keepdims=True)


def patches_of(pixels, patch, most):
    """Returns {"patches", "coordinates", "mask"} of a picture, uint8 (H, W, 3).

    patches float32 (most, 3 patch^2) in [-1, 1], ordered by row, column, channel; coordinates int32
    (most, 2), y and x; mask int32 (most,), 0 for padding.
    """
    rows, columns = target_grid(*pixels.shape[:2], patch, most)
    x = np.float32(-1) + np.float32(2) * (pixels.astype(np.float32) / np.float32(255))
    x = np.tensordot(triangles(pixels.shape[0], rows * patch), x, 1)  # (rows patch, W, 3)
    x = np.tensordot(triangles(pixels.shape[1], columns * patch), x, (1, 1))  # columns first
    x = x.reshape(columns, patch, rows, patch, 3).transpose(2, 0, 3, 1, 4)
    count = rows * columns
    out = {
        "patches": np.zeros((most, 3 * patch**2), np.float32),
        "coordinates": np.zeros((most, 2), np.int32),
        "mask": (np.arange(most) < count).astype(np.int32),
    }
    out["patches"][:count] = x.reshape(count, -1)
    out["coordinates"][:count] = np.indices((rows, columns)).reshape(2, -1).T
    return out


def main():
    """Prints a picture's embedding."""
    from ai_edge_litert.interpreter import Interpreter
    from PIL import Image, ImageOps

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("picture")
    args = parser.parse_args()
    manifest = json.loads((args.folder / "lit_manifest.json").read_text(encoding="utf-8"))
    with Image.open(args.picture) as image:
        pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    given = patches_of(pixels, manifest["patch_size"], manifest["max_patches"])
    run = Interpreter(str(args.folder / "image_encoder.tflite")).get_signature_runner()
    print(run(**{name: value[None] for name, value in given.items()})["embedding"][0].tolist())


if __name__ == "__main__":
    main()
