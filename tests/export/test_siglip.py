"""SigLIP models leave as SavedModels and TFLite graphs that answer what big_vision answers."""

import json

import numpy as np
import pytest
import tensorflow as tf

import lit_tf
from lit_tf.export import samples
from lit_tf.export.to_saved_model import saved_model
from lit_tf.export.to_tflite import tflite
from lit_tf.images import preprocessing

litert = pytest.importorskip("ai_edge_litert.interpreter")


def close(found, expected, bound):
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


def run(path, **inputs):
    interpreter = litert.Interpreter(str(path))
    (signature,) = interpreter.get_signature_list()
    return interpreter.get_signature_runner(signature)(**inputs)["embedding"]


def pixels(fixture_module):
    """Returns the fixture's images, resized to 32, uint8."""
    return np.stack([preprocessing.resize_uint8(x, 32, False) for x in fixture_module.images()])


def test_a_saved_model_answers_the_reference(fixtures, fixture_module, reference, tmp_path):
    expected, texts = reference("siglip"), fixture_module.siglip_texts()
    parity = saved_model(lit_tf.load(fixtures / "siglip2_tiny.npz"), tmp_path / "out")
    assert parity["compare/match"]["max_abs_difference"] < 1e-4
    served = tf.saved_model.load(tmp_path / "out").signatures
    zimg = served["encode_image"](image=tf.constant(pixels(fixture_module)))["embedding"]
    close(zimg, expected["siglip2_tiny/zimg"], 1e-5)
    ztxt = served["encode_text"](text=tf.constant(texts))["embedding"]
    close(ztxt, expected["siglip2_tiny/ztxt"], 1e-5)
    encoded = [tf.io.encode_png(x).numpy() for x in fixture_module.images()]
    found = served["compare"](image_bytes=tf.constant(encoded), text=tf.constant(texts))
    close(found["match"], tf.sigmoid(expected["siglip2_tiny/logits"]), 1e-3)
    manifest = json.loads((tmp_path / "out" / "lit_manifest.json").read_text())
    assert manifest["match"] and manifest["lowercase"] and manifest["token_length"] == 64
    assert "match" in manifest["signatures"]["compare"]["outputs"]


def test_a_model_without_a_bias_has_no_match(exported):
    _, folder, parity = exported("lit_bert_tiny")
    assert "compare/match" not in parity
    assert not json.loads((folder / "lit_manifest.json").read_text())["match"]


@pytest.mark.parametrize(
    "name", ["siglip_tiny", pytest.param("siglip2_tiny", marks=pytest.mark.full)]
)
def test_float_graphs_answer_the_reference_and_say_why_they_take_no_strings(
    fixtures, fixture_module, reference, tmp_path, name
):
    expected, reason = reference("siglip"), "tokenizer for devices gives"
    with pytest.warns(UserWarning, match=f"no text_encoder_strings.tflite.*{reason}"):
        tflite(lit_tf.load(fixtures / f"{name}.npz"), tmp_path / "out", quantization="none")
    zimg = run(tmp_path / "out" / "image_encoder.tflite", image=pixels(fixture_module))
    close(zimg, expected[f"{name}/zimg"], 1e-4)
    ztxt = run(tmp_path / "out" / "text_encoder.tflite", tokens=expected[f"{name}/tokens"])
    close(ztxt, expected[f"{name}/ztxt"], 1e-4)
    manifest = json.loads((tmp_path / "out" / "lit_manifest.json").read_text())
    assert reason in manifest["left_out"]["text_encoder_strings.tflite"]
    assert {path.stem for path in (tmp_path / "out").glob("*.tflite")} == {
        "image_encoder",
        "text_encoder",
    }


@pytest.mark.parametrize(
    ("name", "quantization", "least"),
    [
        pytest.param("siglip_tiny", "float16", 0.9999, marks=pytest.mark.full),
        pytest.param("siglip_tiny", "dynamic_int8", 0.999, marks=pytest.mark.full),
        pytest.param("siglip_tiny", "int8", 0.99, marks=pytest.mark.full),
        pytest.param("siglip2_tiny", "int8", 0.99, marks=pytest.mark.full),
        pytest.param("siglip_i18n_tiny", "int8", 0.99, marks=pytest.mark.full),
        pytest.param("siglip_old_tiny", "int8", 0.99, marks=pytest.mark.full),
    ],
)
def test_every_quantization_keeps_the_embeddings(
    fixtures, fixture_module, tmp_path, name, quantization, least
):
    model = lit_tf.load(fixtures / f"{name}.npz")
    calibration = fixture_module.images() if quantization == "int8" else None
    files = tflite(model, tmp_path / "out", quantization=quantization, calibration=calibration)
    assert set(files) == {"image_encoder.tflite", "text_encoder.tflite"}
    # Real texts, most of whose 64 tokens are padding.
    texts = fixture_module.siglip_texts()
    tokens = model.tokenizer(texts).numpy()
    found = run(tmp_path / "out" / "text_encoder.tflite", tokens=tokens)
    assert samples.cosine(found, model.encode_text(texts)).mean() >= least
