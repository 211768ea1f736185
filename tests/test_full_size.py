"""Published sizes: equal to the reference, and loaded without a second copy in memory."""

import math
import shutil
import subprocess
import sys

import numpy as np
import pytest

from lit_tf.checkpoints.npz import write_npz

pytestmark = pytest.mark.full

BASE = "lit_bert_tiny"  # loaded first: what TensorFlow and a first model take is not counted

# Peak memory has to be asked of a fresh process. Linux lets the mark be reset, so that what
# importing takes for a moment does not hide what loading takes.
PROGRAM = """
import pathlib, sys
import numpy as np
import lit_tf

def memory(field):
    text = pathlib.Path("/proc/self/status").read_text()
    return int(text.split(field + ":")[1].split()[0]) * 1024

tiny, path, inputs, out = sys.argv[1:]
lit_tf.load(tiny).encode_tokens(np.zeros((1, 16), np.int32))
pathlib.Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
model = lit_tf.load(path)
peak = memory("VmHWM") - before
with np.load(inputs) as f:
    zimg = model({"image": f["pixels"]})["image_embedding"]
    ztxt = model.encode_tokens(f["tokens"])
np.savez(out, zimg=zimg, ztxt=ztxt, peak=peak, temperature=model.temperature)
"""


@pytest.fixture(scope="module")
def answer(fixtures, fixture_module, tmp_path_factory):
    """A function from a published name to what its fixture answers in a process of its own."""
    folder = tmp_path_factory.mktemp("full_size")
    pixels, tokens = fixture_module.full_size_inputs()
    np.savez(folder / "inputs.npz", pixels=pixels, tokens=tokens)
    seeds, shapes = fixture_module.SEEDS, fixture_module.shapes

    def run(name):
        path, out = folder / f"{name}.npz", folder / "answer.npz"
        arrays = ((k, fixture_module.array(seeds[name], k, s)) for k, s in shapes(name).items())
        write_npz(path, arrays)
        try:
            subprocess.run(
                [sys.executable, "-c", PROGRAM, fixtures / f"{BASE}.npz", path]
                + [folder / "inputs.npz", out],
                check=True,
            )
        finally:
            path.unlink()
        with np.load(out) as f:
            return dict(f)

    yield run
    shutil.rmtree(folder)


def check_peak(found, name, fixture_module):
    size = 4 * sum(math.prod(s) for s in fixture_module.shapes(name).values())
    print(f"{name}: peak memory while loading {found['peak'] / size:.3f} x its float32 size")
    assert size < found["peak"] < 1.5 * size


@pytest.mark.parametrize("name", ["LiT-B16B_2", "LiT-L16Ti"])
def test_embeddings_equal_the_reference(answer, reference, fixture_module, name):
    found, expected = answer(name), reference("full_size")
    for key in ("zimg", "ztxt"):
        difference = np.abs(found[key] - expected[f"{name}/{key}"]).max()
        print(f"{name}: {key} differs by {difference:.1e}")
        assert difference < 2e-6
    assert found["temperature"] == pytest.approx(expected[f"{name}/t"][0], rel=1e-6)
    check_peak(found, name, fixture_module)


def test_the_largest_model_loads_and_answers(answer, fixture_module):
    found = answer("LiT-L16L")
    assert found["zimg"].shape == (2, 1024) and found["ztxt"].shape == (4, 1024)
    for key in ("zimg", "ztxt"):
        np.testing.assert_allclose(np.linalg.norm(found[key], axis=-1), 1, atol=1e-6)
    check_peak(found, "LiT-L16L", fixture_module)
