"""Zero-shot classification: class embeddings out of prompts, predictions, accuracy.

Pure functions of strings and arrays; whatever turns strings into embeddings is passed in. The
protocol is that of LiT (arXiv:2111.07991, appendix) as its published figures were computed: class
names and templates are canonicalized, only the first of several comma-separated names counts, the
embeddings of one class's prompts are averaged and the average is brought back to unit length.
"""

import collections
import functools
import os
import re
import string
import warnings
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from lit_tf.errors import DataError
from lit_tf.sequences import to_list
from lit_tf.texts.files import read_list
from lit_tf.texts.prompts import TEMPLATES

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
# Rows of images compared with all classes at once: 8,192 x 1,000 similarities are 33 MB.
_BLOCK = 8192


def canonicalize(text: str, keep: str = "") -> str:
    """Returns `text` in lower case, without punctuation, white space folded, `_` as a space.

    Args:
        text: any string.
        keep: a string whose exact occurrences survive, such as "{}" in a template or "," between
            class names. A lone "{" is punctuation even where "{}" is kept.

    Examples:
        >>> canonicalize("A photo of  my_{}.", keep="{}")
        'a photo of my {}'
    """
    text = text.replace("_", " ")
    parts = text.split(keep) if keep else [text]
    text = keep.join(part.translate(_NO_PUNCTUATION) for part in parts)
    return re.sub(r"\s+", " ", text.lower()).strip()


def get_templates(templates: str | os.PathLike | Sequence[str]) -> tuple[str, ...]:
    """Returns prompt templates, as they are written (not yet canonicalized).

    Args:
        templates: a name in `TEMPLATES` ("clip" is short for "clip_best"), the path of a UTF-8
            file with one template per line (blank lines are skipped), or the templates themselves.

    Returns:
        A tuple of strings, each with exactly one "{}" for the class name.

    Raises:
        DataError: no such list or file, no template in it, or one without exactly one "{}".
    """
    if isinstance(templates, str | os.PathLike):
        name = os.fspath(templates)
        source = f"template list {name!r}"
        if name in TEMPLATES or name == "clip":
            return TEMPLATES["clip_best" if name == "clip" else name]
        if not os.path.isfile(name):
            raise DataError(
                f"no prompt templates {name!r}: expected {', '.join(TEMPLATES)}, or a file with "
                "one template per line"
            )
        found = tuple(read_list(name, "template"))
    else:
        source = "the list of templates"
        try:
            found = tuple(to_list(templates))
        except TypeError as e:
            raise DataError(
                f"prompt templates: expected a name, a file or a list, found {templates!r}, which "
                f"{e}"
            ) from None
    if not found:
        raise DataError(f"{source} is empty: expected at least one template, such as '{{}}'")
    for template in found:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise DataError(
                f"{source}: {template!r} must be a string that holds '{{}}' once, where the class "
                "name goes"
            )
    return found


class ClassNames(list[str]):
    """Class names as they were given, listed once."""

    @functools.cached_property
    def canonical(self) -> list[str]:
        """Each class's first comma-separated name, canonicalized."""
        names = [canonicalize(name, keep=",").split(",")[0] for name in self]
        for i, name in enumerate(names):
            if not name.strip():
                raise DataError(f"class {i}: the name {self[i]!r} is punctuation only")
        if not names:
            raise DataError("no class names: expected at least one")
        return names


def list_class_names(class_names: Iterable[str]) -> ClassNames:
    """Returns class names as a list of strings, the list itself if it is one already.

    They may be any sequence that `lit_tf.sequences.to_list` takes; bytes are UTF-8. Anything else
    raises DataError. `canonical` of the result has them as prompts do.
    """
    if isinstance(class_names, ClassNames):
        return class_names
    if isinstance(class_names, str | bytes) or getattr(class_names, "ndim", None) == 0:
        raise DataError(f"class names: expected a list, found one string, {class_names!r:.40}")
    try:
        names = to_list(class_names)
    except TypeError as e:
        raise DataError(
            f"class names: expected a list of names, found {type(class_names).__name__}, which {e}"
        ) from None
    for i, name in enumerate(names):
        if isinstance(name, bytes):
            try:
                names[i] = name.decode()
            except UnicodeDecodeError as e:
                raise DataError(f"class {i}: the name is not UTF-8: {e}") from None
        elif not isinstance(name, str):
            raise DataError(f"class {i}: expected a name (str), found {type(name).__name__}")
    return ClassNames(names)


