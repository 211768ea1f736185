"""RandAugment with given random numbers is tf-models-official's, operation by operation."""

import numpy as np
import pytest
import tensorflow as tf
from official.vision.ops import augment as library

from lit_tf.training.data import augment

PICTURE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


def test_operations_are_the_librarys_in_its_order():
    assert library.RandAugment(2, 10).available_ops == augment.OPERATIONS


@pytest.mark.parametrize("name", [n for n in augment.OPERATIONS if n != "Cutout"])
@pytest.mark.parametrize("magnitude", [10.0, 6.0])
def test_an_operation_equals_the_librarys_with_either_sign(name, magnitude):
    def theirs():
        function, _, arguments = library._parse_policy_info(
            name, 0.5, magnitude, [128] * 3, 40.0, 100.0
        )
        return function(tf.constant(PICTURE), None, *arguments)[0].numpy()

    ours = {
        augment.apply(name, tf.constant(PICTURE), tf.constant([0, sign, 0, 0.0]), magnitude)
        .numpy()
        .tobytes()
        for sign in (0.1, 0.9)
    }
    # The library draws the sign: sixteen draws show both but once in 32,000 runs.
    assert {theirs().tobytes() for _ in range(16)} == ours


def test_a_cutout_is_the_librarys_square_around_its_centre():
    draw = tf.constant([0, 0, 0.5, 0.25])
    found = augment.apply("Cutout", tf.constant(PICTURE), draw, 4.0).numpy()
    expected = library._fill_rectangle(tf.constant(PICTURE), 16, 24, 16, 16, [128] * 3)
    np.testing.assert_array_equal(found, expected)


def test_every_operation_and_the_identity_are_equally_likely():
    names = [*augment.OPERATIONS, "identity"]
    uniform = (np.arange(170) + 0.5) / 170
    assert np.bincount(np.int32(uniform * len(names))).tolist() == [10] * 17
    for i in (0, 2, 16):
        draw = tf.constant([[(i + 0.5) / 17, 0.1, 0.5, 0.5]])
        found = augment.rand_augment(tf.constant(PICTURE), draw, 10.0)
        if i == 16:
            expected = PICTURE
        else:
            expected = augment.apply(names[i], tf.constant(PICTURE), draw[0], 10.0)
        np.testing.assert_array_equal(found, expected)


def test_flip():
    np.testing.assert_array_equal(
        augment.flip_lr(tf.constant(PICTURE), tf.constant([0.4])), PICTURE[:, ::-1]
    )
    np.testing.assert_array_equal(
        augment.flip_lr(tf.constant(PICTURE), tf.constant([0.6])), PICTURE
    )
