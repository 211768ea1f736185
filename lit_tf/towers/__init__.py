"""The towers, their layers, and what these compute with: plainly, for XLA and for TFLite."""

import keras

from lit_tf.errors import wrong_backend

if keras.config.backend() != "tensorflow":
    raise wrong_backend(keras.config.backend())
