"""Every format from bytes to pixels, here and in a served graph: size limits, animations, EXIF."""

import contextlib
import io
import struct
import sys
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
from lit_tf.images.formats import IMAGE_SUFFIXES


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


def bmp(width, height, bits, pixels, *, packing=0, palette=b"", masks=b""):
    start = 54 + len(masks) + len(palette)
    fields = (40, width, height, 1, bits, packing, 0, 0, 0, len(palette) // 4, 0)
    info = struct.pack("<IiiHHIIiiII", *fields)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, start) + info + masks + palette + pixels


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
    "BMP of 4 bits": lambda i: bmp(
        3, 2, 4, bytes([0x12, 0x30, 0, 0, 0x21, 0x00, 0, 0]), palette=bytes(range(64))
    ),
    "BMP from top to bottom": lambda i: bmp(
        2, -2, 8, bytes([0, 1, 0, 0, 2, 3, 0, 0]), palette=bytes(range(64))
    ),
    "BMP of 16 bits": lambda i: bmp(4, 2, 16, bytes(range(16))),
    "run-length encoded BMP": lambda i: bmp(
        4, 2, 8, b"\4\1\0\0\4\2\0\1", packing=1, palette=bytes(64)
    ),
    "BMP of 32 bits": lambda i: encoded(i.convert("RGBA"), "BMP"),
    "TIFF": lambda i: encoded(i, "TIFF"),
    "TIFF of several pages": lambda i: encoded(
        i, "TIFF", save_all=True, append_images=[i.rotate(90)], compression="tiff_lzw"
    ),
    "TIFF of CMYK": lambda i: encoded(i.convert("CMYK"), "TIFF"),
    "AVIF": lambda i: encoded(i, "AVIF"),
    "HEIC": lambda i: encoded(i, "HEIF"),
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
    "PNG of one pixel": lambda i: encoded(i.resize((1, 1)), "PNG"),
    "GIF of one pixel": lambda i: encoded(i.resize((1, 1)).quantize(2), "GIF"),
    "WebP of one pixel": lambda i: encoded(i.resize((1, 1)), "WEBP"),
}


def _half_transparent(image):
    image = image.convert("RGBA")
    image.putalpha(PIL.Image.linear_gradient("L").resize(image.size))
    return image


@pytest.mark.parametrize("name", ALIKE)
def test_bytes_a_pil_image_a_dataset_and_a_served_graph_give_the_same_pixels(rgb, served, name):
    data = ALIKE[name](PIL.Image.fromarray(rgb))
    expected = np.asarray(pil(data).convert("RGB"))
    dataset = tf.data.Dataset.from_tensors(data).map(decoding.decode_in_dataset)
    for found in (lib.to_uint8(data), lib.to_uint8(pil(data)), lib.decode_image(data), *dataset):
        np.testing.assert_array_equal(found, expected)
    if data.startswith((b"\x89PNG", b"RIFF")):
        np.testing.assert_array_equal(served(data), expected)
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match="expected JPEG, PNG or WebP"):
            served(data)


