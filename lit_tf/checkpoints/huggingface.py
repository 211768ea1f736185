"""Names, shapes and configurations of SigLIP as Hugging Face and open_clip store it.

The networks are big_vision's; their tensors are renamed, transposed and partly fused. Numbers of
heads and the side of images are in no tensor, so they come from the configuration.
"""

import functools
import json
import math
import pathlib
import re
from collections.abc import Iterator

import numpy as np

from lit_tf import files
from lit_tf.checkpoints import registry
from lit_tf.checkpoints.huggingface_config import Configuration
from lit_tf.checkpoints.layouts import CanonicalCheckpoint
from lit_tf.checkpoints.safetensors_files import SafetensorsFiles
from lit_tf.checkpoints.shapes import check_keys
from lit_tf.errors import CheckpointError, DataError

PICKLES = (".bin", ".pt", ".pth", ".ckpt")
# {library: its file, and where in it the method is that it resizes with}
_RESAMPLING = {
    "open_clip": ("open_clip_config.json", "preprocess_cfg", "interpolation"),
    "huggingface": ("preprocessor_config.json", "resample"),
}
_BLOCK_ROWS = 16 << 20  # bytes of a table that are read at once

# {layout: the image tower and the text tower, each with prefixes, and rows (their name, canonical
# names, kind) of one block and of the rest}. `norm`, `dense`, ... stand for a weight and a bias.
TOWERS = json.loads((registry.DATA / "siglip_tensors.json").read_text(encoding="utf-8"))
_SCALARS = (("logit_scale", ["t"], "scalar"), ("logit_bias", ["b"], "scalar"))
_OF_NAFLEX = {"conv": "dense", "table": "grid"}  # patches are cut outside; positions keep axes
# kind of a pair -> (canonical name of the weight, kind of the weight, kind of the bias)
_PAIRS = {
    "norm": ("scale", "same", "same"),
    "dense": ("kernel", "dense", "same"),
    "conv": ("kernel", "conv", "same"),
    "qkv": ("kernel", "qkv_w", "qkv_b"),
    "out": ("kernel", "out_w", "same"),
}


def _transposed(x: np.ndarray) -> np.ndarray:
    """Returns the transpose of a matrix in C order, four times as fast as NumPy makes it."""
    if not any(x.strides):  # stands for a shape, and takes one byte
        return x.transpose(1, 0)
    out = np.empty(x.shape[::-1], x.dtype)
    for i in range(0, len(x), 64):  # rows that stay in the processor's cache
        out[:, i : i + 64] = x[i : i + 64].T
    return out


# {kind: function of (their tensor, heads) that returns the canonical array}
_TRANSFORMS = {
    "same": lambda x, h: x,
    "dense": lambda x, h: _transposed(x),
    "qkv_w": lambda x, h: _transposed(x).reshape(x.shape[1], h, -1),
    "qkv_b": lambda x, h: x.reshape(h, -1),
    "out_w": lambda x, h: _transposed(x).reshape(h, -1, len(x)),
    "conv": lambda x, h: x.transpose(2, 3, 1, 0),
    "table": lambda x, h: x[None],
    "grid": lambda x, h: x.reshape(math.isqrt(len(x)), -1, x.shape[1]),
    "scalar": lambda x, h: x.reshape(1),
}
# {kind: function of a canonical array that returns their tensor, where it is another}
_BACK = {
    "dense": lambda x: _transposed(x),
    "qkv_w": lambda x: _transposed(x.reshape(len(x), -1)),
    "qkv_b": lambda x: x.reshape(-1),
    "out_w": lambda x: _transposed(x.reshape(-1, x.shape[-1])),
    "conv": lambda x: x.transpose(3, 2, 0, 1),
    "table": lambda x: x[0],
    "grid": lambda x: x.reshape(-1, x.shape[-1]),
}


def to_theirs(array: np.ndarray, kind: str) -> np.ndarray:
    """Returns a canonical array as a tensor of theirs."""
    return _BACK[kind](array) if kind in _BACK else array


def rows(layout, image_depth, text_depth, text_head=True, naflex=False):
    """Yields (their name, canonical names, kind) of every tensor; a depth of None is no tower."""
    for tower, depth in zip(TOWERS[layout], (image_depth, text_depth), strict=True):
        if depth is None:
            continue
        theirs, ours = tower["their_blocks"], tower["our_blocks"]
        table = [row for row in tower["table"] if text_head or "head/" not in row[1]]
        for i in range(depth):
            table += [
                (f"{theirs}{i}.{a}", [f"{ours}{i}/{n}" for n in b], k) for a, b, k in tower["block"]
            ]
        for name, names, kind in table:
            name, names = tower["prefix"] + name, [tower["ours"] + n for n in names]
            if naflex and tower["ours"] == "img/":
                kind = _OF_NAFLEX.get(kind, kind)
            if kind not in _PAIRS:
                yield name, names, kind
                continue
            weight, weight_kind, bias_kind = _PAIRS[kind]
            yield f"{name}weight", [n + weight for n in names], weight_kind
            yield f"{name}bias", [f"{n}bias" for n in names], bias_kind
    if image_depth is not None and text_depth is not None:
        yield from _SCALARS


def is_folder(path: pathlib.Path) -> bool:
    """Returns whether a path is a file or folder of one of the two layouts, or looks like one."""
    if path.suffix == ".safetensors" or (path.suffix in PICKLES and path.is_file()):
        return True
    names, suffixes = ("config.json", "open_clip_config.json"), (".safetensors", *PICKLES)
    return path.is_dir() and any(f.name in names or f.suffix in suffixes for f in path.iterdir())


