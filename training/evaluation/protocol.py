"""The published protocol: from a dataset and an encoder to the figures.

What cannot be used is left out of the figure, counted, and named in the result's notes; if the
figure would be wrong without it, a `DataError` is raised.
"""

import dataclasses

import numpy as np

from lit_tf import retrieval as retrieval_lib
from lit_tf import zero_shot as zero_shot_lib
from lit_tf.errors import DataError

from .captioned import Captioned
from .classification import Classification
from .encoders import Encoder
from .notes import counted, some
from .text_cache import TextCache


@dataclasses.dataclass
class Result:
    """What an evaluation found."""

    dataset: str
    split: str
    metrics: dict[str, float]  # shares in [0, 1], the most important first
    images: int
    texts: int
    notes: list[str]  # what was left out, in words
    standard: bool  # whether published figures are of this dataset, split and templates
    images_per_second: float | None  # with reading and decoding; None if stored

    def images_of(self, metric: str) -> int:
        """Returns how many images a metric is computed on."""
        return self.images

    def to_dict(self) -> dict:
        """Returns plain values, for JSON."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(Result)}


@dataclasses.dataclass
class ZeroShotResult(Result):
    """What zero-shot classification found; `metrics` are accuracies, of all and of groups."""

    templates: str
    data: Classification
    rows: np.ndarray  # int (images,), the number of each image in the dataset
    labels: list[list[int]]  # the right classes of each of these images
    predictions: np.ndarray  # int (images,)
    confidences: np.ndarray | None  # float (images,), None without a temperature
    class_embeddings: np.ndarray  # float32 (classes, D)
    groups: dict[str, int]  # {metric: its number of images}, of metrics of only some images

    def images_of(self, metric):
        return self.groups.get(metric, self.images)

    def to_dict(self):
        return {
            **super().to_dict(),
            "kind": "zero_shot",
            "templates": self.templates,
            "folders": self.data.folders
            and dict(zip(self.data.folders, self.data.class_names, strict=True)),
            "per_class": {
                f"{i} {self.data.class_names[i]}": accuracy
                for i, (accuracy, _) in sorted(self.per_class().items())
            },
        }

    @property
    def right(self) -> np.ndarray:
        """Which predictions are right, bool (images,)."""
        return zero_shot_lib.correct(self.predictions, _padded(self.labels))

    def per_class(self) -> dict[int, tuple[float, int]]:
        """Returns {class: (accuracy, images)}; an image counts for each of its labels."""
        right, groups = self.right, {}
        for i, row in enumerate(self.labels):
            for label in row:
                groups.setdefault(label, []).append(right[i])
        return {label: (float(np.mean(g)), len(g)) for label, g in groups.items()}


@dataclasses.dataclass
class RetrievalResult(Result):
    """What retrieval found; `metrics` are Recall@1, 5 and 10 in both directions."""

    data: Captioned
    rows: np.ndarray  # int (images,), the number of each image in the dataset
    captions: list[str]  # all of them, in the order of their images
    correspondence: np.ndarray  # int (captions,), the image of each, as an index into `rows`
    image_ranks: np.ndarray  # int (images,), captions that rank before the image's best own
    text_ranks: np.ndarray  # int (captions,), images that rank before the caption's own
    zimg: np.ndarray  # float32 (images, D)
    ztxt: np.ndarray  # float32 (captions, D)

    def to_dict(self):
        return {**super().to_dict(), "kind": "retrieval", "ties": "smaller index first"}


class ImageCache:
    """Image embeddings of one tower, so a locked tower embeds each dataset once."""

    def __init__(self):
        self._tower, self._stored = None, {}

    def get(self, encoder: Encoder, images, progress: bool):
        """Returns an `Embedded`; its `per_second` is None if the embeddings were stored."""
        tower = encoder.fingerprint("image")
        if tower != self._tower:
            self._tower, self._stored = tower, {}
        key = images.identity()  # names are not unique: two folders may have the same name
        if key in self._stored:
            return self._stored[key]
        found = encoder.embed_images(images, progress)
        self._stored[key] = found._replace(per_second=None)
        return found


def zero_shot(
    encoder: Encoder,
    data: Classification,
    templates="clip_paper",
    *,
    text_cache: TextCache | None = None,
    image_cache: ImageCache | None = None,
    progress: bool = False,
) -> ZeroShotResult:
    """Classifies every image as the class whose averaged prompts it is most similar to."""
    own = data.prompts
    texts, classes, templates = _class_embeddings(encoder, data, templates, text_cache, progress)
    zimg, readable, rate = (image_cache or ImageCache()).get(encoder, data.images, progress)
    keep = readable & np.array([bool(row) for row in data.labels])
    notes = [*data.notes, *_left_out(data.images, ~readable, "unreadable image")]
    notes += _unlabelled(data, readable, keep)
    if same := zero_shot_lib.warn_of_same_classes(data.class_names, classes):
        notes.append(same)
    rows = np.flatnonzero(keep)
    labels = [data.labels[i] for i in rows]
    predictions = zero_shot_lib.predict(zimg[rows], classes)
    metrics, groups = _accuracies(predictions, labels, own.groups if own is not None else {})
    return ZeroShotResult(
        **_shared(data, rows, notes, rate),
        metrics=metrics,
        groups=groups,
        texts=texts,
        standard=data.standard and (own is not None or templates == "clip_paper"),
        templates=templates,
        labels=labels,
        predictions=predictions,
        confidences=_confidences(zimg[rows], classes, encoder.temperature),
        class_embeddings=classes,
    )


def retrieval(
    encoder: Encoder,
    data: Captioned,
    *,
    text_cache: TextCache | None = None,
    image_cache: ImageCache | None = None,
    progress: bool = False,
) -> RetrievalResult:
    """Finds images by captions and captions by images."""
    zimg, readable, rate = (image_cache or ImageCache()).get(encoder, data.images, progress)
    notes = [*data.notes, *_left_out(data.images, ~readable, "unreadable image")]
    captioned = np.array([bool(texts) for texts in data.captions])
    notes += _left_out(data.images, ~captioned, "image", " without a caption")
    rows = np.flatnonzero(readable & captioned)
    if not rows.size:
        raise DataError(f"{data.images.name}: no image that has a caption could be read")
    captions = [text for i in rows for text in data.captions[i]]
    correspondence = np.repeat(np.arange(len(rows)), [len(data.captions[i]) for i in rows])

    def embed():
        return encoder.embed_texts(captions, progress)

    ztxt = embed() if text_cache is None else text_cache.get(encoder, captions, embed)
    zimg = zimg[rows]
    image_ranks, text_ranks = retrieval_lib.ranks(zimg, ztxt, correspondence)
    return RetrievalResult(
        **_shared(data, rows, notes, rate),
        metrics=retrieval_lib.recalls_of_ranks(image_ranks, text_ranks),
        texts=len(captions),
        standard=data.standard,
        captions=captions,
        correspondence=correspondence,
        image_ranks=image_ranks,
        text_ranks=text_ranks,
        zimg=zimg,
        ztxt=ztxt,
    )


def _shared(data, rows, notes, rate):
    about = {"dataset": data.images.name, "split": data.images.split, "images": len(rows)}
    return {**about, "data": data, "rows": rows, "notes": notes, "images_per_second": rate}


def _class_embeddings(encoder, data, templates, cache, progress):
    """Returns the number of prompts, an embedding per class, and the name of the templates."""
    if data.prompts is not None:
        texts, labels = data.prompts.texts, np.asarray(data.prompts.labels)
        templates = "the dataset's own"
    else:
        texts, labels = zero_shot_lib.make_prompts(data.class_names, templates)

    def embed():
        z = encoder.embed_texts(texts, progress)
        return zero_shot_lib.average_embeddings(z, labels, len(data.class_names))

    key = [*texts, str(labels.tolist())]
    classes = embed() if cache is None else cache.get(encoder, key, embed)
    return len(texts), classes, str(templates)


def _left_out(images, which, word, why=""):
    numbers = np.flatnonzero(which).tolist()
    names = some([images.locate(i) for i in numbers[:3]], len(numbers))
    return [f"left out: {counted(len(numbers), word)}{why}: {names}"] if numbers else []


def _unlabelled(data, readable, keep):
    """Returns notes on images without labels and classes without images; refuses empty data."""
    if not keep.any():
        raise DataError(f"{data.images.name}: no image that has a label could be read")
    notes = []
    unlabelled = int((readable & ~keep).sum())
    if unlabelled:
        notes.append(f"left out: {counted(unlabelled, 'image')} without any label")
    present = {label for i in np.flatnonzero(keep) for label in data.labels[i]}
    absent = [name for i, name in enumerate(data.class_names) if i not in present]
    if absent:
        count = len(data.class_names)
        notes.append(f"without any image: {len(absent)} of {count} classes: {some(absent)}")
    return notes


def _accuracies(predictions, labels, groups):
    """Returns {metric: accuracy} of all images and of groups by first label, {metric: images}."""
    right = zero_shot_lib.correct(predictions, _padded(labels))
    first = np.array([row[0] for row in labels])
    metrics, counts = {"accuracy": float(right.mean())}, {}
    for name, classes in groups.items():
        here = np.isin(first, classes)
        if here.any():
            metrics[f"accuracy/{name}"] = float(right[here].mean())
            counts[f"accuracy/{name}"] = int(here.sum())
    return metrics, counts


def _padded(labels):
    out = np.full((len(labels), max(map(len, labels))), -1)
    for i, row in enumerate(labels):
        out[i, : len(row)] = row
    return out


def _confidences(zimg, classes, temperature, block=8192):
    if temperature is None:
        return None
    out = []
    for start in range(0, len(zimg), block):
        logits = temperature * (zimg[start : start + block] @ classes.T)
        out.append(1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1))
    return np.concatenate(out)
