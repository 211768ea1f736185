"""Published sizes: equal to the reference, and loaded without a second copy in memory."""

import itertools
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from lit_tf.checkpoints.npz import write_npz
from lit_tf.config import side_of_images

pytestmark = pytest.mark.full

# Peak memory has to be asked of a fresh process. Linux lets the mark be reset, so that what
# importing takes for a moment does not hide what loading takes.
MEASURE = """
import pathlib, sys
import numpy as np
import lit_tf
import lit_tf.loading  # brings TensorFlow, whose memory is not counted

def memory(field):
    text = pathlib.Path("/proc/self/status").read_text()
    return int(text.split(field + ":")[1].split()[0]) * 1024

path, inputs, out = sys.argv[1:]
pathlib.Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
model = lit_tf.load(path)
peak = memory("VmHWM") - before
"""
PROGRAM = (
    MEASURE
    + """
with np.load(inputs) as f:
    zimg = model({"image": f["pixels"]})["image_embedding"]
    ztxt = model.encode_tokens(f["tokens"])
np.savez(out, zimg=zimg, ztxt=ztxt, peak=peak, temperature=model.temperature)
"""
)


@pytest.fixture(scope="module")
def answer(fixture_module, tmp_path_factory):
    """A function from a published name to what its fixture answers in a process of its own.

    `other` has shapes that take the place of the fixture's.
    """
    folder = tmp_path_factory.mktemp("full_size")
    seed = fixture_module.SEEDS

    def run(name, other=None):
        path, out = folder / f"{name}.npz", folder / "answer.npz"
        shapes = fixture_module.shapes(name) | (other or {})
        pixels, tokens = inputs(fixture_module, name, shapes)
        np.savez(folder / "inputs.npz", pixels=pixels, tokens=tokens)
        write_npz(path, ((k, fixture_module.array(seed[name], k, s)) for k, s in shapes.items()))
        try:
            subprocess.run(
                [sys.executable, "-c", PROGRAM, path, folder / "inputs.npz", out],
                check=True,
            )
        finally:
            path.unlink()
        with np.load(out) as f:
            return dict(f)

    yield run
    shutil.rmtree(folder)


def inputs(fixture_module, name, shapes):
    """Returns the images and tokens of the reference's answers to a full-size model."""
    if not name.startswith("siglip"):
        return fixture_module.full_size_inputs()
    grid, patch_size = math.isqrt(shapes["img/pos_embedding"][1]), shapes["img/embedding/kernel"][0]
    side = side_of_images(grid, patch_size, "attention")
    length = shapes["txt/pos_embedding"][1]
    return fixture_module.siglip_inputs(side, length, shapes["txt/Embed_0/embedding"][0])


def check_peak(peak, name, shapes):
    size = 4 * sum(map(math.prod, shapes))
    print(f"{name}: peak memory while loading {peak / size:.3f} x its float32 size")
    assert size < peak < 1.5 * size


@pytest.mark.parametrize(
    ("name", "expectations"),
    [
        ("LiT-B16B_2", "full_size"),
        ("LiT-L16Ti", "full_size"),
        ("siglip_b16_224", "siglip_full_size"),
        # Half of it is a single array, its token table of 256,000 rows.
        ("siglip2_b16_256", "siglip_full_size"),
    ],
)
def test_embeddings_equal_the_reference(answer, reference, fixture_module, name, expectations):
    found, expected = answer(name), reference(expectations)
    for key in ("zimg", "ztxt"):
        difference = np.abs(found[key] - expected[f"{name}/{key}"]).max()
        print(f"{name}: {key} differs by {difference:.1e}")
        assert difference < 2e-6
    assert found["temperature"] == pytest.approx(expected[f"{name}/t"][0], rel=1e-6)
    check_peak(found["peak"], name, fixture_module.shapes(name).values())


def test_so400m_at_384_pixels_loads_and_answers(answer, fixture_module):
    other = {"img/pos_embedding": (1, 27 * 27, 1152), "txt/pos_embedding": (1, 64, 1152)}
    found = answer("siglip_so400m14_224", other)
    assert found["zimg"].shape == (2, 1152) and found["ztxt"].shape == (4, 1152)
    for key in ("zimg", "ztxt"):
        np.testing.assert_allclose(np.linalg.norm(found[key], axis=-1), 1, atol=1e-6)
    shapes = fixture_module.shapes("siglip_so400m14_224") | other
    check_peak(found["peak"], "So400m/14 at 384", shapes.values())


def test_the_largest_model_loads_and_answers(answer, fixture_module):
    found = answer("LiT-L16L")
    assert found["zimg"].shape == (2, 1024) and found["ztxt"].shape == (4, 1024)
    for key in ("zimg", "ztxt"):
        np.testing.assert_allclose(np.linalg.norm(found[key], axis=-1), 1, atol=1e-6)
    check_peak(found["peak"], "LiT-L16L", fixture_module.shapes("LiT-L16L").values())


def bert_release(width, depth):
    """Returns {name: shape} of a BERT release with its token table of 30,522 rows."""
    out = {
        "bert/embeddings/word_embeddings": (30522, width),
        "bert/embeddings/position_embeddings": (512, width),
        "bert/embeddings/token_type_embeddings": (2, width),
        "bert/embeddings/LayerNorm/gamma": (width,),
        "bert/embeddings/LayerNorm/beta": (width,),
    }
    square, hidden = (width, width), 4 * width
    dense = {f"attention/self/{name}": square for name in ("query", "key", "value")}
    dense |= {"attention/output/dense": square, "intermediate/dense": (width, hidden)}
    dense |= {"output/dense": (hidden, width)}
    for layer, (name, shape) in itertools.product(range(depth), dense.items()):
        prefix = f"bert/encoder/layer_{layer}/{name}"
        out[f"{prefix}/kernel"], out[f"{prefix}/bias"] = shape, shape[1:]
        if name.endswith("output/dense"):
            norm = prefix.replace("output/dense", "output/LayerNorm")
            out[f"{norm}/gamma"] = out[f"{norm}/beta"] = (width,)
    return out


# The hardest case: nearly a quarter of a lone BERT base is one array, its token table.
def test_a_bert_release_alone_is_loaded_without_a_second_copy(tmp_path):
    shapes = bert_release(width=768, depth=12)
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "bert_model.ckpt"),
        tensor_names=list(shapes),
        shape_and_slices=[""] * len(shapes),
        tensors=[tf.fill(s, 0.01) for s in shapes.values()],
    )
    program = f"{MEASURE}\nnp.save(out, peak)"
    command = [sys.executable, "-c", program, tmp_path, "none", tmp_path / "peak.npy"]
    subprocess.run(command, check=True)
    check_peak(float(np.load(tmp_path / "peak.npy")), "BERT base", shapes.values())
