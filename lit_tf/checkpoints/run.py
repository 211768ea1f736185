"""The checkpoints of a training run, `ckpt-30.index` and `ckpt-30.data-*`, under canonical names.

`lit-tf train` writes them with TensorFlow, with the optimizer's state, which is left out here. The
vocabulary and the record lie beside them, as beside any other checkpoint.
"""

import functools

import tensorflow as tf

from lit_tf.checkpoints import record
from lit_tf.checkpoints.layouts import CanonicalCheckpoint
from lit_tf.errors import CheckpointError

_PREFIX, _SUFFIX = "model/", "/.ATTRIBUTES/VARIABLE_VALUE"
_READ_ERRORS = (tf.errors.OpError, IndexError, ValueError, RuntimeError)


def open_run(prefix: str) -> CanonicalCheckpoint | None:
    """Opens a TensorFlow checkpoint by its prefix; None if it is not of a training run."""
    try:
        reader = tf.train.load_checkpoint(prefix)
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    except _READ_ERRORS:
        return None
    # TensorFlow writes "/" within a name as ".S", and "." as "..".
    names = {
        k[len(_PREFIX) : -len(_SUFFIX)].replace(".S", "/").replace("..", "."): k
        for k in shapes
        if k.startswith(_PREFIX) and k.endswith(_SUFFIX)
    }
    if not any(name.startswith(("img/", "txt/")) for name in names):
        return None

    def read(key):
        try:
            return reader.get_tensor(key)
        except _READ_ERRORS as e:
            raise CheckpointError(f"{prefix}: damaged or incomplete: {e}") from e

    return CanonicalCheckpoint(
        "run",
        prefix,
        {name: tuple(shapes[key]) for name, key in names.items()},
        tuple({dtypes[key].name for key in names.values()}),
        {name: functools.partial(read, key) for name, key in names.items()},
        stated=record.read(record.path_of(f"{prefix}.index")),
    )
