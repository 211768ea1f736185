"""`self_test.json`: what an app needs to check a device's answers, its resizing and its tokenizer.

A runtime that cannot read a graph seldom refuses it: most answer noise. So an app runs these inputs
once at its start, as `examples/self_test.py` does, and stops below `least_cosine`.
"""

import base64
import json

import numpy as np
import tensorflow as tf

from . import manifest, samples

NAME = "self_test.json"
RESIZING = "bilinear with half-pixel centres, not antialiased, truncated to bytes"
NAFLEX = "scaled to [-1, 1], then bilinear with half-pixel centres, antialiased, not rounded"


def write(folder, model, files, baked=None, max_patches=None) -> None:
    """Writes it for graphs with records `files`; `baked` is `manifest.read_classes`'s, or None."""
    test: dict = {"about": "arrays are in base64: little-endian, row by row"}
    if model.image_tower is not None:
        pictures, given = _pictures(model, max_patches)
        test |= pictures
        zimg = samples.embedded(model, given)
    if model.text_tower is not None:
        tokens = samples.sample_tokens(model, 8)
        if model.tokenizer is not None:
            test["texts"] = [*samples.SAMPLE_TEXTS, *samples.ODD_TEXTS]
            tokens = model.tokenizer(tf.constant(test["texts"])).numpy()
        test["tokens"], ztxt = to_record(tokens), model.encode_tokens(tokens)
    test["graphs"] = {}
    for file, found in files.items():
        expected = ztxt if file.startswith("text") else zimg
        if "probabilities" in found["outputs"]:
            rows = manifest.similarities(expected, baked[1])
            expected = tf.nn.softmax(model.temperature * rows).numpy()
        test["graphs"][file] = {
            "signature": found["signature"],
            # The names of its inputs, and where their values stand here.
            "inputs": {n: {"image": "pixels", "text": "texts"}.get(n, n) for n in found["inputs"]},
            "output": next(iter(found["outputs"])),
            "answers": to_record(expected),
            # Twice what LiteRT on a CPU loses, since other machines round differently.
            "least_cosine": round(min(0.999, 2 * found.get("min_cosine", 0.99) - 1), 6),
        }
    text = json.dumps(test, indent=1, ensure_ascii=False)
    (folder / NAME).write_text(text + "\n", encoding="utf-8")


def to_record(array) -> dict:
    """Returns an array as JSON can hold it."""
    array = np.asarray(array)
    data = base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return {"dtype": array.dtype.name, "shape": list(array.shape), "base64": data.decode()}


def _pictures(model, max_patches):
    """Returns records of pictures larger and smaller than the model's, and what graphs read."""
    size = model.config.image.image_size
    large = samples.sample_images(size, 3)[2][:, : size + 5]  # (size + 14, size or more, 3)
    small = samples.sample_images(max(size // 2, 2), 2)[1]
    pictures = [large, small]
    given = samples.prepared(model, pictures, max_patches=max_patches)
    records = {name.replace("image", "pixels"): to_record(v) for name, v in given.items()}
    records["pictures"] = [to_record(picture) for picture in pictures]
    return {"resizing": resizing(model), "crop": model.config.crop, **records}, given


def resizing(model) -> str:
    """Returns how the model's images are resized."""
    return NAFLEX if model.config.image.naflex else RESIZING
