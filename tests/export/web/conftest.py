"""One site for all tests of the page, a browser, and visits that fail on errors in the page."""

import json
import shutil

import pytest

import lit_tf
from lit_tf.export import web
from lit_tf.export.web import runtime as web_runtime

from ...conftest import BROWSER_ARGUMENTS
from .helpers import EXAMPLES, TEXTS, Site, Visit, fetched, page_folder


@pytest.fixture(scope="session")
def digits():
    return lit_tf.load("LiT-digits")


@pytest.fixture(scope="session")
def site(digits, shared):
    """A site of LiT-digits."""
    fetched(web_runtime.CORE, web_runtime.UTILS)
    return shared("web_site", lambda out: web(digits, out, images=EXAMPLES, texts=TEXTS))


@pytest.fixture
def gpu_browser(browser):
    """The same with WebGPU, on a GPU that the CPU emulates."""
    arguments = [each for each in BROWSER_ARGUMENTS if each != "--disable-gpu"]
    arguments += ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
    kind = browser.browser_type
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    with kind.launch(executable_path=path, args=arguments) as browser:
        yield browser


@pytest.fixture(scope="session")
def serve():
    """A function that serves a site; returns its `Site`."""
    sites = []

    def start(folder, plain=False):
        sites.append(Site(folder, plain))
        return sites[-1]

    yield start
    for site in sites:
        site.close()


@pytest.fixture
def visit(browser):
    """A function that opens an address; errors in the page and foreign requests fail the test.

    With `state=None`, it opens no page yet.
    """
    visits = []

    def start(address, state="Ready", **options):
        visits.append(Visit(browser, address, **options))
        if state:
            visits[-1].open(state)
        return visits[-1]

    yield start
    for each in visits:
        each.context.close()
        assert not each.errors
        foreign = [url for url in each.requests if not url.startswith((each.address, "blob:"))]
        assert not foreign


@pytest.fixture(scope="session")
def address(site, serve):
    return serve(site).address


@pytest.fixture(scope="session")
def scripts(browser, serve):
    """A function that opens a page of a site which has its scripts at hand, but loads no model.

    `PAGE` and `RUNTIME` are the addresses of the folders with the scripts.
    """
    pages = []

    def start(folder):
        address = serve(folder).address
        record = json.loads((folder / "lit_manifest.json").read_text())
        folders = [f"page/{page_folder(folder).name}/", record["runtime_folder"]]
        pages.append(browser.new_page())
        pages[-1].goto(f"{address}licences/NOTICE.txt")
        code = "folders => [window.PAGE, window.RUNTIME] = folders"
        pages[-1].evaluate(code, [address + path for path in folders])
        return pages[-1]

    yield start
    for page in pages:
        page.close()
