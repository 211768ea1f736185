"""Translates every published layout to and from canonical names. Only this module knows layouts.

Canonical names are those of a current big_vision checkpoint without `params/`, and one more,
`img/cls_pos_embedding`: the row that other layouts add to the class token. big_vision has no such
row, so it is zeros there. Adding the row to `img/cls` could not be undone bit for bit.
"""

import contextlib
import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from lit_tf.errors import CheckpointError

LAYOUTS = ("vit_jax", "big_vision")
_FLOATS = ("float32", "float16", "bfloat16", "float64")

_CLS_ROW = "img/cls_pos_embedding"
_GRID = "img/pos_embedding"
_COMBINED = "img/Transformer/posembed_input/pos_embedding"
# Names of the image position embedding over the years, newest first.
_IMAGE_POSITIONS = (_GRID, "img/Transformer/pos_embedding", _COMBINED)
_TEXT_POSITIONS = "txt/pos_embedding"
# Old text transformers added this one too: a mistake, but the trained value is the sum of both.
_TEXT_POSITIONS_OLD = "txt/Encoder_0/pos_embedding"
# Older code kept the attention pooling's parameters in the tower itself.
_INLINED_POOLING = re.compile(r"img/(probe|(LayerNorm|MlpBlock|MultiHeadDotProductAttention)_0/.+)")
# Where a training checkpoint has the parameters: with optax, and before optax.
_PREFIXES = ("params/", "opt/target/")
_STACKED = re.compile(r"(img/Transformer|txt/Encoder_0)/encoderblock/(.+)")
_NUMBERED = re.compile(r"(img/Transformer|txt/Encoder_0)/encoderblock_([0-9]+)/(.+)")


@dataclasses.dataclass
class CanonicalCheckpoint(contextlib.AbstractContextManager):
    """A checkpoint under canonical names; each array is read only when it is asked for.

    Attributes:
        layout: `vit_jax`, `big_vision`, `augreg`, `tf1_bert`, `huggingface`, `open_clip`, or `run`
            for a training run's.
        source: the checkpoint's name in error messages.
        dtypes: names of the dtypes found in the file.
        bare: whether it is a big_vision file whose names lack `params/`.
        stated: {field: value} of what no array shows, as in `record.FIELDS`.
    """

    layout: str
    source: str
    shapes: dict[str, tuple[int, ...]]
    dtypes: tuple[str, ...]
    _readers: dict[str, Callable[[], np.ndarray]]
    bare: bool = False
    _blocks: dict[str, Callable[[], Iterator[np.ndarray]]] = dataclasses.field(default_factory=dict)
    close: Callable[[], None] = lambda: None
    stated: dict = dataclasses.field(default_factory=dict)

    def __exit__(self, *exc):
        self.close()

    def read(self, key: str) -> np.ndarray:
        """Returns one parameter as float32; CheckpointError if it holds NaN or infinity."""
        return self._checked(key, self._readers[key]())

    def blocks(self, key: str) -> Iterator[np.ndarray]:
        """Yields one parameter as float32 blocks of rows; a large array is read block by block."""
        for block in self._blocks[key]() if key in self._blocks else (self._readers[key](),):
            yield self._checked(key, block)

    def _checked(self, key, array):
        """Returns an array as float32; refuses one that holds NaN or infinity."""
        # Values too large for float32 become infinite, which is reported below, not as a warning.
        with np.errstate(over="ignore", invalid="ignore"):
            array = np.asarray(array, dtype=np.float32)
            total = array.sum(dtype=np.float64)
        # The sum is finite exactly if all values are: float32 values cannot overflow a float64 sum.
        # So a sound array needs no mask, which would take a quarter of the array's size.
        if not np.isfinite(total):
            bad = int(array.size - np.isfinite(array).sum())
            raise CheckpointError(
                f"{self.source}: {key!r} holds {bad} values that are NaN or infinite; "
                "expected finite numbers. Was the run that wrote it diverging?"
            )
        return array

    @property
    def names(self) -> list[str]:  # ordered so that each stacked array is read only once
        return list(self._readers)


