"""The web page in a real browser: its numbers are the model's; it talks to its own host only."""

import shutil
import threading

import numpy as np
import pytest

import lit_tf
from lit_tf.errors import ExportError
from lit_tf.export import web
from lit_tf.export.serve_web import make_server

ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
TEXTS = ["the number 37", "the number 41", "an eight and a zero", "red ink"]
EXAMPLES = [f"examples/images/{name}.png" for name in (37, 41, 80)]


@pytest.fixture(scope="session")
def digits():
    return lit_tf.load("LiT-digits")


@pytest.fixture(scope="session")
def site(digits, tmp_path_factory, request):
    """A site of LiT-digits."""
    out = tmp_path_factory.mktemp("web") / "site"
    examples = [request.config.rootpath / path for path in EXAMPLES]
    try:
        web(digits, out, images=examples, texts=TEXTS)
    except ExportError as error:
        if "npm" in str(error):
            pytest.skip(f"no runtime for the page: {error}")
        raise
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


@pytest.fixture(scope="session")
def serve():
    """A function that serves a site; returns its address."""
    servers = []

    def start(folder):
        server = make_server(folder)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://localhost:{server.server_address[1]}/"

    yield start
    for server in servers:
        server.shutdown()


class Visit:
    """A page in a browser profile of its own, what it asked for and what went wrong there."""

    def __init__(self, browser, address, **options):
        self.context = browser.new_context(**options)
        self.requests, self.errors = [], []
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.address = address
        self.open()

    def open(self):
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._console)
        self.page.goto(self.address)
        status = self.page.locator("#status span", has_text="Ready")
        status.or_(self.page.locator("#status.error")).wait_for()
        assert status.is_visible(), self.page.inner_text("#status")
        return self.page

    def _console(self, message):
        if message.type in ("error", "warning"):
            self.errors.append(message.text)


@pytest.fixture
def visit(browser):
    """A function that opens an address; the visits' errors and foreign requests fail the test."""
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
    return serve(site)


def test_probabilities_are_those_of_the_model(digits, address, visit, request):
    page = visit(address).page
    for button in page.locator(".examples button").all():
        button.click()
    page.locator(".cards .best").nth(2).wait_for()
    paths = [request.config.rootpath / path for path in EXAMPLES]
    logits = digits.logits(digits.encode_image(paths), digits.encode_text(TEXTS)).numpy()
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = odds / odds.sum(axis=1, keepdims=True)
    for path, row in zip(paths, expected, strict=True):
        card = page.locator(".cards > li", has_text=path.name)
        assert card.locator("ol span").all_inner_texts() == TEXTS
        found = [float(text.rstrip(" %")) for text in card.locator("ol b").all_inner_texts()]
        np.testing.assert_allclose(found, 100 * row, atol=3)  # int8 weights, at temperature 100
