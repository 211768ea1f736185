"""Image preprocessing: the reference's pixels, wherever it runs, and every odd image named."""

import io
import struct
import types
import warnings
import zlib

import numpy as np
import pandas
import PIL.Image
import pyarrow
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_tf.errors import ImageError
from lit_tf.images import preprocessing as lib
from lit_tf.model import LitModel

SIZE = 32


@pytest.fixture(scope="module")
def photos(fixture_module):
    """The reference's images: uint8 arrays of five sizes."""
    return fixture_module.images()


def encoded(array, form="PNG", **options):
    buffer = io.BytesIO()
    image = array if isinstance(array, PIL.Image.Image) else PIL.Image.fromarray(array)
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def rgb():
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def batches(images, batch_size, size, crop=False):
    """Batches as a tower of this size gets them, float (n, size, size, 3)."""
    config = types.SimpleNamespace(
        image=types.SimpleNamespace(image_size=size, naflex=False), crop=crop, resample=None
    )
    model = types.SimpleNamespace(config=config, image_function=lib.normalize)
    stream = LitModel.embed_stream(model, lib.checked_list(images), batch_size)
    return [batch.embeddings for batch in stream]


def to_batch(images, size, crop=False):
    """All images in one batch (N, size, size, 3)."""
    parts = batches(images, 64, size, crop)
    return tf.concat(parts, 0) if parts else tf.zeros([0, size, size, 3])


def as_sent(pixels):
    """uint8 pixels as the tower gets them."""
    return to_batch([pixels], SIZE).numpy()[0]


@pytest.mark.parametrize("crop, key", [(False, "images"), (True, "images_crop")])
def test_pixels_equal_the_reference(photos, reference, crop, key):
    batch = to_batch(photos, SIZE, crop)
    assert batch.dtype == tf.float32
    np.testing.assert_array_equal(batch, reference("towers")[key])


@pytest.mark.parametrize("crop, key", [(False, "images"), (True, "images_crop")])
def test_pixels_are_the_same_in_tf_data_and_statically_shaped(photos, reference, crop, key):
    dataset = tf.data.Dataset.from_tensor_slices([encoded(p) for p in photos])
    dataset = dataset.map(lambda data: lib.preprocess(lib.decode_image(data), SIZE, crop))
    assert dataset.element_spec == tf.TensorSpec((SIZE, SIZE, 3), tf.float32)
    np.testing.assert_array_equal(list(dataset), reference("towers")[key])


@pytest.mark.parametrize("crop, key", [(False, "images"), (True, "images_crop")])
def test_pixels_are_the_same_in_a_saved_model(photos, reference, tmp_path, crop, key):
    module = tf.Module()
    module.arrays = tf.function(
        lambda image: lib.preprocess(image, SIZE, crop),
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)],
    )
    module.files = tf.function(
        lambda data: tf.map_fn(
            lambda x: lib.preprocess(lib.decode_image(x), SIZE, crop),
            data,
            fn_output_signature=tf.TensorSpec([SIZE, SIZE, 3], tf.float32),
        ),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    tf.saved_model.save(module, tmp_path)
    loaded = tf.saved_model.load(tmp_path)
    expected = reference("towers")[key]
    np.testing.assert_array_equal(loaded.files([encoded(p) for p in photos]), expected)
    for photo, pixels in zip(photos, expected, strict=True):
        np.testing.assert_array_equal(loaded.arrays(photo[np.newaxis])[0], pixels)


def test_preprocess_takes_pixels_as_encode_image_does_eagerly_and_in_graphs(rgb):
    expected = lib.preprocess(rgb, SIZE)
    graph = tf.function(lambda image: lib.preprocess(image, SIZE))
    for form in (rgb / 255, (rgb / 255).astype(np.float32), rgb.astype(np.int32), rgb.tolist()):
        np.testing.assert_array_equal(lib.preprocess(form, SIZE), expected)
        np.testing.assert_array_equal(graph(tf.constant(form)), expected)


def test_what_is_not_pixels_is_refused_and_never_becomes_black(rgb):
    graph = tf.function(lambda image: lib.preprocess(image, SIZE))
    for bad, message in (
        (rgb.astype(np.float32), "values from 0 to 255; expected integers in 0..255 or floats"),
        (rgb / 127.5 - 1, "values from -1 to 1"),
        (rgb.astype(np.int32) * 2, "values from 0 to 510"),
        (np.full((4, 4, 3), np.nan), "nan"),
    ):
        with pytest.raises(ImageError, match=message):
            lib.preprocess(bad, SIZE)
        with pytest.raises(tf.errors.InvalidArgumentError, match="must be in .0, (1|255)"):
            graph(tf.constant(bad))
    for bad in (
        rgb[..., 0],
        rgb[..., :2],
        rgb[np.newaxis, np.newaxis],
        rgb[:0],
        rgb > 9,
        "cat.jpg",
    ):
        with pytest.raises(ImageError, match="^The images (have shape|is an array)|are an array"):
            lib.preprocess(bad, SIZE)
        with pytest.raises(ImageError):
            graph(tf.constant(bad))
    for size in (0, -1, 2.5, "32", True):
        with pytest.raises(ImageError, match="size must be a positive integer"):
            lib.preprocess(rgb, size)
    with pytest.raises(ImageError, match="normalize takes uint8 pixels, found float"):
        lib.normalize(rgb / 255)


def test_every_pixel_value_is_scaled_as_a_division_would():
    values = np.arange(256, dtype=np.uint8)
    exact = values.astype(np.float32) / np.float32(127.5) - np.float32(1)
    np.testing.assert_array_equal(lib.normalize(values), exact)
    for jit in (False, True):
        np.testing.assert_array_equal(tf.function(lib.normalize, jit_compile=jit)(values), exact)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 80), st.integers(1, 80), st.integers(1, 40), st.integers(0, 99))
