"""How a camera was held: the EXIF orientation, and turning an image upright.

Values and what they mean are those of the EXIF standard (CIPA DC-008, tag 0x0112): 1 is upright;
2, 3 and 4 are mirrored, turned by 180 degrees and flipped; 5 to 8 have rows and columns exchanged.
"""

import io
import warnings
from typing import Any

import numpy as np
import PIL.Image
import tensorflow as tf

UPRIGHT = 1
TAG = 0x0112
_IN_GRAPH = 1 << 16  # bytes of a JPEG in which its EXIF data begins: what one segment can hold
_SHORT, _LONG = 3, 4  # types of TIFF
# Many cameras write EXIF data that Pillow warns of, without a file's name; nobody can act on that.
warnings.filterwarnings("ignore", module="PIL.TiffImagePlugin")


def pil_orientation(image: Any) -> int:
    """Returns the orientation, in 1..8, of a PIL image; 1 where it declares none that is valid."""
    try:
        value = image.getexif().get(TAG, UPRIGHT)
    except Exception:  # damaged EXIF data, of which PIL raises whatever it does
        return UPRIGHT
    return value if value in range(1, 9) else UPRIGHT


def orientation(data: bytes) -> int:
    """Returns the orientation, in 1..8, of a JPEG or PNG; 1 where it declares none."""
    if b"Exif\0\0" not in data and b"eXIf" not in data:  # else Pillow decodes a whole PNG for it
        return UPRIGHT
    try:
        with PIL.Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            return pil_orientation(image)
    except Exception:  # see above
        return UPRIGHT


def jpeg_orientation(data: tf.Tensor) -> tf.Tensor:
    """Returns a JPEG's orientation, int64 in 1..8, with operations of TensorFlow alone.

    It reads the first table of the first EXIF segment, if both lie in the file's first 64 KB.
    """
    head = tf.io.decode_raw(data, tf.uint8, fixed_length=_IN_GRAPH)
    mark = b"\xff\xe1..Exif\0\0"  # the two dots are the segment's length
    places = [i for i, byte in enumerate(mark) if byte != ord(".")]
    stop = _IN_GRAPH - 64  # so that the slices below are never too short
    found = tf.reduce_all([head[i : stop + i] == mark[i] for i in places], axis=0)
    start = tf.argmax(tf.cast(found, tf.uint8))
    tiff = tf.cast(head[start + len(mark) :], tf.int64)
    length = tf.reduce_sum(tf.cast(head[start + 2 : start + 4], tf.int64) * [256, 1]) - 8
    tiff = tf.where(tf.range(tf.size(tiff, tf.int64)) < length, tiff, 0)
    orders = tf.constant([list(b"II*\0"), list(b"MM\0*")], tf.int64)
    valid = tf.reduce_any(found) & tf.reduce_any(tf.reduce_all(tiff[:4] == orders, axis=1))
    digits = tf.constant([1, 1 << 8, 1 << 16, 1 << 24], tf.int64)
    digits = tf.where(tiff[0] == ord("I"), digits, digits[::-1])
    last = tf.size(tiff, tf.int64) - 14  # where the last table with an entry could stand
    table = tiff[tf.clip_by_value(tf.reduce_sum(tiff[4:8] * digits), 8, last) :]
    two = tf.where(tiff[0] == ord("I"), digits[:2], digits[2:])
    entries = tf.reshape(table[2 : 2 + (tf.size(table) - 2) // 12 * 12], [-1, 12])
    entries = entries[: tf.reduce_sum(table[:2] * two)]
    # An entry is a tag, a type, a count and a value: 2, 2, 4 and 4 bytes.
    tag, kind = (tf.reduce_sum(entries[:, i : i + 2] * two, axis=1) for i in (0, 2))
    short = tf.reduce_sum(entries[:, 8:10] * two, axis=1)
    count, long = (tf.reduce_sum(entries[:, i : i + 4] * digits, axis=1) for i in (4, 8))
    value = tf.where(kind == _SHORT, short, tf.where(kind == _LONG, long, 0))
    good = valid & (tag == TAG) & (count == 1) & (value <= 8)
    return tf.maximum(tf.reduce_max(tf.where(good, value, 0)), UPRIGHT)


def turn_upright(image: tf.Tensor | np.ndarray, orientation: tf.Tensor | int) -> tf.Tensor:
    """Returns an image (H, W, C) as a viewer shows it; (W, H, C) for the orientations 5 to 8."""
    orientation = tf.cast(orientation, tf.int32)

    def turned():
        upright = tf.cond(
            orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: tf.identity(image)
        )
        mirrored = [tf.reduce_any(orientation == rows) for rows in ((3, 4, 7, 8), (2, 3, 6, 7))]
        return tf.reverse(upright, tf.boolean_mask([0, 1], mirrored))

    upright = tf.cond(orientation == UPRIGHT, lambda: tf.identity(image), turned)
    return tf.ensure_shape(upright, [None, None, image.shape[-1]])
