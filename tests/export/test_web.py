"""The web page in a real browser: its numbers are the model's; it talks to its own host only."""

import functools
import graphlib
import io
import json
import os
import pathlib
import re
import shutil
import tarfile
import threading
import urllib.request

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

import lit_tf
from lit_tf import cli
from lit_tf.checkpoints.npz import write_npz
from lit_tf.errors import ExportError
from lit_tf.export import web
from lit_tf.export.web import runtime as web_runtime
from lit_tf.export.web import serve as serve_web
from lit_tf.export.web import site as web_site
from lit_tf.images import preprocessing
from lit_tf.texts import tokenizers

from ..vocabularies import spm_bytes

ROOT = pathlib.Path(__file__).parents[2]
REFERENCE = ROOT / "tests" / "reference"
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
TEXTS = ["the number 37", "the number 41", "an eight and a zero", "red ink"]
EXAMPLES = [ROOT / f"examples/images/{name}.png" for name in (37, 41, 80)]
AXE = web_runtime.Package(
    "axe-core",
    "4.14.1",
    "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
    "MPL-2.0, Deque Systems; for tests only.",
)


def fetched(*packages):
    """Returns {package: tarball}; skips the test where npm cannot fetch them."""
    try:
        return web_runtime.fetch(packages)
    except ExportError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def digits():
    return lit_tf.load("LiT-digits")


@pytest.fixture(scope="session")
def site(digits, tmp_path_factory):
    """A site of LiT-digits."""
    fetched(web_runtime.CORE, web_runtime.UTILS)
    out = tmp_path_factory.mktemp("web") / "site"
    web(digits, out, images=EXAMPLES, texts=TEXTS)
    return out


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium, or another that is installed."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium is installed (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


class Recording(serve_web.Handler):
    """Records what is asked for; `plain` leaves out the headers, as most static hosts do."""

    asked: list
    plain = False

    def do_GET(self):
        self.asked.append(self.path)
        super().do_GET()

    def send_header(self, name, value):
        if not (self.plain and name.startswith("Cross-Origin")):
            super().send_header(name, value)


