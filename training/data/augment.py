"""Augmentation of uint8 images as a pure function of the image and a few random numbers.

RandAugment is big_vision's (`pp/autoaugment.py`), byte for byte. Most operations are
tf-models-official's. Two kinds differ there: pixels that a rotation, shear or translation uncovers
are mirrored, not grey, and Contrast uses the image's mean.

Both draw from stateful random ops, whose order in a parallel `map` depends on the threads. Here the
caller draws operations, signs and positions statelessly and passes them in.
"""

import functools
import math
import re

import tensorflow as tf

from lit_tf.errors import ConfigError, extra

# big_vision's constants, in pixels, for images of any size.
_CUTOUT, _TRANSLATE = 40.0, 100.0
_MAX_LEVEL = 10.0
_GREY = 128

# In the original's order.
OPERATIONS = (
    "AutoContrast Equalize Invert Rotate Posterize Solarize Color Contrast Brightness Sharpness "
    "ShearX ShearY TranslateX TranslateY Cutout SolarizeAdd"
).split()
# The largest level of each operation that moves pixels; the sign is random.
_GEOMETRIC = {"Rotate": 30.0, "ShearX": 0.3, "ShearY": 0.3}
_GEOMETRIC |= {"TranslateX": _TRANSLATE, "TranslateY": _TRANSLATE}

# How many random numbers a layer of randaug takes.
_PER_LAYER = 4


def parse(spec: str):
    """Returns (function, count) of an augmentation such as "flip_lr|randaug(2,10)".

    The function maps (uint8 (H, W, 3), float32 (count,) in [0, 1)) to an image of the same shape.
    """
    steps = []
    count = 0
    for item in filter(None, (part.strip() for part in spec.split("|"))):
        randaug = re.fullmatch(r"randaug\((\d+),\s*(\d+(?:\.\d+)?)\)", item)
        if item == "flip_lr":
            step, takes = flip_lr, 1
        elif randaug and int(randaug[1]) and float(randaug[2]) <= _MAX_LEVEL:
            step = functools.partial(rand_augment, magnitude=float(randaug[2]))
            takes = int(randaug[1]) * _PER_LAYER
        else:
            raise ConfigError(
                f"unknown augmentation {item!r}; expected flip_lr or randaug(LAYERS,MAGNITUDE), "
                f"with at least one layer and a magnitude of at most {_MAX_LEVEL:g}, joined by |"
            )
        steps.append((step, count, count + takes))
        count += takes

    def augment(image, uniform):
        for step, start, end in steps:
            image = step(image, uniform[start:end])
        return image

    return augment, count


def flip_lr(image, uniform):
    """Mirrors an image left to right if uniform[0] < 0.5."""
    return tf.cond(uniform[0] < 0.5, lambda: tf.reverse(image, [1]), lambda: tf.identity(image))


def rand_augment(image, uniform, magnitude):
    """RandAugment as in big_vision on uint8 (H, W, 3); `uniform` is 4 numbers a layer in [0, 1)."""
    shape = image.shape
    for draw in tf.unstack(tf.reshape(uniform, (-1, _PER_LAYER))):
        image = _one_of_all(image, draw, magnitude)
    return tf.ensure_shape(image, shape)


@tf.function  # sixteen operations take seconds to trace: once is enough for all layers
def _one_of_all(image, draw, magnitude):
    branches = [lambda name=name: apply(name, image, draw, magnitude) for name in OPERATIONS]
    return tf.switch_case(tf.cast(draw[0] * len(branches), tf.int32), branches)


def apply(name, image, draw, magnitude):
    """Applies one of `OPERATIONS` to uint8 (H, W, 3); `draw` is a row of `rand_augment`'s."""
    # Imported here, because training without RandAugment does not need tf-models-official.
    with extra("train"):
        from official.vision.ops import augment

    if name == "Cutout":
        return _cutout(image, draw[2:], int(_CUTOUT * magnitude / _MAX_LEVEL))
    if name in _GEOMETRIC:
        level = magnitude / _MAX_LEVEL * _GEOMETRIC[name]
        return _move(name, image, tf.where(draw[1] < 0.5, level, -level))
    arguments = augment.level_to_arg(_CUTOUT, _TRANSLATE)[name](magnitude)
    if name == "Contrast":
        return augment.blend(_contrast_background(image), image, *arguments)
    return augment.NAME_TO_FUNC[name](image, *arguments)


def _contrast_background(image):
    """Returns the flat image that Contrast blends with: height * width / 256, at most 255.

    (The original means to take the mean grey, but sums the histogram's counts.)
    """
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    level = tf.minimum(height * width / 256.0, 255.0)
    return tf.fill(tf.shape(image), tf.cast(level, tf.uint8))


def _move(name, image, level):
    """Rotates, shears or translates; pixels from outside the image are grey."""
    # Output pixel (x, y) is input pixel (a x + b y + c, d x + e y + f).
    a, b, c, d, e, f = 1.0, 0.0, 0.0, 0.0, 1.0, 0.0
    if name == "Rotate":
        angle = level * (math.pi / 180.0)
        height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32) - 1.0)
        sine, cosine = tf.sin(angle), tf.cos(angle)
        a, b, c = cosine, -sine, (width - (cosine * width - sine * height)) / 2.0
        d, e, f = sine, cosine, (height - (sine * width + cosine * height)) / 2.0
    elif name == "ShearX":
        b = level
    elif name == "ShearY":
        d = level
    elif name == "TranslateX":
        c = level
    else:
        f = level
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack([a, b, c, d, e, f, 0.0, 0.0])[None],
        output_shape=tf.shape(image)[:2],
        fill_value=float(_GREY),
        fill_mode="CONSTANT",
        interpolation="NEAREST",
    )[0]


def _cutout(image, centre, half):
    """Greys a square of side 2 * half around centre (vertical, horizontal) in [0, 1)."""
    size = tf.shape(image)[:2]
    centre = tf.cast(centre * tf.cast(size, tf.float32), tf.int32)
    rows, columns = tf.range(size[0]) - centre[0], tf.range(size[1]) - centre[1]
    inside = ((rows >= -half) & (rows < half))[:, None] & ((columns >= -half) & (columns < half))
    return tf.where(inside[..., None], tf.constant(_GREY, tf.uint8), image)
