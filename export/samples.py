"""The inputs on which exported graphs are calibrated and compared with the Keras model."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from lit_tf.errors import ExportError, ImageError
from lit_tf.images import preprocessing
from lit_tf.images.formats import MAX_PIXELS
from lit_tf.images.preparation import Square, preparation
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
    pairs = zip(itertools.cycle(get_templates("clip_paper")), itertools.cycle(CALIBRATION_NAMES))
    return [template.format(name) for template, name in itertools.islice(pairs, count)]


def check_preprocessing(model) -> None:
    """Raises an ExportError if images or texts are another library's, which no device computes."""
    if (library := model.config.preprocessing) != "big_vision":
        what = f"preprocessing {library} is computed by SavedModels only"
        raise ExportError(f"{what}; load the model with preprocessing='big_vision' for this export")


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the cosine between the rows of two arrays."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def resized(model, images: Iterable) -> np.ndarray:
    """Returns images of any kind as uint8 (N, R, R, 3), squares of the model's size."""
    c = model.config
    square = Square(c.image.image_size, c.crop, c.resample)
    return np.stack([square(preprocessing.to_uint8(image)) for image in images])


def prepared(
    model,
    images: Iterable,
    *,
    max_patches: int | None = None,
    max_pixels: int = MAX_PIXELS,
    failed: Callable[[Any, ImageError], None] | None = None,
) -> dict[str, np.ndarray]:
    """Returns images of any kind as the model's graphs take them, {argument: array (N, ...)}.

    One that cannot be read is left out after a call of `failed(image, error)`, if it is given.
    """
    prepare, rows = preparation(model.config, max_patches), []
    for i, image in enumerate(images):
        try:
            pixels = preprocessing.to_uint8(image, f"Image {i}", max_pixels)
        except ImageError as error:
            if failed is None:
                raise
            failed(image, error)
            continue
        row = prepare.fixed(pixels)
        rows.append(row if isinstance(row, dict) else {"image": row})
    if not rows:
        return {}
    return {name: np.stack([row[name].numpy() for row in rows]) for name in rows[0]}


def most_patches(model, max_patches: int | None) -> int | None:
    """Returns the number of patches of a NaFlex model's graphs; None where images are squares."""
    if model.image_tower is None:
        return None
    return getattr(preparation(model.config, max_patches), "max_patches", None)


def embed_function(model, given: dict, batch: int | None) -> tuple[Callable, list]:
    """Returns a function that embeds images, of tensors like `prepared`'s, and its signature.

    It computes in float32 throughout: `embed_pixels` uses float64, which TFLite does not have.
    """

    def embed(*tensors):
        if len(tensors) > 1:
            return model.embed_images(dict(zip(given, tensors, strict=True)))
        return model.embed_images(tf.cast(tensors[0], tf.float32) * (1 / 127.5) - 1.0)

    specs = [tf.TensorSpec([batch, *v.shape[1:]], v.dtype, name) for name, v in given.items()]
    return embed, specs


def embedded(model, given: dict[str, np.ndarray]) -> np.ndarray:
    """Returns the model's own embeddings (N, D) of what `prepared` returned."""
    return model.embed_pixels(given if len(given) > 1 else tf.constant(given["image"])).numpy()
