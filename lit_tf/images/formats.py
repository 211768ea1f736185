"""Which image files are read, and how large they may be; known without TensorFlow.

TensorFlow decodes JPEG and PNG. Pillow decodes the others. It reads AVIF from version 11.3, and
HEIC with the package pillow-heif, which is the extra `heif`.
"""

import importlib.util

from lit_tf.errors import ImageError, positive_integer

FORMATS = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC"
# Endings of files, in lower case: what is read always, and what needs a module to be there.
_ALWAYS = (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_WITH_MODULE = dict.fromkeys((".heic", ".heif", ".hif"), "pillow_heif") | {".avif": "PIL._avif"}
OPTIONAL_SUFFIXES = frozenset(_WITH_MODULE)
# What a folder is searched for: the pictures that this installation reads.
IMAGE_SUFFIXES = (
    *_ALWAYS,
    *(suffix for suffix, module in _WITH_MODULE.items() if importlib.util.find_spec(module)),
)
# What makes the optional formats readable; for messages.
MORE_FORMATS = "HEIC needs `pip install 'lit_tf[heif]'`, AVIF needs Pillow 11.3 or newer"
# Width times height. Where Pillow raises its DecompressionBombError: twice its MAX_IMAGE_PIXELS.
# As RGB they take 0.5 GB.
MAX_PIXELS = 178_956_970

# What systems and programs keep for themselves: thumbnails, trash, lost blocks, copies of metadata.
_SYSTEM_FOLDERS = {
    *("@eadir", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "recycler"),
    *("system volume information", "__macosx", "lost+found"),
}


def is_systems(name: str) -> bool:
    """Whether a system or a program keeps a folder of this name; what is in it is not for us."""
    return name.lower() in _SYSTEM_FOLDERS


def check_max_pixels(max_pixels: int) -> int:
    """Returns a limit on pixels; raises ImageError if it is not a positive integer."""
    return positive_integer(max_pixels, "max_pixels", ImageError)
