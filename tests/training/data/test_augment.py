"""RandAugment with given random numbers is big_vision's, operation by operation."""

import numpy as np
import pytest
import tensorflow as tf

from lit_tf.training.data import augment

from ...conftest import REFERENCE, reference_fixtures

PICTURE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def expected():
    """{(operation, magnitude, sign): uint8 (96, 128, 3)} of the original."""
    with np.load(REFERENCE / "expected" / "randaug.npz") as file:
        return {tuple(key.split("|")): file[key] for key in file}


@pytest.mark.parametrize("name", [n for n in augment.OPERATIONS if n != "Cutout"])
def test_an_operation_equals_the_originals_to_the_bit(name, expected):
    image = tf.constant(reference_fixtures().image(96, 128, 1))
    cases = {key: value for key, value in expected.items() if key[0] == name}
    assert len(cases) in (2, 4)

    @tf.function
    def in_a_graph(image, draw, magnitude):
        return augment.apply(name, image, draw, magnitude)

    for (_, magnitude, sign), value in cases.items():
        draw = tf.constant([0, 0.1 if sign == "+1" else 0.9, 0, 0])
        eager = augment.apply(name, image, draw, float(magnitude))
        graph = in_a_graph(image, draw, float(magnitude))
        for found in (eager, graph):
            np.testing.assert_array_equal(found, value, f"{name} {magnitude} {sign}")


def test_contrast_blends_with_196_at_224_pixels_and_at_most_with_255():
    for side, level in ((224, 196), (320, 255)):
        image = tf.zeros((side, side, 3), tf.uint8)
        draw = tf.zeros([4])
        found = augment.apply("Contrast", image, draw, 0.0).numpy()  # 0.1 of the image
        np.testing.assert_array_equal(found, np.full(image.shape, int(level * 0.9), np.uint8))


def test_a_cutout_is_a_grey_square_around_its_centre():
    for magnitude, half in ((4.0, 16), (10.0, 40)):
        found = augment.apply(
            "Cutout", tf.constant(PICTURE), tf.constant([0, 0, 0.5, 0.25]), magnitude
        )
        expected = PICTURE.copy()
        expected[max(24 - half, 0) : 24 + half, max(16 - half, 0) : 16 + half] = 128
        np.testing.assert_array_equal(found, expected)


def test_the_sixteen_operations_are_equally_likely_and_none_is_an_identity():
    uniform = (np.arange(160) + 0.5) / 160
    assert np.bincount(np.int32(uniform * 16)).tolist() == [10] * 16
    for i in range(16):
        draw = tf.constant([[(i + 0.5) / 16, 0.1, 0.5, 0.5]])
        found = augment.rand_augment(tf.constant(PICTURE), draw, 10.0)
        expected = augment.apply(augment.OPERATIONS[i], tf.constant(PICTURE), draw[0], 10.0)
        np.testing.assert_array_equal(found, expected)


def test_flip():
    np.testing.assert_array_equal(
        augment.flip_lr(tf.constant(PICTURE), tf.constant([0.4])), PICTURE[:, ::-1]
    )
    np.testing.assert_array_equal(
        augment.flip_lr(tf.constant(PICTURE), tf.constant([0.6])), PICTURE
    )
