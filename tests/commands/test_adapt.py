"""`lit-tf adapt`, and the classifier that it writes in other commands."""

import json
import shutil

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

import lit_tf
from lit_tf import few_shot
from lit_tf.cli import main


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Three classes of colours: what a model of random weights tells apart by pictures alone."""
    root, rng = tmp_path_factory.mktemp("classes"), np.random.default_rng(0)
    for name, colour in (("blue", (30, 30, 220)), ("green", (30, 200, 30)), ("red", (220, 30, 30))):
        (root / name).mkdir()
        for n in range(12):
            pixels = np.clip(colour + rng.normal(0, 25, (32, 32, 3)), 0, 255).astype(np.uint8)
            PIL.Image.fromarray(pixels).save(root / name / f"{n}.png")
    return root


@pytest.fixture(scope="module")
def classifier(fixtures, pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "mine.npz"
    command = ["adapt", fixtures / "lit_bert_tiny.npz", pictures, "--shots", 3, "--out", out]
    assert main(list(map(str, command))) == 0
    return out


def test_pictures_make_a_classifier_that_classify_takes(
    fixtures, pictures, classifier, capsys, run, checkpoint
):
    found = run("adapt", checkpoint, pictures, "--shots", "3", "--json")
    assert found["classes"] == ["blue", "green", "red"] and found["chosen"] == 9
    assert found["images"] == 13 and found["accuracy"]["mixed"] == 1
    answers = run(
        "classify", checkpoint, pictures / "red" / "0.png", "--classes", classifier, "--json"
    )
    assert answers["results"][0]["best"] == "red"
    few = run("adapt", checkpoint, pictures, "--shots", "12", "--json")
    assert few["images"] == 0 and few["accuracy"]["few-shot"] == 1  # by cross-validation


def test_a_picture_that_cannot_be_read_is_left_out_with_its_class(
    checkpoint, pictures, tmp_path, capsys
):
    shutil.copytree(pictures, tmp_path / "p")
    (tmp_path / "p" / "blue" / "0.png").write_bytes(b"no picture")
    command = ["adapt", str(checkpoint), str(tmp_path / "p"), "--shots", "3", "--json"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"]["mixed"] == 1
    assert [bad["path"] for bad in found["left_out"]] == [str(tmp_path / "p" / "blue" / "0.png")]
    for file in (tmp_path / "p" / "blue").iterdir():
        file.write_bytes(b"no picture")
    assert main(command) == 2
    assert "not one picture of blue can be read" in capsys.readouterr().err


def test_what_systems_keep_is_no_class_and_what_is_not_read_is_counted(
    checkpoint, pictures, tmp_path, capsys
):
    root = shutil.copytree(pictures, tmp_path / "p")
    inner = ("@eaDir", "red/@eaDir/x", "red/.thumbs")
    for name in ("__MACOSX", "#recycle", "$RECYCLE.BIN", "lost+found", ".git", *inner):
        shutil.copytree(pictures / "red", root / name)
    for name in ("red/a.raw2", "red/b.RAW2", "blue/notes.txt", "top.txt"):
        (root / name).touch()
    assert main(["adapt", str(checkpoint), str(root), "--shots", "3", "--json"]) == 0
    told, said = capsys.readouterr()
    found = json.loads(told)
    assert found["classes"] == ["blue", "green", "red"] and found["images"] == 13
    assert found["passed_over"] == {".txt": 1, ".raw2": 2}
    assert "passed over, not read by their ending: 2 .raw2, 1 .txt" in said


def test_another_image_tower_is_refused(fixtures, pictures, classifier, capsys):
    command = ["classify", fixtures / "bv_scan_tiny.npz", pictures / "red" / "0.png"]
    assert main(list(map(str, [*command, "--classes", classifier]))) == 2
    assert "another image tower" in capsys.readouterr().err


def test_folders_without_classes_are_refused(checkpoint, tmp_path, capsys):
    for place in (tmp_path / "no", tmp_path):
        assert main(["adapt", str(checkpoint), str(place)]) == 2
        assert "holds 0 folders with pictures" in capsys.readouterr().err


@pytest.mark.full
def test_exports_answer_as_the_classifier_does(fixtures, classifier, pictures, tmp_path):
    from lit_tf.export import saved_model

    model, made = lit_tf.load(fixtures / "lit_bert_tiny.npz"), few_shot.load(classifier)
    saved_model(model, tmp_path / "served", classes=made)
    path = pictures / "green" / "5.png"
    served = tf.saved_model.load(str(tmp_path / "served"))
    out = served.signatures["classify"](image_bytes=tf.constant([path.read_bytes()]))
    logits = made.logits(model.encode_image([path]))[0]
    expected = np.exp(logits - logits.max())
    scores = dict(zip(out["classes"][0].numpy(), out["scores"][0].numpy(), strict=True))
    found = [scores[name.encode()] for name in made.names]
    np.testing.assert_allclose(found, expected / expected.sum(), atol=1e-4)
    assert json.loads((tmp_path / "served" / "lit_manifest.json").read_text())["classes"] == [
        "blue",
        "green",
        "red",
    ]


@pytest.mark.full
def test_tflite_answers_as_the_classifier_does(fixtures, classifier, pictures, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    from lit_tf.export import tflite
    from lit_tf.images import resize_uint8, to_uint8

    model, made = lit_tf.load(fixtures / "lit_bert_tiny.npz"), few_shot.load(classifier)
    tflite(model, tmp_path / "device", quantization="none", classes=made)
    path = pictures / "green" / "5.png"
    pixels = resize_uint8(to_uint8(path), model.config.image.image_size).numpy()[None]
    graph = Interpreter(str(tmp_path / "device" / "zero_shot.tflite")).get_signature_runner()
    logits = made.logits(model.encode_image([path]))[0]
    expected = np.exp(logits - logits.max())
    np.testing.assert_allclose(
        graph(image=pixels)["probabilities"][0], expected / expected.sum(), atol=1e-4
    )
