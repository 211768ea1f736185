"""TFLite graphs: equal to the model, builtin operations only, run in LiteRT alone."""

import importlib
import io
import json
import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, InterpreterWithCustomOps

import lit_tf
from lit_tf.cli import main
from lit_tf.errors import ExportError, ImageError
from lit_tf.export import samples, tflite, to_tflite
from lit_tf.images.preprocessing import resize_uint8
from lit_tf.texts.tokenizers import SentencePieceTokenizer

from ..conftest import DEVICE_CLASSES, REFERENCE
from ..vocabularies import spm_bytes

ROOT = pathlib.Path(__file__).parents[2]
ALONE = """
import sys, numpy as np
from ai_edge_litert.interpreter import Interpreter
folder = sys.argv[1]
given = np.load(folder + "/given.npz")
out = {}
for file, name in (("image_encoder", "image"), ("text_encoder", "tokens"), ("zero_shot", "image")):
    run = Interpreter(f"{folder}/{file}.tflite").get_signature_runner()
    for n in (1, 3):
        out[f"{file}{n}"] = next(iter(run(**{name: given[name][:n]}).values()))
np.savez(folder + "/got.npz", **out)
assert not {"tensorflow", "lit_tf"} & set(sys.modules), "imported"
"""


@pytest.fixture(scope="module")
def digits():
    return lit_tf.load("LiT-digits")


def check_operations(folder):
    """All are builtin, and only three run outside XNNPACK.

    They turn bytes into floats, take rows out of a table, and find the padding among integers.
    """
    files = json.loads((folder / "lit_manifest.json").read_text())["files"]
    assert files["image_encoder.tflite"]["delegation"]["left"] == {"CAST": 1}
    left = files["text_encoder.tflite"]["delegation"]["left"]
    assert set(left) <= {"CAST", "EQUAL", "GATHER"} and sum(left.values()) <= 3
    for file in ("image_encoder", "text_encoder"):
        assert files[f"{file}.tflite"]["delegation"]["partitions"] == 1
        operations = Interpreter(str(folder / f"{file}.tflite"))._get_ops_details()
        names = {op["op_name"] for op in operations}
        assert not any("Flex" in n or n == "CUSTOM" for n in names)
        assert "GELU" in names


@pytest.mark.full  # quick tests compare LiT-digits and a SigLIP model
@pytest.mark.parametrize(
    "name", ["lit_bert_tiny", "lit_bert_head_tiny", "lit_tt_tiny", "lit_small_tiny"]
)
def test_float_graphs_equal_the_reference(name, fixtures, reference, fixture_module, tmp_path):
    from tensorflow_text.core.pybinds import tflite_registrar

    model = lit_tf.load(fixtures / f"{name}.npz")
    tflite(model, tmp_path / "out", quantization="none")
    want = reference("towers")
    sp = name == "lit_tt_tiny"
    texts = fixture_module.sp_texts() if sp else fixture_module.TEXTS
    tokens = want["sp_tokens" if sp else "bert_tokens"].astype(np.int32)
    pixels = samples.resized(model, fixture_module.images())

    run = Interpreter(str(tmp_path / "out/image_encoder.tflite")).get_signature_runner()
    z = run(image=pixels)["embedding"]
    np.testing.assert_allclose(z, want[f"{name}/zimg"], atol=1e-4)
    run = Interpreter(str(tmp_path / "out/text_encoder.tflite")).get_signature_runner()
    ztok = run(tokens=tokens)["embedding"]
    np.testing.assert_allclose(ztok, want[f"{name}/ztxt"], atol=1e-4)
    interpreter = InterpreterWithCustomOps(
        model_path=str(tmp_path / "out/text_encoder_strings.tflite"),
        custom_op_registerers=tflite_registrar.SELECT_TFTEXT_OPS,
    )
    strings = np.array([t.encode() for t in texts], object)
    ztxt = interpreter.get_signature_runner("encode_text")(text=strings)["embedding"]
    np.testing.assert_allclose(ztxt, want[f"{name}/ztxt"], atol=1e-4)
    check_operations(tmp_path / "out")


