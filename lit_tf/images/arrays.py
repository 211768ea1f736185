"""Any array of pixels as uint8 RGB, or an error that says what was expected."""

import numpy as np

from lit_tf.errors import ImageError


def as_rgb(image: np.ndarray, name: str) -> np.ndarray:
    """Returns uint8 (H, W, 3) of pixels (H, W) or (H, W, 1 to 4), as `to_uint8` describes them."""
    image = as_bytes(image, name)
    shape = image.shape
    if image.ndim == 2:
        image = image[..., np.newaxis]
    if image.ndim != 3 or image.shape[-1] not in (1, 2, 3, 4):
        first = image.ndim == 3 and image.shape[0] in (1, 3, 4)
        hint = " Are the channels first? Then transpose it." if first else ""
        raise ImageError(
            f"{name} has shape {shape}; expected (height, width), or (height, width, channels) "
            f"with 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGBA) channels.{hint}"
        )
    if 0 in image.shape:
        raise ImageError(f"{name} has shape {shape}: it holds no pixel.")
    if image.shape[-1] < 3:
        return np.repeat(image[..., :1], 3, axis=-1)
    return image[..., :3]


def as_bytes(image: np.ndarray, name: str) -> np.ndarray:
    """Returns pixels of any shape as uint8, refusing what is not clearly in a known range."""
    kind, dtype = image.dtype.kind, image.dtype.name
    if image.size == 0 or image.dtype == np.uint8:
        return image.astype(np.uint8, copy=False)  # an empty one is refused for its shape
    if kind in "iuf" or dtype == "bfloat16":
        low, high = float(image.min()), float(image.max())  # NaN where there is one
        if kind in "iu" and 0 <= low and high <= 255:
            return image.astype(np.uint8)
        if kind not in "iu" and 0 <= low and high <= 1:
            return np.rint(image.astype(np.float32) * 255).astype(np.uint8)
        raise ImageError(
            f"{name} is {dtype} with values from {low:g} to {high:g}; expected integers in 0..255 "
            "or floats in [0, 1]. (What is scaled to [-1, 1] already goes to "
            'model({"image": images}).)'
        )
    raise ImageError(f"{name} is an array of {dtype}; expected 0..255 or floats in [0, 1].")
