"""TFLite graphs with LiteRT and NumPy alone: no TensorFlow, no lit_tf.

    lit-tf export LiT-digits device --tflite
    python examples/on_device.py device PIXELS.npy "a three next to a seven" "a red 42"

PIXELS.npy is uint8 (R, R, 3) or (N, R, R, 3), resized to the model's resolution. Texts are
tokenized by lit_tf/texts/wordpiece.py, a file of plain Python; --wordpiece says where it is.
"""

import argparse
import importlib
import json
import pathlib
import sys
import types

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def load_wordpiece(path):
    """Returns the tokenizer's module from its file, without the package around it."""
    # All that it imports is one error type, from a file of plain Python beside it.
    package = types.ModuleType("lit_tf")
    package.__path__ = [str(pathlib.Path(path).parent)]
    sys.modules["lit_tf"] = package
    return importlib.import_module("lit_tf.texts.wordpiece")


def runner(folder, file):
    """Returns a function that runs a graph's only signature."""
    return Interpreter(str(folder / file), num_threads=2).get_signature_runner()


def main():
    """Prints how well each text fits each picture."""
    here = pathlib.Path(__file__).parent.parent
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("pixels")
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--wordpiece", default=here / "lit_tf" / "wordpiece.py")
    parser.add_argument("--json", action="store_true", help="print the probabilities as JSON")
    args = parser.parse_args()
    manifest = json.loads((args.folder / "lit_manifest.json").read_text(encoding="utf-8"))
    vocabulary = (args.folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    tokenizer = load_wordpiece(args.wordpiece).WordPiece(vocabulary, manifest["token_length"])
    tokens = np.array([tokenizer.encode(text) for text in args.texts], np.int32)
    pixels = np.load(args.pixels)
    pixels = pixels.reshape(-1, *pixels.shape[-3:])

    zimg = runner(args.folder, "image_encoder.tflite")(image=pixels)["embedding"]
    ztxt = runner(args.folder, "text_encoder.tflite")(tokens=tokens)["embedding"]
    logits = manifest["temperature"] * zimg @ ztxt.T
    logits -= logits.max(-1, keepdims=True)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    if args.json:
        print(json.dumps({"texts": args.texts, "probabilities": probabilities.tolist()}))
        return
    for i, row in enumerate(probabilities):
        for text, probability in zip(args.texts, row, strict=True):
            print(f"image {i}  {probability:6.1%}  {text}")


if __name__ == "__main__":
    main()
