"""Pictures as every browser shows them."""

import io
import re

import PIL.Image

from lit_tf.images import preprocessing

# How the files begin that every browser shows.
_SHOWN = {
    "jpeg": rb"\xff\xd8",
    "png": rb"\x89PNG",
    "gif": rb"GIF8",
    "webp": rb"RIFF....WEBP",
    "avif": rb"....ftypavi[fs]",
}


def for_browsers(data: bytes, name: str) -> tuple[bytes, str]:
    """Returns a picture's bytes and kind: as they are, or of a JPEG if browsers may not show it."""
    for kind, pattern in _SHOWN.items():
        if re.match(pattern, data, re.S):
            return data, kind
    made = io.BytesIO()
    PIL.Image.fromarray(preprocessing.to_uint8(data, name)).save(made, "JPEG", quality=90)
    return made.getvalue(), "jpeg"
