"""A SavedModel in a process that has TensorFlow, and nothing of lit_tf.

    lit-tf export LiT-digits served/1 --saved-model
    python examples/serve_saved_model.py served/1 PICTURE.png "a three next to a seven" "a red 42"

With --serve it prints the request for TensorFlow Serving's REST API instead of answering.
"""

import argparse
import base64
import json
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def request(image: bytes, texts: list[str]) -> str:
    """Returns the body of POST http://HOST:8501/v1/models/NAME:predict.

    Columnar (`inputs`), because images and texts differ in number; {"b64": ...} is how the API
    knows bytes, for inputs whose names end in `_bytes`.

    Args:
        image: an encoded image.
        texts: what to compare it with.
    """
    data = base64.b64encode(image).decode()
    inputs = {"image_bytes": [{"b64": data}], "text": texts}
    return json.dumps({"signature_name": "compare", "inputs": inputs})


def main():
    """Answers which text fits the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("image")
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--serve", action="store_true", help="print TensorFlow Serving's request")
    parser.add_argument("--json", action="store_true", help="print the probabilities as JSON")
    args = parser.parse_args()
    with open(args.image, "rb") as file:
        image = file.read()
    if args.serve:
        print(request(image, args.texts))
        return
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers the tokenizer's operations

    model = tf.saved_model.load(args.folder)
    answer = model.signatures["compare"](
        image_bytes=tf.constant([image]), text=tf.constant(args.texts)
    )
    probabilities = answer["probabilities"].numpy()  # (1, texts)
    if args.json:
        print(json.dumps({"texts": args.texts, "probabilities": probabilities.tolist()}))
        return
    for text, probability in zip(args.texts, probabilities[0], strict=True):
        print(f"{probability:6.1%}  {text}")


if __name__ == "__main__":
    main()
