"""Twenty pictures a class: least squares on what an image tower says, alone or beside its texts.

`accuracy` is big_vision's few-shot evaluator (`evaluators/fewshot_lsr.py`). `adapt` makes a linear
classifier of one's own pictures in the same way, and mixes it with the classes' names.
"""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from lit_tf import files
from lit_tf.errors import DataError

L2 = 2.0**10  # the published regularization
_CONSTANT = 100.0  # appended to the features: a bias that is hardly regularized
_EPSILON = 1e-5  # added to a feature's standard deviation
_SHARES = np.linspace(0, 1, 21)  # of the pictures in a mixed classifier
_FOLDS = 5


def choose(labels: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Returns the numbers of the first `shots` examples of each class, in a random order.

    Classes with fewer examples give all. More shots with one seed keep those of fewer.
    """
    labels = np.asarray(labels)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(np.flatnonzero(labels == c)) for c in range(labels.max() + 1)]
    return np.concatenate([order[:shots] for order in orders])


def least_squares(features: np.ndarray, labels: np.ndarray, classes: int, l2: float = L2):
    """Returns weights (D + 1, classes) of whitened features and a constant; mean, deviation."""
    x = np.asarray(features, np.float64)
    mean, deviation = x.mean(axis=0), x.std(axis=0) + _EPSILON
    x = _whitened(x, mean, deviation)
    y = 2.0 * np.eye(classes)[np.asarray(labels)] - 1
    if len(x) < x.shape[1]:  # the same weights, of a smaller matrix
        weights = x.T @ np.linalg.solve(x @ x.T + l2 * np.eye(len(x)), y)
    else:
        weights = np.linalg.solve(x.T @ x + l2 * np.eye(x.shape[1]), x.T @ y)
    return weights, mean, deviation


def _whitened(x, mean, deviation):
    return np.pad((x - mean) / deviation, [(0, 0), (0, 1)], constant_values=_CONSTANT)


def accuracy(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    *,
    shots: int,
    seed: int,
    l2: float = L2,
) -> float:
    """Returns the published evaluator's few-shot accuracy of features, in [0, 1].

    Args:
        train: float (N, D), features before the image tower's head, not normalized.
        train_labels: int (N,), from 0.
        test: float (M, D).
        test_labels: int (M,).
        shots: examples of each class; classes with fewer give all.
        seed: of the choice; published figures are of 0, 1 and 2.
        l2: regularization.

    Raises:
        DataError: shapes that do not fit, features that are not finite, or no shots.
    """
    train, train_labels = _checked(train, train_labels, "train")
    test, test_labels = _checked(test, test_labels, "test")
    if train.shape[1] != test.shape[1] or shots < 1:
        raise DataError(
            f"expected features of one width and at least 1 shot, found {train.shape}, "
            f"{test.shape} and {shots}"
        )
    chosen = choose(train_labels, shots, seed)
    classes = int(max(train_labels.max(), test_labels.max())) + 1
    weights, *moments = least_squares(train[chosen], train_labels[chosen], classes, l2)
    predictions = (_whitened(test, *moments) @ weights).argmax(axis=1)
    return float((predictions == test_labels).mean())


def _checked(features, labels, what):
    features, labels = np.asarray(features, np.float64), np.asarray(labels)
    if features.ndim != 2 or labels.shape != features.shape[:1] or not len(labels):
        raise DataError(
            f"{what}: expected features (N, D) and labels (N,), found {features.shape} and "
            f"{labels.shape}"
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise DataError(f"{what}: labels must be integers from 0, found {labels.dtype}")
    if not np.isfinite(features).all():
        raise DataError(f"{what}: the features hold NaN or infinity")
    return features, labels


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A linear classifier of unit-length image embeddings: logits = z @ weights + bias.

    Attributes:
        names: what the C classes are called.
        weights: float32 (D, C).
        bias: float32 (C,).
        share: of the pictures in it, in [0, 1]; the rest is the classes' names'.
        accuracy: on the pictures on which the share was chosen; NaN where there were none.
        tower: the fingerprint of the image tower that it belongs to, or "".
    """

    names: tuple[str, ...]
    weights: np.ndarray
    bias: np.ndarray
    share: float
    accuracy: float = np.nan
    tower: str = ""

    def check(self, model) -> None:
        """Raises DataError if the classifier was made with another image tower than the model's."""
        if self.tower not in ("", model.fingerprint("img/")):
            raise DataError(
                "this classifier was made with another image tower, resolution or dtype: make it "
                "with this model, by lit-tf adapt"
            )

    def logits(self, zimg: np.ndarray) -> np.ndarray:
        """Returns float32 (N, C) of embeddings (N, D); their softmax is the probabilities."""
        return np.asarray(zimg, np.float32) @ self.weights + self.bias

    def save(self, path: str | os.PathLike) -> None:
        """Writes NAME.npz, which `lit-tf classify` and `export` take as `--classes`."""
        with files.replacing(path) as f:
            arrays: dict = {k: np.array(v) for k, v in dataclasses.asdict(self).items()}
            np.savez(f, **arrays)


def load(path: str | os.PathLike) -> Classifier:
    """Reads what `Classifier.save` wrote."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            names = tuple(str(name) for name in stored["names"])
            weights, bias = stored["weights"], stored["bias"]
            more = float(stored["share"]), float(stored["accuracy"]), str(stored["tower"])
    except (OSError, ValueError, KeyError, TypeError, EOFError) as e:
        raise DataError(f"{path}: not a classifier that `lit-tf adapt` wrote: {e}") from None
    if weights.shape[1:] != (len(names),) or bias.shape != (len(names),):
        raise DataError(f"{path}: {len(names)} names, weights {weights.shape}, bias {bias.shape}")
    return Classifier(names, weights, bias, *more)


def adapt(
    zimg: np.ndarray,
    labels: np.ndarray,
    class_embeddings: np.ndarray,
    names: Sequence[str],
    temperature: float,
    *,
    held_out: tuple[np.ndarray, np.ndarray] | None = None,
    l2: float = L2,
    tower: str = "",
) -> dict[str, Classifier]:
    """Returns classifiers of one's own pictures: by their names, by the pictures, and by both.

    Args:
        zimg: float (N, D), unit-length embeddings of pictures, as `encode_image` gives them.
        labels: int (N,) in [0, C).
        class_embeddings: float (C, D), unit length, as `zero_shot.class_embeddings` gives them.
        names: what the C classes are called.
        temperature: the model's.
        held_out: other pictures (embeddings, labels), on which to choose the share of the pictures;
            None for cross-validation. With one picture of each class, it is the share of pictures
            that their names get wrong.
        l2: regularization.
        tower: the fingerprint of the image tower, `model.fingerprint("img/")`, to be recorded.

    Returns:
        {"zero-shot", "few-shot", "mixed"}, each a `Classifier`. All three have logits of the
        zero-shot classifier's spread, so their softmaxes are alike.

    Raises:
        DataError: shapes that do not fit, or a class without a picture.
    """
    zimg, labels = _checked(zimg, labels, "the pictures")
    texts = temperature * np.asarray(class_embeddings, np.float64).T  # (D, C)
    classes = texts.shape[1]
    counts = np.bincount(labels, minlength=classes)
    if len(counts) != classes or not counts.all() or zimg.shape[1] != len(texts):
        raise DataError(
            f"expected pictures of each of {classes} classes, of width {len(texts)}, found "
            f"{counts.tolist()} of width {zimg.shape[1]}"
        )
    if held_out is None:
        parts = [(zimg[~here], labels[~here], zimg[here], labels[here]) for here in _folds(labels)]
    else:
        parts = [(zimg, labels, *_checked(*held_out, "held out"))]
    alone = not parts  # one picture of each class: none can be held out
    parts = parts or [(zimg, labels, zimg, labels)]
    by_name = np.concatenate([z @ texts for _, _, z, _ in parts])
    learned = [(z, *_linear(x, y, classes, l2)) for x, y, z, _ in parts]
    by_picture = np.concatenate([z @ weights + bias for z, weights, bias in learned])
    answers = np.concatenate([of_z for *_, of_z in parts])
    spread = _spread(by_name) / _spread(by_picture)
    if alone:  # the pictures get what the names get wrong
        share = 1 - (by_name.argmax(axis=1) == answers).mean()
    else:
        share = _best_share(by_name, spread * by_picture, answers)
    weights, bias = _linear(zimg, labels, classes, l2)

    def made(share):
        mixed = (1 - share) * texts + share * spread * weights
        both = mixed.astype(np.float32), (share * spread * bias).astype(np.float32)
        logits = (1 - share) * by_name + share * spread * by_picture
        right = np.nan if alone else (logits.argmax(axis=1) == answers).mean()
        return Classifier(tuple(names), *both, float(share), float(right), tower)

    return {"zero-shot": made(0.0), "few-shot": made(1.0), "mixed": made(share)}


def _linear(zimg, labels, classes, l2):
    """Returns weights (D, C) and bias (C,) of least squares, with the whitening folded in."""
    weights, mean, deviation = least_squares(zimg, labels, classes, l2)
    folded = weights[:-1] / deviation[:, None]
    return folded, _CONSTANT * weights[-1] - mean @ folded


def _folds(labels):
    """Returns masks of held-out pictures, each class spread over them; never its only one."""
    numbers = np.zeros(len(labels), int)
    for c in np.unique(labels):
        numbers[labels == c] = np.arange((labels == c).sum())
    alone = np.bincount(labels)[labels] == 1
    masks = [(numbers % _FOLDS == fold) & ~alone for fold in range(_FOLDS)]
    return [mask for mask in masks if mask.any()]


def _spread(logits):
    """Returns the standard deviation of logits around each picture's mean."""
    return np.maximum((logits - logits.mean(axis=1, keepdims=True)).std(), 1e-12)


def _best_share(by_name, by_picture, labels):
    """Returns the pictures' share with the most right answers; of equal ones the likeliest."""

    def right_and_likely(share):
        logits = (1 - share) * by_name + share * by_picture
        logits = logits - logits.max(axis=1, keepdims=True)
        own = logits[np.arange(len(labels)), labels]
        likelihood = own - np.log(np.exp(logits).sum(axis=1))
        return (logits.argmax(axis=1) == labels).mean(), likelihood.mean()

    return max(_SHARES, key=right_and_likely)
