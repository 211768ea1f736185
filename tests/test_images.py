"""Images become tower input exactly as the published code does it, in whatever form they come."""

import io

import numpy as np
import pytest
import tensorflow as tf

import lit_tf
from lit_tf import images as images_lib


@pytest.fixture(scope="module")
def pictures(fixture_module):
    return fixture_module.images()


@pytest.mark.parametrize(("crop", "key"), [(False, "images"), (True, "images_crop")])
def test_preprocessing_equals_the_reference_exactly(pictures, reference, crop, key):
    expected = reference("towers")[key]
    for picture, want in zip(pictures, expected, strict=True):
        np.testing.assert_array_equal(images_lib.preprocess(picture, 32, crop), want)
    np.testing.assert_array_equal(images_lib.to_batch(pictures, 32, crop), expected)


@pytest.mark.parametrize("crop", [False, True])
def test_the_same_code_runs_in_tf_data_with_static_shapes(pictures, crop):
    data = tf.data.Dataset.from_generator(
        lambda: iter(pictures), output_signature=tf.TensorSpec((None, None, 3), tf.uint8)
    ).map(lambda x: images_lib.preprocess(x, 32, crop))
    assert data.element_spec.shape == (32, 32, 3)
    for found, picture in zip(data, pictures, strict=True):
        np.testing.assert_array_equal(found, images_lib.preprocess(picture, 32, crop))


@pytest.mark.parametrize("crop", [False, True])
def test_a_batch_is_resized_like_its_images(pictures, crop):
    batch = np.stack([pictures[1], pictures[1][::-1]])
    found = images_lib.to_batch(batch, 32, crop)
    one_by_one = images_lib.to_batch(list(batch), 32, crop)
    np.testing.assert_array_equal(found, one_by_one)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (299, 7), (33, 32), (31, 32)])
def test_crops_have_the_right_size_whatever_the_aspect(size):
    picture = np.zeros((*size, 3), np.uint8)
    assert images_lib.preprocess(picture, 32, crop=True).shape == (32, 32, 3)


def encode(array, kind, **kwargs):
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **kwargs)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_encoded_bytes_paths_arrays_and_pil_images_are_equal(pictures, tmp_path, kind):
    from PIL import Image

    data = encode(pictures[1], kind)
    (tmp_path / "x").write_bytes(data)
    forms = [pictures[1], data, tmp_path / "x", str(tmp_path / "x"), Image.open(io.BytesIO(data))]
    batch = images_lib.to_batch(forms, 32).numpy()
    for other in batch[1:]:
        np.testing.assert_array_equal(other, batch[0])


def test_jpeg_is_decoded_as_tensorflow_decodes_it_by_default(pictures):
    data = tf.io.encode_jpeg(pictures[1]).numpy()
    expected = images_lib.preprocess(tf.io.decode_jpeg(data, channels=3), 32)
    np.testing.assert_array_equal(images_lib.to_batch([data], 32)[0], expected)


def test_the_first_frame_of_an_animation_counts(pictures):
    from PIL import Image

    frames = [Image.fromarray(np.full((9, 9, 3), v, np.uint8)) for v in (255, 0)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(
        images_lib.to_batch([buffer.getvalue()], 8), np.ones((1, 8, 8, 3))
    )


def test_greyscale_and_alpha_become_rgb(pictures):
    grey = pictures[1][..., 0]
    rgb = np.stack([grey] * 3, -1)
    rgba = np.dstack([rgb, np.full_like(grey, 7)])
    forms = [rgb, grey, grey[..., None], rgba, rgb.astype(np.int64), encode(grey, "PNG")]
    forms.append(encode(rgba, "PNG"))
    batch = images_lib.to_batch(forms, 32).numpy()
    for other in batch[1:]:
        np.testing.assert_array_equal(other, batch[0])


GOOD = np.zeros((4, 4, 3), np.uint8)
BAD = {
    "zero-sized": (np.zeros((0, 5, 3), np.uint8), r"image 1 has shape \(0, 5, 3\)"),
    "five channels": (np.zeros((4, 4, 5), np.uint8), r"\(4, 4, 5\)"),
    "one row": (np.zeros(4, np.uint8), r"\(4,\)"),
    "floats": (np.zeros((4, 4, 3)), "float64.*0 to 255"),
    "too large": (np.full((4, 4, 3), 256), "256.*0 to 255"),
    "negative": (np.full((4, 4, 3), -1), "-1"),
    "booleans": (np.zeros((4, 4, 3), bool), "image 1 is a ndarray"),
    "none": (None, "image 1 is a NoneType"),
    "ragged": ([[1, 2], [3]], "image 1 is a list"),
    "no image": (b"hello", "image 1 is no readable JPEG.*hello"),
    "no bytes": (b"", "image 1.*no bytes"),
    "truncated": (tf.io.encode_png(GOOD).numpy()[:40], "image 1 is no readable"),
    "corrupt jpeg": (b"\xff\xd8\xff\xe0" + b"x" * 50, "image 1 is no readable"),
    "no file": ("missing.jpg", r"image 1 \(missing.jpg\) cannot be read"),
    "folder": ("/", r"image 1 \(/\) is a folder"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_images_are_refused_by_name(fault):
    bad, says = BAD[fault]
    with pytest.raises(lit_tf.ImageError, match=says):
        images_lib.to_batch([GOOD, bad], 8)


@pytest.mark.parametrize("alone", ["x.jpg", b"data", GOOD])
def test_a_single_image_instead_of_a_list_is_refused(alone):
    with pytest.raises(lit_tf.ImageError, match="list"):
        images_lib.to_batch(alone, 8)