def test_files_run_in_litert_alone_at_any_batch_size(digits, digits_tflite, tmp_path):
    classes = list(DEVICE_CLASSES)
    shutil.copytree(digits_tflite, tmp_path / "out")
    pictures = samples.sample_images(48, 3)
    pixels = samples.resized(digits, pictures)
    tokens = digits.tokenize(["a three", "a seven next to a one", "red ink"])
    np.savez(tmp_path / "out/given.npz", image=pixels, tokens=tokens)
    subprocess.run([sys.executable, "-c", ALONE, str(tmp_path / "out")], check=True)
    got = np.load(tmp_path / "out/got.npz")
    for n in (1, 3):
        want = digits.encode_image(pictures[:n])
        np.testing.assert_allclose(got[f"image_encoder{n}"], want, atol=1e-4)
        want = digits.encode_tokens(tokens[:n])
        np.testing.assert_allclose(got[f"text_encoder{n}"], want, atol=1e-4)
        want = digits.classify(pictures[:n], classes)
        np.testing.assert_allclose(got[f"zero_shot{n}"], want, atol=1e-3)
    assert (tmp_path / "out/labels.txt").read_text().splitlines() == classes
    check_operations(digits_tflite)


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    """A folder of LiT-digits in dynamic_int8, by the command line."""
    folder = tmp_path_factory.mktemp("by_command")
    assert main(["export", "LiT-digits", str(folder / "device"), "--tflite"]) == 0
    return folder / "device"


@pytest.mark.parametrize(
    ("quantization", "least", "size"),  # of the text graph, beside float32
    [
        pytest.param("float16", 0.9999, 0.6, marks=pytest.mark.full),
        ("dynamic_int8", 0.999, 0.35),
        pytest.param("int8", 0.99, 0.35, marks=pytest.mark.full),
    ],
)
def test_quantized_files_stay_within_their_bounds(
    digits, digits_tflite, device, tmp_path, quantization, least, size
):
    images = samples.resized(digits, samples.sample_images(48, 20)[6:])  # an array, or a list
    out = device
    if quantization != "dynamic_int8":
        out = tmp_path / "out"
        tflite(digits, out, quantization=quantization, calibration=images)
    written = json.loads((out / "lit_manifest.json").read_text())
    files = written["files"]
    for file in ("image_encoder", "text_encoder", "text_encoder_strings"):
        assert files[f"{file}.tflite"]["mean_cosine"] >= least, file
    assert written["quantization"] == quantization and written["temperature"] == digits.temperature
    float32 = os.path.getsize(digits_tflite / "text_encoder.tflite")
    assert files["text_encoder.tflite"]["bytes"] < size * float32


def test_the_device_tokenizer_gives_the_ids_of_the_library(digits):
    rng = np.random.default_rng(0)
    # The code points of which tensorflow-text's fast tokenizer thinks otherwise: separators that
    # are no spaces elsewhere, and punctuation of Unicode 16.
    known = {0x1680, 0x2028, 0x2029, 0x1B4E, 0x1B4F, 0x1B7F, 0x10D6E, 0x113D4, 0x113D5, 0x113D7}
    known |= {0x113D8, 0x11BE1, 0x16D6D, 0x16D6E, 0x16D6F, 0x1E5FF}
    texts = [
        f"three{chr(c)}seven" for c in range(0x30000) if not 0xD800 <= c < 0xE000 and c not in known
    ]
    texts += ["".join(map(chr, rng.integers(32, 0x2000, 9))) for _ in range(2000)]
    texts = [t for t in texts if not known & set(map(ord, t))]
    assert to_tflite._differing(digits.tokenizer) is None
    got = to_tflite._fast_tokenizer(digits.tokenizer)(tf.constant(texts)).numpy()
    np.testing.assert_array_equal(got, digits.tokenizer(texts).numpy())


def test_devices_give_sentinels_the_unknown_piece_too():
    data = spm_bytes((REFERENCE / "sentencepiece.model").read_bytes(), ["\u2581<extra_id_0>"])
    tokenizer = SentencePieceTokenizer(data)
    assert to_tflite._differing(tokenizer) is None
    texts = ["a <extra_id_0> cat", "<extra_id_0>"]
    want = tokenizer(texts).numpy()
    assert (want == tokenizer.unk).any(axis=1).all() and want.max() < tokenizer.vocab_size
    found = to_tflite._fast_tokenizer(tokenizer)(tf.constant(texts))
    np.testing.assert_array_equal(found, want)


def test_a_tokenizer_that_devices_would_read_otherwise_is_found_out():
    sentencepiece, written = pytest.importorskip("sentencepiece"), io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(samples.sample_prompts(300)),
        model_writer=written,
        model_type="bpe",
        vocab_size=150,
        minloglevel=2,
    )
    lowercase = (REFERENCE / "sentencepiece.model").read_bytes()
    with_bytes = (REFERENCE / "bytes_bpe.model").read_bytes()
    for data, more in (
        (written.getvalue(), {}),
        (lowercase, {"lowercase": True}),
        (with_bytes, {}),
    ):
        found = to_tflite._differing(SentencePieceTokenizer(data, **more))
        assert re.search(r"tokenizer for devices gives .* for .*, the model's own", found)


