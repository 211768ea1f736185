"""Draws pairs of real handwritten digits in coloured ink on coloured paper.

The digits are scikit-learn's: 1,797 images of 8 x 8 pixels with 17 grey levels, from UCI's "Optical
Recognition of Handwritten Digits". Everything is a pure function of a NumPy generator, so the
dataset can be drawn again without a download.
"""

import functools
import importlib.util
import pathlib

import numpy as np

from lit_tf.errors import extra

HEIGHT, WIDTH = 32, 64

# Colours are RGB. Eight dark inks on six light papers; no ink shares its name with a paper.
INKS = {
    "black": (25, 25, 25),
    "red": (200, 25, 30),
    "blue": (25, 60, 205),
    "green": (20, 125, 35),
    "purple": (115, 30, 150),
    "brown": (120, 65, 15),
    "teal": (0, 125, 135),
    "magenta": (205, 20, 140),
}
PAPERS = {
    "white": (252, 252, 252),
    "yellow": (252, 242, 150),
    "pink": (252, 205, 215),
    "grey": (210, 210, 210),
    "mint": (195, 245, 210),
    "lavender": (215, 205, 250),
}

# Drawn once for a colour of one image, so that "red" is a range and not one value.
_INK_JITTER, _PAPER_JITTER = 15, 6
# Digits are upsampled by this factor with cubic splines before they are placed: 8 x 8 -> 32 x 32.
_UPSAMPLING = 4
# Images to draw at a time: their arrays fit in a processor's cache.
_BLOCK = 25
# Share of each digit class that goes to a split of the digits; the rest is for training.
_TEST_SHARE, _VALIDATION_SHARE = 0.2, 0.1


@functools.cache
def load_digits():
    """Returns scikit-learn's digits: ink coverage, float32 (1797, 32, 32), and classes (1797,)."""
    with extra("train"):
        from scipy import ndimage

        rows = _read_scikit_learns_file()
    images = rows[:, :-1].reshape(-1, 8, 8).astype(np.float32) / 16.0
    images = ndimage.zoom(
        images, (1, _UPSAMPLING, _UPSAMPLING), order=3, mode="grid-constant", grid_mode=True
    )
    # The grey levels count pixels of a finer bitmap, and full strokes rarely reach 16 of 16.
    coverage = np.clip(images * 1.15, 0.0, 1.0).astype(np.float32)
    return coverage, rows[:, -1].astype(np.int64)


def _read_scikit_learns_file():
    """Returns `load_digits`' (1797, 65): greys, class. Importing scikit-learn takes seconds."""
    package = importlib.util.find_spec("sklearn")
    if package is None:
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
    (folder,) = package.submodule_search_locations
    path = pathlib.Path(folder, "datasets", "data", "digits.csv.gz")
    return np.loadtxt(path, delimiter=",", dtype=np.int64)


@functools.cache
def digit_splits():
    """Returns {"train" (70 %), "validation" (10 %), "test" (20 %): sorted indices}, by class."""
    _, classes = load_digits()
    rng = np.random.default_rng(2111_07991)
    parts = {"train": [], "validation": [], "test": []}
    for digit in range(10):
        indices = rng.permutation(np.flatnonzero(classes == digit))
        test = round(_TEST_SHARE * len(indices))
        validation = test + round(_VALIDATION_SHARE * len(indices))
        parts["test"].append(indices[:test])
        parts["validation"].append(indices[test:validation])
        parts["train"].append(indices[validation:])
    return {name: np.sort(np.concatenate(chunks)) for name, chunks in parts.items()}


def choose_digits(digits, split, rng):
    """Draws a real image of a split for each of N digits; returns indices into `load_digits()`."""
    _, classes = load_digits()
    pool = digit_splits()[split]
    by_class = [pool[classes[pool] == digit] for digit in range(10)]
    uniform = rng.random(len(digits))
    return np.array(
        [by_class[d][int(u * len(by_class[d]))] for d, u in zip(digits, uniform, strict=True)],
        np.int64,
    )


