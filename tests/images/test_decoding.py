"""What stands before TensorFlow's decoders: size limits, palettes, places of frames, EXIF."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import PIL.ImageCms
import PIL.ImageOps
import pytest
import tensorflow as tf

from lit_tf.errors import ImageError
from lit_tf.images import decoding, exif
from lit_tf.images import preprocessing as lib


@pytest.fixture(scope="module")
def rgb():
    return np.random.default_rng(3).integers(0, 256, (12, 17, 3), dtype=np.uint8)


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image = image if isinstance(image, PIL.Image.Image) else PIL.Image.fromarray(image)
    image.save(buffer, form, **options)
    return buffer.getvalue()


def pil(data):
    return PIL.Image.open(io.BytesIO(data))


@pytest.fixture(scope="module")
def served():
    """`decode_image` as a served graph has it: nothing but operations of TensorFlow."""
    spec = [tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64)]
    function = tf.function(decoding.decode_image, input_signature=spec, autograph=False)
    return lambda data, limit=decoding.MAX_PIXELS: function(data, limit).numpy()


def bmp(width, height, bits, pixels, *, packing=0, palette=b"", masks=b"", header=40):
    start = 14 + header + len(masks) + len(palette)
    fields = (header, width, height, 1, bits, packing, 0, 0, 0, len(palette) // 4, 0)
    info = struct.pack("<IiiHHIIiiII", *fields).ljust(header, b"\0")[:header]
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, start) + info + masks + palette + pixels


def gif(screen, place, size, *, transparent=None):
    """A GIF whose only frame of one colour (index 1) lies somewhere on its screen."""
    frame = pil(encoded(PIL.Image.new("P", size, 1), "GIF"))
    data = encoded(frame, "GIF")
    body = data[data.index(b"\x2c", 13) + 10 :]
    table = bytes([9, 8, 7, 200, 100, 50, 1, 2, 3, 4, 5, 6])
    control = b""
    if transparent is not None:
        control = b"\x21\xf9\x04\x01\0\0" + bytes([transparent]) + b"\0"
    head = b"GIF89a" + struct.pack("<HH", *screen) + b"\x81\0\0" + table + control
    return head + b"\x2c" + struct.pack("<HHHHB", *place, *size, 0) + body


def adam7(pixels, colour, chunks=b""):
    """An interlaced PNG of 8 or 16 bits, as Pillow does not write them."""
    rows = b""
    for x, y, right, down in (
        *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
        *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
    ):
        part = pixels[y::down, x::right]
        rows += b"".join(b"\0" + row.tobytes() for row in part if row.size)
    height, width, depth = *pixels.shape[:2], 8 * pixels.itemsize
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 1))
    data = _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + chunks + data


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _profile():
    return PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()


ALIKE = {
    "BMP of 8 bits with a palette": lambda i: encoded(i.quantize(16), "BMP"),
    "BMP of 8 bits, grey": lambda i: encoded(i.convert("L"), "BMP"),
    "BMP of 1 bit": lambda i: encoded(i.convert("1"), "BMP"),
    "BMP of 4 bits": lambda i: bmp(
        3, 2, 4, bytes([0x12, 0x30, 0, 0, 0x21, 0x00, 0, 0]), palette=bytes(range(64))
    ),
    "BMP from top to bottom": lambda i: bmp(
        2, -2, 8, bytes([0, 1, 0, 0, 2, 3, 0, 0]), palette=bytes(range(64))
    ),
    "BMP of 24 bits and more behind it": lambda i: encoded(i, "BMP") + b"junk",
    "BMP of 32 bits": lambda i: encoded(i.convert("RGBA"), "BMP"),
    "WebP": lambda i: encoded(i, "WEBP"),
    "WebP with alpha": lambda i: encoded(_half_transparent(i), "WEBP"),
    "WebP without loss": lambda i: encoded(i, "WEBP", lossless=True),
    "WebP without loss with alpha": lambda i: encoded(_half_transparent(i), "WEBP", lossless=True),
    "WebP without loss with EXIF": lambda i: encoded(i, "WEBP", lossless=True, exif=b"Exif\0\0II"),
    "animated WebP": lambda i: encoded(i, "WEBP", save_all=True, append_images=[i.rotate(90)]),
    "animated PNG": lambda i: encoded(i, "PNG", save_all=True, append_images=[i.rotate(90)]),
    "PNG of grey and alpha": lambda i: encoded(i.convert("LA"), "PNG"),
    "PNG of a palette with transparency": lambda i: encoded(i.quantize(8), "PNG", transparency=3),
    "PNG of 1 bit": lambda i: encoded(i.convert("1"), "PNG"),
    "interlaced PNG": lambda i: adam7(np.asarray(i), 2),
    "interlaced PNG of grey and alpha": lambda i: adam7(np.asarray(i)[..., :2].copy(), 4),
    "interlaced PNG of a palette with transparency": lambda i: adam7(
        np.asarray(i)[..., 0] % 16,
        3,
        _chunk(b"PLTE", bytes(range(48))) + _chunk(b"tRNS", bytes([0, 128])),
    ),
    "interlaced PNG of 16 bits": lambda i: adam7(np.asarray(i).astype(">u2") * 257, 2),
    "PNG with a colour profile": lambda i: encoded(i, "PNG", icc_profile=_profile()),
    "PNG with a damaged colour profile": lambda i: encoded(i, "PNG", icc_profile=b"junk" * 50),
    "WebP with a colour profile": lambda i: encoded(
        i, "WEBP", lossless=True, icc_profile=_profile()
    ),
    "PNG with a transparent colour": lambda i: encoded(i, "PNG", transparency=(1, 2, 3)),
    "PNG with more behind it": lambda i: encoded(i, "PNG") + b"junk",
    "GIF": lambda i: encoded(i.quantize(16), "GIF"),
    "GIF with a transparent colour": lambda i: encoded(i.quantize(16), "GIF", transparency=2),
    "animated GIF": lambda i: encoded(
        i.quantize(16), "GIF", save_all=True, append_images=[i.rotate(90).quantize(16)]
    ),
    "GIF with a frame on a larger screen": lambda i: gif((20, 15), (4, 5), (6, 7)),
    "GIF on a transparent screen": lambda i: gif((9, 9), (1, 2), (3, 4), transparent=2),
    "PNG of one pixel": lambda i: encoded(i.resize((1, 1)), "PNG"),
    "GIF of one pixel": lambda i: encoded(i.resize((1, 1)).quantize(2), "GIF"),
    "WebP of one pixel": lambda i: encoded(i.resize((1, 1)), "WEBP"),
}


def _half_transparent(image):
    image = image.convert("RGBA")
    image.putalpha(PIL.Image.linear_gradient("L").resize(image.size))
    return image


@pytest.mark.parametrize("name", ALIKE)
def test_bytes_a_pil_image_and_a_served_graph_give_the_same_pixels(rgb, served, name):
    data = ALIKE[name](PIL.Image.fromarray(rgb))
    expected = np.asarray(pil(data).convert("RGB"))
    for form in (data, pil(data)):
        np.testing.assert_array_equal(lib.to_uint8(form), expected)
    np.testing.assert_array_equal(served(data), expected)


def test_datasets_turn_images_only_when_they_are_asked_to(rgb):
    jpeg, webp = (_with_orientation(rgb, form, 6) for form in ("JPEG", "WEBP"))
    dataset = tf.data.Dataset.from_tensor_slices([jpeg, webp])
    for data, image in zip((jpeg, webp), dataset.map(decoding.decode_in_dataset), strict=True):
        np.testing.assert_array_equal(image, lib.decode_image(data))
    turned = dataset.map(lambda data: decoding.decode_in_dataset(data, exif=True))
    for data, image in zip((jpeg, webp), turned, strict=True):
        np.testing.assert_array_equal(image, lib.to_uint8(data))


def _cmyk(image):
    return encoded(image.convert("CMYK"), "JPEG", quality=95)


def _ycck(image):
    data = _cmyk(image)
    return _patched(data, data.index(b"Adobe") + 11, b"\2")  # the colours become others


def _without_adobe(image):
    data = _cmyk(image)
    start = data.index(b"Adobe") - 4
    return data[:start] + data[start + 16 :]


JPEGS = {
    "CMYK": _cmyk,
    "YCCK": _ycck,
    "CMYK without Adobe's marker": _without_adobe,
    "grey": lambda i: encoded(i.convert("L"), "JPEG", quality=95),
    "RGB": lambda i: encoded(i, "JPEG", quality=95, keep_rgb=True),
    "with a colour profile": lambda i: encoded(i, "JPEG", quality=95, icc_profile=_profile()),
    "progressive": lambda i: encoded(i, "JPEG", quality=95, progressive=True),
}


@pytest.mark.parametrize("name", JPEGS)
def test_jpegs_of_every_kind_have_the_colours_that_pil_gives_them(rgb, served, name):
    data = JPEGS[name](PIL.Image.fromarray(rgb[:3, :3]).resize((64, 64)))
    expected = np.asarray(pil(data).convert("RGB"), int)
    for found in (lib.to_uint8(data), lib.to_uint8(pil(data)), served(data)):
        assert np.abs(found - expected).mean() < 2


def test_16_bit_pngs_are_read_by_their_depth_whatever_their_values(tmp_path):
    for top in (200, 65535):
        grey = np.linspace(0, top, 120).astype(np.uint16).reshape(10, 12)
        data = encoded(grey, "PNG")
        (tmp_path / "x.png").write_bytes(data)
        expected = np.dstack([grey >> 8] * 3).astype(np.uint8)
        for form in (data, tmp_path / "x.png", pil(data)):
            np.testing.assert_array_equal(lib.to_uint8(form), expected)


REFUSED = {
    "BMP of 16 bits": (bmp(4, 2, 16, bytes(16)), "is a BMP of 16 bits a pixel"),
    "run-length encoded BMP": (
        bmp(4, 2, 8, b"\4\1\0\0\4\2\0\1", packing=1, palette=bytes(64)),
        "is a BMP of 8 bits a pixel and compression 1; expected 1, 4, 8, 24 or 32 bits",
    ),
    "BMP with masks of its own": (
        bmp(2, 2, 32, bytes(16), packing=3, masks=struct.pack("<III", 255, 0xFF00, 0xFF0000)),
        "is a BMP of 32 bits a pixel and compression 3",
    ),
    "OS/2's BMP": (bmp(2, 2, 24, bytes(16), header=12), "is a BMP whose header has 12 bytes"),
    "cut off BMP": (bmp(9, 9, 24, bytes(40)), "a BMP of 94 bytes that should have 306"),
    "GIF without a frame": (b"GIF89a\2\0\2\0\0\0\0;", "a GIF of 14 bytes without a frame"),
    "GIF that ends in its header": (b"GIF89a", "cannot be decoded"),
    "WebP that ends in its header": (b"RIFF\0\0\0\0WEBPVP8X", "cannot be decoded"),
    "web page": (b"<!DOCTYPE html>", "Unknown image file format"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_decoded_is_refused_by_name(served, name):
    data, message = REFUSED[name]
    with pytest.raises(ImageError, match=f"^Photo .*{message}"):
        lib.to_uint8(data, "Photo")
    with pytest.raises(tf.errors.InvalidArgumentError):
        served(data)


def test_pil_modes_that_do_not_convert_to_rgb_are_refused_by_name():
    with pytest.raises(ImageError, match="^Photo is a PIL image of mode LAB; convert it to RGB"):
        lib.to_uint8(PIL.Image.new("LAB", (4, 4)), "Photo")


# --- Sizes ----------------------------------------------------------------------------------------


def _png(width, height):
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    rows = zlib.compress(bytes(100))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _patched(data, place, value):
    return data[:place] + value + data[place + len(value) :]


def _bombs():
    """Small files of every format that declare 16,000 x 16,000 pixels."""
    tiny = PIL.Image.new("RGB", (8, 8))
    jpeg = encoded(tiny, "JPEG")
    yield "JPEG", _patched(jpeg, jpeg.index(b"\xff\xc0") + 5, struct.pack(">HH", 16000, 16000))
    yield "PNG", _png(16000, 16000)
    yield "PNG of 10^18", _png(10**9, 10**9)
    size = struct.pack("<HH", 16000, 16000)
    yield "WebP", _patched(encoded(tiny, "WEBP"), 26, size)
    lossless = encoded(tiny, "WEBP", lossless=True)
    yield "WebP without loss", _patched(lossless, 21, struct.pack("<I", 15999 | 15999 << 14))
    extended = encoded(tiny, "WEBP", exif=b"Exif\0\0II")
    yield "extended WebP", _patched(extended, 24, (15999).to_bytes(3, "little") * 2)
    yield "BMP", bmp(16000, 16000, 24, b"")
    yield "BMP with a palette", bmp(16000, -16000, 8, b"", palette=bytes(1024))
    yield "GIF", _patched(encoded(tiny.quantize(2), "GIF"), 6, size)
    yield "frame of a GIF", gif((4, 4), (60000, 60000), (4, 4))


BOMBS = dict(_bombs())


@pytest.mark.parametrize("name", BOMBS)
def test_images_beyond_the_limit_are_refused_before_they_are_decoded(served, name):
    with pytest.raises(ImageError, match=r"^Photo cannot be decoded: \d+ x \d+ pixels are more"):
        lib.to_uint8(BOMBS[name], "Photo")
    with pytest.raises(tf.errors.InvalidArgumentError, match="pixels are more than the"):
        served(BOMBS[name])


def test_the_limit_can_be_set_and_counts_pixels(rgb, served):
    data, pixels = encoded(rgb, "PNG"), 12 * 17
    for form in (data, pil(data)):
        np.testing.assert_array_equal(lib.to_uint8(form, max_pixels=pixels), rgb)
        with pytest.raises(ImageError, match="17 x 12 pixels are more than the 203 allowed"):
            lib.to_uint8(form, max_pixels=pixels - 1)
    np.testing.assert_array_equal(served(data, pixels), rgb)
    with pytest.raises(tf.errors.InvalidArgumentError):
        served(data, pixels - 1)
    np.testing.assert_array_equal(lib.to_uint8(rgb, max_pixels=1), rgb)  # an array is there already


# --- EXIF -----------------------------------------------------------------------------------------


def _with_orientation(image, form, value, **options):
    tags = PIL.Image.Exif()
    tags[exif.TAG] = value
    return encoded(image, form, exif=tags, **options)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_photos_are_turned_as_viewers_turn_them(rgb, tmp_path, form):
    for value in range(1, 9):
        data = _with_orientation(rgb, form, value, **({"lossless": True} if form == "WEBP" else {}))
        plain = lib.decode_image(data).numpy()
        # Pillow's own turning, of TensorFlow's pixels.
        shown = PIL.Image.fromarray(plain)
        shown.getexif()[exif.TAG] = value
        shown = np.asarray(PIL.ImageOps.exif_transpose(shown))
        (tmp_path / "x").write_bytes(data)
        assert exif.orientation(data) == value
        for image in (data, tmp_path / "x", tf.constant(data)):
            np.testing.assert_array_equal(lib.to_uint8(image), shown)
        found = lib.to_uint8(pil(data)).astype(int)
        assert found.shape == shown.shape and np.abs(found - shown).max() <= (form == "JPEG") * 4
        np.testing.assert_array_equal(decoding.decode_in_dataset(data, exif=True), shown)


def test_an_orientation_is_found_in_either_byte_order_and_wherever_it_stands():
    little = b"II*\0\x08\0\0\0\x02\0" + struct.pack("<HHII", 0x100, 4, 1, 9)
    little += struct.pack("<HHIHH", exif.TAG, 3, 1, 6, 0)
    big = b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", exif.TAG, 3, 1, 8, 0)
    assert exif.tiff_orientation(little) == exif.tiff_orientation(b"Exif\0\0" + little) == 6
    assert exif.tiff_orientation(big) == 8
    tiny = PIL.Image.new("RGB", (2, 2))
    png = encoded(tiny, "PNG")
    chunk = struct.pack(">I", len(big)) + b"eXIf" + big + bytes(4)
    assert exif.orientation(png[:-12] + chunk + png[-12:]) == 8  # behind the pixels
    jpeg = encoded(tiny, "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(little) + 8) + b"Exif\0\0" + little
    assert exif.orientation(jpeg[:20] + b"\xff" + segment + jpeg[20:]) == 6  # after a fill byte


def test_what_declares_no_valid_orientation_is_upright():
    entry = struct.pack("<HHI", exif.TAG, 3, 1)
    for damaged in (
        b"",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        b"II*\0\x08\0\0\0\x01\0" + entry + struct.pack("<I", 9),
        b"II*\0\x08\0\0\0\x01\0" + entry[:-2],
        b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", exif.TAG, 12, 1, 6),
    ):
        assert exif.tiff_orientation(damaged) == 1
        for data in (b"\xff\xd8\xff\xe1\xff\xffExif\0\0", b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffeXIf"):
            assert exif.orientation(data + damaged) == 1
    assert exif.orientation(b"RIFF\0\0\0\0WEBPEXIF\xff\xff\xff\xff") == 1