def open_folder(path: pathlib.Path) -> CanonicalCheckpoint:
    """Returns the checkpoint in a folder of either layout, or at the `.safetensors` file in it."""
    folder = path if path.is_dir() else path.parent
    found = [path] if path.is_file() else sorted(folder.iterdir())
    if not any(f.suffix == ".safetensors" for f in found):
        if pickle := next((f for f in found if f.suffix in PICKLES), None):
            raise CheckpointError(
                f"{pickle}: a Python pickle, which lit_tf never opens, since it can run any "
                "program. The same repository often has a .safetensors file; else save the model "
                "again with the library safetensors"
            )
    layout, config = _read_configuration(folder)
    tensors = SafetensorsFiles(path if path.suffix == ".safetensors" else _weights(folder, layout))
    try:
        return _canonical(tensors, layout, config, str(path))
    except BaseException:
        tensors.close()
        raise


def resample(path: pathlib.Path, library: str) -> str | None:
    """Returns how a library resizes by its file in a folder, `bilinear` or `bicubic`, or None."""
    name, *keys = _RESAMPLING.get(library, ("",))
    file = (path if path.is_dir() else path.parent) / name
    if not file.is_file():
        return None
    found = _parsed(file)
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return {2: "bilinear", 3: "bicubic", None: None}.get(found, str(found))


def _weights(folder, layout):
    names = ["model.safetensors", "model.safetensors.index.json"]
    if layout == "open_clip":
        names = ["open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(
        f"{folder}: no weights; expected {' or '.join(names)}. A pytorch_model.bin is a Python "
        "pickle, which lit_tf never opens"
    )


def _read_configuration(folder):
    """Returns (layout, the JSON) of a folder; refuses other models by name."""
    known = {"open_clip": "open_clip_config.json", "huggingface": "config.json"}
    layout = next((n for n, name in known.items() if (folder / name).is_file()), None)
    if layout is None:
        raise CheckpointError(
            f"{folder}: expected config.json (Hugging Face) or open_clip_config.json beside the "
            "weights; it says what no tensor does"
        )
    return layout, _parsed(folder / known[layout])


def _parsed(file):
    try:
        if file.stat().st_size > 1 << 20:
            raise CheckpointError(f"{file}: {file.stat().st_size:,} bytes; expected a small JSON")
        return files.parse_object(file.read_bytes(), file)
    except (OSError, DataError) as e:
        raise CheckpointError(str(e)) from None


def _canonical(tensors, layout, config, source):
    wanted = Configuration(source, config, layout)
    keys = wanted.with_prefixes(tensors.keys())
    depths = [_depth(keys, tower) for tower in TOWERS[layout]]
    if depths == [None, None]:
        raise CheckpointError(
            f"{source}: no tensors of SigLIP; expected names such as "
            f"{TOWERS[layout][0]['prefix']}..., found {sorted(tensors.keys())[:5]}"
        )
    head = layout == "huggingface" or any(k.startswith("text.text_projection.") for k in keys)
    table = list(rows(layout, *depths, head, wanted.naflex))
    check_keys(keys, [name for name, _, _ in table], source)
    shapes, readers, blocks = {}, {}, {}
    for name, names, kind in table:
        key = keys[name]
        heads = wanted.heads("img" if names[0].startswith("img/") else "txt")
        shape = tensors.shape(key)
        try:
            part = _part(shape, len(names))
            probe = np.broadcast_to(np.bool_(0), part)  # takes one byte
            canonical = _TRANSFORMS[kind](probe, heads).shape
        except (ValueError, IndexError):
            raise CheckpointError(
                f"{source}: {key!r} has shape {shape}, which is not that of a SigLIP with {heads} "
                "heads (num_attention_heads of the configuration)"
            ) from None
        for i, ours in enumerate(names):
            shapes[ours] = canonical
            cut = (i * part[0], (i + 1) * part[0]) if len(names) > 1 else None
            readers[ours] = functools.partial(_read, tensors, key, cut, kind, heads)
            if kind == "same" and len(names) == 1:
                blocks[ours] = functools.partial(_read_blocks, tensors, key)
    wanted.check_sizes(shapes, depths)
    dtypes = tuple(sorted({tensors.dtype(keys[name]) for name, _, _ in table}))
    return CanonicalCheckpoint(
        layout,
        source,
        shapes,
        dtypes,
        readers,
        _blocks=blocks,
        close=tensors.close,
        stated=wanted.stated(depths),
    )


def _part(shape, parts):
    if 0 in shape or (parts > 1 and shape[0] % parts):
        raise ValueError
    return (shape[0] // parts, *shape[1:]) if parts > 1 else shape


def _read(tensors, key, cut, kind, heads):
    array = tensors.read(key) if cut is None else tensors.read_rows(key, *cut)
    return np.ascontiguousarray(_TRANSFORMS[kind](array, heads))


def _read_blocks(tensors, key) -> Iterator[np.ndarray]:
    """Yields a tensor that is stored as it is canonical in blocks of rows."""
    shape = tensors.shape(key)
    step = max(1, _BLOCK_ROWS * shape[0] // (4 * math.prod(shape)))
    for start in range(0, shape[0], step):
        yield tensors.read_rows(key, start, min(start + step, shape[0]))


def _depth(keys, tower):
    """Returns the number of blocks of a tower, or None where the file has nothing of it."""
    if not any(key.startswith(tower["prefix"]) for key in keys):
        return None
    pattern = re.compile(re.escape(tower["prefix"] + tower["their_blocks"]) + r"(0|[1-9]\d{0,3})\.")
    # Numbers with a gap leave names over, which are refused as unknown or missing.
    return len({m[1] for m in map(pattern.match, keys) if m})
