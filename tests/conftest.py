"""Fixtures shared by all tests: the reference checkpoints and the numbers expected of them."""

import functools
import importlib.util
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest

# `make test-newest` has no extra `train`, which stops at TensorFlow 2.20: no training, no demo.
if importlib.util.find_spec("tensorflow_datasets") is None:
    collect_ignore = [
        "training",
        "test_demo.py",
        "test_embedded_model.py",
        "test_notebook.py",
        "test_readme.py",
    ]

REFERENCE = pathlib.Path(__file__).parent / "reference"


@functools.cache
def reference_fixtures():
    """Returns the module tests/reference/reference_fixtures.py."""
    spec = importlib.util.spec_from_file_location(
        "reference_fixtures", REFERENCE / "reference_fixtures.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fixture_module():
    """The module that writes checkpoints, images, texts and batches."""
    return reference_fixtures()


@pytest.fixture(scope="session")
def fixtures(tmp_path_factory):
    """A folder with every small checkpoint, each with its vocabulary beside it."""
    folder = tmp_path_factory.mktemp("fixtures")
    reference_fixtures().write_small(folder)
    for path in folder.glob("*.npz"):
        if path.stem == "siglip2_tiny":
            path.with_suffix(".model").write_bytes((REFERENCE / "bytes_bpe.model").read_bytes())
        elif path.stem in ("lit_tt_tiny", "bv_old_tiny") or path.stem.startswith("siglip"):
            path.with_suffix(".model").write_bytes((REFERENCE / "sentencepiece.model").read_bytes())
        elif path.stem not in ("vit_upstream_tiny", "upstream_init_tiny"):
            path.with_suffix(".txt").write_bytes((REFERENCE / "vocab.txt").read_bytes())
    (folder / "bert_tiny" / "vocab.txt").write_bytes((REFERENCE / "vocab.txt").read_bytes())
    return folder


@pytest.fixture(scope="session")
def reference():
    """A function from a name to the arrays of tests/reference/expected/NAME.npz."""

    @functools.cache
    def read(name):
        with np.load(REFERENCE / "expected" / f"{name}.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    return read