def test_impossible_requests_are_refused_and_leave_nothing(digits, tmp_path):
    with pytest.raises(ExportError, match="quantization must be one of"):
        tflite(digits, tmp_path / "x", quantization="int3")
    with pytest.raises(ExportError, match="needs calibration images"):
        tflite(digits, tmp_path / "x", quantization="int8")
    with pytest.raises(ExportError, match="needs calibration images"):
        tflite(digits, tmp_path / "x", quantization="int8", calibration=np.zeros((0, 9, 9, 3)))
    with pytest.raises(ExportError, match="min_runtime must be one of 2.14, 2.16"):
        tflite(digits, tmp_path / "x", min_runtime="2.9")
    for batch in (0, True, 1.5):
        with pytest.raises(ExportError, match="batch must be a positive integer"):
            tflite(digits, tmp_path / "x", batch=batch)
    assert not list(tmp_path.iterdir())


def test_the_command_line_exports_and_the_example_runs_on_litert_alone(digits, device, tmp_path):
    assert json.loads((device / "lit_manifest.json").read_text())["checkpoint_sha256"]
    assert main(["export", "LiT-digits", str(device), "--tflite", "--dtype", "bfloat16"]) == 2
    picture = str(ROOT / "examples/images/37.png")  # 64 x 32 pixels
    texts = ["a three next to a seven", "red ink"]
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], "
        "run_name='__main__'); assert 'tensorflow' not in sys.modules"
    )
    script = str(ROOT / "examples/on_device.py")
    command = [sys.executable, "-c", code, script, str(device), picture, *texts]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    got = [float(line.split()[0].rstrip("%")) / 100 for line in done.stdout.splitlines()]
    logits = digits.temperature * digits.encode_image([picture]) @ digits.encode_text(texts).T
    np.testing.assert_allclose(got, tf.nn.softmax(logits).numpy()[0], atol=0.02)


@pytest.mark.parametrize(("height", "width"), [(480, 640), (33, 17), (48, 48), (1, 5)])
def test_the_example_resizes_as_the_library_does(height, width):
    example = runpy.run_path(str(ROOT / "examples/on_device.py"))
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    for crop in (False, True):
        found = example["resize"](image, 48, crop).astype(int)
        expected = resize_uint8(image, 48, crop).numpy()
        # Rounding in another order moves a value over the edge where the fraction is cut off.
        assert np.abs(found - expected).max() <= 1 and (found != expected).mean() < 0.02


def test_tokenizer_vectors_are_up_to_date():
    sys.path.insert(0, str(REFERENCE))
    maker = importlib.import_module("make_tokenizer_vectors")
    sys.path.remove(str(REFERENCE))
    assert maker.PATH.read_text(encoding="utf-8") == maker.to_json(maker.vectors())
    assert os.path.getsize(maker.PATH) < 50_000


def test_calibration_leaves_out_photos_that_cannot_be_read(
    fixture_module, fixtures, tmp_path, monkeypatch, capsys
):
    from lit_tf.commands.common import LeftOut
    from lit_tf.export import cli

    for i, image in enumerate(fixture_module.images()[:2]):
        (tmp_path / f"{i}.png").write_bytes(tf.io.encode_png(image).numpy())
    bad = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")
    pathlib.Path(bad).write_bytes(b"no picture")
    model, left_out = lit_tf.load(fixtures / "lit_bert_tiny.npz"), LeftOut()
    calibration = [f"{tmp_path}/*.png"]
    given = {"calibration": calibration, "max_pixels": 10**6, "max_patches": None}
    args = types.SimpleNamespace(strict=None, **given)
    pixels = cli.calibration_images(model, args, left_out)["image"]
    expected = samples.resized(model, fixture_module.images()[:2])
    np.testing.assert_array_equal(pixels, expected)
    np.testing.assert_array_equal(samples.resized(model, pixels), expected)  # as tflite takes them
    assert [found["path"] for found in left_out] == [bad]
    monkeypatch.setattr("lit_tf.export.tflite", lambda *args, **options: {"a.tflite": options})
    export = ["export", "LiT-digits", str(tmp_path / "out"), "--tflite", "--json"]
    assert main([*export, "--calibration", *calibration, "--max-pixels", "1000000"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [found["path"] for found in answer["left_out"]] == [bad]
    assert set(answer["a.tflite"]) == {"calibration", "source"}
    assert main(export) == 0 and "left_out" not in json.loads(capsys.readouterr().out)
    with pytest.raises(ImageError, match="xff"):
        args.strict = True
        cli.calibration_images(model, args, LeftOut())
    with pytest.raises(ImageError, match="none of 1 images"):
        args.strict, args.calibration = None, [bad]
        cli.calibration_images(model, args, LeftOut())
