"""Which image files are read, and how large they may be; known without TensorFlow."""

from lit_tf.errors import ImageError

FORMATS = "JPEG, PNG, WebP, BMP or GIF"
# Suffixes, in lower case, of the files that a folder is searched for.
IMAGE_SUFFIXES = (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".webp")
# Width times height. Where Pillow raises its DecompressionBombError: twice its MAX_IMAGE_PIXELS.
# As RGB they take 0.5 GB.
MAX_PIXELS = 178_956_970


def check_max_pixels(max_pixels: int) -> int:
    """Returns a limit on pixels if it is a positive integer.

    Raises:
        ImageError: it is not.
    """
    # Any integer type, NumPy's too; but True is not a number of pixels.
    whole = hasattr(max_pixels, "__index__") and not isinstance(max_pixels, bool)
    if not whole or not 1 <= max_pixels < 2**63:
        raise ImageError(f"max_pixels must be a positive integer, found {max_pixels!r}")
    return int(max_pixels)
