"""From an image file's bytes to its pixels, with one decoder a format.

TensorFlow decodes JPEGs and PNGs, as in the reference; Pillow decodes everything else, and what it
cannot read is bad. A served graph has TensorFlow only, so it decodes JPEG, PNG and WebP. (There,
TensorFlow and Pillow give the same WebP pixels, since both use libwebp.) The size is read off the
header, and large images are refused before memory is allocated.
"""

import contextlib
import functools
import io
from typing import Any

import numpy as np
import PIL.Image
import tensorflow as tf

from lit_tf.errors import ImageError, MissingPackageError, extra, plain
from lit_tf.images.arrays import as_rgb
from lit_tf.images.exif import jpeg_orientation, orientation, pil_orientation, turn_upright
from lit_tf.images.formats import FORMATS, MAX_PIXELS, MORE_FORMATS

_HEADER = 34  # bytes; what is read of any format's header is within them
_COMMON = (b"\xff\xd8", b"\x89PNG")  # how JPEGs and PNGs begin
# Which bits of the first twelve bytes tell a format, and what they are.
_MAGIC = [
    [[255 if byte else 0 for byte in magic.ljust(12, b"\0")], list(magic.ljust(12, b"\0"))]
    for magic in (*_COMMON, b"RIFF\0\0\0\0WEBP")
]
# Adobe's marker of a JPEG, APP14, that asks for no conversion of colours.
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64" + bytes(5)
_EVERY_BYTE = bytes(range(256))
_REST = 2**31 - 1  # so long that it means: until the end
# What PIL calls pixels that convert to RGB as everybody expects.
_PIL_MODES = "1 L LA La P PA RGB RGBA RGBa RGBX CMYK YCbCr HSV".split()
_PIL_FORMATS = ("BMP", "GIF", "TIFF", "WEBP", "AVIF", "HEIF")


def decode(
    data: bytes, name: str = "The image", max_pixels: int = MAX_PIXELS, *, exif: bool = True
) -> np.ndarray | tf.Tensor:
    """Returns the pixels, uint8 (H, W, 3), of an encoded image; `exif` turns them upright.

    What TensorFlow decodes stays its tensor: copies of a large photo take as long as decoding.
    """
    if not data.startswith(_COMMON):
        with _opened(data, name) as image:
            return pil_pixels(image, name, max_pixels, exif=exif)
    try:
        with tf.device("CPU:0"):  # so that a machine with an accelerator gives the same pixels
            header = tf.io.decode_raw(data, tf.uint8, fixed_length=_HEADER)
            jpeg = data.startswith(_COMMON[0])
            height, width = _jpeg_size(data) if jpeg else _png_size(header)
            _check_pixels((int(width), int(height)), max_pixels, name)
            image = _decode(_with_adobe(data) if jpeg else data)
            return turn_upright(image, orientation(data) if exif else 1)
    except tf.errors.OpError as e:
        raise ImageError(f"{name} cannot be decoded ({len(data)} bytes): {plain(e)}") from None


def decode_image(
    data: Any, max_pixels: int = MAX_PIXELS, name: Any = "The image", *, exif: bool = False
) -> tf.Tensor:
    """Decodes an image without its alpha; of an animation the first frame.

    Eagerly it reads all formats. In a graph, which may run without Python, it reads JPEG, PNG and
    WebP. Colour profiles are ignored: pixels are taken for sRGB. 16-bit samples lose their lower
    byte.

    Args:
        data: bytes or a scalar string tensor, the file's contents.
        max_pixels: width times height beyond which an image is refused, before it is decoded.
        name: how errors call the image; a string, or in a graph also a scalar string tensor.
        exif: whether to turn the image as its EXIF orientation says; in a graph only JPEGs.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ImageError: `data` is not the bytes of an image, or those of one that is too large.
        tf.errors.InvalidArgumentError: the same, when a graph runs.
    """
    if not isinstance(data, bytes):
        kind = (data.dtype, data.shape.rank) if tf.is_tensor(data) else type(data).__name__
        if kind not in ((tf.string, 0), (tf.string, None)):
            raise ImageError(
                f"decode_image takes the bytes of one image, found {kind}; pixels go to "
                "lit_tf.images.preprocess"
            )
    data = tf.convert_to_tensor(data)
    if tf.executing_eagerly():
        return tf.constant(decode(data.numpy(), name, max_pixels, exif=exif))

    def refused(data, *_):
        message = [name, "cannot be decoded: expected JPEG, PNG or WebP"]
        with tf.control_dependencies([tf.debugging.Assert(False, message)]):
            return tf.zeros([0, 0, 3], tf.uint8)

    jpeg = _upright_jpeg if exif else _jpeg
    return _decode_by_format(data, max_pixels, name, (jpeg, _png, _webp, refused))


