"""Pixels to what the image tower reads: the same code eagerly, in `tf.data` and in a SavedModel.

The reference decodes to uint8 RGB, resizes bilinearly without antialiasing, truncates back to uint8
and scales to [-1, 1]. Each of these matters to the last digit: an antialiased resize, or one that
rounds, gives other embeddings.
"""

import os
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from lit_tf.errors import ImageError
from lit_tf.files import printable
from lit_tf.images import exif
from lit_tf.images.decoding import COMMON, decode_common
from lit_tf.images.decoding import decode_image as decode_image
from lit_tf.images.formats import FORMATS, MAX_PIXELS
from lit_tf.sequences import to_list

# What PIL calls pixels that convert to RGB as everybody expects.
_PIL_MODES = "1 L LA La P PA RGB RGBA RGBa RGBX CMYK YCbCr HSV".split()
_PIL_NUMBERS = ("I", "F")  # numbers whose range PIL does not know


def resize_uint8(image: tf.Tensor | np.ndarray, size: int, crop: bool = False) -> tf.Tensor:
    """Resizes images to a square as the reference does: bilinear, not antialiased, truncated.

    Args:
        image: uint8 (H, W, 3) or (N, H, W, 3).
        size: side of the result in pixels.
        crop: whether the smaller side is fitted and the centre cut out (vit_jax's option); else the
            aspect ratio is not kept.

    Returns:
        uint8 (size, size, 3) or (N, size, size, 3), statically shaped.
    """
    image = tf.convert_to_tensor(image)
    batch = image.shape[:-3]
    if crop:
        sides = tf.shape(image)[-3:-1]  # height, width
        scale = tf.cast(size, tf.float32) / tf.cast(tf.reduce_min(sides), tf.float32)
        sides = tf.cast(tf.round(tf.cast(sides, tf.float32) * scale), tf.int32)
        image = tf.image.resize(image, sides, method="bilinear", antialias=False)
        top, left = tf.unstack((sides - size) // 2)
        image = image[..., top : top + size, left : left + size, :]
    else:
        image = tf.image.resize(image, (size, size), method="bilinear", antialias=False)
    image = tf.cast(image, tf.uint8)
    return tf.ensure_shape(image, [*batch, size, size, 3])


def normalize(image: tf.Tensor) -> tf.Tensor:
    """Returns uint8 pixels as float32 in [-1, 1]: x / 127.5 - 1."""
    # In a graph, TensorFlow turns a division by a constant into a product with its reciprocal,
    # which in float32 is off by one ulp for half of the values. In float64 both round to the same.
    return tf.cast(tf.cast(image, tf.float64) / 127.5, tf.float32) - 1.0


def preprocess(image: tf.Tensor, size: int, crop: bool = False) -> tf.Tensor:
    """Returns images as the image tower reads them.

    Args:
        image: uint8 (H, W, 3) or (N, H, W, 3).
        size: side of the result in pixels.
        crop: see `resize_uint8`.

    Returns:
        float32 (size, size, 3) or (N, size, size, 3) in [-1, 1], statically shaped.
    """
    return normalize(resize_uint8(image, size, crop))


def to_uint8(image: Any, name: str = "The image", max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Returns one image, whatever it is, as a viewer shows it: a uint8 array (H, W, 3).

    Files and PIL images are turned upright where their EXIF orientation says so.

    Args:
        image: the bytes or the path (local or gs://) of a JPEG, PNG, WebP, BMP or GIF; a PIL image;
            or an array or eager tensor (H, W), (H, W, 1), (H, W, 2), (H, W, 3) or (H, W, 4) of
            integers in 0..255 or floats in [0, 1]. Grey becomes RGB; alpha is dropped, as decoders
            do. 16-bit PNGs, and PIL images of mode I;16, lose their lower byte.
        name: how errors call the image.
        max_pixels: width times height of the largest file or PIL image that is decoded.

    Raises:
        ImageError: if it cannot be read or understood, or is too large.
    """
    if isinstance(image, (str, os.PathLike)):
        image = os.fspath(image)
        name = f"{name} ({printable(image)})"
        image = _read(image, name)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _decode(bytes(image), name, max_pixels)
    if hasattr(image, "convert") and hasattr(image, "mode"):  # PIL's, without importing it
        return _rgb(_bytes_of(_pil_pixels(image, name, max_pixels), name), name)
    if tf.is_tensor(image) and hasattr(image, "numpy"):
        image = image.numpy()
        if isinstance(image, bytes):
            return _decode(image, name, max_pixels)
    if not hasattr(image, "__array__") and not isinstance(image, (list, tuple)):
        raise ImageError(
            f"{name} is {type(image).__name__}; expected an array, the bytes of a {FORMATS}, a "
            "path, or a PIL image."
        )
    try:
        image = np.asarray(image)
    except (ValueError, TypeError) as e:
        raise ImageError(f"{name} is not an array: {e}") from None
    return _rgb(_bytes_of(image, name), name)


def _pil_pixels(image, name, max_pixels):
    """Returns a PIL image's pixels as an array, turned upright."""
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            f"{name} cannot be decoded: {width} x {height} pixels are more than the {max_pixels} "
            "allowed (max_pixels)"
        )
    mode = image.mode
    if mode not in (*_PIL_MODES, *_PIL_NUMBERS) and not mode.startswith("I;16"):
        raise ImageError(f"{name} is a PIL image of mode {mode}; convert it to RGB first.")
    try:
        pixels = np.asarray(image.convert("RGB") if mode in _PIL_MODES else image)
        orientation = _pil_orientation(image)
    except Exception as e:  # PIL reads files late, and its plugins raise whatever they do
        raise ImageError(f"{name} cannot be decoded: {e}") from None
    # Pillow before 11.3 calls 16-bit PNGs mode I. Their lower byte goes, as TensorFlow does it.
    if mode.startswith("I;16") or (mode == "I" and getattr(image, "format", None) == "PNG"):
        pixels = (pixels >> 8).astype(np.uint8)
    if orientation == exif.UPRIGHT or not pixels.size:
        return pixels
    channels = pixels if pixels.ndim == 3 else pixels[..., np.newaxis]
    return exif.turn_upright(tf.constant(channels), orientation).numpy()


def _pil_orientation(image):
    if not hasattr(image, "getexif"):
        return exif.UPRIGHT
    if "xmp" in image.info or "XML:com.adobe.xmp" in image.info:
        # Where EXIF does not say it, PIL would take it from XMP, which viewers do not heed.
        return exif.tiff_orientation(image.info.get("exif", b""))
    try:
        value = image.getexif().get(exif.TAG, exif.UPRIGHT)
    except Exception:  # damaged EXIF data, of which PIL raises whatever it does
        return exif.UPRIGHT
    return value if value in range(1, 9) else exif.UPRIGHT


def _read(path, name):
    """Returns the bytes of a local or remote file."""
    try:
        if not path.isascii() and os.path.isfile(path):  # TensorFlow takes names in UTF-8 only
            with open(path, "rb") as f:
                return f.read()
        if tf.io.gfile.isdir(path):
            raise ImageError(f"{name} is a folder; expected an image file.")
        with tf.io.gfile.GFile(path, "rb") as f:
            return f.read()
    except (OSError, tf.errors.OpError, UnicodeError, ValueError) as e:
        raise ImageError(f"{name} cannot be read: {getattr(e, 'message', e)}") from None


def _traced(decode):
    spec = [tf.TensorSpec([], dtype) for dtype in (tf.string, tf.int64, tf.int32)]

    @tf.function(input_signature=spec, autograph=False)
    def decode_upright(data, max_pixels, orientation):
        return exif.turn_upright(decode(data, max_pixels), orientation)

    return decode_upright


# Two graphs, since tracing that of all formats takes a second, which most processes can save.
_decode_common = _traced(decode_common)
_decode_any = _traced(decode_image)


def _decode(data, name, max_pixels):
    """Returns the pixels of an encoded image, turned upright."""
    if not data:
        raise ImageError(f"{name} is empty; expected the bytes of a {FORMATS}.")
    try:
        # On the CPU always, so that a machine with an accelerator gives the same pixels.
        with tf.device("CPU:0"):
            decode = _decode_common if data.startswith(COMMON) else _decode_any
            image = decode(data, max_pixels, exif.orientation(data)).numpy()
    except tf.errors.OpError as e:
        if "assertion failed: " in e.message:  # by `decode_image`, in words of ours
            words = re.findall(r"\[(.*?)\](?= |$)", reason(e))
            text = " ".join([name, *words[1:]]).replace(" ; ", "; ")
            raise ImageError(text) from None
        raise ImageError(f"{name} cannot be decoded ({len(data)} bytes): {reason(e)}") from None
    return _rgb(image, name)


def reason(error: tf.errors.OpError) -> str:
    """Returns what an operation said, without where in its graph it stands."""
    said = error.message.split("\n\t [[")[0].strip().splitlines()[-1]
    return said.split("}} ")[-1].split(" [Op:")[0].strip()


def _bytes_of(image, name):
    """Returns an array's pixels as uint8, refusing what is not clearly in a known range."""
    kind, dtype = image.dtype.kind, image.dtype.name
    if image.size == 0 or image.dtype == np.uint8:
        return image.astype(np.uint8, copy=False)  # an empty one is refused for its shape
    if kind in "iuf" or dtype == "bfloat16":
        low, high = float(image.min()), float(image.max())  # NaN where there is one
        if kind in "iu" and 0 <= low and high <= 255:
            return image.astype(np.uint8)
        if kind not in "iu" and 0 <= low and high <= 1:
            return np.rint(image.astype(np.float32) * 255).astype(np.uint8)
        raise ImageError(
            f"{name} is {dtype} with values from {low:g} to {high:g}; expected integers in 0..255 "
            "or floats in [0, 1]. (What is scaled to [-1, 1] already goes to "
            'model({"image": images}).)'
        )
    raise ImageError(
        f"{name} is an array of {dtype}; expected integers in 0..255 or floats in [0, 1]."
    )


def _rgb(image, name):
    """Returns uint8 pixels (H, W) or (H, W, C) as (H, W, 3)."""
    shape = image.shape
    if image.ndim == 2:
        image = image[..., np.newaxis]
    if image.ndim != 3 or image.shape[-1] not in (1, 2, 3, 4):
        hint = ""
        if image.ndim == 3 and image.shape[0] in (1, 3, 4):
            hint = " Are the channels first? Then transpose it."
        raise ImageError(
            f"{name} has shape {shape}; expected (height, width), or (height, width, channels) "
            f"with 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGBA) channels.{hint}"
        )
    if 0 in image.shape:
        raise ImageError(f"{name} has shape {shape}: it holds no pixel.")
    if image.shape[-1] < 3:
        return np.repeat(image[..., :1], 3, axis=-1)
    return image[..., :3]


def resized_on_cpu(image: np.ndarray, size: int, crop: bool = False) -> np.ndarray:
    """Returns what `resize_uint8` does, as an array and from the CPU.

    On a machine with an accelerator the pixels are then the same as on one without.

    Args:
        image: uint8 (H, W, 3).
        size: side of the result in pixels.
        crop: see `resize_uint8`.

    Returns:
        uint8 array (size, size, 3).
    """
    with tf.device("CPU:0"):
        return resize_uint8(image, size, crop).numpy()


def checked_list(images: Any) -> Iterable[Any]:
    """Returns what stands for many images; refuses what is one image, or none.

    Args:
        images: an array (N, H, W, C), or any iterable of what `to_uint8` takes.

    Raises:
        ImageError: it is not a list of images.
    """
    if isinstance(images, (str, bytes, bytearray, os.PathLike)) or hasattr(images, "convert"):
        raise ImageError(
            f"The images are one {type(images).__name__}; expected a list. For one image, put it "
            "into a list: [image]."
        )
    if hasattr(images, "to_pylist"):
        return to_list(images)
    shape = getattr(images, "shape", None)
    # Strings have many types: of NumPy two, of pandas several.
    if shape is not None and len(shape) == 1 and getattr(images.dtype, "kind", "O") in "OUT":
        return to_list(images)
    if shape is not None and images.dtype not in (object, tf.string) and len(shape) != 4:
        raise ImageError(
            f"The images have shape {tuple(shape)}; expected (images, height, width, channels). "
            "For one image, put it into a list: [image]."
        )
    try:
        iter(images)
    except TypeError:
        raise ImageError(
            f"The images are {type(images).__name__}; expected an array (images, height, width, "
            "channels) or a list of images."
        ) from None
    return images
