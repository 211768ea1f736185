"""TensorFlow's checkpoints under canonical names: BERT's original release, and a training run's.

`lit-tf train` writes `ckpt-30.index` and `ckpt-30.data-*` with the optimizer's state, which is left
out here. The vocabulary and the record lie beside them, as beside any other checkpoint.
"""

import functools
import glob
import json
import math
import os
import pathlib
import re

import tensorflow as tf

from lit_tf.checkpoints import record
from lit_tf.checkpoints.layouts import CanonicalCheckpoint
from lit_tf.checkpoints.registry import DATA
from lit_tf.checkpoints.shapes import BERT_BLOCK
from lit_tf.errors import CheckpointError, plain

_READ_ERRORS = (tf.errors.OpError, IndexError, ValueError, RuntimeError)
_FLOATS = (tf.float32, tf.float16, tf.bfloat16, tf.float64)
_OF_RUN = re.compile(r"model/(.+)/\.ATTRIBUTES/VARIABLE_VALUE")
_OF_LAYER = re.compile(r"bert/encoder/layer_(\d+)/(.+)/(kernel|bias|gamma|beta)")

# {a variable's name in the release: its name in LiT checkpoints}. Everything else in the file
# (pooler, cls, optimizer slots, global_step) belongs to BERT's own pre-training.
_NAMES = json.loads((DATA / "bert_tensors.json").read_text(encoding="utf-8"))


def open_prefix(prefix: str) -> CanonicalCheckpoint:
    """Opens a checkpoint of TensorFlow's by the prefix of its files, as `find_prefix` returns it.

    Names and shapes are compared with a model's when the configuration is made of them.
    """
    try:
        reader = tf.train.load_checkpoint(prefix)
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    except _READ_ERRORS as e:
        raise CheckpointError(f"{prefix}: damaged or incomplete: {plain(e)}") from e
    layout, names = "run", _named(shapes, _run_name)
    if not any(name.startswith(("img/", "txt/")) for name in names):
        layout, names = "tf1_bert", _named(shapes, _bert_name)
    if not names:
        raise CheckpointError(
            f"{prefix}: no BERT and no training run; expected variables bert/embeddings/... and "
            f"bert/encoder/layer_0/..., found {', '.join(sorted(shapes)[:5])}"
        )
    for key in names.values():
        if dtypes[key] not in _FLOATS:
            raise CheckpointError(f"{prefix}: {key!r} is {dtypes[key].name}, expected float32")
    # TensorFlow allocates what the index declares before it looks at the data.
    held = sum(os.path.getsize(f) for f in glob.glob(f"{glob.escape(prefix)}.data-*"))
    declared = sum(math.prod(shapes[key]) * dtypes[key].size for key in names.values())
    if declared > held:
        raise CheckpointError(f"{prefix}: declares {declared:,} bytes, its files hold {held:,}")

    def read(key):
        try:
            return reader.get_tensor(key)
        except _READ_ERRORS as e:
            raise CheckpointError(f"{prefix}: {key!r} is damaged: {plain(e)}") from e

    return CanonicalCheckpoint(
        layout,
        prefix,
        {name: tuple(shapes[key]) for name, key in names.items()},
        tuple(sorted({dtypes[key].name for key in names.values()})),
        {name: functools.partial(read, key) for name, key in names.items()},
        stated=record.read(record.path_of(f"{prefix}.index")),
    )


def _named(keys, rename):
    """Returns {canonical name: name in the file} of the variables that `rename` knows."""
    return {name: key for key in sorted(keys) if (name := rename(key))}


def _run_name(key):
    found = _OF_RUN.fullmatch(key)
    # TensorFlow writes "/" within a name as ".S", and "." as "..".
    return found and found[1].replace(".S", "/").replace("..", ".")


def _bert_name(key):
    if key in _NAMES["embeddings"]:
        return f"txt/BertEncoder_0/{_NAMES['embeddings'][key]}"
    found = _OF_LAYER.fullmatch(key)
    if not found or found[2] not in _NAMES["layer"]:
        return None
    last = {"gamma": "scale", "beta": "bias"}.get(found[3], found[3])
    return f"{BERT_BLOCK}{found[1]}/{_NAMES['layer'][found[2]]}/{last}"


def find_prefix(path):
    """Returns the checkpoint's prefix as a string, or None if there is none at `path`."""
    path = pathlib.Path(path)
    if path.is_dir():
        found = sorted(path.glob("*.index"))
        preferred = path / "bert_model.ckpt.index"
        if preferred in found:
            found = [preferred]
        return str(found[0])[: -len(".index")] if len(found) == 1 else None
    if path.suffix == ".index" and path.is_file():
        return str(path)[: -len(".index")]
    return str(path) if pathlib.Path(f"{path}.index").is_file() else None
