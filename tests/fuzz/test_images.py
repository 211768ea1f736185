"""Damaged images: pixels or an error that names the image, soon and within the limit on pixels."""

import io
import time

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from lit_tf.errors import ImageError
from lit_tf.images import preprocessing
from lit_tf.images.decoding import decode_image

from . import mutations

QUICK, FULL = range(20), range(20, 320)
LIMIT = 1 << 18  # pixels


def each(cases):
    return pytest.mark.parametrize(
        "cases", [QUICK, pytest.param(FULL, marks=pytest.mark.full)], ids=["quick", "full"]
    )(cases)


@pytest.fixture(scope="module")
def originals():
    """The bytes of small pictures in every format and in the odder modes."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    picture = PIL.Image.fromarray(pixels)
    turned = PIL.Image.Exif()
    turned[0x0112] = 6
    deep = PIL.Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    out = []
    for image, kind, more in (
        (picture, "JPEG", {}),
        (picture, "JPEG", {"exif": turned, "progressive": True}),
        (picture.convert("CMYK"), "JPEG", {}),
        (picture, "PNG", {}),
        (picture.convert("P"), "PNG", {"transparency": 0}),
        (deep, "PNG", {}),
        (picture.convert("LA"), "PNG", {"exif": turned}),
        (picture, "WEBP", {"exif": turned}),
        (picture, "BMP", {}),
        (picture.convert("P"), "BMP", {}),
        (picture, "GIF", {"save_all": True, "append_images": [picture]}),
        (picture, "WEBP", {"save_all": True, "append_images": [picture]}),
        (picture, "TIFF", {"exif": turned}),
        (picture, "AVIF", {"exif": turned}),
    ):
        file = io.BytesIO()
        image.save(file, kind, **more)
        out.append(file.getvalue())
    return out


@each
def test_damaged_images_are_read_or_refused_by_name(tmp_path, originals, cases):
    path = tmp_path / "picture.jpg"
    for case in cases:
        rng = mutations.generator("image", case)
        data = mutations.damaged(originals[case % len(originals)], rng)
        path.write_bytes(data)
        began = time.process_time()
        try:
            found = preprocessing.to_uint8(path if case % 2 else data, "Image 7", LIMIT)
        except ImageError as error:
            assert "Image 7" in str(error) and len(str(error)) < 1000, case
        else:
            assert found.dtype == np.uint8 and found.shape[2:] == (3,), case
            assert 0 < found.shape[0] * found.shape[1] <= LIMIT, case
        assert time.process_time() - began < 5, case


@each
def test_damaged_images_are_decoded_or_refused_in_a_served_graph(originals, cases):
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def served(data):
        return decode_image(data, LIMIT)

    served(originals[0])  # traced before the clock runs
    for case in cases:
        rng = mutations.generator("served", case)
        data = mutations.damaged(originals[case % len(originals)], rng)
        began = time.process_time()
        try:
            found = served(data).numpy()
        except tf.errors.InvalidArgumentError as error:
            assert error.message, case
        else:
            assert found.dtype == np.uint8 and found.shape[2:] == (3,), case
            assert 0 < found.shape[0] * found.shape[1] <= LIMIT, case
        assert time.process_time() - began < 5, case
