"""What both exporters share: the manifest, sample inputs, and putting a folder into place whole."""

import contextlib
import ctypes
import errno
import json
import os
import pathlib
import platform
import shutil
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf

import lit_tf
from lit_tf import images as images_lib
from lit_tf.errors import ExportError
from lit_tf.files import sha256
from lit_tf.zero_shot import checked_class_names, class_embeddings, get_templates

NAME = "lit_manifest.json"
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
CALIBRATION_NAMES = (
    "horse,red car,bowl of soup,tall building,guitar player,airplane over the sea,old wooden boat,"
    "three people,number seven,coffee cup,mountain in winter,kitchen table,yellow flower"
).split(",")


def sample_images(size: int, count: int = 6) -> list[np.ndarray]:
    """Returns uint8 pictures (H, W, 3) of several sizes: waves, edges, a little noise.

    Args:
      size: side of the model's images; the pictures are about as large.
      count: how many.
    """
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
    """Returns int32 tokens (N, L): of the sample texts where there is a tokenizer, and random ones.

    Args:
      model: the model.
      count: how many random ones.
      calibration: whether to return others: random ones of another seed, and as many prompts.
    """
    rng = np.random.default_rng(18 if calibration else 17)
    text, length = model.config.text, model.config.token_length
    tokens = rng.integers(2, text.vocab_size, (count, length)).astype(np.int32)
    if text.kind == "bert":  # texts of all lengths, padded
        tokens[np.arange(length) >= rng.integers(3, length + 1, (count, 1))] = 0
    else:
        tokens[:, -1] = 1 if model.tokenizer is None else model.tokenizer.pad
    if model.tokenizer is not None:
        texts = SAMPLE_TEXTS
        if calibration:
            texts = sample_prompts(count)
        tokens = np.concatenate([model.tokenizer(texts).numpy(), tokens])
    return tokens


def sample_prompts(count: int) -> list[str]:
    """Returns prompts, all templates of CLIP's paper in turn."""
    templates = get_templates("clip_paper")
    return [
        templates[i % len(templates)].format(CALIBRATION_NAMES[i % len(CALIBRATION_NAMES)])
        for i in range(count)
    ]


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the cosine between the rows of two arrays."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def read_classes(model, classes, templates) -> tuple[list[str], np.ndarray]:
    """Returns class names as they are shown, and their embeddings float32 (C, D).

    Args:
      model: a model with both towers and a tokenizer.
      classes: names.
      templates: as `lit_tf.zero_shot.get_templates` takes them.

    Raises:
      DataError: there are no classes, or something is no name.
    """
    classes = [name.strip() for name in checked_class_names(classes)]
    return classes, class_embeddings(model.encode_text, classes, templates)


def write(folder, model, artefact: str, source=None, classes=None, templates=None, **more) -> None:
    """Writes `lit_manifest.json`.

    Args:
      folder: where to.
      model: the model that was exported.
      artefact: `saved_model` or `tflite`.
      source: the checkpoint's path, or None where the model does not come from a file.
      classes: names of baked-in classes, or None.
      templates: the templates that they were embedded with.
      **more: what else to record.
    """
    config = model.config
    digest = None
    if source is not None and os.path.isfile(source):
        digest = sha256(source)
    manifest = {
        "artefact": artefact,
        "model": model.name,
        "checkpoint_sha256": digest,
        "weights_sha256": model.fingerprint(),
        "resolution": config.image.image_size if config.image else None,
        "crop": config.crop,
        "token_length": config.token_length if config.text else None,
        "tokenizer": config.tokenizer_kind,
        "embedding_dim": config.embedding_dim,
        "temperature": model.temperature,
        "bias": model.bias,
        # Whether sigmoid(logits) is the probability that an image and a text fit.
        "match": model.bias is not None,
        "lowercase": None if model.tokenizer is None else model.tokenizer.lowercase,
        "classes": classes,
        "templates": None if classes is None else list(get_templates(templates)),
        **more,
        "versions": {
            "lit_tf": lit_tf.__version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    _put(folder, manifest)


def read(folder) -> dict:
    """Returns what `write` wrote."""
    return json.loads(pathlib.Path(folder, NAME).read_text(encoding="utf-8"))


def add(folder, **more) -> None:
    """Adds fields to the `lit_manifest.json` of a folder."""
    _put(folder, {**read(folder), **more})


def _put(folder, manifest):
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    pathlib.Path(folder, NAME).write_text(text + "\n", encoding="utf-8")


@contextlib.contextmanager
def replacing(path):
    """Gives a new folder beside `path`, which takes its place if all goes well, else vanishes.

    Args:
      path: a folder that this exporter wrote, an empty one, or none yet.

    Raises:
      ExportError: something else is there, which is left alone.
    """
    path = pathlib.Path(path).resolve()  # behind a link, what it points at is replaced
    if path.exists() and (not path.is_dir() or any(path.iterdir())) and not (path / NAME).is_file():
        raise ExportError(
            f"{path} exists and was not written by lit-tf export (it has no {NAME}); "
            "name another folder, or move this one away"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    beside.chmod(0o755)
    try:
        yield beside
        if path.exists():
            _exchange(beside, path)
        else:
            beside.rename(path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _exchange(a, b):
    """Swaps two folders, in one step where the system can: then a killed process leaves either.

    Linux can on all its usual file systems. Elsewhere a process that is killed between two renames
    leaves what was at `b` beside it, under the name of `a` with `.old` added.
    """
    renameat2 = None
    if sys.platform == "linux":
        renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is not None:
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of <fcntl.h> and <stdio.h>
        if renameat2(here, os.fsencode(a), here, os.fsencode(b), exchange) == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.ENOSYS, errno.EINVAL):  # an old kernel, or a file system without
            raise OSError(code, os.strerror(code), str(b))
    old = a.with_name(a.name + ".old")
    b.rename(old)
    try:
        a.rename(b)
    except BaseException:
        old.rename(b)
        raise
    old.rename(a)


def resized(model, images) -> np.ndarray:
    """Returns images of any kind as uint8 (N, R, R, 3), as the model's graphs take them."""
    config = model.config
    return np.stack(
        [
            images_lib.resize_uint8(
                images_lib.to_uint8(x, f"Image {i}"), config.image.image_size, config.crop
            ).numpy()
            for i, x in enumerate(images)
        ]
    )
