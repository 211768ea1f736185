"""Fixtures shared by all tests: the reference checkpoints and the numbers expected of them."""

import contextlib
import functools
import gc
import importlib.util
import json
import os
import pathlib
import shutil

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import filelock
import numpy as np
import pytest

from lit_tf.serialized import lighten_keras

lighten_keras()

# Tracing leaves hundreds of thousands of objects behind, which Python's collector would visit again
# and again: a twelfth of the tests' time.
gc.set_threshold(50_000, 20, 100)

# `make test-newest` has no extra `train`, which stops at TensorFlow 2.20: no training, no demo.
if importlib.util.find_spec("tensorflow_datasets") is None:
    collect_ignore = [
        "training",
        "fuzz/test_settings.py",
        "fuzz/test_training_data.py",
        "test_demo.py",
        "test_embedded_model.py",
        "test_notebook.py",
        "test_readme.py",
    ]

# The files that take longest come first, so that the last minutes keep every process busy.
LONGEST = (
    "export/test_saved_model.py",
    "training/test_reference_numbers.py",
    "export/web/",
    "training/test_runs.py",
    "training/test_train.py",
    "export/test_tflite.py",
    "training/data/test_pipeline.py",
    "test_readme.py",
    "training/evaluation",
    "training/precompute",
    "export/",
)


def pytest_collection_modifyitems(items):
    """Sorts the files; `--no-loadscope-reorder` keeps that order."""

    def place(item):
        return next((i for i, file in enumerate(LONGEST) if file in item.nodeid), len(LONGEST))

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def graphs_as_they_are():
    """Quick tests run most graphs once, and do not optimize them; `make test-full` does."""
    if "optimization_level=0" in os.environ.get("XLA_FLAGS", ""):
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


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
def shared(tmp_path_factory):
    """A function from a name and `make(folder)` to the folder, made once for all test processes."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def get(name, make):
        folder = root / "shared" / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{folder}.lock"):
            if not folder.exists():
                unfinished = tmp_path_factory.mktemp("unfinished") / folder.name
                make(unfinished)
                unfinished.rename(folder)
        return folder

    return get


@pytest.fixture(scope="session")
def exported(fixtures, shared):
    """A function from a fixture's name to (model, the folder of its SavedModel, its parity)."""
    import lit_tf
    from lit_tf.export import saved_model

    @functools.cache
    def get(name):
        model, path = lit_tf.load(fixtures / f"{name}.npz"), fixtures / f"{name}.npz"
        folder = shared(f"saved_{name}", lambda folder: saved_model(model, folder, source=path))
        return model, folder, json.loads((folder / "lit_manifest.json").read_text())["parity"]

    return get


@contextlib.contextmanager
def without_verification():
    """SavedModels are written without the process that runs them, which other tests have."""
    from lit_tf.export import to_saved_model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(to_saved_model.verify, "run_in_process", lambda *args: ({}, {}))
        patch.setattr(to_saved_model, "_samples", lambda *args: ({}, {}))
        patch.setattr(to_saved_model.warmup, "write", lambda *args: None)
        yield


DEVICE_CLASSES = ("three next to seven", "one next to two")


@pytest.fixture(scope="session")
def digits_tflite(shared):
    """The folder of LiT-digits' TFLite graphs in float32, with DEVICE_CLASSES."""
    import lit_tf
    from lit_tf.export import tflite

    def make(folder):
        tflite(lit_tf.load("LiT-digits"), folder, quantization="none", classes=DEVICE_CLASSES)

    return shared("digits_tflite", make)


@pytest.fixture(scope="session")
def reference():
    """A function from a name to the arrays of tests/reference/expected/NAME.npz."""

    @functools.cache
    def read(name):
        with np.load(REFERENCE / "expected" / f"{name}.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    return read


@pytest.fixture(scope="session")
def naflex_file(fixture_module, tmp_path_factory):
    """The tiny NaFlex checkpoint, with its vocabulary beside it."""
    arrays = {
        f"params/{key}": fixture_module.array(61, key, tuple(shape))
        for key, shape in fixture_module.shapes("naflex_tiny").items()
    }
    arrays["params/t"] = np.full((1,), np.log(12.0), np.float32)
    arrays["params/b"] = np.full((1,), -3.0, np.float32)
    path = tmp_path_factory.mktemp("naflex") / "naflex_tiny.npz"
    np.savez(path, **arrays)
    path.with_suffix(".model").write_bytes((REFERENCE / "bytes_bpe.model").read_bytes())
    return path


# Another name for this machine, which browsers do not trust as they trust `localhost`.
PLAIN = "plain.test"
BROWSER_ARGUMENTS = [
    "--js-flags=--liftoff-only",  # WebAssembly is compiled once and runs briefly
    *"--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync".split(),
    *"--disable-background-networking --disable-component-update".split(),
    f"--host-resolver-rules=MAP {PLAIN} 127.0.0.1",
]


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium, or another that is installed; one for all tests of a process."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium is installed (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=BROWSER_ARGUMENTS)
        yield browser
        browser.close()
