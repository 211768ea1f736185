"""The exporter: SavedModels to serve, TFLite graphs for devices, web pages.

lit_tf.export.saved_model(model, "serving/1")
lit_tf.export.tflite(model, "device", quantization="dynamic_int8")
lit_tf.export.onnx(model, "onnx")
lit_tf.export.web(model, "site")
"""

import typing

from lit_tf import lazy

_HOMES = {
    "int8_images": "int8_tower",
    "onnx": "to_onnx",
    "saved_model": "to_saved_model",
    "tflite": "to_tflite",
    "web": "web.site",
}
__all__ = sorted(_HOMES)

if typing.TYPE_CHECKING:  # the same names, for type checkers
    from .int8_tower import int8_images
    from .to_onnx import onnx
    from .to_saved_model import saved_model
    from .to_tflite import tflite
    from .web.site import web
else:
    # `web` is a folder of modules and the function that exports a page. Importing the folder binds
    # the name once, and here; from then on, the name is the function.
    from . import web

    del web

__getattr__, __dir__ = lazy.attributes(__name__, _HOMES)
