"""How a camera was held: the EXIF orientation of a JPEG, PNG or WebP, read without decoding it.

Values and what they mean are those of the EXIF standard (CIPA DC-008, tag 0x0112): 1 is upright;
2, 3 and 4 are mirrored, turned by 180 degrees and flipped; 5 to 8 have rows and columns exchanged.
"""

import tensorflow as tf

UPRIGHT = 1
TAG = 0x0112
_SIZES = {1: 1, 3: 2, 4: 4}  # bytes of a TIFF value: BYTE, SHORT, LONG
_MARK = b"Exif\0\0"


def orientation(data: bytes) -> int:
    """Returns the orientation that an encoded image declares, in 1..8.

    Args:
        data: a file's bytes. Anything that declares no valid orientation is upright: 1.
    """
    if data.startswith(b"\xff\xd8"):
        return tiff_orientation(_jpeg_exif(data))
    if data.startswith(b"\x89PNG"):
        return tiff_orientation(_png_exif(data))
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return tiff_orientation(_webp_exif(data))
    return UPRIGHT


def tiff_orientation(exif: bytes) -> int:
    """Returns the orientation in EXIF data, with or without the mark `Exif` before it; else 1."""
    exif = exif.removeprefix(_MARK)
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(exif[:4])
    if order is None:
        return UPRIGHT

    def number(start, size):
        return int.from_bytes(exif[start : start + size], order)

    table = number(4, 4)
    # A table's entry has 12 bytes: tag, type, count, value.
    for start in range(table + 2, min(table + 2 + 12 * number(table, 2), len(exif) - 11), 12):
        if number(start, 2) == TAG:
            value = number(start + 8, _SIZES.get(number(start + 2, 2), 0))
            return value if 1 <= value <= 8 else UPRIGHT
    return UPRIGHT


def _jpeg_exif(data):
    """Returns the first EXIF segment before the pixels, or nothing."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in (0xD9, 0xDA):  # the end, or the pixels
            break
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # markers without a segment
            place += 2
            continue
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == 0xE1 and data[place + 4 : place + 10] == _MARK:
            return data[place + 4 : place + 2 + length]
        place += 2 + max(length, 2)
    return b""


def _png_exif(data):
    """Returns the eXIf chunk, which may stand before or after the pixels, or nothing."""
    place = 8
    while place + 8 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        if data[place + 4 : place + 8] == b"eXIf":
            return data[place + 8 : place + 8 + length]
        place += 12 + length
    return b""


def _webp_exif(data):
    """Returns the EXIF chunk, or nothing."""
    place = 12
    while place + 8 <= len(data):
        length = int.from_bytes(data[place + 4 : place + 8], "little")
        if data[place : place + 4] == b"EXIF":
            return data[place + 8 : place + 8 + length]
        place += 8 + length + length % 2
    return b""


def turn_upright(image: tf.Tensor, orientation: tf.Tensor | int) -> tf.Tensor:
    """Returns an image as a viewer shows it.

    Args:
        image: (H, W, C).
        orientation: integer scalar in 1..8.

    Returns:
        (H, W, C), or (W, H, C) for the orientations 5 to 8.
    """
    orientation = tf.cast(orientation, tf.int32)

    def turned():
        upright = tf.cond(
            orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: tf.identity(image)
        )
        for axis, values in ((0, (3, 4, 7, 8)), (1, (2, 3, 6, 7))):
            mirrored = tf.reduce_any(orientation == tf.constant(values))
            upright = tf.cond(
                mirrored,
                lambda upright=upright, axis=axis: tf.reverse(upright, [axis]),
                lambda upright=upright: tf.identity(upright),
            )
        return upright

    upright = tf.cond(orientation == UPRIGHT, lambda: tf.identity(image), turned)
    return tf.ensure_shape(upright, [None, None, image.shape[-1]])


def orientation_in_graph(data: tf.Tensor) -> tf.Tensor:
    """Returns `orientation` of a scalar string tensor, for `tf.data`; it runs in Python.

    Returns:
        int64 scalar.
    """
    # Not numpy_function: when eager, it cuts zeros off the end of a string.
    value = tf.py_function(lambda data: orientation(data.numpy()), [data], tf.int64)
    return tf.ensure_shape(value, [])
