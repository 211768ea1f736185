"""Prompt templates and class names of zero-shot classification, as plain data.

The templates and ImageNet's display names are CLIP's (arXiv:2103.00020; published under the MIT
licence), in CLIP's order. A test holds the SHA-256 of each list, joined by newlines. The class
subsets of ImageNet-A and ImageNet-R are indices into the 1,000 names, which stand in the order of
the sorted WordNet ids, as do the labels of ImageNet in tensorflow_datasets.
"""

import functools
import importlib.resources


def _lines(name):
    data = importlib.resources.files("lit_tf").joinpath("data", name)
    return data.read_text(encoding="utf-8").splitlines()


TEMPLATES = {
    "clip_paper": tuple(_lines("clip_paper.txt")),  # 80, and the bare name
    "clip_best": tuple(_lines("clip_best.txt")),  # seven that do as well, and the bare name
    "class_name_only": ("{}",),
}


@functools.cache
def imagenet_names():
    """Returns the 1,000 display names of ImageNet's classes, a tuple of str in label order."""
    return tuple(_lines("imagenet_names.txt"))


@functools.cache
def imagenet_subset(name):
    """Returns the 200 labels, ascending, of ImageNet's classes that a subset has.

    It is "imagenet_a" (arXiv:1907.07174) or "imagenet_r" (arXiv:2006.16241).
    """
    return tuple(int(line) for line in _lines(f"{name}_labels.txt"))
