"""`preprocessing=`: the pixels and tokens that Hugging Face and open_clip compute."""

import dataclasses
import json
import pathlib
import pickle
import shutil

import numpy as np
import pytest
import tensorflow as tf

import lit_tf
from lit_tf import cli
from lit_tf.config import LitConfig
from lit_tf.errors import CheckpointError, ConfigError, ExportError, TokenizerError
from lit_tf.images.preprocessing import resize_uint8
from lit_tf.search.store import Model
from lit_tf.texts.tokenizers import SentencePieceTokenizer

REFERENCE = pathlib.Path(__file__).parents[1] / "reference"
HERE = REFERENCE / "huggingface"
VOCABULARIES = {"siglip": "sentencepiece.model", "siglip2": "bytes_bpe.model"}


@pytest.fixture
def folder(tmp_path):
    """A SigLIP of Hugging Face's, with its vocabulary."""
    folder = shutil.copytree(HERE / "hf_siglip_tiny", tmp_path / "model")
    shutil.copy(REFERENCE / "sentencepiece.model", folder / "spiece.model")
    return folder


@pytest.mark.parametrize("library", ["huggingface", "open_clip"])
@pytest.mark.parametrize("kind", ["siglip", "siglip2"])
def test_tokens_are_the_librarys_own(kind, library):
    if library == "open_clip":
        pytest.importorskip("ftfy")
    with np.load(HERE / "expected_tokens.npz") as expected:
        texts, ids = [str(t) for t in expected["texts"]], expected[f"{kind}/{library}"]
    tokenizer = SentencePieceTokenizer(str(REFERENCE / VOCABULARIES[kind]), 64, True, library)
    np.testing.assert_array_equal(tokenizer(texts), ids)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(tokenizer))(texts[1]), ids[1])
    in_graph = tf.function(
        lambda x: tokenizer(x), input_signature=[tf.TensorSpec([None], tf.string)]
    )
    if library == "huggingface":
        np.testing.assert_array_equal(in_graph(tf.constant(texts)), ids)
    else:
        with pytest.raises(TokenizerError, match="ftfy, which cannot run in a graph"):
            in_graph(tf.constant(texts))


def test_special_tokens_that_a_text_spells_out_are_those_tokens():
    def ids(kind, text):
        file = str(REFERENCE / VOCABULARIES[kind])
        return SentencePieceTokenizer(file, 16, True, "huggingface")(text).numpy().tolist()

    plain = SentencePieceTokenizer(str(REFERENCE / VOCABULARIES["siglip"]), 16)
    assert ids("siglip", "<unk>") == [plain.unk, *[plain.eos] * 15]
    assert ids("siglip", " <unk> . </s>")[:3] == [plain.unk, plain.eos, plain.eos]
    assert ids("siglip2", "<unk><bos><pad>")[:4] == [3, 2, 0, 1]


@pytest.mark.parametrize("resample", ["bicubic", "bilinear"])
def test_pixels_are_within_one_grey_level_of_the_librarys(fixture_module, resample):
    images = fixture_module.images()
    images += [fixture_module.image(300, 450, 6), fixture_module.image(64, 64, 7)]
    found = np.stack([resize_uint8(image, 32, resample=resample) for image in images]).astype(int)
    with np.load(HERE / "expected_preprocess.npz") as expected:
        assert np.abs(found - expected[f"pil_{resample}"]).max() <= 1
        assert np.abs(found - expected[f"torchvision_{resample}"]).max() <= 2  # off by 1 itself
        assert np.abs(expected["lit_tf"].astype(int) - expected[f"pil_{resample}"]).max() > 9


def test_it_travels_with_the_model(fixture_module, folder, tmp_path):
    change = json.loads((folder / "preprocessor_config.json").read_text())
    assert change["resample"] == 3
    model = lit_tf.load(folder, preprocessing="huggingface")
    texts, picture = ["The DOG, a cat.", "a </s> b"], fixture_module.image(300, 450, 6)
    assert (model.config.preprocessing, model.config.resample) == ("huggingface", "bicubic")
    with np.load(HERE / "expected_preprocess.npz") as expected:
        pixels = expected["pil_bicubic"][5]
    theirs = model.encode_image([pixels])
    cosine = (model.encode_image([picture]) * theirs).sum()
    assert cosine > 0.9999 > (lit_tf.load(folder).encode_image([picture]) * theirs).sum()
    lit_tf.save_npz(model, tmp_path / "x.npz")
    model.save(tmp_path / "x.keras")
    beside = json.loads((tmp_path / "x.json").read_text())["lit_tf"]
    assert (beside["preprocessing"], beside["resample"]) == ("huggingface", "bicubic")
    from_keras = tf.keras.models.load_model(tmp_path / "x.keras")
    lit_tf.save_huggingface(model, tmp_path / "x")
    for again in (lit_tf.load(tmp_path / "x.npz"), from_keras, lit_tf.load(tmp_path / "x")):
        np.testing.assert_array_equal(again.tokenize(texts), model.tokenize(texts))
        np.testing.assert_allclose(
            again.encode_image([picture]), model.encode_image([picture]), atol=1e-6
        )
    for name in ("x", "x.npz"):
        usual = lit_tf.load(tmp_path / name, preprocessing="big_vision")
        assert usual.config.resample is None
    assert (usual.tokenize(texts) != model.tokenize(texts)).any()
    records = [Model.of(m, "x", None) for m in (model, usual)]
    assert records[0].differences(records[1]) == ["preprocessing huggingface, not big_vision"]
    with pytest.raises(ExportError, match="preprocessing huggingface is computed by SavedModels"):
        lit_tf.export.tflite(model, tmp_path / "lite")
    open_clip = lit_tf.load(folder, preprocessing="open_clip")
    with pytest.raises(ExportError, match="ftfy.*export parts image and tokens"):
        lit_tf.export.saved_model(open_clip, tmp_path / "served")