def test_crop_fits_the_smaller_side_and_cuts_the_centre(height, width, size, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    scale = np.float32(size) / np.float32(min(height, width))
    sides = [int(np.rint(np.float32(side) * scale)) for side in (height, width)]
    assert min(sides) == size
    top, left = (sides[0] - size) // 2, (sides[1] - size) // 2
    whole = tf.cast(tf.image.resize(image, sides), tf.uint8)[top : top + size, left : left + size]
    np.testing.assert_array_equal(lib.resize_uint8(image, size, crop=True), whole)


def test_batches_do_not_change_pixels(photos, reference):
    for batch_size in (1, 2, 5, 64):
        parts = batches(iter(photos), batch_size, SIZE)
        assert [len(p) for p in parts] == [min(batch_size, 5 - i) for i in range(0, 5, batch_size)]
        np.testing.assert_array_equal(np.concatenate(parts), reference("towers")["images"])


def test_an_array_of_images_equals_a_list_of_them(rgb):
    array = np.stack([rgb, rgb[::-1], rgb[:, ::-1]])
    for crop in (False, True):
        batch = lib.preprocess(array, SIZE, crop)
        for form in (array, list(array), tf.constant(array), tuple(array)):
            np.testing.assert_array_equal(to_batch(form, SIZE, crop), batch)
    assert to_batch([], SIZE).shape == (0, SIZE, SIZE, 3)
    assert to_batch(array[:0], SIZE).shape == (0, SIZE, SIZE, 3)


def test_every_form_of_an_image_gives_the_same_pixels(rgb, tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(encoded(rgb))
    forms = {
        "path": path,
        "string": str(path),
        "png": encoded(rgb),
        "bytearray": bytearray(encoded(rgb)),
        "bmp": encoded(rgb, "BMP"),
        "string tensor": tf.constant(encoded(rgb)),
        "tensor": tf.constant(rgb),
        "int64": rgb.astype(np.int64),
        "list": rgb.tolist(),
        "float": rgb / 255,
        "float16": (rgb / 255).astype(np.float16),
        "rgba": np.dstack([rgb, np.full((20, 30), 7, np.uint8)]),
        "rgba png": encoded(np.dstack([rgb, np.arange(600).reshape(20, 30).astype(np.uint8)])),
        "pil": PIL.Image.fromarray(rgb),
        "pil rgba": PIL.Image.fromarray(np.dstack([rgb, rgb[..., 0]])),
        "pil file": PIL.Image.open(path),
    }
    for name, form in forms.items():
        np.testing.assert_array_equal(lib.to_uint8(form), rgb, err_msg=name)
        np.testing.assert_array_equal(to_batch([form], SIZE)[0], as_sent(rgb), err_msg=name)


def test_jpeg_is_decoded_with_the_default_settings(photos):
    data = encoded(photos[1], "JPEG")
    np.testing.assert_array_equal(lib.to_uint8(data), tf.io.decode_jpeg(data, channels=3))


def test_grey_becomes_rgb(rgb):
    grey = rgb[..., 0]
    expected = np.dstack([grey] * 3)
    for form in (
        grey,
        grey[..., np.newaxis],
        np.dstack([grey, 255 - grey]),
        encoded(grey),
        encoded(np.dstack([grey, 255 - grey])),
        PIL.Image.fromarray(grey),
        PIL.Image.fromarray(np.dstack([grey, 255 - grey])),
    ):
        np.testing.assert_array_equal(lib.to_uint8(form), expected)
    assert lib.to_uint8(encoded(grey, "JPEG")).shape == (20, 30, 3)


def test_of_an_animation_the_first_frame_is_taken(rgb):
    frames = [PIL.Image.fromarray(f).quantize(16) for f in (rgb, 255 - rgb, rgb[::-1])]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)
    np.testing.assert_array_equal(lib.to_uint8(gif), np.asarray(frames[0].convert("RGB")))


def test_palettes_and_cmyk_are_decoded(rgb):
    palette = PIL.Image.fromarray(rgb).quantize(16)
    for form in (palette, encoded(palette)):
        np.testing.assert_array_equal(lib.to_uint8(form), np.asarray(palette.convert("RGB")))
    cmyk = PIL.Image.fromarray(rgb).convert("CMYK")
    assert lib.to_uint8(encoded(cmyk, "JPEG")).shape == (20, 30, 3)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_declaring(width, height):
    """A PNG whose header promises more pixels than it holds."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


PHOTO = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
JPEG = encoded(PHOTO, "JPEG")

BAD = {
    "zero-sized": (np.zeros((0, 5, 3), np.uint8), r"has shape \(0, 5, 3\): it holds no pixel"),
    "zero-sized floats": (np.zeros((0, 0), np.float32), ".*holds no pixel"),
    "empty list": ([], "has shape"),
    "channels first": (np.zeros((3, 32, 32), np.uint8), ".*channels first"),
    "five channels": (np.zeros((8, 8, 5), np.uint8), r"has shape \(8, 8, 5\)"),
    "batch": (np.zeros((1, 8, 8, 3), np.uint8), r"has shape \(1, 8, 8, 3\)"),
    "scalar": (np.uint8(3), "has shape"),
    "scaled": (np.linspace(-1, 1, 192).reshape(8, 8, 3), "is float64 with values from -1 to 1"),
    "0..255 floats": (np.linspace(0, 255, 192).reshape(8, 8, 3), "is float64.* from 0 to 255"),
    "NaN": (np.full((8, 8, 3), np.nan), "is float64 with values from nan to nan"),
    "too large": (np.full((8, 8, 3), 300), "is int64 with values from 300 to 300"),
    "negative": (np.full((8, 8, 3), -1), "is int64 with values from -1 to -1"),
    "16 bits": (np.full((8, 8, 3), 65535, np.uint16), "is uint16"),
    "bool": (np.zeros((8, 8, 3), bool), "is an array of bool"),
    "complex": (np.zeros((8, 8, 3), complex), "is an array of complex128"),
    "strings": (np.array([["a"]]), "is an array of str"),
    "ragged": ([[1, 2], [3]], "is not an array"),
    "PIL's 32 bits": (PIL.Image.new("I", (8, 8), 70_000), "is int32 with values from 70000"),
    "no bytes": (b"", r"cannot be decoded \(0 bytes\): expected JPEG"),
    "text": (b"not an image", r"cannot be decoded \(12 bytes\): expected JPEG, PNG"),
    "half a JPEG": (JPEG[: len(JPEG) // 2], "cannot be decoded"),
    "start of a JPEG": (JPEG[:20], "cannot be decoded"),
    "start of a PNG": (encoded(PHOTO)[:100], "cannot be decoded"),
    "start of a GIF": (encoded(PHOTO, "GIF")[:200], "cannot be decoded"),
    "start of a BMP": (encoded(PHOTO, "BMP")[:200], "cannot be decoded"),
    "7 GB": (png_declaring(50_000, 50_000), "cannot be decoded"),
    "absurd size": (png_declaring(2**31 - 1, 2**31 - 1), "cannot be decoded"),
    "no file": ("no/such/file.jpg", r"\(no/such/file.jpg\) cannot be read"),
    "folder": (".", r"\(.\) cannot be read: .*directory"),
    "NUL in path": ("a\0b", ".*cannot be read"),
    "None": (None, "is NoneType"),
    "number": (3.5, "is float"),
    "dict": ({"image": 1}, "is dict"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_images_are_named_by_their_place(rgb, fault):
    image, message = BAD[fault]
    with pytest.raises(ImageError, match=f"^Image 2 {message}"):
        batches([rgb, rgb, image, None], 2, SIZE)


def test_a_truncated_file_opened_by_pil_is_named(tmp_path, rgb):
    path = tmp_path / "cut.jpg"
    path.write_bytes(JPEG[: len(JPEG) // 2])
    with PIL.Image.open(path) as cut, pytest.raises(ImageError, match="Image 1 cannot be decoded"):
        to_batch([rgb, cut], SIZE)


ALONE = {
    "path": ("cat.jpg", r"one str.*\[image\]"),
    "bytes": (JPEG, r"one bytes.*\[image\]"),
    "pil": (PIL.Image.fromarray(PHOTO), r"one Image.*\[image\]"),
    "array": (PHOTO, r"shape \(64, 64, 3\).*\[image\]"),
    "tensor": (tf.constant(PHOTO), r"shape \(64, 64, 3\).*\[image\]"),
    "None": (None, "NoneType"),
    "number": (3, "int"),
}


@pytest.mark.parametrize("form", ALONE)
def test_what_is_not_a_list_of_images_is_refused(form):
    images, message = ALONE[form]
    with pytest.raises(ImageError, match=message):
        to_batch(images, SIZE)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "WEBP"]),
    st.integers(0, 10**9),
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 255)), max_size=8),
)
def test_damaged_files_give_an_image_or_an_error_of_ours(form, cut, flips):
    data = bytearray(encoded(PHOTO[:16, :16], form))
    for place, value in flips:
        data[place % len(data)] = value
    data = bytes(data[: 1 + cut % len(data)] if cut % 3 else data)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # NumPy's
        try:
            batch = to_batch([data], 8)
        except ImageError as e:
            assert str(e).startswith("Image 0 ")
        else:
            assert batch.shape == (1, 8, 8, 3)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 5), max_size=4),
    st.sampled_from(["uint8", "int8", "int32", "float32", "bool", "uint16"]),
    st.sampled_from([0, 1, 0.5, 100, -1]),
)
def test_any_array_gives_an_image_or_an_error_of_ours(shape, dtype, value):
    array = np.full(shape, value, "float32").astype("int32" if dtype != "float32" else dtype)
    try:
        batch = to_batch([array.astype(dtype)], 8).numpy()
    except ImageError as e:
        assert str(e).startswith("Image 0 ")
    else:
        assert batch.shape == (1, 8, 8, 3) and np.abs(batch).max() <= 1


def test_paths_come_in_any_sequence_of_strings(rgb, tmp_path):
    paths = [str(tmp_path / f"{i}.png") for i in range(2)]
    for path in paths:
        PIL.Image.fromarray(rgb).save(path)
    forms = {
        "NumPy's str": np.array(paths),
        "NumPy's StringDType": np.array(paths, np.dtypes.StringDType()),
        "pandas": pandas.Series(paths),
        "pandas with an extension type": pandas.Series(paths, dtype="string"),
        "Arrow": pyarrow.array(paths),
        "Arrow in chunks": pyarrow.chunked_array([paths[:1], paths[1:]]),
        "tuple": tuple(paths),
        "generator": (path for path in paths),
    }
    for name, form in forms.items():
        assert list(lib.checked_list(form)) == paths, name
