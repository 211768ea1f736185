"""Images on their way to an image tower: reading, decoding, resizing, and streams of them.

from lit_tf import images
pixels = images.preprocess(images.to_uint8("cat.jpg"), 224)
"""

import importlib
import typing

# Loaded when first asked for: the command line imports `lit_tf.images.formats` without TensorFlow.
__all__ = ["decode_image", "normalize", "preprocess", "resize_uint8", "to_uint8"]

if typing.TYPE_CHECKING:  # the same names, for those who check types
    from lit_tf.images.preprocessing import (
        decode_image,
        normalize,
        preprocess,
        resize_uint8,
        to_uint8,
    )


def __getattr__(name: str) -> typing.Any:
    if name in __all__:
        return getattr(importlib.import_module("lit_tf.images.preprocessing"), name)
    raise AttributeError(f"module 'lit_tf.images' has no attribute {name!r}")
