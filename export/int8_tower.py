"""The image tower in int8, for whoever embeds many images: made once a model, run by LiteRT."""

import concurrent.futures
import functools
import hashlib
import os
import pathlib
import threading
from collections.abc import Callable
from typing import Any

import filelock
import numpy as np

import lit_tf
from lit_tf import files
from lit_tf.checkpoints.download import cache_dir
from lit_tf.errors import ExportError, extra
from lit_tf.images.stream import IN_FLIGHT

from . import to_tflite
from .names import DYNAMIC_INT8


@functools.lru_cache(maxsize=1)  # workers ask for it again and again
def int8_images(model: Any) -> Callable:
    """Returns a function that embeds images with the quantized image tower of a `LitModel`.

    It takes a third of the float tower's time on a CPU, and its embeddings have a cosine of at
    least 0.999 to the float tower's. Making the tower takes a minute or two for a ViT-B/16. It is
    kept in the cache, beside downloaded checkpoints.

    Returns:
        A function of uint8 (N, R, R, 3) to something that becomes float32 (N, D), unit length, once
        NumPy asks for its values. Until then, LiteRT works in other threads.

    Raises:
        ExportError: the model keeps the shape of images (NaFlex), or the quantized tower does not
            agree with it.
        MissingPackageError: LiteRT or its quantizer is not installed (extra `lite`).
    """
    if model.tower("image").config.naflex:
        what = "a NaFlex tower takes images of any shape; expected a tower of squares for int8"
        raise ExportError(f"{what}: leave int8 out, or take another model")
    path = str(_cached_graph(model))
    with extra("lite"):
        from ai_edge_litert.interpreter import Interpreter

    # With fewer threads each, interpreters seldom wait for a thread that decodes meanwhile.
    threads = max(1, (os.cpu_count() or 1) // IN_FLIGHT)
    own = threading.local()
    pool = concurrent.futures.ThreadPoolExecutor(IN_FLIGHT)

    def run(pixels):
        if not hasattr(own, "graph"):
            own.graph = Interpreter(model_path=path, num_threads=threads).get_signature_runner()
        return own.graph(image=pixels)["embedding"]  # (N, D)

    return lambda pixels: _Later(pool.submit(run, pixels))


def _cached_graph(model):
    """Returns the path of the graph, which the first process that needs it makes."""
    about = f"{lit_tf.__version__} {DYNAMIC_INT8} {model.config} {model.fingerprint('img/')}"
    key = hashlib.sha256(about.encode()).hexdigest()[:32]
    path = cache_dir() / "int8_images" / f"{key}.tflite"
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{path}.lock"):
        if not path.exists():
            model = model.with_dtype("float32")
            with files.replacing_path(path) as partial:
                to_tflite.write_image_graph(model, pathlib.Path(partial), DYNAMIC_INT8)
    return path


class _Later:
    """Embeddings on their way, as device tensors are: NumPy waits for them."""

    def __init__(self, future):
        self._future = future

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._future.result(), dtype)
