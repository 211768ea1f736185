"""Images that keep their shape, as patches (SigLIP 2 NaFlex; arXiv:2502.14786, section 2.4.2).

Unlike the square preprocessing, it scales to [-1, 1] first, and resizes with antialias and without
rounding. Formulas and their float32 arithmetic are those of big_vision's `ops_naflex.py`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from lit_tf.errors import ImageError
from lit_tf.images.preprocessing import normalize

MAX_PATCHES = 256  # by default, as in the original
# The factor by which an image is scaled is found by halving this interval, until it is so small.
_LEAST, _MOST, _EPSILON, _HALVINGS = 1e-6, 100.0, 1e-5, 26


def target_grid(height: Any, width: Any, patch: int, max_patches: int) -> tuple[Any, Any]:
    """Returns rows and columns of patches: the largest scale at which they are `max_patches`.

    Small images are enlarged. Both are at least 1, so a very flat image becomes one row. All of it
    is float32, since the result depends on it. Tensors give tensors (int32), numbers give numbers.
    """
    graph = tf.is_tensor(height)
    xp, ceil = (tf, tf.math.ceil) if graph else (np, np.ceil)
    cast = tf.cast if graph else np.asarray
    sides = [cast(side, "float32") for side in (height, width)]

    def count(scale, side):
        # In float64: a graph may multiply by the reciprocal, but rounded, that is the same.
        quotient = cast(cast(scale * side, "float64") / patch, "float32")
        return xp.maximum(ceil(quotient), np.float32(1))

    low, high = np.float32(_LEAST), np.float32(_MOST)
    for _ in range(_HALVINGS):
        middle = (low + high) * np.float32(0.5)
        fits = count(middle, sides[0]) * count(middle, sides[1]) <= max_patches
        going = high - low >= np.float32(_EPSILON)
        low = xp.where(going & fits, middle, low)
        high = xp.where(going & ~fits, middle, high)
    rows, columns = (count(low, side) for side in sides)
    if graph:
        return tf.cast(rows, tf.int32), tf.cast(columns, tf.int32)
    return int(rows), int(columns)


def to_patches(image: Any, patch: int, max_patches: int) -> tf.Tensor:
    """Returns an image, uint8 (H, W, 3), as float32 patches (rows, columns, 3 patch^2).

    Works eagerly and in graphs. A patch's numbers are ordered by row, column, channel.
    """
    return cut(resized(image, patch, max_patches), patch)


def resized(image: Any, patch: int, max_patches: int) -> tf.Tensor:
    """Returns an image, uint8 (H, W, 3), as float32 (rows patch, columns patch, 3) in [-1, 1]."""
    image = tf.convert_to_tensor(image)
    if image.shape.rank not in (3, None):
        raise ImageError(f"expected one image (height, width, 3), found shape {image.shape}")
    height, width = image.shape[:2] if tf.executing_eagerly() else tf.unstack(tf.shape(image)[:2])
    rows, columns = target_grid(height, width, patch, max_patches)
    size = rows * patch, columns * patch
    return tf.image.resize(normalize(image), size, method="bilinear", antialias=True)


def cut(image: tf.Tensor, patch: int) -> tf.Tensor:
    """Returns an image (rows patch, columns patch, 3) as patches (rows, columns, 3 patch^2)."""
    rows, columns = (tf.shape(image)[axis] // patch for axis in (0, 1))
    x = tf.reshape(image, (rows, patch, columns, patch * 3))
    return tf.reshape(tf.transpose(x, (0, 2, 1, 3)), (rows, columns, 3 * patch**2))


def padded(patches: tf.Tensor, length: int) -> dict[str, tf.Tensor]:
    """Returns patches (rows, columns, K) as a NaFlex tower takes them, without the batch's axis.

    Of `length`: patches float32 (L, K), coordinates int32 (L, 2), mask int32 (L,).
    """
    rows, columns, pixels = tf.unstack(tf.shape(patches))
    count = rows * columns
    y, x = tf.meshgrid(tf.range(rows), tf.range(columns), indexing="ij")
    coordinates = tf.reshape(tf.stack([y, x], axis=-1), (-1, 2))
    rest = length - count

    def fill(value, shape):
        value = tf.pad(value, [[0, rest], *[[0, 0]] * (len(shape) - 1)])
        return tf.ensure_shape(value, shape)

    return {
        "patches": fill(tf.reshape(patches, (count, pixels)), (length, patches.shape[-1])),
        "coordinates": fill(coordinates, (length, 2)),
        "mask": fill(tf.ones([count], tf.int32), (length,)),
    }


def batched(images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Returns patches (rows, columns, K) of n images as one batch, padded to its longest.

    patches float32 (n, L, K), coordinates int32 (n, L, 2) and, if there is padding, mask int32
    (n, L).
    """
    counts = [image.shape[0] * image.shape[1] for image in images]
    length = max(counts)
    patches = np.zeros((len(images), length, images[0].shape[-1]), np.float32)
    coordinates = np.zeros((len(images), length, 2), np.int32)
    for i, (image, count) in enumerate(zip(images, counts, strict=True)):
        patches[i, :count] = image.reshape(count, -1)
        coordinates[i, :count] = np.moveaxis(np.indices(image.shape[:2]), 0, -1).reshape(count, 2)
    out = {"patches": patches, "coordinates": coordinates}
    if min(counts) < length:
        out["mask"] = (np.arange(length) < np.array(counts)[:, None]).astype(np.int32)
    return out