def decode_in_dataset(data, max_pixels: int = MAX_PIXELS, *, exif: bool = False) -> tf.Tensor:
    """Returns what `decode` does, uint8 (H, W, 3), for the maps of `tf.data`.

    JPEGs and PNGs are decoded in the graph, in parallel; the others, and with `exif` all, in
    Python. The published protocols of training and evaluation turn nothing.
    """

    def decoded(data, limit):
        return decode(data.numpy(), max_pixels=int(limit), exif=exif)

    def in_python(data, *_):
        # Not numpy_function: when eager, it cuts zeros off the end of a string.
        pixels = tf.py_function(decoded, [data, max_pixels], tf.uint8)
        return tf.ensure_shape(pixels, [None, None, 3])

    if exif:
        return in_python(data)
    return _decode_by_format(data, max_pixels, "The image", (_jpeg, _png, in_python))


# --- Pillow --------------------------------------------------------------------------------------


@functools.cache
def _pillow_formats():
    PIL.Image.init()
    with contextlib.suppress(MissingPackageError), extra("heif"):
        import pillow_heif

        pillow_heif.register_heif_opener()
    return [name for name in _PIL_FORMATS if name in PIL.Image.OPEN]


def _opened(data, name):
    try:
        return PIL.Image.open(io.BytesIO(data), formats=_pillow_formats())
    except PIL.UnidentifiedImageError:
        hint = f" ({MORE_FORMATS})" if data[4:8] == b"ftyp" else ""
        raise ImageError(
            f"{name} cannot be decoded ({len(data)} bytes): expected {FORMATS}{hint}"
        ) from None
    except Exception as e:  # plugins raise whatever they do
        raise ImageError(f"{name} cannot be decoded ({len(data)} bytes): {e}") from None


def pil_pixels(image, name: str, max_pixels: int = MAX_PIXELS, *, exif: bool = True) -> np.ndarray:
    """Returns the pixels, uint8 (H, W, 3), of a PIL image; `exif` turns them upright."""
    _check_pixels(image.size, max_pixels, name)
    mode = image.mode
    # I and F are numbers whose range PIL does not know.
    if mode not in (*_PIL_MODES, "I", "F") and not mode.startswith("I;16"):
        raise ImageError(f"{name} is a PIL image of mode {mode}; convert it to RGB first.")
    try:
        image.load()  # a TIFF is turned upright by this, and loses its orientation
        pixels = np.asarray(image.convert("RGB") if mode in _PIL_MODES else image)
        turned = pil_orientation(image) if exif else 1
    except Exception as e:  # PIL reads files late, and its plugins raise whatever they do
        raise ImageError(f"{name} cannot be decoded: {e}") from None
    # Pillow before 11.3 calls 16-bit PNGs mode I. Their lower byte goes, as TensorFlow does it.
    if mode.startswith("I;16") or (mode == "I" and getattr(image, "format", None) == "PNG"):
        pixels = (pixels >> 8).astype(np.uint8)
    pixels = as_rgb(pixels, name)
    return pixels if turned == 1 else turn_upright(pixels, turned).numpy()


def _check_pixels(size, max_pixels, name):
    width, height = size
    if width * height > max_pixels:
        raise ImageError(
            f"{name} cannot be decoded: {width} x {height} pixels are more than the {max_pixels} "
            "allowed (max_pixels)"
        )


# --- TensorFlow ----------------------------------------------------------------------------------


