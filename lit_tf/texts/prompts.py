"""Prompt templates and class names of zero-shot classification, as plain data.

The templates and ImageNet's display names are CLIP's (arXiv:2103.00020; published under the MIT
licence), in CLIP's order. A test holds the SHA-256 of each list, joined by newlines. The class
subsets of ImageNet-A and ImageNet-R are indices into the 1,000 names, which stand in the order of
the sorted WordNet ids, as do the labels of ImageNet in tensorflow_datasets.
"""

import functools
import importlib.resources

# The 80 templates of CLIP's paper, and the bare name.
CLIP_PAPER = (
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "the embroidered {}.",
    "a photo of a hard to see {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "the plastic {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a plastic {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "a photo of a {}.",
    "the origami {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a origami {}.",
    "a low resolution photo of a {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "a cartoon {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a embroidered {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a good photo of a {}.",
    "a plushie {}.",
    "a photo of the nice {}.",
    "a photo of the small {}.",
    "a photo of the weird {}.",
    "the cartoon {}.",
    "art of the {}.",
    "a drawing of the {}.",
    "a photo of the large {}.",
    "a black and white photo of a {}.",
    "the plushie {}.",
    "a dark photo of a {}.",
    "itap of a {}.",
    "graffiti of the {}.",
    "a toy {}.",
    "itap of my {}.",
    "a photo of a cool {}.",
    "a photo of a small {}.",
    "a tattoo of the {}.",
    "{}",
)

# The seven templates that CLIP's authors found to do as well as the 80, and the bare name.
CLIP_BEST = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
    "{}",
)

CLASS_NAME_ONLY = ("{}",)


def _lines(name):
    data = importlib.resources.files("lit_tf").joinpath("data", name)
    return data.read_text(encoding="utf-8").splitlines()


@functools.cache
def imagenet_names():
    """Returns the 1,000 display names of ImageNet's classes, a tuple of str in label order."""
    return tuple(_lines("imagenet_names.txt"))


@functools.cache
def imagenet_subset(name):
    """Returns the labels of a subset of ImageNet's classes.

    Args:
        name: "imagenet_a" (arXiv:1907.07174) or "imagenet_r" (arXiv:2006.16241).

    Returns:
        A tuple of 200 ascending labels in [0, 1000).
    """
    return tuple(int(line) for line in _lines(f"{name}_labels.txt"))
