"""A server that can fail, visits of a page, and files for it."""

import base64
import functools
import io
import json
import pathlib
import shutil
import threading

import PIL.Image
import playwright.sync_api
import pytest

from lit_tf.errors import ExportError
from lit_tf.export.web import runtime as web_runtime
from lit_tf.export.web import serve as serve_web
from lit_tf.export.web import site as web_site

PATIENCE = 120_000  # milliseconds: the machine may be busy
playwright.sync_api.expect.set_options(timeout=PATIENCE)
ROOT = pathlib.Path(__file__).parents[3]
REFERENCE = ROOT / "tests" / "reference"
TEXTS = ["the number 37", "the number 41", "an eight and a zero", "red ink"]
EXAMPLES = [ROOT / f"examples/images/{name}.png" for name in (37, 41, 80)]


def fetched(*packages):
    """Returns {package: tarball}; skips the test where npm cannot fetch them."""
    try:
        return web_runtime.fetch(packages)
    except ExportError as error:
        pytest.skip(str(error))


class Handler(serve_web.Handler):
    """Records what is asked for, and answers as its server's `Site` says."""

    def do_GET(self):
        self.site.asked.append(self.path)
        self.directory = str(self.site.folder)  # which may change while a connection lives
        answer = self.site.fault(self.path)
        if answer is None:
            super().do_GET()
        elif isinstance(answer, int):
            self.send_error(answer)
        else:
            self.send_response(200)
            self.send_header("Content-Type", self.guess_type(self.path.split("?")[0]))
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    def send_header(self, name, value):
        if not (self.site.plain and name.startswith("Cross-Origin")):
            super().send_header(name, value)


class Site:
    """A folder that is served.

    Attributes:
        folder: the folder; another may take its place.
        address: its address.
        asked: the paths that were asked for.
        fault: a function from a path to None, a status or other bytes, before a file is sent.
        plain: whether the headers are left out, as most static hosts do.
    """

    def __init__(self, folder, plain=False):
        self.folder, self.plain, self.asked, self.fault = folder, plain, [], lambda path: None
        self._server = serve_web.make_server(folder)
        handler = type("SiteHandler", (Handler,), {"site": self})
        self._server.RequestHandlerClass = functools.partial(handler, directory=str(folder))
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.port = self._server.server_address[1]
        self.address = f"http://localhost:{self.port}/"

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class Visit:
    """A page in a browser profile of its own, what it asked for and what went wrong there."""

    def __init__(self, browser, address, **options):
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(PATIENCE)
        self.requests, self.errors, self.address = [], [], address
        self.context.on("request", lambda request: self.requests.append(request.url))

    def open(self, state="Ready", more=""):
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._console)
        self.page.goto(self.address + more)
        if state:
            self.wait(state)
        return self.page

    def wait(self, state="Ready"):
        """Waits for the words of the status; fails at once if it is another error."""
        status = self.page.locator("#status span", has_text=state)
        try:
            status.or_(self.page.locator("#status.error")).first.wait_for()
        finally:
            assert status.is_visible(), (self.page.inner_text("#status"), self.errors)

    def wait_offline(self):
        self.page.locator("#offline", has_text="Works offline now").wait_for()

    def _console(self, message):
        if message.type in ("error", "warning"):
            self.errors.append(message.text)


def pick(page, paths, tab="compare", which=0):
    page.locator(f"#{tab} input[type=file]").nth(which).set_input_files(paths)


def numbers(card, selector="ol b"):
    return [float(t.strip("match %")) for t in card.locator(selector).all_inner_texts()]


def as_base64(data):
    return base64.b64encode(data).decode()


def jpeg(pixels, **options):
    data = io.BytesIO()
    PIL.Image.fromarray(pixels).save(data, "jpeg", **options)
    return data.getvalue()


def page_folder(site):
    """Returns the folder of a site's own files, which their digest names."""
    (folder,) = (site / "page").iterdir()
    return folder


def changed(site, folder, edit=lambda manifest: None, **page):
    """Copies a site as another export would have written it: with another manifest, or face."""
    shutil.copytree(site, folder)
    record = json.loads((folder / "lit_manifest.json").read_text())
    edit(record)
    record["page"] |= page
    (folder / "lit_manifest.json").write_text(json.dumps(record))
    page_folder(folder).rename(folder / "own")
    (folder / "page").rmdir()
    (folder / "own").rename(folder / "page")
    web_site._page(folder, record["page"], record["examples"]["texts"])
    return folder
