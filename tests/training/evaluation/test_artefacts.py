"""Keras, SavedModel and float TFLite classify and retrieve the same."""

import functools
import json
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

import lit_tf
import lit_tf.export
from lit_tf.errors import DataError
from lit_tf.training.evaluation import artefacts, encoders, images, protocol
from lit_tf.training.evaluation.captioned import open_captioned
from lit_tf.training.evaluation.classification import open_classification

from . import tiny_datasets
from .test_cli import figures, run


@pytest.fixture(scope="module")
def digits():
    """The embedded model, on which a wrong prediction is not a coin's toss."""
    return lit_tf.load("LiT-digits")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    tfds.disable_progress_bar()
    return str(tmp_path_factory.mktemp("tfds"))


def write_manifest(folder, model):
    folder.mkdir(parents=True, exist_ok=True)
    image = model.config.image
    manifest = {"model": "LiT-digits", "resolution": image.image_size, "crop": False}
    (folder / "lit_manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(params=["tflite", pytest.param("saved_model", marks=pytest.mark.full)])
def artefact(request, digits, digits_tflite, shared):
    """LiT-digits as an exporter writes it: (the option that names it, its folder)."""
    if request.param == "tflite":
        return "tflite", digits_tflite
    make = functools.partial(lit_tf.export.saved_model, digits)
    return "saved-model", shared("saved_digits", make)


def test_all_backends_give_the_same_predictions(digits, artefact, data_dir):
    classification = open_classification("digit_pairs/tiny", data_dir=data_dir)
    captioned = open_captioned("digit_pairs/tiny:test[:60]", data_dir=data_dir)
    kinds = {"tflite": artefacts.TFLiteEncoder, "saved-model": artefacts.SavedModelEncoder}
    (zero_shot, found), (other, other_found) = (
        (protocol.zero_shot(encoder, classification), protocol.retrieval(encoder, captioned))
        for encoder in (
            encoders.KerasEncoder(digits, batch_size=32),
            kinds[artefact[0]](artefact[1], 32),
        )
    )
    assert zero_shot.metrics["accuracy"] > 0.8  # a model that works, not a tie between guesses
    np.testing.assert_array_equal(other.predictions, zero_shot.predictions)
    assert other.metrics == zero_shot.metrics and other_found.metrics == found.metrics
    np.testing.assert_allclose(other_found.zimg, found.zimg, atol=1e-4)
    np.testing.assert_allclose(other_found.ztxt, found.ztxt, atol=1e-4)


def test_the_command_evaluates_each(artefact, data_dir, tmp_path):
    answers = []
    for source in ("LiT-digits", "--{}={}".format(*artefact)):
        out = tmp_path / "out.json"
        what = ("--zero-shot=digit_pairs/tiny:test[:50]", f"--data-dir={data_dir}")
        run(source, *what, f"--json={out}")
        answers.append(figures(out))
    assert answers[0] == answers[1]
    assert {metric for _, metric in answers[0]} == {
        "accuracy",
        "accuracy/seen",
        "accuracy/unseen",
    }


def test_a_saved_model_embeds_as_its_model_does(exported, tmp_path):
    model, folder, _ = exported("lit_bert_tiny")
    paths = [str(tmp_path / f"{i}.png") for i in range(5)]
    for i, path in enumerate(paths):
        tiny_datasets.save(path, tiny_datasets.picture(i))
    texts = [f"a photo of {i} dogs" for i in range(5)]
    encoder = artefacts.SavedModelEncoder(folder, 4)
    found = encoder.embed_images(images.FileImages("some", paths))
    assert found.readable.all()
    np.testing.assert_allclose(found.z, model.encode_image(paths), atol=1e-5)
    np.testing.assert_allclose(encoder.embed_texts(texts), model.encode_text(texts), atol=1e-5)


def test_folders_that_are_no_artefacts_are_refused(tmp_path, digits):
    for kind in (artefacts.SavedModelEncoder, artefacts.TFLiteEncoder):
        with pytest.raises(DataError, match="lit_manifest.json"):
            kind(tmp_path)
    write_manifest(tmp_path / "empty", digits)
    with pytest.raises(DataError, match="no SavedModel that loads"):
        artefacts.SavedModelEncoder(tmp_path / "empty")
    with pytest.raises(DataError, match="has no image_encoder.tflite"):
        artefacts.TFLiteEncoder(tmp_path / "empty")
    (tmp_path / "empty" / "image_encoder.tflite").write_bytes(b"no graph at all")
    with pytest.raises(DataError, match="no TFLite graph with an input 'image'"):
        artefacts.TFLiteEncoder(tmp_path / "empty")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"model": ' * 100_000,
        {"model": 1},
        {"crop": "no"},
        {"resolution": None},
        {"resolution": "forty"},
        {"resolution": True},
        {"resolution": 0},
        {"resolution": -40},
        {"resolution": 40.0},
        {"resolution": float("inf")},
        {"resolution": 10**400},
        {"resolution": [40]},
        {"temperature": float("nan")},
        {"temperature": -1},
        {"temperature": "hot"},
        {"lowercase": 1},
    ],
    ids=lambda content: repr(content)[:30],
)
def test_damaged_manifests_are_refused_by_name(tmp_path, content, digits):
    if isinstance(content, dict):
        write_manifest(tmp_path, digits)
        whole = json.loads((tmp_path / "lit_manifest.json").read_text())
        content = json.dumps({**whole, **content}).encode()
    (tmp_path / "lit_manifest.json").write_bytes(content)
    for kind in (artefacts.SavedModelEncoder, artefacts.TFLiteEncoder):
        if kind is artefacts.TFLiteEncoder and b'"resolution": null' in content:
            continue  # its graph says it
        with pytest.raises(DataError, match=r"lit_manifest.json is damaged: ") as error:
            kind(tmp_path)
        assert len(str(error.value)) < 400


