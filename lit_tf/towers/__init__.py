"""The towers, their layers, and what these compute with: plainly, for XLA and for TFLite."""

import keras

from lit_tf import lazy
from lit_tf.errors import wrong_backend

if keras.config.backend() != "tensorflow":
    raise wrong_backend(keras.config.backend())
__getattr__, __dir__ = lazy.attributes(__name__, {})