@pytest.fixture(scope="session")
def serve():
    """A function that serves a site; returns its address, and a list of what is asked for."""
    servers = []

    def start(folder, plain=False):
        handler = type("Handler", (Recording,), {"asked": [], "plain": plain})
        server = serve_web.make_server(folder)
        server.RequestHandlerClass = functools.partial(handler, directory=str(folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://localhost:{server.server_address[1]}/", handler.asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class Visit:
    """A page in a browser profile of its own, what it asked for and what went wrong there."""

    def __init__(self, browser, address, **options):
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(120_000)  # the machine may be busy
        self.requests, self.errors, self.address = [], [], address
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.open()

    def open(self, state="Ready"):
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._console)
        self.page.goto(self.address)
        status = self.page.locator("#status span", has_text=state)
        status.or_(self.page.locator("#status.error")).first.wait_for()
        assert status.is_visible(), self.page.inner_text("#status")
        return self.page

    def _console(self, message):
        if message.type in ("error", "warning"):
            self.errors.append(message.text)


@pytest.fixture
def visit(browser):
    """A function that opens an address; errors in the page and foreign requests fail the test."""
    visits = []

    def start(address, **options):
        visits.append(Visit(browser, address, **options))
        return visits[-1]

    yield start
    for each in visits:
        each.context.close()
        assert not each.errors
        foreign = [url for url in each.requests if not url.startswith((each.address, "blob:"))]
        assert not foreign


@pytest.fixture(scope="session")
def address(site, serve):
    return serve(site)[0]


@pytest.fixture(scope="session")
def scripts(browser):
    """A function that opens a page of a site which has its scripts at hand, but loads no model."""
    pages = []

    def start(address):
        pages.append(browser.new_page())
        pages[-1].goto(f"{address}licences/NOTICE.txt")
        return pages[-1]

    yield start
    for page in pages:
        page.close()


def pick(page, paths, tab="compare", which=0):
    page.locator(f"#{tab} input[type=file]").nth(which).set_input_files(paths)


def numbers(card, selector="ol b"):
    return [float(t.strip("match %")) for t in card.locator(selector).all_inner_texts()]


def softmax(logits):
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def jpeg(pixels, **options):
    data = io.BytesIO()
    PIL.Image.fromarray(pixels).save(data, "jpeg", **options)
    return data.getvalue()


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
        assert card.locator("ol span").all_inner_texts() == TEXTS
        np.testing.assert_allclose(numbers(card), 100 * row, atol=3)  # int8 weights
    page.locator("#sentences").press("Control+End")
    page.keyboard.type("\na three and a seven\n\n  blue ink ")
    last = page.locator(".cards > li", has_text="37.png").locator("ol span")
    last.nth(5).wait_for()
    assert last.all_inner_texts() == [*TEXTS, "a three and a seven", "blue ink"]
    page.get_by_label("Remove 37.png").click()
    assert page.locator(".cards > li").count() == 2


# --- numbers ------------------------------------------------------------------------------------

EMBED = """async ({images, texts}) => {
  const { Engine } = await import("./engine.js");
  const engine = new Engine(await (await fetch("lit_manifest.json")).json(), () => {});
  await engine.ready;
  const out = { images: [], texts: [] };
  for (const image of images) {
    const blob = new Blob([Uint8Array.from(atob(image), (c) => c.charCodeAt(0))]);
    out.images.push([...(await engine.image(blob)).embedding]);
  }
  for (const text of texts) out.texts.push([...(await engine.text(text))]);
  return out;
}"""


def base64(data):
    import base64

    return base64.b64encode(data).decode()


def check_embeddings(page, model):
    """Compares what the page's model answers with what the Keras model does."""
    files = [path.read_bytes() for path in EXAMPLES]
    found = page.evaluate(EMBED, {"images": [base64(x) for x in files], "texts": TEXTS})
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
    page = visit(serve(tmp_path / "site")[0]).page
    check_embeddings(page, model)
    shutil.rmtree(tmp_path / "site")


RESIZE = """async ({files, size, crop}) => {
  const { open, resize } = await import("/pixels.js");
  const out = [];
  for (const file of files) {
    const picture = await open(new Blob([Uint8Array.from(atob(file), (c) => c.charCodeAt(0))]));
    out.push([...resize(picture, size, crop)]);
  }
  return out;
}"""


@pytest.mark.parametrize("crop", [False, True])
def test_pixels_of_pngs_equal_tensorflows(address, scripts, crop):
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
    page = scripts(address)
    found = page.evaluate(RESIZE, {"files": [base64(x) for x in files], "size": 48, "crop": crop})
    for i, (got, data) in enumerate(zip(found, files, strict=True)):
        want = preprocessing.resize_uint8(preprocessing.to_uint8(data), 48, crop).numpy()
        np.testing.assert_array_equal(np.array(got).reshape(48, 48, 3), want, err_msg=f"file {i}")


TOKENIZE = """async ({how, vocabulary, texts}) => {
  const { makeTokenizer } = await import("/tokenizer.js");
  const bytes = Uint8Array.from(atob(vocabulary), (c) => c.charCodeAt(0));
  return texts.map(await makeTokenizer(how, bytes, location.origin + "/runtime/"));
}"""


def test_wordpieces_are_those_of_all_vectors(address, scripts):
    given = json.loads((ROOT / "export" / "tokenizer_vectors.json").read_text())
    page = scripts(address)
    arguments = {
        "how": {"kind": "bert", "length": given["length"]},
        "vocabulary": base64("\n".join([*given["vocabulary"], ""]).encode()),
        "texts": [vector["text"] for vector in given["vectors"]],
    }
    assert page.evaluate(TOKENIZE, arguments) == [vector["ids"] for vector in given["vectors"]]


@pytest.fixture(scope="session")
def siglip(fixtures, serve, tmp_path_factory):
    """A tiny SigLIP 2 and the address of its site: pooling, sentencepiece, a bias."""
    fetched(web_runtime.CORE, web_runtime.UTILS, web_runtime.SENTENCEPIECE)
    model = lit_tf.load(fixtures / "siglip2_tiny.npz")
    out = tmp_path_factory.mktemp("siglip") / "site"
    web(model, out, quantization="none", images=EXAMPLES[:1], texts=["a Cat", "कुत्ता"])
    return model, serve(out)[0]


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
    arguments = {"how": web_site.tokenizing(tokenizer), "vocabulary": base64(data), "texts": texts}
    assert page.evaluate(TOKENIZE, arguments) == tokenizer(texts).numpy().tolist()


def test_a_model_with_a_bias_says_match_and_among_these(siglip, visit):
    model, address = siglip
    page = visit(address).page
    page.locator(".examples button").click()
    page.locator(".cards .best").wait_for()
    zimg, ztxt = model.encode_image(EXAMPLES[:1]), model.encode_text(["a Cat", "कुत्ता"])
    logits = model.logits(zimg, ztxt).numpy()
    match = 100 / (1 + np.exp(-logits[0]))
    np.testing.assert_allclose(numbers(page, ".cards ol b"), match, atol=0.06)
    among = [float(t.split("%")[0]) for t in page.locator(".cards ol small").all_inner_texts()]
    np.testing.assert_allclose(among, 100 * softmax(logits)[0], atol=0.06)
    assert "whatever the others are" in page.inner_text("#meaning")


@pytest.fixture(scope="session")
def pairs_site(digits, site, serve, tmp_path_factory):
    """A site of LiT-digits with classes, and its address."""
    out = tmp_path_factory.mktemp("pairs") / "site"
    classes = [f"the number {a}{b}" for a in range(10) for b in range(10)]
    web(digits, out, classes=classes, templates=["{}"], images=EXAMPLES)
    return out, classes, serve(out)[0]


def test_with_classes_there_is_no_text_tower(digits, pairs_site, visit):
    site, classes, address = pairs_site
    names = {path.name for path in (site / "model").iterdir()}
    assert names == {"image_encoder.tflite", "classes.bin"}
    page = visit(address).page
    page.locator(".examples button").first.click()
    page.locator(".cards .best").wait_for()
    assert page.locator(".cards ol li").count() == 8  # of a hundred
    (expected,) = digits.classify(EXAMPLES[:1], classes, ["{}"])
    assert page.locator(".cards .best span").inner_text() == classes[expected.argmax()]
    np.testing.assert_allclose(numbers(page, ".best b"), [100 * expected.max()], atol=3)
    page.get_by_role("tab", name="Search").click()
    pick(page, EXAMPLES, "search", 1)
    page.get_by_label("What to look for").select_option("the number 41")
    first = page.locator(".results li", has_text="similarity").first
    first.wait_for()
    assert "41.png" in first.inner_text()


# --- privacy, offline -----------------------------------------------------------------------------


def test_the_second_visit_loads_no_model_and_works_offline(site, serve, visit):
    address, asked = serve(site)
    first = visit(address)
    first.page.locator(".examples button").first.click()
    first.page.locator(".cards .best").wait_for()
    assert "/model/image_encoder.tflite" in asked and "/model/text_encoder.tflite" in asked
    asked.clear()
    for offline in (False, True):
        first.page.close()
        first.context.set_offline(offline)
        page = first.open()
        page.locator(".examples button").first.click()
        page.locator(".cards .best").wait_for()
        assert not [path for path in asked if path not in ("/sw.js",)]
        if offline:
            first.errors.clear()  # that sw.js cannot be looked for is said on the console


def test_a_host_without_headers_gets_threads_by_the_service_worker(site, serve, visit):
    address, asked = serve(site, plain=True)
    page = visit(address).page
    assert page.evaluate("crossOriginIsolated")
    assert any("threaded" in path for path in asked)


def test_neither_the_page_nor_its_worker_reaches_another_host(address, visit):
    started = visit(address)
    elsewhere = address.replace("localhost", "127.0.0.1")  # another origin, and it would answer
    code = f"fetch('{elsewhere}', {{mode: 'no-cors'}}).then(() => 'reached', () => 'refused')"
    assert started.page.evaluate(code) == "refused"
    assert started.page.workers[0].evaluate(code) == "refused"
    assert all("Content Security Policy" in error for error in started.errors)
    started.errors.clear()
    started.requests[:] = [url for url in started.requests if not url.startswith(elsewhere)]


def test_wrong_answers_and_wrong_files_are_not_shown(site, serve, browser, tmp_path):
    broken = tmp_path / "site"
    shutil.copytree(site, broken)
    manifest = json.loads((broken / "lit_manifest.json").read_text())
    manifest["self_test"]["image_embedding"] = base64(np.ones(96, np.float32).tobytes())
    (broken / "lit_manifest.json").write_text(json.dumps(manifest))
    visit = Visit.__new__(Visit)
    visit.context, visit.errors = browser.new_context(), []
    visit.address = serve(broken)[0]
    page = visit.open("differs from the model's own")
    page.close()
    shutil.copytree(site, broken, dirs_exist_ok=True)
    with open(broken / "model" / "image_encoder.tflite", "r+b") as file:
        file.seek(5000)
        file.write(b"other")
    visit.context.close()
    visit.context, visit.address = browser.new_context(), serve(broken)[0]
    visit.open("is not the file that this page expects")
    visit.context.close()


# --- pictures of all kinds ------------------------------------------------------------------------


def test_bad_pictures_are_named_and_others_go_on(digits, address, visit):
    picture = preprocessing.to_uint8(EXAMPLES[0])
    turned = PIL.Image.Exif()
    turned[0x0112] = 6  # to be shown turned by a quarter
    lying = jpeg(np.rot90(picture).copy(), quality=98, exif=turned)
    large = np.kron(picture, np.ones((84, 42, 1), np.uint8))  # 12 megapixels
    files = {
        "cut.jpg": jpeg(picture)[:300],
        "IMG_1.HEIC": b"\0\0\0\x18ftypheic" + bytes(500),
        "text.txt": b"no picture",
        "<b>odd</b>.png": b"\x89PNG\r\n\x1a\n" + bytes(40),
        "turned.jpg": lying,
        "large.jpg": jpeg(large, quality=95),
    }
    page = visit(address).page
    given = [{"name": n, "mimeType": "", "buffer": data} for n, data in files.items()]
    pick(page, given)
    page.locator(".cards .best").nth(1).wait_for()
    page.locator(".errors li").nth(3).wait_for()
    errors = page.locator(".errors li").all_inner_texts()
    assert [error.split(":")[0] for error in errors] == list(files)[:4]
    assert "HEIC" in errors[1] and "JPEG" in errors[1]
    for name in ("turned.jpg", "large.jpg"):
        card = page.locator(".cards > li", has_text=name)
        assert card.locator(".best span").inner_text() == TEXTS[0]


class Memory:
    """What a page and its workers hold, after a collection, through the developer tools' protocol.

    (`performance.measureUserAgentSpecificMemory` counts the same and takes a minute to answer.)
    """

    def __init__(self, browser, page):
        self._page, self._browser = page, browser.new_browser_cdp_session()
        self._session = page.context.new_cdp_session(page)
        self._workers, self._answers = [], {}
        self._session.on("Target.attachedToTarget", self._attached)
        self._session.on("Target.receivedMessageFromTarget", self._received)
        options = {"autoAttach": True, "waitForDebuggerOnStart": False, "flatten": False}
        self._session.send("Target.setAutoAttach", options)

    def _attached(self, event):
        if event["targetInfo"]["type"] == "worker":
            self._workers.append(event["sessionId"])

    def _received(self, event):
        message = json.loads(event["message"])
        if "id" in message:  # an answer, not an event
            self._answers[event["sessionId"]] = message

    def _ask(self, worker, method):
        message = json.dumps({"id": 1, "method": method})
        self._session.send("Target.sendMessageToTarget", {"sessionId": worker, "message": message})
        while worker not in self._answers:
            self._page.wait_for_timeout(10)
        return self._answers.pop(worker)["result"]

    def heaps(self):
        """Returns bytes of JavaScript, elements and buffers."""
        self._session.send("HeapProfiler.collectGarbage")
        found = [self._session.send("Runtime.getHeapUsage")]
        assert self._workers
        for worker in self._workers:
            self._ask(worker, "HeapProfiler.enable")
            self._ask(worker, "HeapProfiler.collectGarbage")
            found.append(self._ask(worker, "Runtime.getHeapUsage"))
        kinds = ("usedSize", "embedderHeapUsedSize", "backingStorageSize")
        return sum(usage[kind] for usage in found for kind in kinds)

    def resident(self):
        """Returns bytes of the pages' processes: WebAssembly's memory is in no heap."""
        processes = self._browser.send("SystemInfo.getProcessInfo")["processInfo"]
        statm = (f"/proc/{p['id']}/statm" for p in processes if p["type"] == "renderer")
        return sum(int(pathlib.Path(path).read_text().split()[1]) for path in statm) * PAGE_SIZE


PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")


def test_two_hundred_pictures_do_not_make_memory_grow(address, browser, visit, tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for i in range(200):
        paths.append(tmp_path / f"{i}.jpg")
        paths[-1].write_bytes(jpeg(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)))
    page = visit(address).page
    pick(page, paths[:20])
    page.locator(".cards > li").nth(19).wait_for()
    page.locator(".cards .best").first.wait_for()
    memory = Memory(browser, page)
    heaps, resident = memory.heaps(), memory.resident()
    pick(page, paths)
    page.locator("#compare .queue .count", has_text="left").wait_for()
    page.locator(".cards > li").nth(219).wait_for()
    page.locator("#compare .queue").wait_for(state="hidden")
    assert memory.heaps() - heaps < 20e6
    assert memory.resident() - resident < 100e6  # half a megabyte a picture; each is shown


def test_search_finds_remembers_and_forgets(address, visit, tmp_path):
    folder = tmp_path / "photos" / "deep"
    folder.mkdir(parents=True)
    for path in EXAMPLES:
        shutil.copy(path, folder)
    (folder / "notes.txt").write_text("passed over")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    visitor = visit(address)
    page = visitor.page
    page.get_by_role("tab", name="Search").click()
    pick(page, tmp_path / "photos", "search")
    page.locator("#search .known", has_text="3 photos").wait_for()
    assert "broken.png" in page.inner_text("#search .errors")
    for again in (False, True):
        if again:
            page.close()
            page = visitor.open()
            page.get_by_role("tab", name="Search").click()
        page.get_by_label("What to look for").fill("the number 80")
        first = page.locator(".results li", has_text="similarity").first
        first.wait_for()
        assert "80.png" in first.inner_text() and page.locator(".results li").count() == 3
    page.get_by_role("button", name="Forget them").click()
    page.locator(".results li").first.wait_for(state="detached")
    page.close()
    assert visitor.open().locator(".results li").count() == 0


def test_a_cancelled_queue_stops(address, visit, tmp_path):
    data = jpeg(np.zeros((1500, 2000, 3), np.uint8))
    page = visit(address).page
    given = [{"name": f"{i}.jpg", "mimeType": "image/jpeg", "buffer": data} for i in range(60)]
    pick(page, given)
    page.get_by_role("button", name="Cancel").click()
    page.locator("#compare .queue").wait_for(state="hidden")
    assert page.locator(".cards > li").count() < 60


# --- everybody ------------------------------------------------------------------------------------


def test_the_keyboard_is_enough(address, visit):
    page = visit(address).page
    # Asked for long before it is used: a chooser that opens before the browser knows that somebody
    # waits for it is closed again.
    page.on("filechooser", lambda chooser: chooser.set_files(EXAMPLES[0]))

    def tab_to(name):
        for _ in range(20):
            page.keyboard.press("Tab")
            focus = page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.id")
            text = page.evaluate("document.activeElement.textContent")
            if name in (focus, text):
                return
        raise AssertionError(f"no Tab leads to {name}")

    tab_to("sentences")
    page.keyboard.press("Control+A")
    page.keyboard.type("the number 37\nblue ink")
    tab_to("Choose pictures")
    page.keyboard.press("Enter")
    page.locator(".cards .best", has_text="the number 37").wait_for()
    page.locator("#said", has_text="37.png: the number 37").wait_for(state="attached")
    tab_to("Remove 37.png")
    page.keyboard.press("Enter")
    page.locator(".cards > li").wait_for(state="detached")
    page.locator("#tab-compare").focus()
    page.keyboard.press("ArrowRight")
    page.locator("#search").wait_for(state="visible")
    page.locator("#compare").wait_for(state="hidden")
    tab_to("query")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_a_phone_needs_no_sideways_scrolling(address, visit, scheme):
    with tarfile.open(fetched(AXE)[AXE]) as archive:
        axe = archive.extractfile("package/axe.min.js").read().decode()
    page = visit(address, viewport={"width": 390, "height": 844}, color_scheme=scheme).page
    page.locator(".examples button").first.click()
    page.locator(".cards .best").wait_for()
    page.get_by_text("About this page").click()
    page.evaluate(axe)
    for tab in ("Compare", "Search"):
        page.get_by_role("tab", name=tab).click()
        found = page.evaluate("() => axe.run()")["violations"]
        assert not [(v["id"], v["nodes"]) for v in found if v["impact"] in ("serious", "critical")]
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


# --- the exporter and the server ------------------------------------------------------------------


def page_files(*suffixes):
    return [path for path in web_site.PAGE.iterdir() if path.suffix in suffixes]


def test_the_pages_own_files_stay_under_40_kilobytes():
    sizes = {path.name: path.stat().st_size for path in page_files(".html", ".js", ".css")}
    assert sum(sizes.values()) < 40_000, sizes


def test_the_pages_modules_do_not_import_each_other_in_a_circle():
    imports = {
        path.name: re.findall(r'from "\./([^"]+)"', path.read_text()) for path in page_files(".js")
    }
    order = list(graphlib.TopologicalSorter(imports).static_order())
    assert order.index("dom.js") < order.index("compare.js") < order.index("main.js")


def test_what_is_missing_is_said_before_anything_is_written(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_TF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ExportError, match=r"npm pack @litertjs/core@2\.5\.3.*--runtime"):
        web(digits, tmp_path / "site")
    (tmp_path / "core.tgz").write_bytes(b"other")
    with pytest.raises(ExportError, match="not one of the runtime's packages"):
        web(digits, tmp_path / "site", runtime=[tmp_path / "core.tgz"])
    with pytest.raises(ExportError, match="quantization"):
        web(digits, tmp_path / "site", quantization="int8")
    assert not (tmp_path / "site").exists()


def test_given_packages_take_the_place_of_npm(tmp_path, monkeypatch):
    packages = fetched(web_runtime.CORE, web_runtime.UTILS)
    monkeypatch.setenv("LIT_TF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "")
    assert web_runtime.fetch(packages, packages.values()) == packages


def test_a_model_without_a_text_tower_is_refused(fixtures, tmp_path):
    with pytest.raises(ExportError, match="both towers"):
        web(lit_tf.load(fixtures / "vit_upstream_tiny.npz"), tmp_path / "site")


def test_licences_and_digests_are_in_the_folder(site):
    notice = (site / "licences" / "NOTICE.txt").read_text()
    assert "@litertjs/core@2.5.3" in notice and (site / "licences" / "Apache-2.0.txt").is_file()
    manifest = json.loads((site / "lit_manifest.json").read_text())
    assert set(manifest["files"]) == {f"model/{p.name}" for p in (site / "model").iterdir()}
    assert manifest["files"]["model/image_encoder.tflite"]["mean_cosine"] > 0.999


def test_the_server_sends_types_and_the_two_headers(site, serve):
    address, _ = serve(site)
    for path, kind in (
        ("", "text/html"),
        ("main.js", "text/javascript"),
        ("runtime/wasm/litert_wasm_internal.wasm", "application/wasm"),
    ):
        with urllib.request.urlopen(address + path) as answer:
            assert answer.headers.get_content_type() == kind
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"


def test_a_visitor_who_leaves_while_a_file_is_sent_is_no_error():
    class Gone:
        def write(self, data):
            raise BrokenPipeError

    handler = serve_web.Handler.__new__(serve_web.Handler)
    handler.copyfile(io.BytesIO(b"data"), Gone())
    assert handler.close_connection


def test_serve_web_refuses_what_is_not_a_site(tmp_path, capsys):
    assert cli.main(["serve-web", str(tmp_path)]) == cli.ERROR
    assert "is not a site" in capsys.readouterr().err


def test_options_of_another_kind_of_export_are_refused(tmp_path, capsys):
    out = str(tmp_path / "out")
    assert cli.main(["export", "LiT-digits", out, "--web", "--parts", "image"]) == cli.ERROR
    assert cli.main(["export", "LiT-digits", out, "--tflite", "--texts", "a"]) == cli.ERROR
    assert "--texts does not go with --tflite" in capsys.readouterr().err
