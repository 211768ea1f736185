"""What the page answers is what the model does: embeddings, pixels, tokens, probabilities."""

import io
import json
import shutil

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from playwright.sync_api import expect

import lit_tf
from lit_tf import few_shot
from lit_tf.checkpoints.npz import write_npz
from lit_tf.export import web
from lit_tf.export.web import runtime as web_runtime
from lit_tf.export.web import site as web_site
from lit_tf.images import preprocessing
from lit_tf.texts import tokenizers

from ...vocabularies import spm_bytes
from .helpers import (
    EXAMPLES,
    REFERENCE,
    ROOT,
    TEXTS,
    as_base64,
    fetched,
    numbers,
    pick,
)


def softmax(logits):
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def test_probabilities_are_those_of_the_model_and_live_as_one_types(digits, address, visit):
    page = visit(address).page
    for button in page.locator(".examples button").all():
        button.click()
    page.locator(".cards .best").nth(2).wait_for()
    expected = softmax(
        digits.logits(digits.encode_image(EXAMPLES), digits.encode_text(TEXTS)).numpy()
    )
    for path, row in zip(EXAMPLES, expected, strict=True):
        card = page.locator(".cards > li", has_text=path.name)
        expect(card.locator("ol span")).to_have_text(TEXTS)
        np.testing.assert_allclose(numbers(card), 100 * row, atol=3)  # int8 weights
    page.locator("#sentences").press("Control+End")
    page.keyboard.type("\na three and a seven\n\n  blue ink ")
    last = page.locator(".cards > li", has_text="37.png").locator("ol span")
    last.nth(5).wait_for()
    expect(last).to_have_text([*TEXTS, "a three and a seven", "blue ink"])
    page.get_by_label("Remove 37.png").click()
    expect(page.locator(".cards > li")).to_have_count(2)


# --- numbers ------------------------------------------------------------------------------------

EMBED = """async ({images, texts}) => {
  const main = document.querySelector("[type=module]").src;
  const { Engine } = await import(main.replace("main", "engine"));
  const engine = new Engine(await (await fetch("lit_manifest.json")).json(), () => {});
  await engine.ready;
  const out = { images: [], texts: [] };
  for (const image of images) {
    const blob = new Blob([Uint8Array.from(atob(image), (c) => c.charCodeAt(0))]);
    out.images.push([...(await engine.image(blob)).embedding]);
  }
  for (const text of texts) out.texts.push([...(await engine.text(text)).embedding]);
  return out;
}"""


def check_embeddings(page, model):
    """Compares what the page's model answers with what the Keras model does."""
    files = [path.read_bytes() for path in EXAMPLES]
    found = page.evaluate(EMBED, {"images": [as_base64(x) for x in files], "texts": TEXTS})
    for got, want in (
        (found["images"], model.encode_image(files)),
        (found["texts"], model.encode_text(TEXTS)),
    ):
        cosines = (np.array(got) * want).sum(axis=1)
        assert cosines.min() >= 0.999, cosines


def test_embeddings_are_those_of_the_model(digits, address, visit):
    check_embeddings(visit(address).page, digits)


@pytest.mark.full
def test_at_full_size_embeddings_are_those_of_the_model(fixture_module, serve, visit, tmp_path):
    fetched(web_runtime.CORE, web_runtime.UTILS)
    name, path = "LiT-B16B_2", tmp_path / "LiT-B16B_2.npz"
    seed, shapes = fixture_module.SEEDS[name], fixture_module.shapes(name)
    write_npz(path, ((k, fixture_module.array(seed, k, shape)) for k, shape in shapes.items()))
    shutil.copy(REFERENCE / "vocab.txt", path.with_suffix(".txt"))
    model = lit_tf.load(path)
    path.unlink()
    web(model, tmp_path / "site", images=EXAMPLES)
    page = visit(serve(tmp_path / "site").address).page
    check_embeddings(page, model)
    shutil.rmtree(tmp_path / "site")