def test_exports_of_naflex_models_are_refused_by_name(tmp_path, digits):
    write_manifest(tmp_path, digits)
    whole = json.loads((tmp_path / "lit_manifest.json").read_text())
    (tmp_path / "lit_manifest.json").write_text(json.dumps({**whole, "patch_size": 16}))
    for kind in (artefacts.SavedModelEncoder, artefacts.TFLiteEncoder):
        with pytest.raises(DataError, match="NaFlex model, whose exports cannot be evaluated"):
            kind(tmp_path)


def test_a_manifest_of_another_resolution_than_the_graphs_is_refused(exported, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(exported("lit_bert_tiny")[1], folder)
    path = folder / "lit_manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "resolution": 224}))
    side = manifest["resolution"]
    with pytest.raises(DataError, match=f"is 224, but the graph's image tower takes .* {side} pix"):
        artefacts.SavedModelEncoder(folder)


@pytest.mark.full
@pytest.mark.parametrize(("quantization", "least"), [("none", 1e-6), ("dynamic_int8", 0.005)])
def test_accuracy_on_digits_survives_export(digits, tmp_path, quantization, least):
    lit_tf.export.tflite(digits, tmp_path / "tflite", quantization=quantization)
    data = open_classification("digits")
    kept, lost = (
        protocol.zero_shot(encoder, data).metrics["accuracy"]
        for encoder in (encoders.KerasEncoder(digits), artefacts.TFLiteEncoder(tmp_path / "tflite"))
    )
    assert lost == pytest.approx(kept, abs=least)  # half a point for int8


def test_texts_keep_their_order_and_each_is_embedded_once(digits, monkeypatch):
    """Encoders sort texts by length; ten of these are equal."""
    texts = [f"the number {n % 7} in red" if n % 2 else f"{n % 5}" for n in range(70)]
    want = digits.encode_text(texts)
    counted = []
    original = encoders.collect
    monkeypatch.setattr(
        encoders, "collect", lambda count, *rest: counted.append(count) or original(count, *rest)
    )
    z = encoders.KerasEncoder(digits, batch_size=8).embed_texts(texts)
    np.testing.assert_allclose(z, want, atol=1e-6, rtol=0)

    class Strings(encoders.Encoder):
        batch_size = 8

        def _embed_strings(self, batch):
            return digits.encode_text(batch)

    np.testing.assert_allclose(Strings().embed_texts(texts), want, atol=1e-6, rtol=0)
    assert counted == [len(set(texts))] * 2
