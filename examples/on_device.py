"""TFLite graphs with LiteRT and NumPy alone: no TensorFlow, no lit_tf.

    lit-tf export LiT-digits device --tflite
    python examples/on_device.py device examples/images/37.png "a three next to a seven" "a red 42"

The picture is of any size: a .npy file of uint8 (H, W, 3), or with Pillow any picture file. Texts
are tokenized by lit_tf/texts/wordpiece.py, a file of plain Python; --wordpiece says where it is.
"""

import argparse
import importlib.util
import json
import pathlib

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def load_wordpiece(path):
    """Returns the tokenizer's module from its file, without the package around it."""
    spec = importlib.util.spec_from_file_location("wordpiece", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_pixels(path):
    """Returns uint8 (H, W, 3)."""
    if path.endswith(".npy"):
        return np.load(path)
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def resize(pixels, side, crop=False):
    """Returns uint8 (side, side, 3): bilinear, not antialiased, truncated, as in training.

    Where the manifest says "crop", the smaller side is fitted and the centre cut out.
    """
    height, width = side, side
    if crop:
        scale = np.float32(side) / np.float32(min(pixels.shape[:2]))
        height, width = (int(np.round(n * scale)) for n in pixels.shape[:2])
    x = pixels.astype(np.float32)
    for axis, size in ((1, width), (0, height)):
        count = x.shape[axis]
        at = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(count / size) - 0.5
        low = np.clip(np.floor(at), 0, count - 1).astype(int)
        high = np.clip(np.ceil(at), 0, count - 1).astype(int)
        share = (at - np.floor(at)).reshape([-1 if i == axis else 1 for i in range(3)])
        x = x.take(low, axis) + (x.take(high, axis) - x.take(low, axis)) * share
    top, left = (height - side) // 2, (width - side) // 2
    return x[top : top + side, left : left + side].astype(np.uint8)


def runner(folder, file):
    """Returns a function that runs a graph's only signature."""
    return Interpreter(str(folder / file), num_threads=2).get_signature_runner()


def main():
    """Prints how well each text fits the picture."""
    here = pathlib.Path(__file__).parent.parent
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("picture")
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--wordpiece", default=here / "lit_tf" / "texts" / "wordpiece.py")
    parser.add_argument("--json", action="store_true", help="print the probabilities as JSON")
    args = parser.parse_args()
    manifest = json.loads((args.folder / "lit_manifest.json").read_text(encoding="utf-8"))
    vocabulary = (args.folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    tokenizer = load_wordpiece(args.wordpiece).WordPiece(vocabulary, manifest["token_length"])
    tokens = np.array([tokenizer.encode(text) for text in args.texts], np.int32)
    pixels = resize(read_pixels(args.picture), manifest["resolution"], manifest["crop"])[None]

    zimg = runner(args.folder, "image_encoder.tflite")(image=pixels)["embedding"]
    ztxt = runner(args.folder, "text_encoder.tflite")(tokens=tokens)["embedding"]
    logits = manifest["temperature"] * zimg @ ztxt.T
    logits -= logits.max(-1, keepdims=True)
    probabilities = (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))[0]
    if args.json:
        print(json.dumps({"texts": args.texts, "probabilities": probabilities.tolist()}))
        return
    for text, probability in zip(args.texts, probabilities, strict=True):
        print(f"{probability:6.1%}  {text}")


if __name__ == "__main__":
    main()
