"""`lit_manifest.json`: what an exported folder holds, and how well it agrees with the model."""

import contextlib
import json
import os
import pathlib
import platform

import keras
import numpy as np
import tensorflow as tf

import lit_tf
from lit_tf.errors import ExportError
from lit_tf.few_shot import Classifier
from lit_tf.files import disk_error, parse_object, printable, replacing_folder, sha256
from lit_tf.zero_shot import checked_class_names, class_embeddings, get_templates

NAME = "lit_manifest.json"


def read_classes(model, classes, templates) -> tuple[list[str], np.ndarray]:
    """Returns class names, stripped, and what `similarities` takes, of names or a `Classifier`."""
    if model.t is None or model.tokenizer is None:
        raise ExportError("classes need a model with both towers and a vocabulary")
    if isinstance(classes, Classifier):
        classes.check(model)
        rows = np.concatenate([classes.weights, classes.bias[None]]).T / model.temperature
        return list(classes.names), rows.astype(np.float32)
    classes = [name.strip() for name in checked_class_names(classes)]
    return classes, class_embeddings(model.encode_text, classes, templates)


def similarities(zimg, rows):
    """Returns (N, C): images (N, D) times classes (C, D), or (C, D + 1) with a bias at the end."""
    width = zimg.shape[1]
    cosines = tf.matmul(zimg, rows[:, :width], transpose_b=True)
    return cosines + rows[:, width] if rows.shape[1] > width else cosines


def write(folder, model, artefact: str, source=None, classes=None, templates=None, **more) -> None:
    """Writes `lit_manifest.json` of an exported folder; `more` are other fields to record."""
    config, image = model.config, model.config.image
    is_file = source is not None and os.path.isfile(source)
    manifest = {
        "artefact": artefact,
        "model": model.name,
        "checkpoint_sha256": sha256(source) if is_file else None,
        "weights_sha256": model.fingerprint(),
        "resolution": None if image is None or image.naflex else image.image_size,
        "patch_size": image.patch_size if image is not None and image.naflex else None,
        "crop": config.crop,
        "preprocessing": config.preprocessing,
        "resample": config.resample,
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


def tokenizing(tokenizer, file: str) -> dict:
    """Returns what a tokenizer on a device needs: its kind, its file's name, ids, lengths."""
    out = {"kind": tokenizer.kind, "length": tokenizer.length, "file": file}
    if tokenizer.kind == "bert":
        pieces = tokenizer.to_bytes().decode().split("\n")
        return out | {"cls": pieces.index("[CLS]"), "unk": pieces.index("[UNK]"), "pad": 0}
    out |= {"eos": tokenizer.eos, "pad": tokenizer.pad, "unk": tokenizer.unk}
    return out | {"size": tokenizer.vocab_size, "lowercase": tokenizer.lowercase}


def read(folder) -> dict:
    """Returns what `write` wrote."""
    path = pathlib.Path(folder, NAME)
    return parse_object(path.read_bytes(), path)


def add(folder, **more) -> None:
    """Adds fields to the `lit_manifest.json` of a folder."""
    _put(folder, {**read(folder), **more})


def _put(folder, manifest):
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    pathlib.Path(folder, NAME).write_text(text + "\n", encoding="utf-8")


@contextlib.contextmanager
def replacing_export(path):
    """Yields a new folder, which replaces an old export (or nothing) when the block ends."""
    path = pathlib.Path(path).resolve()  # if it is a link, its target is replaced
    if path.exists() and (not path.is_dir() or any(path.iterdir())) and not (path / NAME).is_file():
        what = f"{path} exists and was not written by lit-tf export (it has no {NAME})"
        raise ExportError(f"{what}; name another folder, or move this one away")
    try:
        with replacing_folder(path) as folder:
            yield folder
    except Exception as e:
        what = disk_error(e)
        if what is None or isinstance(e, ExportError):
            raise
        what = f"{printable(path)} cannot be written: {what}"
        raise ExportError(f"{what}; nothing in that place was changed") from e
