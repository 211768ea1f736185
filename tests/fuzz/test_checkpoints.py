"""Damaged checkpoints: a model or an error that names the file, in bounded time and memory."""

import io
import time
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest

import lit_tf
from lit_tf.errors import CheckpointError

from . import mutations

NAMES = ("lit_bert_tiny", "bv_checkpoint_tiny", "lit_tt_tiny", "siglip2_tiny", "bv_scan_tiny")
# What reading costs beside the arrays: variables' bookkeeping, the vocabulary, one header.
OVERHEAD = 24 << 20


def arrays_of(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def changed(arrays, rng):
    """Changes what one array is: its key, shape, dtype or values; or leaves it out."""
    arrays = dict(arrays)
    key = sorted(arrays)[rng.integers(len(arrays))]
    value = arrays.pop(key)
    if value.dtype == "V2":  # as NumPy stores bfloat16
        value = value.view(ml_dtypes.bfloat16)
    kind = rng.integers(9)
    if kind == 0:
        arrays[key + "/more"] = value
    elif kind == 1:
        arrays[key.upper()] = value
    elif kind == 2:
        arrays[key] = value.reshape(-1)
    elif kind == 3:
        arrays[key] = value[..., None]
    elif kind == 4:
        arrays[key] = value[:0] if value.ndim else value[None]
    elif kind == 5:
        types = ("float64", "int8", "complex64", "U3", "bool", "float16", "datetime64[s]")
        arrays[key] = np.ones(value.shape, types[rng.integers(len(types))])
    elif kind == 6:
        arrays[key] = np.full_like(value, (np.nan, np.inf, -1)[rng.integers(3)])
    elif kind == 7:
        arrays[key] = value.astype(ml_dtypes.bfloat16)
    return arrays


def zipped(arrays, rng):
    """Writes an archive in one of the ways in which others do, or that nobody should."""
    file, trick = io.BytesIO(), rng.integers(5)
    method = zipfile.ZIP_DEFLATED if trick == 0 else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", method) as archive:
        for key, value in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, value, allow_pickle=False)
            archive.writestr(f"{key}.npy", member.getvalue())
        if trick == 1:  # the same name twice
            with pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr(archive.namelist()[0], b"")
        elif trick == 2:
            archive.writestr("../../escape.npy", b"\x93NUMPY")
        elif trick == 3:
            archive.writestr("bomb.npy", bytes(1 << 20), zipfile.ZIP_DEFLATED)
    data = file.getvalue()
    if trick == 4:  # a header that declares more than there is
        data = data.replace(b"'shape': (", b"'shape': (9", 1)
    return data


def case_of(originals, case):
    """Returns the bytes of one case."""
    rng = mutations.generator("npz", case)
    data, arrays = originals[case % len(originals)]
    how = case // len(originals) % 3
    if how == 0:
        return mutations.damaged(data, rng)
    arrays = changed(arrays, rng) if how == 1 else arrays
    data = zipped(arrays, rng)
    return mutations.damaged(data, rng) if rng.random() < 0.3 else data


@pytest.mark.full
@pytest.mark.parametrize("part", range(10))
def test_a_damaged_checkpoint_is_a_model_or_an_error_that_names_it(fixtures, tmp_path, part):
    cases = range(100 * part, 100 * (part + 1))
    originals = [
        ((fixtures / f"{name}.npz").read_bytes(), arrays_of(fixtures / f"{name}.npz"))
        for name in NAMES
    ]
    read = 0
    for case in cases:
        path = tmp_path / "damaged.npz"
        path.write_bytes(case_of(originals, case))
        name = NAMES[case % len(NAMES)]
        vocabulary = next(p for p in fixtures.glob(f"{name}.*") if p.suffix != ".npz")
        size = sum(value.nbytes for value in originals[case % len(NAMES)][1].values())
        tracemalloc.start()
        began = time.process_time()
        try:
            lit_tf.load(str(path), vocab=str(vocabulary))
            read += 1
        except CheckpointError as e:
            assert "damaged.npz" in str(e), case
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert time.process_time() - began < 10, case
        assert peak < 1.5 * max(size, path.stat().st_size) + OVERHEAD, (case, peak)
    assert read, "not every damage may be fatal, or nothing is tried behind the first check"
