"""NaFlex on devices: patches made by the examples go in, big_vision's answers come out."""

import json
import pathlib
import runpy
import sys

import numpy as np
import pytest

import lit_tf
from lit_tf.cli import main
from lit_tf.config import LitConfig
from lit_tf.errors import ExportError, ImageError
from lit_tf.export import int8_images, onnx, samples, tflite
from lit_tf.model import LitModel

litert = pytest.importorskip("ai_edge_litert.interpreter")
EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.filterwarnings("ignore:no text_encoder_strings")


@pytest.fixture(scope="module")
def want(reference):
    return reference("naflex")


@pytest.fixture(scope="module")
def images(want):
    return [want[f"image_{i}"] for i in range(5)]


@pytest.fixture(scope="module")
def model(naflex_file):
    return lit_tf.load(naflex_file)


@pytest.fixture(scope="module")
def tower(model):
    """The model without its text tower, whose export takes time."""
    alone = LitModel(LitConfig(image=model.config.image, text=None))
    for mine, other in zip(alone.image_tower.weights, model.image_tower.weights, strict=True):
        mine.assign(other)
    return alone


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLES / "naflex_patches.py"))


def prepared(example, images, length):
    """Returns {argument: array} of images, by the example."""
    rows = [example["patches_of"](image, 8, length) for image in images]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize("length", [36, 144])
def test_the_example_makes_big_visions_patches(example, images, want, length):
    found = prepared(example, images, length)
    np.testing.assert_allclose(found["patches"], want[f"{length}/patches"], atol=1e-5)
    np.testing.assert_array_equal(found["mask"], want[f"{length}/type"])
    for axis, key in enumerate(("yidx", "xidx")):
        np.testing.assert_array_equal(found["coordinates"][..., axis], want[f"{length}/{key}"])
    for (h, w, patch, most), size in zip(want["sizes/hwPL"], want["sizes/result"], strict=True):
        grid = example["target_grid"](int(h), int(w), int(patch), int(most))
        assert (grid[0] * patch, grid[1] * patch) == tuple(size)


def test_a_folder_answers_and_tests_itself(tower, example, images, want, tmp_path, monkeypatch):
    out, length = tmp_path / "out", 36
    files = tflite(tower, out, quantization="none", max_patches=length)
    found = files["image_encoder.tflite"]
    assert found["inputs"]["patches"] == "float32 [N, 36, 192]"
    assert found["inputs"]["coordinates"] == "int32 [N, 36, 2]" and "mask" in found["inputs"]
    graph = litert.Interpreter(str(out / "image_encoder.tflite")).get_signature_runner()
    for rows in (slice(None), slice(2, 3)):
        zimg = graph(**prepared(example, images[rows], length))["embedding"]
        np.testing.assert_allclose(zimg, want["36/zimg"][rows], atol=1e-4)
    manifest = json.loads((out / "lit_manifest.json").read_text())
    assert (manifest["patch_size"], manifest["max_patches"]) == (8, length)
    # The folder's golden patches are those that the example makes of the folder's pictures.
    script = runpy.run_path(str(EXAMPLES / "self_test.py"))
    test = json.loads((out / "self_test.json").read_text())
    pictures = [script["array"](record) for record in test["pictures"]]
    for name, value in prepared(example, pictures, length).items():
        np.testing.assert_allclose(value, script["array"](test[name]), atol=1e-5)
    assert "antialiased" in manifest["resizing"] and test["resizing"] == manifest["resizing"]
    monkeypatch.setattr(sys, "argv", ["self_test.py", str(out)])
    assert script["main"]() == 0


@pytest.mark.full
@pytest.mark.parametrize(
    ("quantization", "least"), [("float16", 0.9999), ("dynamic_int8", 0.999), ("int8", 0.99)]
)
def test_every_quantization_keeps_the_embeddings(
    naflex_file, example, images, want, tmp_path, quantization, least
):
    import PIL.Image

    for i, image in enumerate([*samples.sample_images(48, 20)[6:], *images]):
        PIL.Image.fromarray(image).save(tmp_path / f"{i}.png")
    out = tmp_path / "out"
    command = ["export", str(naflex_file), str(out), "--tflite", "--max-patches", "36"]
    command += ["--batch", "1", "--quantization", quantization, "--classes", "a cat,a dog"]
    assert main([*command, "--calibration", str(tmp_path / "*.png")]) == 0
    graph = litert.Interpreter(str(out / "image_encoder.tflite")).get_signature_runner()
    given = prepared(example, images, 36)
    rows = [graph(**{k: v[i : i + 1] for k, v in given.items()})["embedding"] for i in range(5)]
    assert samples.cosine(np.concatenate(rows), want["36/zimg"]).mean() >= least
    assert (out / "zero_shot.tflite").is_file()


@pytest.mark.full
def test_onnx_takes_the_same(model, example, images, want, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    onnx(model, tmp_path / "out", max_patches=36)
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "image_encoder.onnx"))
    (zimg,) = session.run(["embedding"], prepared(example, images, 36))
    np.testing.assert_allclose(zimg, want["36/zimg"], atol=1e-6)


def test_what_does_not_go_together_is_refused_by_name(model, fixtures, tmp_path):
    with pytest.raises(ExportError, match="NaFlex tower takes images of any shape"):
        int8_images(model)
    with pytest.raises(ImageError, match="max_patches must be a positive integer"):
        tflite(model, tmp_path / "out", max_patches=0)
    square = lit_tf.load(fixtures / "lit_bert_tiny.npz")
    for export in (tflite, onnx):
        with pytest.raises(ImageError, match="only NaFlex models"):
            export(square, tmp_path / "out", max_patches=36)
    assert not list(tmp_path.iterdir())
