"""Images on their way to an image tower: reading, decoding, resizing, and streams of them.

from lit_tf import images
pixels = images.preprocess(images.to_uint8("cat.jpg"), 224)
"""

import typing

from lit_tf import lazy

__all__ = ["decode_image", "normalize", "preprocess", "resize_uint8", "to_uint8"]

if typing.TYPE_CHECKING:  # the same names, for those who check types
    from lit_tf.images.preprocessing import (
        decode_image,
        normalize,
        preprocess,
        resize_uint8,
        to_uint8,
    )

__getattr__, __dir__ = lazy.attributes(__name__, dict.fromkeys(__all__, "preprocessing"))