def test_datasets_turn_images_only_when_they_are_asked_to(rgb):
    jpeg, webp = (_with_orientation(rgb, form, 6) for form in ("JPEG", "WEBP"))
    dataset = tf.data.Dataset.from_tensor_slices([jpeg, webp])
    for data, image in zip((jpeg, webp), dataset.map(decoding.decode_in_dataset), strict=True):
        assert image.shape == rgb.shape
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
    "cut off BMP": (bmp(9, 9, 24, bytes(40)), "image file is truncated"),
    "GIF without a frame": (b"GIF89a\2\0\2\0\0\0\0;", ""),
    "GIF that ends in its header": (b"GIF89a", r"\(6 bytes\)"),
    "WebP that ends in its header": (b"RIFF\0\0\0\0WEBPVP8X", ""),
    "web page": (b"<!DOCTYPE html>", r"\(15 bytes\): expected JPEG, PNG, WebP, GIF, BMP, TIFF"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", ".*expected JPEG, PNG"),
    "unknown kind of HEIC": (b"\0\0\0\x10ftypqqqq" + bytes(4), ".*AVIF or HEIC .*lit_tf.heif"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_decoded_is_refused_by_name(served, name):
    data, message = REFUSED[name]
    with pytest.raises(ImageError, match=f"^Photo cannot be decoded.*{message}"):
        lib.to_uint8(data, "Photo")
    with pytest.raises(ImageError, match="^The image cannot be decoded"):
        lib.decode_image(data)
    with pytest.raises(tf.errors.InvalidArgumentError):
        served(data)


@pytest.mark.parametrize(
    "data", [np.zeros((4, 4, 3)), tf.zeros([3]), "cat.jpg", tf.constant(["a"])]
)
def test_only_bytes_are_decoded(data):
    with pytest.raises(ImageError, match="decode_image takes the bytes of one image"):
        lib.decode_image(data)


def test_every_ending_that_a_folder_is_searched_for_is_read(rgb, tmp_path):
    assert {".avif", ".heic", ".tiff"} < set(IMAGE_SUFFIXES)
    for suffix in IMAGE_SUFFIXES:
        form = {".jfif": "JPEG", ".hif": "HEIF"}.get(suffix)
        PIL.Image.fromarray(rgb).save(tmp_path / f"x{suffix}", form)
        assert lib.to_uint8(tmp_path / f"x{suffix}").shape == rgb.shape


def test_16_bit_tiffs_lose_their_lower_byte_and_floats_are_taken_in_their_range(tmp_path):
    grey = np.linspace(0, 65535, 120).astype(np.uint16).reshape(10, 12)
    np.testing.assert_array_equal(lib.to_uint8(encoded(grey, "TIFF"))[..., 1], grey >> 8)
    floats = np.linspace(0, 1, 120, dtype=np.float32).reshape(10, 12)
    rounded = np.rint(floats * 255).astype(np.uint8)
    np.testing.assert_array_equal(lib.to_uint8(encoded(floats, "TIFF"))[..., 1], rounded)
    with pytest.raises(ImageError, match="^Photo is float32 with values from 0 to 255"):
        lib.to_uint8(encoded(255 * floats, "TIFF"), "Photo")


def test_damaged_webps_never_crash_a_served_graph(rgb, served):
    """In another process a crash would be silent; TensorFlow writes an animation's alpha anyhow."""
    image, rng = PIL.Image.fromarray(rgb), np.random.default_rng(0)
    frames = {"save_all": True, "append_images": [image.rotate(90)]}
    for options in ({}, {"lossless": True}, frames, {**frames, "lossless": True}):
        data = encoded(image, "WEBP", **options)
        for _ in range(30):
            damaged = bytearray(data)
            for place in rng.integers(12, [34, len(data)]):
                damaged[place] = rng.integers(256)
            with contextlib.suppress(tf.errors.InvalidArgumentError):
                assert served(bytes(damaged), 10_000).shape[-1] == 3


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


BOMBS = dict(_bombs())


@pytest.mark.parametrize("name", BOMBS)
def test_images_beyond_the_limit_are_refused_before_they_are_decoded(served, name):
    ours, pillows = r": \d+ x \d+ pixels are more", r".*256000000 pixels.* exceeds limit"
    with pytest.raises(ImageError, match=f"^Photo cannot be decoded({ours}|{pillows})"):
        lib.to_uint8(BOMBS[name], "Photo")
    if BOMBS[name].startswith((b"\xff\xd8", b"\x89PNG", b"RIFF")):
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
    return encoded(image, form, exif=tags.tobytes(), **options)


def test_a_heic_without_the_package_says_what_it_needs(rgb, tmp_path, monkeypatch):
    (tmp_path / "a.heic").write_bytes(encoded(rgb, "HEIF"))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(PIL.Image, "OPEN", {k: v for k, v in PIL.Image.OPEN.items() if k != "HEIF"})
    monkeypatch.setattr(decoding, "_pillow_formats", decoding._pillow_formats.__wrapped__)
    with pytest.raises(ImageError, match=r"a\.heic.*pip install 'lit_tf\[heif\]'"):
        lib.to_uint8(tmp_path / "a.heic")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_photos_are_turned_as_viewers_turn_them(rgb, tmp_path, form):
    options = {"WEBP": {"lossless": True}, "HEIF": {"quality": -1}}.get(form, {})
    for value in range(1, 9):
        data = _with_orientation(rgb, form, value, **options)
        shown = np.asarray(PIL.ImageOps.exif_transpose(pil(data)).convert("RGB")).astype(int)
        assert shown.shape == ((12, 17, 3) if value < 5 else (17, 12, 3))
        (tmp_path / "x").write_bytes(data)
        upright = lib.to_uint8(data)
        assert np.abs(upright - shown).max() <= (form == "JPEG") * 4  # TensorFlow's JPEGs
        for image in (tmp_path / "x", tf.constant(data)):
            np.testing.assert_array_equal(lib.to_uint8(image), upright)
        assert np.abs(lib.to_uint8(pil(data)) - shown).max() == 0
        np.testing.assert_array_equal(decoding.decode_in_dataset(data, exif=True), upright)
        if form == "JPEG":
            np.testing.assert_array_equal(
                decoding.turn_upright(lib.decode_image(data), value), upright
            )


def _tiff(order, entries, start=8):
    """EXIF data of one table: entries (tag, type, count, value's four bytes)."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    head += (
        struct.pack(order + "I", start) + bytes(start - 8) + struct.pack(order + "H", len(entries))
    )
    return head + b"".join(struct.pack(order + "HHI", *e[:3]) + e[3] for e in entries)


def _oriented(order, value, kind=3, before=()):
    packed = struct.pack(
        order + ("HH" if kind == 3 else "I"), *([value, 0] if kind == 3 else [value])
    )
    return _tiff(order, [*before, (exif.TAG, kind, 1, packed)])


def _jpeg_of(tiff, *, segments=b"", fill=b""):
    jpeg = encoded(PIL.Image.new("RGB", (2, 3)), "JPEG")
    exif_data = b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff
    return jpeg[:20] + segments + fill + exif_data + jpeg[20:]


@pytest.fixture(scope="module")
def found_in_graph():
    return tf.function(exif.jpeg_orientation, input_signature=[tf.TensorSpec([], tf.string)])


def test_an_orientation_is_found_in_either_byte_order_and_wherever_it_stands(found_in_graph):
    width = (0x100, 4, 1, bytes(4))
    comment = b"\xff\xfe" + struct.pack(">H", 60_002) + b"\xff\xe1" * 30_000
    for order in "<>":
        for value in range(1, 9):
            for jpeg in (
                _jpeg_of(_oriented(order, value)),
                _jpeg_of(_oriented(order, value, kind=4), fill=b"\xff"),
                _jpeg_of(_oriented(order, value, before=[width] * 40), segments=comment),
                _jpeg_of(_tiff(order, [(exif.TAG, 3, 1, struct.pack(order + "HH", value, 0))], 99)),
            ):
                assert exif.orientation(jpeg) == found_in_graph(jpeg).numpy() == value
    png = encoded(PIL.Image.new("RGB", (2, 2)), "PNG")
    chunk = _chunk(b"eXIf", _oriented(">", 8))
    assert exif.orientation(png[:-12] + chunk + png[-12:]) == 8  # behind the pixels


def test_what_declares_no_valid_orientation_is_upright(found_in_graph):
    rng = np.random.default_rng(0)
    good = _oriented("<", 6, before=[(0x100, 4, 1, bytes(4))])
    damaged = [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", good[:-4]]
    damaged += [b"XX*\0" + good[4:], b"Exif\0\0" * 9, b"MM*\0" + good[4:]]
    damaged += [_oriented(order, value) for order in "<>" for value in (0, 9, 1536, 65535)]
    damaged += [_tiff("<", [(exif.TAG, 2, 1, b"\6\0\0\0")]), _tiff("<", [])]
    for tiff in damaged:
        jpeg = _jpeg_of(tiff)
        assert exif.orientation(jpeg) == found_in_graph(jpeg).numpy() == 1, tiff
    for data in (b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\xff\xffExif\0\0", _jpeg_of(b"")[:25]):
        assert exif.orientation(data) == found_in_graph(data).numpy() == 1
    for _ in range(300):  # anything gives an orientation, and no error
        tiff = bytearray(good)
        for place in rng.integers(len(tiff), size=rng.integers(1, 4)):
            tiff[place] = rng.integers(256)
        assert found_in_graph(_jpeg_of(bytes(tiff))).numpy() in range(1, 9)
        assert exif.orientation(_jpeg_of(bytes(tiff))) in range(1, 9)


def test_a_served_graph_turns_jpegs_as_the_library_does(rgb):
    spec = [tf.TensorSpec([], tf.string)]
    turning = tf.function(lambda x: lib.decode_image(x, exif=True), input_signature=spec)
    for value in range(1, 9):
        data = _with_orientation(rgb, "JPEG", value)
        np.testing.assert_array_equal(turning(data), lib.to_uint8(data))
        png = _with_orientation(rgb, "PNG", value)
        np.testing.assert_array_equal(turning(png), rgb)  # the docs say so