def _without_prefixes(keys: Iterable[str], source: str) -> tuple[dict[str, str], str]:
    """Returns ({plain name: key in the file}, layout) of the parameters alone."""
    keys = list(keys)
    prefixes = [p for p in _PREFIXES if any(k.startswith(p) for k in keys)]
    if prefixes:
        prefix = prefixes[0]
        if both := [k for k in keys if k.startswith(("img/", "txt/", *prefixes[1:]))]:
            elsewhere = f"under {prefixes[1]}" if prefixes[1:] else "at top level"
            raise CheckpointError(
                f"{source}: parameters both under {prefix} and {elsewhere}: {both[0]!r}; expected "
                "one of the two places"
            )
        return {k[len(prefix) :]: k for k in keys if k.startswith(prefix)}, "big_vision"
    keys = [k for k in keys if not k.startswith(("opt/", "chrono/"))]
    if not any(k.startswith(("img/", "txt/")) for k in keys) and "embedding/kernel" in keys:
        # A lone ViT. Its head predicts the classes of its training set, so it is left out.
        unused = ("head/", "pre_logits/")
        return {f"img/{k}": k for k in keys if not k.startswith(unused)}, "augreg"
    big_vision = _GRID in keys or "img/Transformer/pos_embedding" in keys
    return {k: k for k in keys}, "big_vision" if big_vision else "vit_jax"


def _stacked_reader(npz):
    """Returns a function that reads slices of stacked arrays and keeps only the array in use."""
    kept = {}

    def read(key, index):
        if key not in kept:
            kept.clear()  # frees the last one before the next is read
            kept[key] = npz.read(key)
        return kept[key][index]

    return read


def read_canonical(npz) -> CanonicalCheckpoint:
    """Returns an open `NpzFile` or `ZarrFolder` under canonical names; closed with the result."""
    source = str(npz.path)
    plain, layout = _without_prefixes(npz.keys(), source)
    plain = _with_pooling_apart(plain, source)
    if not any(k.startswith(("img/", "txt/")) for k in plain):
        raise CheckpointError(
            f"{source}: no layout that this library knows; expected keys img/... and txt/... "
            f"(perhaps under params/), or a ViT's embedding/kernel; found {sorted(npz.keys())[:5]}"
        )
    for key in plain.values():
        if (found := npz.dtype(key).name) not in _FLOATS:
            raise CheckpointError(f"{source}: {key!r} is {found}, expected {', '.join(_FLOATS)}")
    shapes: dict = {}
    readers: dict = {}
    blocks: dict = {}
    read_stacked = _stacked_reader(npz)

    def put(name, shape, reader):
        if name in shapes:
            raise CheckpointError(f"{source}: {name!r} is given twice, in two layouts")
        shapes[name], readers[name] = tuple(shape), reader

    pooled = any(k.startswith("img/MAPHead_0/") for k in plain)
    kernel = plain.get("img/embedding/kernel")
    naflex = kernel is not None and len(npz.shape(kernel)) == 2  # its grid has axes y, x, width
    for name, key in plain.items():
        shape = npz.shape(key)
        stacked = _STACKED.fullmatch(name)
        if stacked:
            if not shape or not 0 < shape[0] <= 1000:
                raise CheckpointError(f"{source}: {key!r} {shape} has no leading axis of layers")
            for i in range(shape[0]):
                block = f"{stacked[1]}/encoderblock_{i}/{stacked[2]}"
                put(block, shape[1:], functools.partial(read_stacked, key, i))
        elif name in _IMAGE_POSITIONS and not naflex:
            _put_image_positions(npz, source, key, put, pooled=pooled)
        elif name == _TEXT_POSITIONS_OLD:
            pass  # below
        elif name == _CLS_ROW:
            raise CheckpointError(f"{source}: {key!r} is in no published layout")
        else:
            put(name, shape, lambda key=key: npz.read(key))
            blocks[name] = lambda key=key: npz.blocks(key)
    if _TEXT_POSITIONS_OLD in plain:
        _put_old_text_positions(npz, source, plain, shapes, readers, blocks)
    dtypes = tuple(sorted({npz.dtype(k).name for k in plain.values()}))
    # big_vision reads both the checkpoints of its runs and files of parameters alone.
    bare = layout == "big_vision" and not any(k.startswith(_PREFIXES) for k in plain.values())
    return CanonicalCheckpoint(layout, source, shapes, dtypes, readers, bare, blocks, npz.close)


def _with_pooling_apart(plain, source):
    """Returns {name: key}, with `MAPHead_0` in the names of the attention pooling, as today."""
    out = {_INLINED_POOLING.sub(r"img/MAPHead_0/\1", name): key for name, key in plain.items()}
    if len(out) < len(plain):
        raise CheckpointError(f"{source}: the attention pooling is given twice, img/MAPHead_0/...")
    return out