def test_a_library_resizes_as_its_own_file_or_the_record_says(folder, tmp_path):
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "resample": 2}))
    model = lit_tf.load(folder, preprocessing="huggingface")
    lit_tf.save_npz(model, tmp_path / "x.npz")
    again = lit_tf.load(tmp_path / "x.npz", preprocessing="huggingface")
    assert model.config.resample == again.config.resample == "bilinear"
    assert lit_tf.load(folder, preprocessing="open_clip").config.resample == "bicubic"


def test_the_command_line_takes_it(folder, tmp_path):
    out = str(tmp_path / "x.npz")
    assert cli.main(["convert", str(folder), out, "--preprocessing", "huggingface"]) == 0
    assert lit_tf.load(out).config.preprocessing == "huggingface"


def test_what_it_does_not_fit_is_refused(fixtures, folder):
    described = json.loads((folder / "config.json").read_text())
    described["lit_tf"] = {"preprocessing": "clip"}
    (folder / "config.json").write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match="'clip', expected big_vision"):
        lit_tf.load(folder)
    described["lit_tf"] = "another program's"
    (folder / "config.json").write_text(json.dumps(described))
    siglip = lit_tf.load(folder).config
    for fields, message in (
        ({"preprocessing": "clip"}, "'clip', expected big_vision, huggingface, open_clip"),
        ({"preprocessing": "huggingface", "resample": "lanczos"}, "expected bilinear or bicubic"),
        ({"preprocessing": "open_clip", "crop": True}, "for SigLIP on square images"),
    ):
        with pytest.raises(ConfigError, match=message):
            dataclasses.replace(siglip, **fields)
    with pytest.raises(ConfigError, match="a BERT"):
        lit_tf.load(fixtures / "lit_bert_tiny.npz", preprocessing="huggingface")
    rows = dataclasses.replace(siglip.text, vocab_size=256_000)
    for library, how in (("huggingface", "bilinear"), ("open_clip", "bicubic")):
        config = LitConfig(siglip.image, rows, token_length=64, preprocessing=library)
        assert config.resample == how


@pytest.mark.full
def test_a_saved_model_computes_it(fixture_module, folder, tmp_path):
    model = lit_tf.load(folder, preprocessing="huggingface")
    lit_tf.export.saved_model(model, tmp_path / "served")
    manifest = json.loads((tmp_path / "served" / "lit_manifest.json").read_text())
    assert (manifest["preprocessing"], manifest["resample"]) == ("huggingface", "bicubic")
    loaded = tf.saved_model.load(str(tmp_path / "served"))
    texts = ["The DOG, a cat.", "a </s> b", ""]
    found = loaded.signatures["encode_text"](text=tf.constant(texts))["embedding"]
    np.testing.assert_allclose(found, model.encode_text(texts), atol=1e-5)
    picture = fixture_module.image(300, 450, 6)
    found = loaded.signatures["encode_image"](image=tf.constant(picture[None]))["embedding"]
    np.testing.assert_allclose(found, model.encode_image([picture]), atol=1e-5)


@pytest.mark.full
def test_exports_of_a_folder_of_hugging_faces_answer_as_the_model(folder, tmp_path):
    model = lit_tf.load(folder)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    lit_tf.export.saved_model(model, tmp_path / "served")
    loaded = tf.saved_model.load(str(tmp_path / "served"))
    found = loaded.signatures["encode_image"](image=tf.constant(images))["embedding"]
    np.testing.assert_allclose(found, model.encode_image(images), atol=1e-5)
    texts = tf.constant(["a dog", "A cat!"])
    found = loaded.signatures["encode_text"](text=texts)["embedding"]
    np.testing.assert_allclose(found, model.encode_text(["a dog", "A cat!"]), atol=1e-5)
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    with pytest.warns(UserWarning, match="no text_encoder_strings.tflite"):
        lit_tf.export.tflite(model, tmp_path / "lite", quantization="none")
    graph = interpreter.Interpreter(str(tmp_path / "lite" / "image_encoder.tflite"))
    found = graph.get_signature_runner()(image=images)["embedding"]
    np.testing.assert_allclose(found, model.encode_image(images), atol=1e-5)