def checked_class_names(class_names: Iterable[str]) -> ClassNames:
    """Returns class names as they are; warns of those that are the same when canonicalized.

    Such classes have equal probabilities, and no prediction can tell them apart. This is not
    always a mistake: ImageNet's own 1,000 names hold "missile" and "sunglasses" twice.
    `class_embeddings` warns of names that differ, but are the same to the model.
    """
    class_names = list_class_names(class_names)
    counts = collections.Counter(class_names.canonical)
    if twice := [name for name, count in counts.items() if count > 1]:
        more = f" and {len(twice) - 5} more" if len(twice) > 5 else ""
        warnings.warn(
            f"class names that are the same, so that nothing tells these classes apart: "
            f"{', '.join(twice[:5])}{more}",
            stacklevel=3,
        )
    return class_names


def make_prompts(
    class_names: Iterable[str], templates: str | os.PathLike | Sequence[str]
) -> tuple[list[str], np.ndarray]:
    """Returns every class name in every template, both canonicalized.

    Args:
        class_names: C names; of several names separated by commas the first is used.
        templates: as for `get_templates`; T of them.

    Returns:
        The C * T prompts, all of class 0 first, and the int64 class (C * T,) of each.
    """
    names = list_class_names(class_names).canonical
    patterns = [canonicalize(t, keep="{}") for t in get_templates(templates)]
    texts = [pattern.replace("{}", name) for name in names for pattern in patterns]
    return texts, np.repeat(np.arange(len(names)), len(patterns))


