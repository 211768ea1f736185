"""ONNX graphs answer what the reference answers, in onnxruntime."""

import json

import numpy as np
import pytest

import lit_tf
from lit_tf import cli
from lit_tf.errors import ExportError
from lit_tf.export import samples, to_onnx

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")


@pytest.mark.parametrize(
    "name", ["lit_bert_tiny", pytest.param("siglip_tiny", marks=pytest.mark.full)]
)
def test_both_towers_answer_the_reference(name, fixtures, fixture_module, reference, tmp_path):
    path, out = fixtures / f"{name}.npz", tmp_path / "out"
    assert cli.main(["export", str(path), str(out), "--onnx"]) == 0
    model, siglip = lit_tf.load(path), name == "siglip_tiny"
    expected = reference("siglip" if siglip else "towers")
    tokens = expected[f"{name}/tokens" if siglip else "bert_tokens"].astype(np.int32)
    given = {"image": samples.resized(model, fixture_module.images()), "tokens": tokens}
    for file, key, answer in (("image", "image", "zimg"), ("text", "tokens", "ztxt")):
        session = onnxruntime.InferenceSession(str(out / f"{file}_encoder.onnx"))
        for rows in (slice(None), slice(1)):
            (found,) = session.run(None, {key: given[key][rows]})
            np.testing.assert_allclose(found, expected[f"{name}/{answer}"][rows], atol=1e-4)
    written = json.loads((out / "lit_manifest.json").read_text())
    assert written["artefact"] == "onnx" and (out / written["tokenizing"]["file"]).is_file()


def test_options_of_other_exports_are_refused(fixtures, tmp_path, capsys):
    path, out = str(fixtures / "lit_bert_tiny.npz"), str(tmp_path / "out")
    assert cli.main(["export", path, out, "--onnx", "--batch", "1"]) == 2
    assert "--batch does not go with --onnx" in capsys.readouterr().err
    assert cli.main(["export", path, out, "--onnx", "--classes", "a,b"]) == 2
    assert "--classes" in capsys.readouterr().err


def test_a_tower_that_no_file_can_hold_is_refused_before_work(fixtures, tmp_path, monkeypatch):
    model = lit_tf.load(fixtures / "lit_bert_tiny.npz")
    monkeypatch.setattr(to_onnx, "MOST_BYTES", 4 * model.text_tower.count_params() - 1)
    monkeypatch.setattr(to_onnx, "_write", None)
    with pytest.raises(ExportError, match="text_tower has .* GB in float32, and an ONNX file"):
        to_onnx.onnx(model, tmp_path / "out")
    assert not list(tmp_path.iterdir())
