"""From an image file's bytes to its pixels: one graph, wherever it runs.

TensorFlow decodes. This module does what its decoders leave out: it reads the size off the header
and refuses large images before memory is allocated, applies a BMP's palette, the place of a GIF's
frame and WebP's alpha, and names formats that cannot be decoded. Everything is a TensorFlow
operation, so that a SavedModel has it too.

Formats: JPEG (ITU T.81), PNG (W3C), WebP (RFC 9649), GIF89a, BMP (Windows' BITMAPINFOHEADER and
its successors).
"""

import tensorflow as tf

from lit_tf.images.exif import orientation_in_graph, turn_upright
from lit_tf.images.formats import MAX_PIXELS

_HEADER = 66  # bytes; what is read of any format's header is within them
COMMON = (b"\xff\xd8", b"\x89PNG")  # how JPEGs and PNGs begin
# Which bits of the first four bytes tell a format, and what they are.
_MAGIC = [
    [[255 if i < len(magic) else 0 for i in range(4)], list(magic.ljust(4, b"\0"))]
    for magic in (*COMMON, b"RIFF", b"BM", b"GIF8")
]
# Adobe's marker of a JPEG, APP14, that asks for no conversion of colours.
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64" + bytes(5)
_EVERY_BYTE = bytes(range(256))
# The masks of a BMP's red, green and blue bytes as TensorFlow reads them, whatever the file says.
_BGRA_MASKS = (0xFF0000, 0xFF00, 0xFF)


def decode_image(data: tf.Tensor, max_pixels: int = MAX_PIXELS, name="The image") -> tf.Tensor:
    """Decodes a JPEG, PNG, WebP, BMP or GIF, without its alpha; of an animation the first frame.

    An EXIF orientation is not heeded here; see `lit_tf.images.exif`. Neither are colour profiles:
    pixels are taken for sRGB. 16-bit samples lose their lower byte.

    Args:
        data: scalar string tensor, the file's bytes.
        max_pixels: width times height beyond which an image is refused, before it is decoded.
        name: how errors call the image; a string or a scalar string tensor.

    Returns:
        uint8 (H, W, 3).

    Raises:
        tf.errors.InvalidArgumentError: the bytes are not an image, or one that is too large.
    """
    return _decode_by_format(data, max_pixels, name, (_jpeg, _png, _webp, _bmp, _gif, _unknown))


def decode_in_dataset(
    data: tf.Tensor, max_pixels: int = MAX_PIXELS, *, exif: bool = False
) -> tf.Tensor:
    """Returns what `decode_image` does, for the maps of `tf.data`.

    There, every operation costs time, also one in a branch that is not taken. So JPEGs, PNGs and
    plain lossy WebPs are decoded in the graph. The others are decoded in Python, about 20 to 40 ms
    of one core each.

    Args:
        data: see `decode_image`.
        max_pixels: see `decode_image`.
        exif: whether to turn the image as its EXIF orientation says. The published protocols
            of training and evaluation do not.

    Returns:
        uint8 (H, W, 3).

    Raises:
        tf.errors.OpError: as for `decode_image`.
    """

    def in_python(data, header, limit):
        # Eagerly: a tf.function would wait for threads that wait for it, where cores are few.
        return tf.py_function(decode_image, [data, limit.max_pixels], tf.uint8)

    def webp(data, header, limit):
        width, height = _lossy_webp_size(header)
        return tf.cond(
            _is_lossy_webp(header),
            lambda: _decode(limit.checked(data, width, height)),
            lambda: in_python(data, header, limit),
        )

    image = _decode_by_format(data, max_pixels, "The image", (_jpeg, _png, webp, in_python))
    if exif:
        image = turn_upright(image, orientation_in_graph(data))
    return image


def decode_common(data: tf.Tensor, max_pixels: int = MAX_PIXELS) -> tf.Tensor:
    """Returns what `decode_image` does of data that begins with one of `COMMON`; a small graph."""
    return _decode_by_format(data, max_pixels, "The image", (_jpeg, _png, _unknown))


