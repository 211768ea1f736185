"""Programs that tests run in processes of their own: `python -m tests.workers.NAME`."""

from lit_tf.serialized import lighten_keras

lighten_keras()