def _put_image_positions(npz, source, key, put, pooled):
    shape = npz.shape(key)
    if len(shape) != 3 or shape[0] != 1:
        raise CheckpointError(f"{source}: {key!r} has shape {shape}, expected (1, rows, width)")
    _, rows, width = shape
    if pooled:  # there is no class token, and no row for one
        put(_GRID, shape, lambda: npz.read(key))
    elif math.isqrt(rows) ** 2 != rows and math.isqrt(rows - 1) ** 2 == rows - 1:
        put(_CLS_ROW, (1, 1, width), lambda: npz.read(key)[:, :1])
        put(_GRID, (1, rows - 1, width), lambda: npz.read(key)[:, 1:])
    else:
        put(_CLS_ROW, (1, 1, width), lambda: np.zeros((1, 1, width), np.float32))
        put(_GRID, shape, lambda: npz.read(key))


def _put_old_text_positions(npz, source, plain, shapes, readers, blocks):
    old = plain[_TEXT_POSITIONS_OLD]
    new = plain.get(_TEXT_POSITIONS)
    if new is not None and npz.shape(new) != npz.shape(old):
        raise CheckpointError(f"{source}: {old!r} is {npz.shape(old)}, {new!r} {npz.shape(new)}")
    shapes[_TEXT_POSITIONS] = npz.shape(old)
    blocks.pop(_TEXT_POSITIONS, None)  # they are a sum of two arrays

    def read():
        value = np.asarray(npz.read(old), np.float32)
        return value if new is None else np.asarray(npz.read(new), np.float32) + value

    readers[_TEXT_POSITIONS] = read


def to_layout(variables, layout: str, bare: bool = False, stacked: bool = False) -> list:
    """Returns (key in the file, function that returns the array) in the order of published files.

    `bare`: big_vision's names go without `params/`. `stacked`: all blocks of a tower go into one
    array, layers first.
    """
    if layout not in LAYOUTS:
        raise CheckpointError(f"layout {layout!r} cannot be written, expected one of {LAYOUTS}")
    out = dict(variables)
    if layout == "vit_jax" and _GRID in out and _CLS_ROW not in out:
        raise CheckpointError(
            "layout 'vit_jax' has no attention pooling, which this model's image tower ends in; "
            "write layout 'big_vision'"
        )
    if _CLS_ROW in out:
        row = out.pop(_CLS_ROW)
        if layout == "vit_jax":
            grid = out.pop(_GRID)
            out[_COMBINED] = lambda: np.concatenate([row(), grid()], axis=1)
        else:
            cls = out["img/cls"]
            # Adding zeros would turn -0.0 into 0.0, so without a row nothing is added.
            out["img/cls"] = lambda: cls() + row() if row().any() else cls()
    if stacked:
        out = _stacked(out, layout)
    prefix = "params/" if layout == "big_vision" and not bare else ""
    return [(prefix + key, out[key]) for key in sorted(out)]


def _stacked(variables, layout):
    if layout != "big_vision":
        raise CheckpointError(f"layout {layout!r} has no stacked blocks, but big_vision has")
    out, stacks = {}, {}
    for name, read in variables.items():
        if numbered := _NUMBERED.fullmatch(name):
            place = f"{numbered[1]}/encoderblock/{numbered[3]}"
            stacks.setdefault(place, {})[int(numbered[2])] = read
        else:
            out[name] = read
    for name, blocks in stacks.items():
        reads = [blocks[i] for i in range(len(blocks))]
        out[name] = lambda reads=reads: np.stack([read() for read in reads])
    return out


def as_float16(path, name: str, array: np.ndarray) -> np.ndarray:
    """Returns a float32 array as float16, to be written at `path`; refuses larger values."""
    with np.errstate(over="ignore"):  # the error says it
        out = array.astype(np.float16)
    if not np.isfinite(out).all():
        raise CheckpointError(
            f"{path}: {name!r} holds values up to {np.abs(array).max():.4g}, but float16 ends at "
            "65,504; write float32"
        )
    return out


def resample_positions(grid: np.ndarray, side: int) -> np.ndarray:
    """Resamples a position grid (1, old * old, width) bilinearly to (1, side * side, width).

    Aligned corners: equals `scipy.ndimage.zoom(grid, (new/old, new/old, 1), order=1)`, which the
    original uses.
    """
    old, width = math.isqrt(grid.shape[1]), grid.shape[2]
    if side == old:
        return grid
    at = np.arange(side) * ((old - 1) / (side - 1) if side > 1 else 0.0)
    low = np.minimum(np.floor(at).astype(int), max(old - 2, 0))
    high = np.minimum(low + 1, old - 1)
    share = at - low
    x = grid.reshape(old, old, width).astype(np.float64)
    x = x[low] * (1 - share)[:, None, None] + x[high] * share[:, None, None]
    x = x[:, low] * (1 - share)[None, :, None] + x[:, high] * share[None, :, None]
    return x.reshape(1, side * side, width).astype(np.float32)
