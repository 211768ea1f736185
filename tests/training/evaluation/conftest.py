"""Tiny tfds datasets whose right answers are known, because a few lines of NumPy chose them."""

import dataclasses
import json
import string

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import lit_tf
from lit_tf.texts import prompts

from . import tiny_datasets

N = 30


@pytest.fixture(scope="session")
def model(fixtures):
    """A whole tiny LiT."""
    return lit_tf.load(fixtures / "lit_bert_tiny.npz")


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    """Keeps the cached text embeddings of these tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIT_TF_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def plain(text, keep):
    """The canonical form, once more and in other words than the library's."""
    out = ""
    text = text.replace("_", " ")
    while text:
        if keep and text.startswith(keep):
            out, text = out + keep, text[len(keep) :]
        else:
            out, text = out + ("" if text[0] in string.punctuation else text[0]), text[1:]
    return " ".join(out.lower().split())


def numpy_classes(model, names, templates):
    """Class embeddings, class by class, as the specification has it."""
    z = []
    for name in names:
        name = plain(name, ",").split(",")[0]
        mean = model.encode_text([plain(t, "{}").replace("{}", name) for t in templates]).mean(0)
        z.append(mean / np.linalg.norm(mean))
    return np.stack(z)


@dataclasses.dataclass
class Tiny:
    """Where the datasets are, and the figures that NumPy found on them."""

    data_dir: str
    accuracy: dict
    recalls: dict


TEMPLATES = ("a photo of a {}.", "{}")


@pytest.fixture(scope="session")
def tiny(model, shared):
    """cifar100, oxford_iiit_pet, imagenet2012 and coco_captions, with N images each.

    Labels are the model's own predictions (by NumPy, with TEMPLATES), but for every third image.
    """
    tfds.disable_progress_bar()

    def make(folder):
        folder.mkdir()
        accuracy, recalls = write_datasets(model, str(folder))
        (folder / "figures.json").write_text(json.dumps([accuracy, recalls]))

    folder = shared("tiny_datasets", make)
    return Tiny(str(folder), *json.loads((folder / "figures.json").read_text()))


def write_datasets(model, data_dir):
    """Writes the four datasets; returns the accuracies and recalls that NumPy finds on them."""
    accuracy = {}

    def labels_for(name, names, files):
        zimg = model.encode_image([f.getvalue() for f in files])
        predictions = (zimg @ numpy_classes(model, names, TEMPLATES).T).argmax(axis=1)
        labels = [int(p) if i % 3 else (int(p) + 1) % len(names) for i, p in enumerate(predictions)]
        accuracy[name] = float(np.mean([a == b for a, b in zip(labels, predictions, strict=True)]))
        return labels

    names = tiny_datasets.CIFAR100_NAMES
    pictures = [tiny_datasets.picture(i, 32, 32) for i in range(N)]
    labels = labels_for("cifar100", names, [tiny_datasets.encode(p) for p in pictures])
    rows = [
        {"id": f"test_{i}", "image": p, "label": label, "coarse_label": 0}
        for i, (p, label) in enumerate(zip(pictures, labels, strict=True))
    ]
    tiny_datasets.write("cifar100", {"test": rows}, data_dir)

    files = [tiny_datasets.encode(tiny_datasets.picture(100 + i), "JPEG") for i in range(N)]
    names = tfds.builder("oxford_iiit_pet", data_dir=data_dir).info.features["label"].names
    rows = [
        {
            "image": file,
            "label": label,
            "species": 0,
            "head_bbox": tfds.features.BBox(0.0, 0.0, 1.0, 1.0),
            "segmentation_mask": np.zeros((4, 4, 1), np.uint8),
            "file_name": f"pet_{i}.jpg",
        }
        for i, (file, label) in enumerate(
            zip(files, labels_for("oxford_iiit_pet", names, files), strict=True)
        )
    ]
    tiny_datasets.write("oxford_iiit_pet", {"test": rows}, data_dir)

    files = [tiny_datasets.encode(tiny_datasets.picture(200 + i), "JPEG") for i in range(N)]
    labels = labels_for("imagenet2012", prompts.imagenet_names(), files)
    rows = [
        {"image": file, "label": label, "file_name": f"ILSVRC2012_val_{i:08d}.JPEG"}
        for i, (file, label) in enumerate(zip(files, labels, strict=True))
    ]
    tiny_datasets.write("imagenet2012", {"validation": rows}, data_dir)

    files = [tiny_datasets.encode(tiny_datasets.picture(300 + i), "JPEG") for i in range(N)]
    captions = [[f"photo number {i} of {w}" for w in "abcde"[: 1 + i % 5]] for i in range(N)]
    rows = [
        {
            "image": file,
            "image/filename": f"COCO_{i}.jpg",
            "image/id": i,
            "objects": [],
            "captions": [{"id": k, "text": text} for k, text in enumerate(texts)],
        }
        for i, (file, texts) in enumerate(zip(files, captions, strict=True))
    ]
    tiny_datasets.write("coco_captions", {"test": rows}, data_dir)
    zimg = model.encode_image([f.getvalue() for f in files])
    return accuracy, numpy_recalls(model, zimg, captions)


def numpy_recalls(model, zimg, captions):
    """Recalls through full sorts, as the specification has them."""
    similarities = zimg @ model.encode_text([text for texts in captions for text in texts]).T
    owner = np.repeat(np.arange(len(captions)), [len(texts) for texts in captions])
    by_image = owner[np.argsort(-similarities, axis=1, kind="stable")]
    by_text = np.argsort(-similarities.T, axis=1, kind="stable")
    recalls = {}
    for k in (1, 5, 10):
        hits = [i in by_image[i, :k] for i in range(len(captions))]
        recalls[f"img2txt/Recall@{k}"] = float(np.mean(hits))
        hits = [owner[j] in by_text[j, :k] for j in range(len(owner))]
        recalls[f"txt2img/Recall@{k}"] = float(np.mean(hits))
    return recalls


@pytest.fixture(autouse=True)
def quiet():
    """tfds logs a warning for every dataset that is not prepared."""
    tf.get_logger().setLevel("ERROR")