def _decode_by_format(data, max_pixels, name, decoders):
    """Decodes by the first decoder whose magic the data has, else by the last."""
    header = tf.io.decode_raw(data, tf.uint8, fixed_length=_HEADER)
    magic = tf.constant(_MAGIC[: len(decoders) - 1], tf.uint8)  # (formats, 2, 12)
    known = tf.reduce_all((header[:12] & magic[:, 0]) == magic[:, 1], axis=1)
    kind = tf.argmax(tf.concat([known, [True]], 0), output_type=tf.int32)  # the first that is true

    def checked(height, width):
        """Returns `data`, to be decoded only if that many pixels are allowed."""
        # As floats: a product of two declared sizes may not fit an integer.
        pixels = tf.cast(width, tf.float64) * tf.cast(height, tf.float64)
        words = [name, "cannot be decoded:", width, "x", height, "pixels are more than the"]
        words += [max_pixels, "allowed (max_pixels)"]
        small = pixels <= tf.cast(max_pixels, tf.float64)
        with tf.control_dependencies([tf.debugging.Assert(small, words)]):
            return tf.identity(data)

    branches = [lambda decode=decode: decode(data, header, checked) for decode in decoders]
    return tf.ensure_shape(tf.switch_case(kind, branches), [None, None, 3])


def _decode(data, channels=3):
    image = tf.io.decode_image(data, channels=channels, expand_animations=False)
    return tf.ensure_shape(image, [None, None, channels or None])


def _number(header, start, size, big=False):
    """Returns the unsigned integer of `size` bytes at `start`, int64."""
    weights = [256**i for i in range(size)]
    weights = tf.constant(weights[::-1] if big else weights, tf.int64)
    return tf.reduce_sum(tf.cast(header[start : start + size], tf.int64) * weights)


def _jpeg_size(data):
    return tf.unstack(tf.io.extract_jpeg_shape(data))[:2]


def _with_adobe(data):
    """Returns a JPEG; one of four colours with Adobe's marker, which says how they are meant.

    Viewers treat all CMYK as inverted, as Adobe writes it. TensorFlow does so only after Adobe's
    marker, so one is inserted. If the file has its own, that one comes later and wins.
    """
    start, rest = tf.strings.substr(data, 0, 2), tf.strings.substr(data, 2, _REST)
    return tf.cond(
        tf.io.extract_jpeg_shape(data)[2] == 4,
        lambda: tf.strings.join([start, _ADOBE, rest]),
        lambda: tf.identity(data),
    )


def _jpeg(data, header, checked):
    return _decode(_with_adobe(checked(*_jpeg_size(data))))


def _upright_jpeg(data, header, checked):
    return turn_upright(_jpeg(data, header, checked), jpeg_orientation(data))


def _png_size(header):
    return _number(header, 20, 4, big=True), _number(header, 16, 4, big=True)


def _png(data, header, checked):
    return _decode(checked(*_png_size(header)))


def _webp(data, header, checked):
    lossy, lossless = _number(header, 26, 4), _number(header, 21, 4)
    sizes = {  # by the fourth letter of the first chunk's name: height and width
        " ": (lossy // 0x10000 & 0x3FFF, lossy & 0x3FFF),
        "L": ((lossless // 0x4000 & 0x3FFF) + 1, (lossless & 0x3FFF) + 1),
        "X": (_number(header, 27, 3) + 1, _number(header, 24, 3) + 1),
    }
    kinds = tf.constant([ord(letter) for letter in sizes], tf.uint8)
    height, width = tf.unstack(tf.gather(list(sizes.values()), tf.argmax(kinds == header[15])))
    data = checked(height, width)
    # TensorFlow decodes an animation to four channels. If the header does not declare alpha, it
    # writes them into the memory of three. So a bit of the extended header is set.
    animated = (header[15] == ord("X")) & (header[20] & 2 > 0)
    flags = tf.strings.substr(_EVERY_BYTE, tf.cast(header[20] | 16, tf.int32), 1)
    parts = (tf.strings.substr(data, 0, 20), flags, tf.strings.substr(data, 21, _REST))
    data = tf.cond(animated, lambda: tf.strings.join(parts), lambda: tf.identity(data))
    return _decode(data, channels=0)[..., :3]