def average_embeddings(embeddings: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns the normalized mean embedding of each class.

    Args:
        embeddings: float (N, D), each of unit length.
        labels: int (N,) in [0, num_classes).
        num_classes: how many classes there are.

    Returns:
        float32 (num_classes, D), unit length (divided by the norm plus 1e-8).

    Raises:
        DataError: a label out of range, a class without an embedding, or embeddings not finite.
    """
    embeddings = np.asarray(embeddings, np.float32)
    labels = np.asarray(labels)
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
        raise DataError(
            f"expected embeddings (N, D) and labels (N,), found {embeddings.shape} and "
            f"{labels.shape}"
        )
    if not np.isfinite(embeddings).all():
        raise DataError("the embeddings of the prompts hold NaN or infinity: the model is broken")
    if labels.size and (labels.min() < 0 or labels.max() >= num_classes):
        raise DataError(f"labels: {labels.min()} to {labels.max()}, expected [0, {num_classes})")
    missing = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
    if missing.size:
        raise DataError(f"classes without prompts: {missing[:10].tolist()} ({missing.size} in all)")
    # A mean per class over its own rows, in float32 as in the reference.
    order = np.argsort(labels, kind="stable")
    rows = np.split(embeddings[order], np.flatnonzero(np.diff(labels[order])) + 1)
    means = np.stack([r.mean(axis=0) for r in rows])
    return means / (1e-8 + np.linalg.norm(means, axis=1, keepdims=True))


def class_embeddings(
    encode_text: Callable[[list[str]], np.ndarray],
    class_names: Iterable[str],
    templates: str | os.PathLike | Sequence[str] = "clip_paper",
) -> np.ndarray:
    """Returns one embedding per class, averaged over the prompts that name it.

    Args:
        encode_text: turns a list of N strings into unit-length embeddings (N, D).
        class_names: C names; of several names separated by commas the first is used.
        templates: as for `get_templates`.

    Returns:
        float32 (C, D), each row of unit length. A warning names classes whose names differ, but
        whose embeddings are the same.

    Raises:
        DataError: unusable names or templates, or embeddings that are not finite.

    Examples:
        >>> z = class_embeddings(model.encode_text, ["cat", "dog"], "clip_best")
        >>> predict(model.encode_image(images), z)
    """
    class_names = list_class_names(class_names)
    texts, labels = make_prompts(class_names, templates)
    classes = average_embeddings(encode_text(texts), labels, len(class_names))
    warn_of_same_classes(class_names, classes)
    return classes


def warn_of_same_classes(class_names: Sequence[str], class_embeddings: np.ndarray) -> str | None:
    """Warns of C classes whose names differ, but whose unit-length embeddings (C, D) are the same.

    Returns the warning, or None.
    """
    names = list_class_names(class_names)
    pairs = [
        f"{names[first]} and {names[other]}"
        for first, other in _same_rows(class_embeddings)
        if names.canonical[first] != names.canonical[other]
    ]
    if not pairs:
        return None
    more = f" and {len(pairs) - 5} more" if len(pairs) > 5 else ""
    warning = (
        "class names that are the same to the model, so that nothing tells these classes apart: "
        f"{', '.join(pairs[:5])}{more}. Names become the same tokens where the vocabulary lacks "
        "the characters in which they differ, or where they differ only after the last token that "
        "the model reads"
    )
    warnings.warn(warning, stacklevel=4)
    return warning


def _same_rows(z):
    """Yields (first, other) for each row of unit-length embeddings that repeats an earlier one."""
    for start in range(0, len(z), _BLOCK):
        rows = z[start : start + _BLOCK]
        # The first row whose direction is the same, to float32; a row of zeros has none.
        alike = rows @ z.T > 1 - 1e-6  # (block, classes)
        for row, first in enumerate(alike.argmax(axis=1), start):
            # Equal tokens may be embedded in different batches, so the last bits may differ.
            if first < row and alike[row - start, first] and np.abs(z[first] - z[row]).max() < 1e-6:
                yield int(first), row


def predict(zimg: np.ndarray, class_embeddings: np.ndarray) -> np.ndarray:
    """Returns the class with the largest dot product; of equal ones the first.

    Args:
        zimg: float (N, D) image embeddings.
        class_embeddings: float (C, D).

    Returns:
        int64 (N,), labels in [0, C).

    Raises:
        DataError: shapes that do not fit, or embeddings that are not finite.
    """
    zimg, ztxt = np.asarray(zimg), np.asarray(class_embeddings)
    if zimg.ndim != 2 or ztxt.ndim != 2 or zimg.shape[1] != ztxt.shape[1] or not len(ztxt):
        raise DataError(
            f"expected image embeddings (N, D) and class embeddings (C, D), found {zimg.shape} "
            f"and {ztxt.shape}"
        )
    out = np.empty(len(zimg), np.int64)
    for start in range(0, len(zimg), _BLOCK):
        rows = slice(start, start + _BLOCK)
        similarities = zimg[rows] @ ztxt.T  # (block, classes)
        if not np.isfinite(similarities).all():
            raise DataError("embeddings hold NaN or infinity: no class can be predicted")
        out[rows] = similarities.argmax(axis=1)
    return out


def correct(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns which predictions are right.

    Args:
        predictions: int (N,).
        labels: int (N,), or (N, K) with several right answers per example, of which any counts;
            rows are filled up with -1.

    Returns:
        bool (N,).

    Raises:
        DataError: shapes that do not fit, or an example without any label.
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if labels.ndim == 1:
        labels = labels[:, None]
    if predictions.ndim != 1 or labels.ndim != 2 or len(predictions) != len(labels):
        raise DataError(
            f"expected predictions (N,) and labels (N,) or (N, K), found {predictions.shape} and "
            f"{labels.shape}"
        )
    unlabelled = np.flatnonzero((labels < 0).all(axis=1))
    if unlabelled.size:
        raise DataError(
            f"{unlabelled.size} examples have no label (the first is number {unlabelled[0]}): "
            "leave them out before computing an accuracy"
        )
    return (predictions[:, None] == labels).any(axis=1)


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Returns the share of predictions that are right, in [0, 1]; arguments as for `correct`.

    Raises:
        DataError: as for `correct`, or no examples at all.
    """
    right = correct(predictions, labels)
    if not right.size:
        raise DataError("no examples: an accuracy needs at least one")
    return float(right.mean())