def _decode_by_format(data, max_pixels, name, decoders):
    """Decodes by the first decoder whose magic the data has, else by the last."""
    data = tf.convert_to_tensor(data)
    header = tf.io.decode_raw(data, tf.uint8, fixed_length=_HEADER)
    limit = _Limit(tf.cast(max_pixels, tf.int64), tf.convert_to_tensor(name))
    magic = tf.constant(_MAGIC[: len(decoders) - 1], tf.uint8)  # (formats, 2, 4)
    known = tf.reduce_all((header[:4] & magic[:, 0]) == magic[:, 1], axis=1)
    kind = tf.argmax(tf.concat([known, [True]], 0), output_type=tf.int32)  # the first that is true
    branches = [
        lambda decode=decode: decode(data, tf.cast(header, tf.int64), limit) for decode in decoders
    ]
    return tf.ensure_shape(tf.switch_case(kind, branches), [None, None, 3])


class _Limit:
    """The largest image, and how errors call this one."""

    def __init__(self, max_pixels, name):
        self.max_pixels, self.name = max_pixels, name

    def refuse_unless(self, good, *words):
        """Returns an assertion that says this image's name before its words and numbers."""
        return tf.debugging.Assert(good, [self.name, *words], summarize=len(words) + 1)

    def checked(self, data, width, height):
        """Returns `data`, to be decoded only if that many pixels are allowed."""
        # As floats: a product of two declared sizes may not fit an integer.
        pixels = tf.cast(width, tf.float64) * tf.cast(height, tf.float64)
        small = pixels <= tf.cast(self.max_pixels, tf.float64)
        words = ("cannot be decoded:", width, "x", height, "pixels are more than the")
        check = self.refuse_unless(small, *words, self.max_pixels, "allowed (max_pixels)")
        with tf.control_dependencies([check]):
            return tf.identity(data)


def _decode(data, channels=3):
    image = tf.io.decode_image(data, channels=channels, expand_animations=False)
    image.set_shape([None, None, channels])
    return image[..., :3]


def _number(header, start, size, big=False):
    """Returns the unsigned integer of `size` bytes at `start`, int64."""
    weights = [256**i for i in range(size)]
    weights = tf.constant(weights[::-1] if big else weights, tf.int64)
    return tf.reduce_sum(header[start : start + size] * weights)


def _slice(data, start, stop):
    """Returns data[start:stop] of a string, as Python has it; not of negative places."""
    length = tf.cast(tf.strings.length(data), tf.int64)
    start, stop = (tf.minimum(tf.cast(place, tf.int64), length) for place in (start, stop))
    return tf.strings.substr(data, start, tf.maximum(stop - start, 0))


def _with_byte(data, place, value):
    """Returns `data` with another byte at `place`."""
    rest = _slice(data, place + 1, tf.int64.max)
    byte = _slice(_EVERY_BYTE, value, value + 1)
    return tf.strings.join([_slice(data, 0, place), byte, rest])


def _unknown(data, header, limit):
    return _decode(data)  # which says that it does not know the format


def _jpeg(data, header, limit):
    height, width, channels = tf.unstack(tf.io.extract_jpeg_shape(data))
    data = limit.checked(data, width, height)
    # Viewers treat all CMYK as inverted, as Adobe writes it. TensorFlow does so only after Adobe's
    # marker, so one is inserted. If the file has its own, that one comes later and wins.
    data = tf.cond(
        channels == 4,
        lambda: tf.strings.join([_slice(data, 0, 2), _ADOBE, _slice(data, 2, tf.int64.max)]),
        lambda: tf.identity(data),
    )
    return _decode(data)


def _png(data, header, limit):
    width, height = _number(header, 16, 4, big=True), _number(header, 20, 4, big=True)
    return _decode(limit.checked(data, width, height))


# --- WebP ----------------------------------------------------------------------------------------


def _is_lossy_webp(header):
    return tf.reduce_all(header[12:16] == tf.constant(list(b"VP8 "), tf.int64))


def _lossy_webp_size(header):
    return _number(header, 26, 2) & 0x3FFF, _number(header, 28, 2) & 0x3FFF


