"""Pictures of all kinds: damaged, turned, large, many, and not pictures at all."""

import io
import json
import os
import pathlib
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
from playwright.sync_api import expect

from lit_tf.images import preprocessing

from .helpers import EXAMPLES, TEXTS, as_base64, jpeg, pick


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
    page.locator(".cards .best").nth(2).wait_for()
    page.locator(".errors li").nth(3).wait_for()
    errors = page.locator(".errors li").all_inner_texts()
    assert [error.split(":")[0] for error in errors] == list(files)[:4]
    assert "HEIC" in errors[1] and "JPEG" in errors[1]
    for name in ("turned.jpg", "large.jpg"):
        card = page.locator(".cards > li", has_text=name)
        expect(card.locator(".best span")).to_have_text(TEXTS[0])


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


@pytest.mark.full
def test_two_hundred_pictures_do_not_make_memory_grow(address, browser, visit, tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for i in range(200):
        paths.append(tmp_path / f"{i}.jpg")
        paths[-1].write_bytes(jpeg(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)))
    page = visit(address).page
    pick(page, paths[:20])
    page.locator(".cards .best").nth(20).wait_for()
    page.locator("#compare .queue").wait_for(state="hidden")
    memory = Memory(browser, page)
    heaps, resident = memory.heaps(), memory.resident()
    pick(page, paths)
    page.locator("#compare .queue .count", has_text="left").wait_for()
    page.locator(".cards .best").nth(220).wait_for()
    page.locator("#compare .queue").wait_for(state="hidden")
    assert memory.heaps() - heaps < 20e6
    assert memory.resident() - resident < 100e6  # half a megabyte a picture; each is shown


def test_a_cancelled_queue_stops(address, visit, tmp_path):
    data = jpeg(np.zeros((1500, 2000, 3), np.uint8))
    page = visit(address).page
    given = [{"name": f"{i}.jpg", "mimeType": "image/jpeg", "buffer": data} for i in range(60)]
    pick(page, given)
    page.get_by_role("button", name="Cancel").click()
    page.locator("#compare .queue").wait_for(state="hidden")
    assert page.locator(".cards > li").count() < 60


# --- turned, bombs --------------------------------------------------------------------------------

UPRIGHT = """async ({files, size}) => {
  const { open, resize } = await import(PAGE + "pixels.js");
  const out = [];
  for (const file of files) {
    const picture = await open(new Blob([Uint8Array.from(atob(file), (c) => c.charCodeAt(0))]));
    out.push([...resize(picture, size, false)]);
    picture.close();
  }
  return out;
}"""


def turned_files(format, **options):
    """Returns files of one picture with every orientation."""
    rng = np.random.default_rng(0)
    for orientation in range(1, 9):
        exif = PIL.Image.Exif()
        exif[0x0112] = orientation
        data = io.BytesIO()
        pixels = rng.integers(0, 256, (30, 47, 4), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(data, format, exif=exif, **options)
        yield data.getvalue()


def test_pngs_with_alpha_and_webps_are_turned_as_the_library_turns_them(site, scripts):
    files = [*turned_files("png"), *turned_files("webp", lossless=True, exact=True)]
    # The browser loses colours below alpha in a WebP.
    opaque = [PIL.Image.open(io.BytesIO(data)) for data in files[8:]]
    for i, image in enumerate(opaque):
        data = io.BytesIO()
        image.convert("RGB").save(data, "webp", lossless=True, exif=image.info["exif"])
        files[8 + i] = data.getvalue()
    found = scripts(site).evaluate(UPRIGHT, {"files": [as_base64(x) for x in files], "size": 40})
    for i, (got, data) in enumerate(zip(found, files, strict=True)):
        want = preprocessing.resize_uint8(preprocessing.to_uint8(data), 40).numpy()
        np.testing.assert_array_equal(np.array(got).reshape(40, 40, 3), want, err_msg=f"file {i}")


def png_of(width, height, data):
    """Returns an RGBA PNG that declares a size and holds other data."""

    def chunk(kind, body):
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


COUNT = """async (file) => {
  const { open } = await import(PAGE + "pixels.js"), real = DecompressionStream;
  let bytes = 0;
  window.DecompressionStream = class {
    constructor(format) {
      const count = (piece, out) => { bytes += piece.length; out.enqueue(piece); };
      const inflate = new real(format), counter = new TransformStream({ transform: count });
      this.writable = inflate.writable;
      this.readable = inflate.readable.pipeThrough(counter);
    }
  };
  const picture = await open(new Blob([Uint8Array.from(atob(file), (c) => c.charCodeAt(0))]));
  window.DecompressionStream = real;
  return [picture.width, picture.height, bytes];
}"""


def test_no_more_of_a_png_is_inflated_than_it_declares(site, scripts):
    squeeze, zeros = zlib.compressobj(9), bytes(10_000_000)
    packed = b"".join([*(squeeze.compress(zeros) for _ in range(20)), squeeze.flush()])
    data = png_of(10, 10, packed)
    assert len(data) < 300_000
    width, height, inflated = scripts(site).evaluate(COUNT, as_base64(data))
    assert (width, height) == (10, 10) and inflated < 1_000_000


def large_files():
    """Yields small files that declare more pixels than are read, of each format."""
    yield png_of(20_000, 9_000, zlib.compress(b""))
    yield b"GIF89a" + struct.pack("<HH", 20_000, 9_000) + bytes(30)
    yield b"BM" + bytes(16) + struct.pack("<ii", 20_000, -9_000) + bytes(30)
    sized = struct.pack(">BHH", 8, 20_000, 9_000)
    yield b"\xff\xd8\xff\xe0\x00\x04\x00\x00\xff\xc2\x00\x11" + sized + bytes(30)
    more = struct.pack("<I", 19_999)[:3] + struct.pack("<I", 8_999)[:3]
    yield b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + more + bytes(30)


def test_pictures_with_too_many_pixels_are_refused_before_they_are_decoded(address, visit):
    page = visit(address).page
    given = [
        {"name": f"{i}.png", "mimeType": "", "buffer": data} for i, data in enumerate(large_files())
    ]
    pick(page, given)
    page.locator(".errors li").nth(4).wait_for()
    for error in page.locator(".errors li").all_inner_texts():
        assert "20,000" in error and "9,000" in error and "178,956,970" in error