RESIZE = """async ({files, size, crop}) => {
  const { open, resize } = await import(PAGE + "pixels.js");
  const out = [];
  for (const file of files) {
    const picture = await open(new Blob([Uint8Array.from(atob(file), (c) => c.charCodeAt(0))]));
    out.push([...resize(picture, size, crop)]);
  }
  return out;
}"""


@pytest.mark.parametrize("crop", [False, True])
def test_pixels_of_pngs_equal_tensorflows(site, scripts, crop):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (61, 90, 4), dtype=np.uint8)
    noise[:20, :, 3], noise[20:30, :, 3] = 0, 255
    colours = PIL.Image.fromarray(noise[..., :3])
    files = []

    def add(image, **options):
        data = io.BytesIO()
        image.save(data, "png", **options)
        files.append(data.getvalue())

    add(colours)
    add(PIL.Image.fromarray(noise))  # alpha, which lit_tf drops
    add(PIL.Image.fromarray(noise[..., :2]), optimize=True)  # grey and alpha
    add(colours.quantize(17), transparency=3)
    add(PIL.Image.fromarray(noise[..., 0]))
    add(PIL.Image.fromarray(noise[..., 0].astype(np.uint16) * 257 - 3))
    add(PIL.Image.fromarray(noise[:7, :3, :3]))  # enlarged
    add(PIL.Image.fromarray(np.tile(noise, (12, 15, 1))[..., :3]))
    smooth = np.linspace(0, 255, 150 * 100 * 4).reshape(100, 150, 4).astype(np.uint8)
    add(PIL.Image.fromarray(smooth))  # the other filters of rows
    files.append(tf.io.encode_png(rng.integers(0, 65536, (40, 30, 4)).astype(np.uint16)).numpy())
    page = scripts(site)
    found = page.evaluate(
        RESIZE, {"files": [as_base64(x) for x in files], "size": 48, "crop": crop}
    )
    for i, (got, data) in enumerate(zip(found, files, strict=True)):
        want = preprocessing.resize_uint8(preprocessing.to_uint8(data), 48, crop).numpy()
        np.testing.assert_array_equal(np.array(got).reshape(48, 48, 3), want, err_msg=f"file {i}")


TOKENIZE = """async ({how, vocabulary, texts}) => {
  const { makeTokenizer } = await import(PAGE + "tokenizer.js");
  const bytes = Uint8Array.from(atob(vocabulary), (c) => c.charCodeAt(0));
  const tokenize = await makeTokenizer(how, bytes, RUNTIME);
  return texts.map((text) => tokenize(text).ids);
}"""


def test_wordpieces_are_those_of_all_vectors(site, scripts):
    given = json.loads((ROOT / "export" / "tokenizer_vectors.json").read_text())
    page = scripts(site)
    arguments = {
        "how": {"kind": "bert", "length": given["length"]},
        "vocabulary": as_base64("\n".join([*given["vocabulary"], ""]).encode()),
        "texts": [vector["text"] for vector in given["vectors"]],
    }
    assert page.evaluate(TOKENIZE, arguments) == [vector["ids"] for vector in given["vectors"]]


@pytest.fixture(scope="session")
def siglip(fixtures, shared):
    """A tiny SigLIP 2 and its site: pooling, sentencepiece, a bias."""
    fetched(web_runtime.CORE, web_runtime.UTILS, web_runtime.SENTENCEPIECE)
    model = lit_tf.load(fixtures / "siglip2_tiny.npz")
    face = {"images": EXAMPLES[:1], "texts": ["a Cat", "कुत्ता"]}
    return model, shared("siglip_site", lambda out: web(model, out, quantization="none", **face))