def _webp(data, header, limit):
    lossy = _is_lossy_webp(header)
    lossless, extended = (header[15] == ord(letter) for letter in "LX")
    packed = _number(header, 21, 4)  # of VP8L: 14 bits each of width - 1 and height - 1
    sizes = tf.stack(
        [
            _lossy_webp_size(header),
            [(packed & 0x3FFF) + 1, (packed // 0x4000 & 0x3FFF) + 1],
            [_number(header, 24, 3) + 1, _number(header, 27, 3) + 1],
        ]
    )
    width, height = tf.unstack(sizes[tf.argmax(tf.stack([lossy, lossless, extended]))])
    data = limit.checked(data, width, height)
    # TensorFlow's decoder returns as many channels as the file declares, no more and no less, and
    # of an animation only four. So alpha is declared where it can be, and dropped afterwards.
    return tf.cond(
        lossy, lambda: _decode(data), lambda: _decode(_with_alpha(data, header, extended), 4)
    )


def _with_alpha(data, header, extended):
    """Returns an extended or lossless WebP whose headers declare alpha."""
    flags = tf.where(extended, header[20] | 0x10, header[20])
    declared = _with_byte(data, 20, flags)
    body = tf.cast(tf.io.decode_raw(data, tf.uint8), tf.int64)
    place = tf.cond(extended, lambda: _webp_image_chunk(body), lambda: tf.constant(12, tf.int64))
    bits = place + 12  # the byte of a VP8L chunk that holds its flag
    here = (bits < tf.size(body, tf.int64)) & (_at(body, place + 3) == ord("L"))
    return tf.cond(
        here,
        lambda: _with_byte(declared, bits, _at(body, bits) | 0x10),
        lambda: tf.identity(declared),
    )


def _webp_image_chunk(body):
    """Returns where an extended WebP's first image begins: a chunk VP8, VP8L or ANMF."""

    def before(place):
        name = [_at(body, place + i) for i in range(4)]
        image = (name[0] == ord("V")) & (name[2] == ord("8")) & (name[3] != ord("X"))
        image |= (name[0] == ord("A")) & (name[2] == ord("M"))  # ANMF, not ANIM
        return (place + 8 < tf.size(body, tf.int64)) & ~image

    def following(place):
        size = sum(_at(body, place + 4 + i) * 256**i for i in range(4))
        return (place + 8 + size + size % 2,)

    return tf.while_loop(before, following, (tf.constant(12, tf.int64),))[0]


def _at(body, place):
    """Returns one byte, int64; of a place behind the end the last one."""
    return body[tf.minimum(place, tf.size(body, tf.int64) - 1)]


# --- BMP -----------------------------------------------------------------------------------------


def _bmp(data, header, limit):
    start, size, bits = _number(header, 10, 4), _number(header, 14, 4), _number(header, 28, 2)
    width, height, packing = (_number(header, place, 4) for place in (18, 22, 30))
    bottom_up = height < 1 << 31
    height = tf.where(bottom_up, height, (1 << 32) - height)
    masks = tf.stack([_number(header, place, 4) for place in (54, 58, 62)])
    usual = tf.reduce_all(masks == tf.constant(_BGRA_MASKS, tf.int64))
    plain = (packing == 0) | ((bits == 32) & ((packing == 3) | (packing == 6)) & usual)
    read = tf.reduce_any(bits == tf.constant([1, 4, 8, 24, 32], tf.int64))
    row = (width * bits + 31) // 32 * 4
    whole = start + row * height
    length = tf.cast(tf.strings.length(data), tf.int64)
    checks = [
        limit.refuse_unless(
            size >= 40, "is a BMP whose header has", size, "bytes; expected at least 40"
        ),
        limit.refuse_unless(
            (size < 40) | (plain & read),
            "is a BMP of",
            bits,
            "bits a pixel and compression",
            packing,
            "; expected 1, 4, 8, 24 or 32 bits, uncompressed (neither run-length encoded nor with "
            "bit masks of its own)",
        ),
    ]
    with tf.control_dependencies(checks):
        data, bits = limit.checked(data, width, height), tf.identity(bits)
    complete = limit.refuse_unless(
        (width > 0) & (height > 0) & (whole <= length) & (start >= 54),
        "cannot be decoded: a BMP of",
        length,
        "bytes that should have",
        whole,
    )
    with tf.control_dependencies([complete]):
        data = _slice(data, 0, whole)  # what stands behind the pixels is left out
    return tf.cond(
        bits <= 8,
        lambda: _bmp_of_palette(data, start, size, width, height, bits, bottom_up),
        lambda: _decode(data),
    )


def _bmp_of_palette(data, start, size, width, height, bits, bottom_up):
    body = tf.io.decode_raw(data, tf.uint8)
    palette = body[14 + size : start]
    palette = palette[: tf.size(palette) // 4 * 4][:1024]
    palette = tf.reshape(palette, [-1, 4])[:, 2::-1]  # blue, green, red, unused
    palette = tf.pad(palette, [[0, 256 - tf.shape(palette)[0]], [0, 0]])
    rows = tf.reshape(body[start:], [height, -1, 1])
    # The first pixel is in the highest bits of its byte.
    shifts = tf.cast(tf.range(8 - bits, -1, -bits), tf.uint8)
    mask = tf.cast(2**bits - 1, tf.uint8)
    index = tf.bitwise.bitwise_and(tf.bitwise.right_shift(rows, shifts), mask)
    index = tf.reshape(index, [height, -1])[:, :width]
    index = tf.cond(bottom_up, lambda: index[::-1], lambda: tf.identity(index))
    return tf.gather(palette, tf.cast(index, tf.int32))


# --- GIF -----------------------------------------------------------------------------------------


def _gif(data, header, limit):
    """Decodes the first frame, put in its place on the screen as viewers do.

    The file is cut behind that frame, so that an animation costs what its first frame does.
    """
    body = tf.cast(tf.io.decode_raw(data, tf.uint8), tf.int64)
    count = tf.size(body, tf.int64)
    control, frame = _gif_find_frame(body)
    found = limit.refuse_unless(
        (frame + 10 < count) & (_at(body, frame) == 0x2C),
        "cannot be decoded: a GIF of",
        count,
        "bytes without a frame",
    )
    with tf.control_dependencies([found]):
        left, top, width, height = (
            _at(body, frame + place) + 256 * _at(body, frame + place + 1) for place in (1, 3, 5, 7)
        )
    own = _gif_table(_at(body, frame + 9))
    stop = _gif_after_blocks(body, frame + 11 + own)
    screen = _number(header, 6, 2), _number(header, 8, 2)
    screen = tf.maximum(screen[0], left + width), tf.maximum(screen[1], top + height)
    data = limit.checked(data, *screen)
    # TensorFlow paints transparent pixels black and cuts off a frame that is not at the corner.
    flags = _at(body, control + 3)
    opaque = tf.cond(
        control > 0, lambda: _with_byte(data, control + 3, flags & 0xFE), lambda: tf.identity(data)
    )
    parts = [_slice(opaque, 0, frame + 1), b"\0\0\0\0"]
    parts += [_slice(opaque, frame + 5, stop), b";"]
    image = _decode(tf.strings.join(parts))
    # What the frame leaves free has the transparent colour, or the first one (as Pillow has it).
    transparent = tf.where((control > 0) & (flags & 1 > 0), _at(body, control + 6), 0)
    table = tf.where(own > 0, frame + 10, 13)
    entries = tf.where(own > 0, own, _gif_table(header[10])) // 3
    colour = tf.stack([_at(body, table + 3 * transparent + i) for i in range(3)])
    colour = tf.cast(tf.where(transparent < entries, colour, 0), tf.uint8)
    paddings = [[top, screen[1] - top - height], [left, screen[0] - left - width], [0, 0]]
    inside = tf.pad(tf.ones_like(image[..., :1], tf.bool), paddings)
    return tf.where(inside, tf.pad(image, paddings), colour)


def _gif_table(flags):
    """Returns the bytes of the colour table that a header's or a frame's flags declare."""
    return tf.where(flags & 0x80 > 0, 6 * 2 ** (flags & 7), 0)


def _gif_find_frame(body):
    """Returns where the first frame's graphic control (0: it has none) and the frame stand."""

    def before(control, place):
        return (place + 1 < tf.size(body, tf.int64)) & (_at(body, place) == 0x21)

    def following(control, place):
        control = tf.where(_at(body, place + 1) == 0xF9, place, control)
        return control, _gif_after_blocks(body, place + 2)

    start = 13 + _gif_table(_at(body, tf.constant(10, tf.int64)))
    return tf.while_loop(before, following, (tf.zeros([], tf.int64), start))


def _gif_after_blocks(body, place):
    """Returns the place behind a sequence of data blocks, which a block of no bytes ends."""

    def more(place):
        return (place < tf.size(body, tf.int64)) & (_at(body, place) > 0)

    return tf.while_loop(more, lambda place: (place + 1 + _at(body, place),), (place,))[0] + 1
