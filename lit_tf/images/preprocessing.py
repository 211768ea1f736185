"""Pixels to what the image tower reads: the same code eagerly, in `tf.data` and in a SavedModel.

The reference decodes to uint8 RGB, resizes bilinearly without antialiasing, truncates back to uint8
and scales to [-1, 1]. Each of these matters to the last digit: an antialiased resize, or one that
rounds, gives other embeddings.
"""

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from lit_tf.errors import ImageError, LitError, positive_integer
from lit_tf.files import printable, read_bytes
from lit_tf.images.arrays import as_bytes, as_rgb
from lit_tf.images.decoding import decode, pil_pixels
from lit_tf.images.decoding import decode_image as decode_image
from lit_tf.images.formats import FORMATS, MAX_PIXELS
from lit_tf.sequences import to_list


def resize_uint8(
    image: tf.Tensor | np.ndarray, size: int, crop: bool = False, resample: str | None = None
) -> tf.Tensor:
    """Resizes images to a square as the reference does: bilinear, not antialiased, truncated.

    Args:
        image: (H, W, 3) or (N, H, W, 3), uint8, or what `preprocess` takes.
        size: side of the result in pixels.
        crop: whether the smaller side is fitted and the centre cut out (vit_jax's option); else the
            aspect ratio is not kept.
        resample: `bicubic` or `bilinear` for what Hugging Face and open_clip do: antialiased and
            rounded, within one grey level of theirs.

    Returns:
        uint8 (size, size, 3) or (N, size, size, 3), statically shaped.

    Raises:
        ImageError: these are not pixels, or `size` is not a positive integer.
    """
    size, image = positive_integer(size, "size", ImageError), _pixels(image)
    batch = image.shape[:-3]
    if crop:
        sides = tf.shape(image)[-3:-1]  # height, width
        scale = tf.cast(size, tf.float32) / tf.cast(tf.reduce_min(sides), tf.float32)
        sides = tf.cast(tf.round(tf.cast(sides, tf.float32) * scale), tf.int32)
        image = tf.image.resize(image, sides, method="bilinear", antialias=False)
        top, left = tf.unstack((sides - size) // 2)
        image = image[..., top : top + size, left : left + size, :]
    elif resample:
        image = tf.image.resize(image, (size, size), method=resample, antialias=True)
        image = tf.clip_by_value(tf.round(image), 0, 255)
    else:
        image = tf.image.resize(image, (size, size), method="bilinear", antialias=False)
    image = tf.cast(image, tf.uint8)
    return tf.ensure_shape(image, [*batch, size, size, 3])


def _tensor(images):
    try:
        return tf.convert_to_tensor(images)
    except (ValueError, TypeError) as e:  # Keras's inputs too
        raise ImageError(f"The images are not an array: {e}") from None


def _pixels(image):
    """Returns images (H, W, 3) or (N, H, W, 3) as uint8, refusing what is not in a known range."""
    image = _tensor(image)
    shape = image.shape
    known = shape.rank is not None
    if known and (shape.rank not in (3, 4) or shape[-1] not in (3, None) or 0 in shape[-3:]):
        raise ImageError(
            f"The images have shape {shape}; expected (height, width, 3) or (N, height, width, 3). "
            "(lit_tf.images.to_uint8 turns any image into that.)"
        )
    if image.dtype == tf.uint8:
        return image
    if tf.executing_eagerly() or not (image.dtype.is_floating or image.dtype.is_integer):
        known = image.numpy() if tf.executing_eagerly() else np.zeros(1, image.dtype.as_numpy_dtype)
        return tf.constant(as_bytes(known, "The images"))
    top = 1 if image.dtype.is_floating else 255
    good = tf.reduce_all((image >= 0) & (image <= top))
    expected = f"The images are {image.dtype.name} and must be in [0, {top}]"
    with tf.control_dependencies([tf.debugging.Assert(good, [expected])]):
        # Floats in [0, 1] become bytes as `to_uint8` makes them.
        scaled = tf.round(tf.cast(image, tf.float32) * 255) if top == 1 else image
        return tf.cast(scaled, tf.uint8)


def normalize(image: tf.Tensor) -> tf.Tensor:
    """Returns uint8 pixels as float32 in [-1, 1]: x / 127.5 - 1.

    Raises:
        ImageError: the pixels are not uint8.
    """
    image = _tensor(image)
    if image.dtype != tf.uint8:
        raise ImageError(
            f"normalize takes uint8 pixels, found {image.dtype.name}; "
            "lit_tf.images.preprocess takes floats in [0, 1] too"
        )
    # In a graph, TensorFlow turns a division by a constant into a product with its reciprocal,
    # which in float32 is off by one ulp for half of the values. In float64 both round to the same.
    return tf.cast(tf.cast(image, tf.float64) / 127.5, tf.float32) - 1.0


def preprocess(image: tf.Tensor, size: int, crop: bool = False) -> tf.Tensor:
    """Returns images as the image tower reads them.

    Args:
        image: (H, W, 3) or (N, H, W, 3) of uint8, of other integers in 0..255, or of floats in
            [0, 1]. Another range is refused; XLA does not check it.
        size: side of the result in pixels.
        crop: see `resize_uint8`.

    Returns:
        float32 (size, size, 3) or (N, size, size, 3) in [-1, 1], statically shaped.

    Raises:
        ImageError: these are not pixels, or `size` is not a positive integer.
        tf.errors.InvalidArgumentError: values are not in their range, when a graph runs.
    """
    return normalize(resize_uint8(image, size, crop))


def to_uint8(image: Any, name: str = "The image", max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Returns one image, whatever it is, as a viewer shows it: a uint8 array (H, W, 3).

    Files and PIL images are turned upright where their EXIF orientation says so.

    Args:
        image: the bytes or the path (local or gs://) of a JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or
            HEIC (with the extra `heif`); a PIL image; or an array or eager tensor (H, W),
            (H, W, 1), (H, W, 2), (H, W, 3) or (H, W, 4) of integers in 0..255 or floats in [0, 1].
            Grey becomes RGB; alpha is dropped, as decoders do. Of 16-bit samples the lower byte is
            dropped.
        name: how errors call the image.
        max_pixels: width times height of the largest file or PIL image that is decoded.

    Raises:
        ImageError: if it cannot be read or understood, or is too large.
    """
    pixels = to_pixels(image, name, max_pixels)
    return pixels.numpy() if tf.is_tensor(pixels) else pixels


def to_pixels(image: Any, name: str, max_pixels: int) -> np.ndarray | tf.Tensor:
    """Returns what `to_uint8` does, uncopied: JPEGs and PNGs as a tensor, all else as an array."""
    instead = "decode_image takes the bytes of a file, and preprocess takes pixels"
    refuse_graphs(image, ImageError, "to_uint8", instead)
    if isinstance(image, (str, os.PathLike)):
        image = os.fspath(image)
        name = f"{name} ({printable(image)})"
        try:
            image = read_bytes(image)
        except (OSError, ValueError) as e:  # ValueError: no path at all
            raise ImageError(f"{name} cannot be read: {e}") from None
    if isinstance(image, (bytes, bytearray, memoryview)):
        return decode(bytes(image), name, max_pixels)
    if hasattr(image, "convert") and hasattr(image, "mode"):  # PIL's, without importing it
        return pil_pixels(image, name, max_pixels)
    if tf.is_tensor(image) and hasattr(image, "numpy"):
        image = image.numpy()
        if isinstance(image, bytes):
            return decode(image, name, max_pixels)
    if not hasattr(image, "__array__") and not isinstance(image, (list, tuple)):
        raise ImageError(
            f"{name} is {type(image).__name__}; expected an array, the bytes of a {FORMATS}, a "
            "path, or a PIL image."
        )
    try:
        image = np.asarray(image)
    except (ValueError, TypeError) as e:
        raise ImageError(f"{name} is not an array: {e}") from None
    return as_rgb(image, name)


def refuse_graphs(values: Any, error: type[LitError], what: str, instead: str) -> None:
    """Raises the error in a graph and for a Keras input, where there are no values yet."""
    if not tf.executing_eagerly() or type(values).__name__ == "KerasTensor":
        raise error(f"{what} work outside of graphs only. In tf.data and tf.function, {instead}")


def checked_list(images: Any) -> Iterable[Any]:
    """Returns what stands for many images; ImageError if it is one image, or none."""
    one = isinstance(images, (str, bytes, bytearray, os.PathLike)) or hasattr(images, "convert")
    if hasattr(images, "to_pylist"):
        return to_list(images)
    shape = getattr(images, "shape", None)
    if shape is not None:
        # Strings have many types: of NumPy two, of pandas several.
        if len(shape) == 1 and getattr(images.dtype, "kind", "O") in "OUT":
            return to_list(images)
        one |= images.dtype not in (object, tf.string) and len(shape) != 4
    if one or not hasattr(images, "__iter__"):
        kind = f"one {type(images).__name__}" if shape is None else f"of shape {tuple(shape)}"
        raise ImageError(
            f"The images are {kind}; expected an array (images, height, width, channels) or a list "
            "of images. For one image, put it into a list: [image]."
        )
    return images