@pytest.mark.parametrize("file", ["sentencepiece.model", "bytes_bpe.model"])
def test_sentencepieces_of_both_conventions(siglip, scripts, fixture_module, file):
    data = (REFERENCE / file).read_bytes()
    if file == "sentencepiece.model":
        data = spm_bytes(data, [f"\u2581<extra_id_{i}>" for i in range(2)])
    tokenizer = tokenizers.SentencePieceTokenizer(data, length=24, lowercase=True)
    texts = [
        *fixture_module.siglip_texts(),
        "",
        " ",
        "NUL \0 in it",
        "\U0001f600 ÄÖ ABC",
        "a <extra_id_1> cat",
    ]
    page = scripts(siglip[1])
    arguments = {
        "how": web_site.tokenizing(tokenizer),
        "vocabulary": as_base64(data),
        "texts": texts,
    }
    assert page.evaluate(TOKENIZE, arguments) == tokenizer(texts).numpy().tolist()


def test_a_model_with_a_bias_says_match_and_among_these(siglip, serve, visit):
    model, site = siglip
    page = visit(serve(site).address).page
    page.locator(".cards .best").wait_for()
    zimg, ztxt = model.encode_image(EXAMPLES[:1]), model.encode_text(["a Cat", "कुत्ता"])
    logits = model.logits(zimg, ztxt).numpy()
    match = 100 / (1 + np.exp(-logits[0]))
    np.testing.assert_allclose(numbers(page, ".cards ol b"), match, atol=0.06)
    among = [float(t.split("%")[0]) for t in page.locator(".cards ol small").all_inner_texts()]
    np.testing.assert_allclose(among, 100 * softmax(logits)[0], atol=0.06)
    expect(page.locator("#meaning")).to_contain_text("whatever the others are")


@pytest.fixture(scope="session")
def pairs_site(digits, shared):
    """A site of LiT-digits with classes, and the classes."""
    classes = [f"the number {a}{b}" for a in range(10) for b in range(10)]
    given = {"classes": classes, "templates": ["{}"], "images": EXAMPLES}
    return shared("pairs_site", lambda out: web(digits, out, **given)), classes


def test_with_classes_there_is_no_text_tower(digits, pairs_site, serve, visit):
    site, classes = pairs_site
    names = {path.name for path in (site / "model").iterdir()}
    assert names == {"image_encoder.tflite", "classes.bin"}
    page = visit(serve(site).address).page
    expect(page.locator(".cards ol li")).to_have_count(8)  # of a hundred
    (expected,) = digits.classify(EXAMPLES[:1], classes, ["{}"])
    expect(page.locator(".cards .best span")).to_have_text(classes[expected.argmax()])
    np.testing.assert_allclose(numbers(page, ".best b"), [100 * expected.max()], atol=3)
    page.get_by_role("tab", name="Search").click()
    pick(page, EXAMPLES, "search", 1)
    page.get_by_label("What to look for").select_option("the number 41")
    first = page.locator(".results li", has_text="similarity").first
    first.wait_for()
    assert "41.png" in first.inner_text()


@pytest.mark.full
def test_a_classifier_made_of_pictures_answers_as_the_library(digits, serve, visit, tmp_path):
    fetched(web_runtime.CORE, web_runtime.UTILS)
    rng = np.random.default_rng(0)
    classifier = few_shot.Classifier(
        names=("one", "two", "three"),
        weights=rng.normal(scale=3, size=(96, 3)).astype(np.float32),
        bias=np.array([0.5, -1, 2], np.float32),
        share=0.5,
    )
    web(digits, tmp_path / "site", classes=classifier, images=EXAMPLES)
    page = visit(serve(tmp_path / "site").address).page
    page.locator(".cards .best").wait_for()
    (expected,) = softmax(classifier.logits(digits.encode_image(EXAMPLES[:1])))
    labels = page.locator(".cards ol span").all_inner_texts()
    order = [classifier.names.index(label) for label in labels]
    np.testing.assert_allclose(numbers(page.locator(".cards")), 100 * expected[order], atol=3)
