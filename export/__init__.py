"""The exporter: SavedModels to serve, TFLite graphs for devices.

lit_tf.export.saved_model(model, "serving/1")
lit_tf.export.tflite(model, "device", quantization="dynamic_int8")
"""

from .to_saved_model import saved_model
from .to_tflite import tflite
