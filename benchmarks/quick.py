"""Some minutes of speed, as a table: `make bench-quick`. `make bench` measures all of it in depth.

Everything is B/16 and BERT base in float32. A ratio is the rate of a part's matrix products divided
by the rate of plain ones of the same sizes, measured in the same moments. Texts count at their own
length, and of the last block what the one token that is used needs: its query, projection and MLP,
and the keys and values of all tokens. (A float tower works around these two, which are 1.4 % of the
products at 12 blocks and 7 % at 3.) Only int8 can be above 1, since its products are cheaper.
"""

import pathlib
import sys
import tempfile

import numpy as np
import short_texts
import tensorflow as tf
import train_step
from ai_edge_litert.interpreter import Interpreter
from timing import best_times
from towers import flops, matmuls, products

from lit_tf.config import LitConfig, ViTConfig
from lit_tf.export import saved_model, tflite
from lit_tf.model import LitModel
from lit_tf.texts.batching import distinct_by_length
from lit_tf.texts.tokenizers import tokenizer_from_bytes

IMAGES = 8
# What is exported has 3 of 12 blocks: to write and verify all of them would take minutes.
EXPORTED = ViTConfig(16, 224, 768, 3, 12, 3072)


def text_encoder(folder):
    """Returns a function that embeds class prompts, and its products, batch by batch."""
    prompts, words = short_texts.class_prompts(500)
    path = folder / "vocab.txt"
    path.write_text("\n".join(short_texts.vocabulary(prompts, words)) + "\n", encoding="utf-8")
    tokenizer = tokenizer_from_bytes("bert", path, short_texts.LENGTH)
    model = LitModel(LitConfig(image=None, text=short_texts.BERT), tokenizer)
    rows, _ = distinct_by_length(model.tokenize(prompts))
    made_of = []
    for start in range(0, len(rows), short_texts.BATCH):
        batch = rows[start : start + short_texts.BATCH]
        made_of += products(short_texts.BERT, len(batch), int((batch != 0).any(axis=0).sum()))
    return lambda: model.encode_text(prompts, short_texts.BATCH), made_of


def exported(folder, pixels):
    """Returns functions that embed images with a SavedModel and in int8."""
    model = LitModel(LitConfig(image=EXPORTED, text=None))
    saved_model(model, folder / "saved", parts=("image",))
    served = tf.saved_model.load(str(folder / "saved")).signatures["encode_image"]
    tflite(model, folder / "lite", quantization="dynamic_int8")
    path = folder / "lite" / "image_encoder.tflite"
    runner = Interpreter(str(path), num_threads=2).get_signature_runner()
    tensor = tf.constant(pixels)
    return lambda: served(image=tensor)["embedding"].numpy(), lambda: runner(image=pixels)


def main():
    """Prints the table."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (IMAGES, 224, 224, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        image = LitModel(LitConfig(image=train_step.CONFIG.image, text=None))
        text, text_products = text_encoder(folder)
        served, int8 = exported(folder, pixels)
        tokens = 1 + EXPORTED.grid**2
        small = products(EXPORTED, IMAGES, tokens)
        parts = {
            "image tower": (
                lambda: image.image_function(pixels).numpy(),
                products(image.config.image, IMAGES, tokens),
            ),
            "texts (ImageNet's class prompts)": (text, text_products),
            "train step, image tower locked": (
                train_step.stepper("float32"),
                train_step.step_products(),
            ),
            "SavedModel, images": (served, small),
            "TFLite dynamic_int8, images": (int8, small),
        }
        functions = {}
        for name, (function, made_of) in parts.items():
            functions[name] = function
            functions[f"matmuls {name}"] = matmuls(made_of, "float32")
        times = best_times(functions, rounds=3)
    print("| B/16 and BERT base | GFLOP/s | of plain matrix products |")
    print("| --- | --- | --- |")
    for name, (_, made_of) in parts.items():
        rate, ratio = flops(made_of) / times[name], times[f"matmuls {name}"] / times[name]
        print(f"| {name} | {rate / 1e9:.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    sys.exit(main())