def _place(coverage, center, scale, angle, slant, waves):
    """Draws digits (N, 32, 32) on a (HEIGHT, WIDTH) canvas by affine maps and waves (N, 2, 3)."""
    n, size, _ = coverage.shape
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    dy = y[None] - center[:, 0, None, None]  # (N, HEIGHT, WIDTH)
    dx = x[None] - center[:, 1, None, None]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    u = (cos * dx + sin * dy) / scale[:, 1, None, None]
    v = (cos * dy - sin * dx) / scale[:, 0, None, None]
    u = u + slant[:, None, None] * v
    if waves.any():  # digits that models are measured on have none
        (size_u, rate_u, phase_u), (size_v, rate_v, phase_v) = waves.transpose(1, 2, 0)[
            ..., None, None
        ]
        u, v = u + size_u * np.sin(rate_u * v + phase_u), v + size_v * np.sin(rate_v * u + phase_v)
    # Bilinear, zero outside: one pixel of margin on each side makes the gather safe.
    padded = np.pad(coverage, ((0, 0), (1, 1), (1, 1)))
    u = np.clip(u + (size + 1) / 2, 0, size + 0.999)
    v = np.clip(v + (size + 1) / 2, 0, size + 0.999)
    u0, v0 = u.astype(np.int32), v.astype(np.int32)
    fu, fv = u - u0, v - v0
    index = np.arange(n)[:, None, None]
    top = padded[index, v0, u0] * (1 - fu) + padded[index, v0, u0 + 1] * fu
    bottom = padded[index, v0 + 1, u0] * (1 - fu) + padded[index, v0 + 1, u0 + 1] * fu
    return top * (1 - fv) + bottom * fv


def draw(left, right, inks, papers, rng, augment=False):
    """Draws pairs of digits, each shifted and scaled a little; returns uint8 (N, 32, 64, 3).

    `left` and `right` are indices (N,) into `load_digits()`, `inks` and `papers` positions (N,) in
    `INKS` and `PAPERS`. To augment, digits are rotated, slanted, stretched, bent and thinned too,
    so that a thousand real digits go further. What is measured on is never augmented.
    """
    n = len(left)
    sides = [
        (np.asarray(indices), *_geometry(n, middle, rng, augment))
        for indices, middle in ((left, WIDTH / 4), (right, 3 * WIDTH / 4))
    ]
    ink_rgb = np.array(list(INKS.values()))[inks]
    ink_rgb = ink_rgb + rng.uniform(-1, 1, (n, 3)) * _INK_JITTER
    paper_rgb = np.array(list(PAPERS.values()))[papers]
    paper_rgb = paper_rgb + rng.uniform(-1, 1, (n, 3)) * _PAPER_JITTER
    images = np.empty((n, HEIGHT, WIDTH, 3), np.uint8)
    for start in range(0, n, _BLOCK):
        block = slice(start, start + _BLOCK)
        some = [[values[block] for values in side] for side in sides]
        images[block] = _paint(some, ink_rgb[block], paper_rgb[block])
    return images


def _geometry(n, middle, rng, augment):
    """Draws where and how n digits stand: center, scale, angle, slant, waves and thinning."""
    center = np.array([(HEIGHT - 1) / 2, middle - 0.5]) + rng.uniform(-1, 1, (n, 2)) * [2.0, 3.0]
    scale = np.repeat(rng.uniform(0.75, 0.95, (n, 1)), 2, axis=1)
    angle, slant, waves, thinning = np.zeros(n), np.zeros(n), np.zeros((n, 2, 3)), np.ones(n)
    if augment:
        # From none to full augmentation, because models are measured on digits without any.
        share = rng.random((n, 1))
        scale = scale * (1 + share * rng.uniform(-0.12, 0.12, (n, 2)))
        angle = share[:, 0] * rng.uniform(-0.22, 0.22, n)
        slant = share[:, 0] * rng.uniform(-0.3, 0.3, n)
        waves = rng.uniform([-1.8, 0.1, 0.0], [1.8, 0.3, 6.3], (n, 2, 3))
        waves[:, :, 0] *= share
        thinning = np.exp(share[:, 0] * rng.uniform(-0.5, 0.5, n))
    return (*(a.astype(np.float32) for a in (center, scale, angle, slant, waves)), thinning)


def _paint(sides, ink_rgb, paper_rgb):
    """Returns uint8 (n, HEIGHT, WIDTH, 3) of sides (indices, *`_geometry`) and colours (n, 3)."""
    coverage, _ = load_digits()
    ink = np.zeros((len(ink_rgb), HEIGHT, WIDTH), np.float32)
    for indices, *geometry, thinning in sides:
        placed = _place(coverage[indices], *geometry).astype(np.float64)
        if (thinning != 1).any():
            placed = placed ** thinning[:, None, None]
        ink = np.maximum(ink, placed)
    ink = ink[..., None]  # (n, HEIGHT, WIDTH, 1)
    rgb = paper_rgb[:, None, None] * (1 - ink) + ink_rgb[:, None, None] * ink
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
