"""The original BERT release's checkpoints (`bert_model.ckpt.*`) under canonical names."""

import collections.abc
import math
import os
import pathlib
import re

import numpy as np
import tensorflow as tf

from lit_tf.errors import CheckpointError, nearest

_ENCODER = "txt/BertEncoder_0"
_LAYER = re.compile(r"bert/encoder/layer_(\d+)/")

# A variable's name in the release -> its name in LiT checkpoints. Everything else in the file
# (pooler, cls, optimizer slots, global_step) belongs to BERT's own pre-training.
_EMBEDDINGS = {
    "bert/embeddings/word_embeddings": "embedder/embedders_token_ids/embedding",
    "bert/embeddings/position_embeddings": "embedder/embedders_position_ids/embedding",
    "bert/embeddings/token_type_embeddings": "embedder/embedders_segment_ids/embedding",
    "bert/embeddings/LayerNorm/gamma": "layer_norm/scale",
    "bert/embeddings/LayerNorm/beta": "layer_norm/bias",
}
_DENSE = {
    "attention/self/query": "attention_block/attention_layer/query",
    "attention/self/key": "attention_block/attention_layer/key",
    "attention/self/value": "attention_block/attention_layer/value",
    "attention/output/dense": "attention_block/dense_layer",
    "intermediate/dense": "mlp_block/mlp/dense_layer",
    "output/dense": "mlp_block/dense_layer",
}
_NORMS = {
    "attention/output/LayerNorm": "attention_block/layer_norm",
    "output/LayerNorm": "mlp_block/layer_norm",
}


class Tf1Bert(collections.abc.Mapping):
    """A BERT release's encoder: {canonical name: float32 array}, each read when asked for."""

    def __init__(self, path, max_length: int = 512):
        """Opens the folder, or the prefix of its files; longer tables of positions are cut."""
        prefix = find_prefix(path)
        if prefix is None:
            raise CheckpointError(
                f"{path}: no TensorFlow checkpoint; expected a folder with bert_model.ckpt.index "
                "and bert_model.ckpt.data-00000-of-00001, or their common prefix"
            )
        self.path = prefix
        try:
            self._reader = tf.train.load_checkpoint(prefix)
            shapes = self._reader.get_variable_to_shape_map()
            dtypes = self._reader.get_variable_to_dtype_map()
        except (tf.errors.OpError, ValueError, RuntimeError) as e:
            raise self._fault(f"damaged or incomplete: {_first_line(e)}") from e
        self._originals = self._name_leaves(shapes)
        self.shapes = self._check(shapes, dtypes, max_length)

    def __getitem__(self, key) -> np.ndarray:
        original = self._originals[key]
        try:
            array = self._reader.get_tensor(original)
        except (tf.errors.OpError, ValueError, RuntimeError) as e:
            raise self._fault(f"{original!r} is damaged: {_first_line(e)}") from e
        array = np.asarray(array, np.float32)
        return array[: self.shapes[key][0]]  # shortens the positions only

    def __iter__(self):
        return iter(self._originals)

    def __len__(self):
        return len(self._originals)

    def _fault(self, text):
        return CheckpointError(f"{self.path}: {text}")

    def _name_leaves(self, shapes):
        """Returns {canonical name: name in the file}; raises if one is missing."""
        layers = {int(m[1]) for m in map(_LAYER.match, shapes) if m}
        if not layers:
            raise self._fault(
                "no BERT; expected variables bert/embeddings/... and bert/encoder/layer_0/..., "
                f"found {', '.join(sorted(shapes)[:5])}"
            )
        names = {f"{_ENCODER}/{new}": old for old, new in _EMBEDDINGS.items()}
        for i in range(max(layers) + 1):
            new = f"{_ENCODER}/encoder_block/layer_sequence/layers_{i}"
            old = f"bert/encoder/layer_{i}"
            for theirs, ours in _DENSE.items():
                for last in ("kernel", "bias"):
                    names[f"{new}/{ours}/{last}"] = f"{old}/{theirs}/{last}"
            for theirs, ours in _NORMS.items():
                names[f"{new}/{ours}/scale"] = f"{old}/{theirs}/gamma"
                names[f"{new}/{ours}/bias"] = f"{old}/{theirs}/beta"
            missing = [v for v in names.values() if v not in shapes]
            if missing:  # checked per layer, because a layer number may be a billion
                hint = nearest(missing[0], shapes, "; nearest to the first: {}")
                raise self._fault(
                    f"{len(missing)} variables are missing: {', '.join(missing[:3])}"
                    f"{', ...' if len(missing) > 3 else ''}{hint}"
                )
        return names

    def _check(self, shapes, dtypes, max_length):
        """Returns {canonical name: shape} once all agree with the table's widths."""
        word = "bert/embeddings/word_embeddings"
        hidden = "bert/encoder/layer_0/intermediate/dense/bias"
        for name, rank in ((word, 2), (hidden, 1)):
            if len(shapes[name]) != rank or min(shapes[name]) < 1:
                raise self._fault(f"{name!r} has shape {shapes[name]}, expected {rank} dimensions")
        width, mlp_dim = shapes[word][1], shapes[hidden][0]
        kernels = {"intermediate/dense": (width, mlp_dim), "output/dense": (mlp_dim, width)}
        out = {}
        for new, old in self._originals.items():
            parent, last = old.split("/", 3)[-1].rpartition("/")[::2]
            if old.startswith("bert/embeddings/") and last.endswith("embeddings"):
                expected = (None, width)
            elif last == "kernel":
                expected = kernels.get(parent, (width, width))
            else:
                expected = (mlp_dim if parent == "intermediate/dense" else width,)
            found = tuple(shapes[old])
            if len(found) != len(expected) or any(
                n < 1 or e not in (None, n) for n, e in zip(found, expected, strict=True)
            ):
                wanted = str(expected).replace("None", "any")
                raise self._fault(f"{old!r} has shape {found}, expected {wanted}")
            if dtypes[old] not in (tf.float32, tf.float16, tf.bfloat16, tf.float64):
                raise self._fault(f"{old!r} has dtype {dtypes[old].name}, expected float32")
            out[new] = found
        # TensorFlow allocates what the index declares before it looks at the data.
        folder, name = os.path.split(self.path)
        data = pathlib.Path(folder or ".").glob(f"{name}.data-*")
        held = sum(f.stat().st_size for f in data)
        declared = sum(math.prod(out[k]) * dtypes[old].size for k, old in self._originals.items())
        if declared > held:
            raise self._fault(f"declares {declared:,} bytes, the data files hold {held:,}")
        positions = f"{_ENCODER}/embedder/embedders_position_ids/embedding"
        out[positions] = (min(out[positions][0], max_length), width)
        return out


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


def _first_line(error):
    """Returns the first line of an exception's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
