"""Pixels -> tower input: the same code eagerly, in tf.data and in a SavedModel."""

import os
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from lit_tf.errors import ImageError

ENCODED = "JPEG, PNG, BMP or GIF"


def decode_image(data: tf.Tensor) -> tf.Tensor:
    """Decodes one image; of an animation, the first frame.

    Args:
      data: string scalar, an encoded JPEG, PNG, BMP or GIF of any number of channels.

    Returns:
      uint8 (height, width, 3). Greyscale becomes RGB; an alpha channel is dropped.

    Raises:
      tf.errors.InvalidArgumentError: the bytes are no such image.
    """
    image = tf.io.decode_image(data, channels=3, expand_animations=False)
    image.set_shape((None, None, 3))
    return image


def _crop_sides(image: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the height and width at which the smaller side is `size`, rounded half to even."""
    sides = tf.cast(tf.shape(image)[-3:-1], tf.float32)
    sides = tf.round(sides * (tf.cast(size, tf.float32) / tf.reduce_min(sides)))
    return tf.unstack(tf.cast(sides, tf.int32))


def resize_uint8(image: tf.Tensor, size: int, crop: bool = False) -> tf.Tensor:
    """Resizes bilinearly without antialiasing and truncates to uint8, as LiT was trained.

    Args:
      image: uint8 (..., height, width, 3) with at most one leading axis.
      size: side of the result.
      crop: whether the smaller side becomes `size` and the centre is cut out. By default the
        aspect ratio is not kept.

    Returns:
      uint8 (..., size, size, 3).
    """
    if not crop:
        resized = tf.cast(tf.image.resize(image, (size, size)), tf.uint8)
    else:
        height, width = _crop_sides(image, size)
        resized = tf.cast(tf.image.resize(image, (height, width)), tf.uint8)
        top, left = (height - size) // 2, (width - size) // 2
        resized = resized[..., top : top + size, left : left + size, :]
    resized.set_shape((*image.shape[:-3], size, size, 3))
    return resized


def normalize(image: tf.Tensor) -> tf.Tensor:
    """Maps uint8 to float32 in [-1, 1]: x / 127.5 - 1."""
    return tf.cast(image, tf.float32) / 127.5 - 1.0


def preprocess(image: tf.Tensor, size: int, crop: bool = False) -> tf.Tensor:
    """Returns tower input, float32 (..., size, size, 3) in [-1, 1], of uint8 (..., H, W, 3).

    Args:
      image: uint8 (..., height, width, 3) with at most one leading axis.
      size: side of the result.
      crop: as in `resize_uint8`.
    """
    return normalize(resize_uint8(image, size, crop))


def to_batch(images: Sequence, size: int, crop: bool = False) -> tf.Tensor:
    """Returns tower input from images in any form.

    Args:
      images: uint8 array (N, H, W, 3), or a list whose items are each an array (H, W), (H, W, 1),
        (H, W, 3) or (H, W, 4) with values 0 to 255, a PIL image, encoded bytes, or a path.
      size: side of the result.
      crop: as in `resize_uint8`.

    Returns:
      float32 (N, size, size, 3) in [-1, 1].

    Raises:
      ImageError: an image cannot be used; the message says which, what was found and what was
        expected.
    """
    if isinstance(images, str | bytes | os.PathLike):
        raise ImageError("expected a list of images, found one path or one image's bytes")
    if hasattr(images, "shape"):
        if len(images.shape) != 4:
            raise ImageError(
                f"expected images of shape (N, height, width, 3), found {tuple(images.shape)}; "
                "put a single image into a list"
            )
        if images.dtype == np.uint8 and images.shape[-1] == 3 and 0 not in images.shape:
            return preprocess(tf.convert_to_tensor(images), size, crop)
    batch = [resize_uint8(_to_rgb(image, i), size, crop) for i, image in enumerate(images)]
    if not batch:
        return tf.zeros((0, size, size, 3))
    return normalize(tf.stack(batch))


def _to_rgb(image, index: int) -> tf.Tensor:
    """Returns uint8 (height, width, 3) of one image in any form."""
    name = f"image {index}"
    if isinstance(image, str | os.PathLike):
        path = os.fspath(image)
        name = f"{name} ({path})"
        try:
            # A path may be gs://..., which pathlib would mangle.
            image = tf.io.gfile.GFile(path, "rb").read()
        except (tf.errors.OpError, OSError) as error:
            kind = "is a folder" if pathlib.Path(path).is_dir() else f"cannot be read: {error}"
            raise ImageError(f"{name} {kind}") from None
    if isinstance(image, bytes):
        try:
            return decode_image(tf.constant(image))
        except tf.errors.OpError:
            found = f"{len(image)} bytes that start with {image[:8]!r}" if image else "no bytes"
            raise ImageError(f"{name} is no readable {ENCODED}: found {found}") from None
    try:
        array = np.asarray(image)
    except (TypeError, ValueError):
        array = np.empty(0, object)
    if array.dtype.kind not in "uif":
        raise ImageError(
            f"{name} is a {type(image).__name__}; expected an array, a PIL image, a path, "
            f"or the bytes of a {ENCODED}"
        )
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape or array.shape[2] not in (1, 2, 3, 4):
        raise ImageError(
            f"{name} has shape {np.shape(image)}; expected (height, width) or "
            "(height, width, channels) with 1, 3 or 4 channels, none of them empty"
        )
    if array.dtype.kind == "f":
        raise ImageError(
            f"{name} has dtype {array.dtype}; expected integers from 0 to 255. "
            "For values in [0, 1], pass (image * 255).round().astype('uint8')"
        )
    if array.dtype != np.uint8:
        if array.min() < 0 or array.max() > 255:
            raise ImageError(
                f"{name} has values from {array.min()} to {array.max()}; expected 0 to 255"
            )
        array = array.astype(np.uint8)
    if array.shape[2] in (2, 4):
        array = array[..., :-1]  # alpha, which decoders drop too
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return tf.constant(array)
