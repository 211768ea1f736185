"""Few-shot accuracy by the published evaluator: big_vision's `evaluators/fewshot_lsr.py`."""

import numpy as np
import tensorflow as tf

from lit_tf import few_shot
from lit_tf.errors import ConfigError, DataError
from lit_tf.images import preprocessing

from ..distribution.embedder import ReplicatedEmbedder
from .classification import Classification, open_classification
from .encoders import KerasEncoder, collect, image_batches
from .notes import counted
from .protocol import Result

SHOTS = (1, 5, 10, 25)
SEEDS = (0, 1, 2)
# The splits of big_vision's `common_fewshot`; of any other dataset train and test.
SPLITS = {
    "imagenet2012": ("train[:65000]", "validation"),
    "uc_merced": ("train[:1000]", "train[1000:]"),
}
# At a resolution of 224, images are resized to 256 and cut.
_RESIZED = 256 / 224


def open_few_shot(argument: str, **how) -> tuple[Classification, Classification]:
    """Opens the training and the test part of a dataset, as `open_classification` does.

    The argument is NAME of tfds; NAME:TRAIN:TEST with its splits; or the path of a folder that
    holds the folders train and test, each with one folder per class.
    """
    name, *splits = argument.split(":")
    if len(splits) not in (0, 2):
        raise DataError(f"--few-shot {argument}: expected NAME or NAME:TRAIN:TEST")
    folder, default = tf.io.gfile.isdir(name), ("train", "test")
    splits = splits or (default if folder else SPLITS.get(name, default))
    places = [f"{name}{'/' if folder else ':'}{split}" for split in splits]
    train, test = (open_classification(place, **how) for place in places)
    if train.class_names != test.class_names:
        raise DataError(f"--few-shot {argument}: {places[0]} and {places[1]} have other classes")
    return train, test


def measure(
    encoder: KerasEncoder, data: tuple[Classification, Classification], shots=SHOTS, progress=False
) -> Result:
    """Returns the accuracy of every seed and number of shots."""
    if not isinstance(encoder, KerasEncoder) or encoder.model.config.image.naflex:
        raise ConfigError("--few-shot reads features before the head: of a checkpoint, not NaFlex")
    if encoder.model.config.preprocessing != "big_vision":
        raise ConfigError("--few-shot is published for big_vision's pixels: expected no other")
    parts = [_features(encoder, part, progress) for part in data]
    (train, labels, notes, _), (test, answers, more, rate) = parts
    metrics = {
        f"{k}shot-seed-{seed}": few_shot.accuracy(train, labels, test, answers, shots=k, seed=seed)
        for k in shots
        for seed in SEEDS
    }
    images = data[1].images
    return Result(images.name, images.split, metrics, len(test), 0, [*notes, *more], False, rate)


class _Cut:
    """Prepares an image as the published evaluator does: resized, then cut to its centre."""

    def __init__(self, size: int):
        self.size, self.spec = size, tf.TensorSpec((size, size, 3), tf.uint8)

    def fixed(self, image: tf.Tensor) -> tf.Tensor:
        """Returns uint8 (size, size, 3)."""
        whole = round(self.size * _RESIZED)
        start = (whole - self.size) // 2
        image = preprocessing.resize_uint8(image, whole)
        return image[start : start + self.size, start : start + self.size]


def _features(encoder, data, progress):
    """Returns features float32 (N, D), labels (N,), notes and images per second."""
    model = encoder.model
    prepare = _Cut(model.config.image.image_size)

    def represent(pixels):
        z = model.image_tower.representation(preprocessing.normalize(pixels))
        return tf.cast(z, tf.float32)

    def batches(batch_size, context):
        return image_batches(data.images, prepare, batch_size, context)

    embedder = ReplicatedEmbedder(encoder.strategy, represent, encoder.batch_size)
    found = collect(len(data.images), embedder.run(batches), data.images.name, "img", progress)
    keep = found.readable & np.array([bool(row) for row in data.labels])
    notes = list(data.notes)
    if left_out := int((~keep).sum()):
        notes.append(f"{counted(left_out, 'image')} left out: not readable, or without a label")
    labels = np.array([data.labels[i][0] for i in np.flatnonzero(keep)])
    return found.z[keep], labels, notes, found.per_second
