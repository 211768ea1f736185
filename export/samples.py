"""The inputs on which exported graphs are calibrated and compared with the Keras model."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from lit_tf.errors import ExportError, ImageError
from lit_tf.images import preprocessing
from lit_tf.images.formats import MAX_PIXELS
from lit_tf.images.preparation import preparation
from lit_tf.zero_shot import get_templates

SAMPLE_TEXTS = [
    "a photo of a cat",
    "A close-up photo of the DOG.",
    "two zebras standing in the grass",
    "itap of the café in Çelik Street, at night",
    "a red bicycle next to a small blue truck on the street near the old city park",
    "the number thirty-seven in green ink",
    "unhappily photographed boats, e-mail@example.com 12:30",
    "",
]
ODD_TEXTS = [
    "  two  spaces ",
    "caffè 猫",
    "ﬁ 𝔘 №",
    "n\u0301 \U0001f600",
    "का \U00020000",
    "x" * 101,
]
CALIBRATION_NAMES = (
    "horse,red car,bowl of soup,tall building,guitar player,airplane over the sea,old wooden boat,"
    "three people,number seven,coffee cup,mountain in winter,kitchen table,yellow flower"
).split(",")


def sample_images(size: int, count: int = 6) -> list[np.ndarray]:
    """Returns uint8 pictures (H, W, 3) of several sizes: waves, edges, a little noise."""
    out = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        height, width = size + 7 * (seed % 3), size + 11 * (seed % 2)
        y, x = np.mgrid[:height, :width] / size
        a, b, c = rng.uniform(2, 14, 3)
        waves = [np.sin(a * x + seed), np.cos(b * y), np.sin(c * (x + y))]
        picture = 127 + 90 * np.stack(waves, -1)
        picture[height // 3 : height // 2, width // 4 : width // 2] = rng.uniform(0, 255, 3)
        noise = rng.normal(0, 6, picture.shape)
        out.append((picture + noise).clip(0, 255).astype(np.uint8))
    return out


def sample_tokens(model, count: int = 32, calibration: bool = False) -> np.ndarray:
    """Returns int32 tokens (N, L): those of texts, if it tokenizes, and `count` random rows."""
    rng = np.random.default_rng(18 if calibration else 17)
    text, length = model.config.text, model.config.token_length
    tokens = rng.integers(2, text.vocab_size, (count, length)).astype(np.int32)
    place = np.arange(length)
    if text.kind == "bert":  # texts of all lengths, padded
        tokens[place >= rng.integers(3, length + 1, (count, 1))] = 0
    else:  # the same, ended too
        ends = rng.integers(min(1, length - 1), length, (count, 1))
        eos, pad = (1, 1) if model.tokenizer is None else (model.tokenizer.eos, model.tokenizer.pad)
        tokens = np.where(place < ends, tokens, np.where(place == ends, eos, pad)).astype(np.int32)
    if model.tokenizer is not None:
        texts = sample_prompts(count) if calibration else SAMPLE_TEXTS
        tokens = np.concatenate([model.tokenizer(texts).numpy(), tokens])
    return tokens


def sample_prompts(count: int) -> list[str]:
    """Returns prompts, all templates of CLIP's paper in turn."""
    templates = get_templates("clip_paper")
    return [
        templates[i % len(templates)].format(CALIBRATION_NAMES[i % len(CALIBRATION_NAMES)])
        for i in range(count)
    ]


def check_squares(model) -> None:
    """Raises an ExportError if the model's images keep their shape: no graph here takes those."""
    if model.tower("image").config.naflex:
        raise ExportError(
            "a NaFlex tower takes images of any shape; expected a tower of squares (export a "
            "SavedModel, or another model)"
        )


def check_preprocessing(model) -> None:
    """Raises an ExportError if images or texts are another library's, which no device computes."""
    if (library := model.config.preprocessing) != "big_vision":
        raise ExportError(
            f"preprocessing {library} is computed by SavedModels only; load the model with "
            "preprocessing='big_vision' for this export"
        )


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the cosine between the rows of two arrays."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def resized(
    model,
    images: Iterable,
    *,
    max_pixels: int = MAX_PIXELS,
    failed: Callable[[Any, ImageError], None] | None = None,
) -> np.ndarray:
    """Returns images of any kind as uint8 (N, R, R, 3), the input of the model's graphs.

    One that cannot be read is left out after a call of `failed(image, error)`; without `failed`,
    its ImageError is raised.
    """
    prepare, out = preparation(model.config), []
    for i, image in enumerate(images):
        try:
            pixels = preprocessing.to_uint8(image, f"Image {i}", max_pixels)
        except ImageError as error:
            if failed is None:
                raise
            failed(image, error)
            continue
        out.append(prepare(pixels).numpy())
    return np.stack(out) if out else np.zeros((0, *prepare.spec.shape), np.uint8)
