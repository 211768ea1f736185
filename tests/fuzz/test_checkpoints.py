"""Damaged checkpoints: a model or an error that names the file, in bounded time and memory."""

import io
import pathlib
import shutil
import time
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest

import lit_tf
from lit_tf.errors import CheckpointError, TokenizerError

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


CASES = 100
FOLDERS = ("hf_siglip_tiny", "hf_siglip2_tiny", "oc_siglip_tiny", "hf_naflex_tiny")


@pytest.mark.full
@pytest.mark.parametrize("part", range(4))
def test_a_damaged_folder_of_hugging_face_is_a_model_or_an_error_that_names_it(tmp_path, part):
    source = pathlib.Path(__file__).parents[1] / "reference" / "huggingface" / FOLDERS[part]
    originals = {p.name: p.read_bytes() for p in source.iterdir()}
    folder, read = tmp_path / "damaged", 0
    shutil.copytree(source, folder)
    lit_tf.load(folder)  # imports take long
    for case in range(CASES):
        rng = mutations.generator("huggingface", 100 * part + case)
        for name, data in originals.items():
            (folder / name).write_bytes(data)
        name = sorted(originals)[rng.integers(len(originals))]
        data = originals[name]
        header = 8 + int.from_bytes(data[:8], "little") if name.endswith("safetensors") else None
        if header is not None and rng.random() < 0.7:  # most of the file are weights
            data = mutations.damaged(data[:header], rng) + data[header:]
        else:
            data = mutations.damaged(data, rng)
        (folder / name).write_bytes(data)
        tracemalloc.start()
        began = time.monotonic()
        try:
            lit_tf.load(folder)
            read += 1
        except (CheckpointError, TokenizerError) as e:
            assert "damaged" in str(e), case
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert time.monotonic() - began < 10, case
        assert peak < 3 * sum(map(len, originals.values())) + OVERHEAD, (case, peak)
    assert read
