"""From an image to what a model's image tower takes: a square, or patches of its own shape."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from lit_tf.errors import ImageError, positive_integer
from lit_tf.images import naflex
from lit_tf.images.preprocessing import normalize, resize_uint8


@dataclasses.dataclass(frozen=True)
class Square:
    """Every image becomes uint8 (size, size, 3); see `resize_uint8`."""

    size: int
    crop: bool = False
    resample: str | None = None

    def __call__(self, image: Any) -> tf.Tensor:
        """Returns uint8 (size, size, 3) of an image, uint8 (H, W, 3)."""
        return resize_uint8(image, self.size, self.crop, self.resample)

    fixed = batch = __call__  # in static shapes

    @property
    def spec(self) -> tf.TensorSpec:
        """What `fixed` returns."""
        return tf.TensorSpec([self.size, self.size, 3], tf.uint8)

    stack = staticmethod(np.stack)


@dataclasses.dataclass(frozen=True)
class Patches:
    """Every image keeps its shape, as at most `max_patches` patches of a NaFlex tower."""

    patch: int
    max_patches: int

    def __call__(self, image: Any) -> tf.Tensor:
        """Returns float32 (rows, columns, 3 patch^2) of an image, uint8 (H, W, 3)."""
        return naflex.to_patches(image, self.patch, self.max_patches)

    def fixed(self, image: Any) -> dict[str, tf.Tensor]:
        """Returns the same in static shapes, padded to `max_patches`, as `naflex.padded` does."""
        return naflex.padded(self(image), self.max_patches)

    def augmented(self, image: Any, augment: Callable) -> dict[str, tf.Tensor]:
        """Returns what `fixed` does, of an image that a function of uint8 images has changed."""
        pixels = naflex.resized(image, self.patch, self.max_patches)
        pixels = augment(tf.cast(tf.round((pixels + 1) * 127.5), tf.uint8))
        return naflex.padded(naflex.cut(normalize(pixels), self.patch), self.max_patches)

    def batch(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the same of images of one shape, uint8 (N, H, W, 3)."""
        return tf.map_fn(self.fixed, images, fn_output_signature=self.spec)

    @property
    def spec(self) -> dict[str, tf.TensorSpec]:
        """What `fixed` returns."""
        length, pixels = self.max_patches, 3 * self.patch**2
        return {
            "patches": tf.TensorSpec([length, pixels], tf.float32),
            "coordinates": tf.TensorSpec([length, 2], tf.int32),
            "mask": tf.TensorSpec([length], tf.int32),
        }

    stack = staticmethod(naflex.batched)


def preparation(config: Any, max_patches: int | None = None) -> Square | Patches:
    """Returns how a `LitConfig`'s image tower takes images.

    Raises:
        ImageError: `max_patches` is not a positive integer, or the tower takes squares.
    """
    if config.image.naflex:
        most = naflex.MAX_PATCHES if max_patches is None else max_patches
        most = positive_integer(most, "max_patches", ImageError)
        return Patches(config.image.patch_size, most)
    if max_patches is not None:
        raise ImageError(
            f"max_patches is {max_patches!r}, but this model takes square images of one size; "
            "only NaFlex models, such as SigLIP2-B16-NaFlex, take it"
        )
    return Square(config.image.image_size, config.crop, config.resample)


def on_cpu(prepare: Square | Patches, image: np.ndarray) -> np.ndarray:
    """Returns a prepared image from the CPU, where pixels are the same on every machine."""
    with tf.device("CPU:0"):
        return prepare(image).numpy()
