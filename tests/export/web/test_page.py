"""What people do with the page: by mouse, by keys, on a phone, before it has started."""

import csv
import io
import tarfile
import threading

import numpy as np
import PIL.Image
import pytest
from playwright.sync_api import expect

from lit_tf.export.web import runtime as web_runtime

from .helpers import EXAMPLES, TEXTS, fetched, pick

AXE = web_runtime.Package(
    "axe-core",
    "4.14.1",
    "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
    "MPL-2.0, Deque Systems; for tests only.",
)


def test_the_keyboard_is_enough(address, visit):
    page = visit(address).page
    page.get_by_label("Remove 37.png").click()
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
    page.get_by_text("About this page").click()
    page.evaluate(axe)
    for tab in ("Compare", "Search"):
        page.get_by_role("tab", name=tab).click()
        found = page.evaluate("() => axe.run()")["violations"]
        assert not [(v["id"], v["nodes"]) for v in found if v["impact"] in ("serious", "critical")]
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


# --- the first moments ----------------------------------------------------------------------------

DROP = """(parts) => {
  const data = new DataTransfer();
  for (const [name, type, text] of parts) {
    if (name) data.items.add(new File([text], name, { type }));
    else data.setData(type, text);
  }
  const event = new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
  return !document.querySelector("main").dispatchEvent(event);  // whether the browser stays here
}"""


def test_what_comes_before_the_page_has_started_is_not_lost(site, serve, visit):
    served, manifest, model = serve(site), threading.Event(), threading.Event()

    def wait(path):
        if path.endswith("lit_manifest.json"):
            manifest.wait()
        if "image_encoder" in path:
            model.wait()

    served.fault = wait
    visitor = visit(served.address, None)
    page = visitor.open("Starting")
    pick(page, EXAMPLES[1])
    assert page.evaluate(DROP, [["dropped.txt", "text/plain", "not a picture"]])
    page.locator("#sentences").fill("the number 41\nblue ink")
    manifest.set()
    # A card at once, which says what it waits for.
    card = page.locator(".cards > li", has_text="41.png")
    card.locator(".note", has_text="Waiting for the model").wait_for()
    model.set()
    visitor.wait()
    expect(card.locator("ol span")).to_have_text(["the number 41", "blue ink"])
    expect(page.locator("#compare .errors")).to_contain_text("dropped.txt")
    expect(page.locator(".cards > li")).to_have_count(1)  # no example instead


def test_a_page_that_cannot_start_says_why(site, serve, browser):
    for options, address in (
        ({"java_script_enabled": False}, serve(site).address),
        ({}, (site / "index.html").as_uri()),
    ):
        context = browser.new_context(**options)
        page = context.new_page()
        page.goto(address)
        words = page.inner_text("#status")
        assert "JavaScript" in words and "web server" in words
        context.close()


def test_dropped_texts_become_sentences_and_other_files_of_a_folder_are_left_out(address, visit):
    page = visit(address).page
    assert page.evaluate(DROP, [[None, "text/plain", "blue ink"]])
    page.locator(".cards ol li", has_text="blue ink").wait_for()
    expect(page.locator("#sentences")).to_have_value("\n".join([*TEXTS, "blue ink"]))
    code = """async () => {
      const response = await fetch(document.querySelector(".examples img").src);
      const photo = new File([await response.blob()], "a.png", { type: "image/png" });
      const other = new File(["x"], "x"), hidden = new File(["x"], "x", { type: "image/png" });
      gathered.take([
        { file: other, name: "d/.DS_Store" },
        { file: other, name: "d/notes.txt" },
        { file: hidden, name: "d/._a.png" },
        { file: photo, name: "d/a.png" },
      ], "compare");
    }"""
    page.evaluate(code)
    page.locator(".cards > li", has_text="d/a.png").locator(".best").wait_for()
    expect(page.locator(".errors li")).to_have_count(0)


# --- sentences ------------------------------------------------------------------------------------


def test_many_events_are_one_run_and_all_sentences_can_be_seen(address, visit):
    visitor = visit(address, None)
    code = """self.texts = 0; const post = Worker.prototype.postMessage;
      Worker.prototype.postMessage = function (message, ...more) {
        self.texts += message.name === "text";
        return post.call(this, message, ...more);
      };"""
    visitor.context.add_init_script(code)
    page = visitor.open()
    assert page.evaluate("texts") == len(TEXTS)
    lines = [f"the number {i}" for i in range(50, 61)] + ["red ink and " * 20]
    fill = """(text) => {
      const field = document.querySelector("#sentences");
      field.value = text;
      for (let i = 0; i < 40; i++) field.dispatchEvent(new Event("input"));
    }"""
    page.evaluate(fill, "\n".join(lines))
    page.locator("button", has_text="8 of 12: show all").click()
    visitor.wait()
    expect(page.locator(".cards ol li")).to_have_count(12)
    assert page.evaluate("texts") == len(TEXTS) + len(lines)
    assert "its first 16 tokens" in page.locator(".cards ol li", has_text="and red").inner_text()
    expect(page.locator(".cards ol em")).to_have_count(1)
    page.locator("#sentences").fill("a photo of a cat")
    page.locator(".cards ol li").nth(1).wait_for(state="detached")
    assert "%" not in page.inner_text(".cards ol")  # 100 % of one sentence says nothing
    expect(page.locator(".cards ol")).to_contain_text("similarity")


# --- to pass it on --------------------------------------------------------------------------------


def test_a_link_carries_the_sentences_and_the_example(site, serve, visit):
    served = serve(site)
    visitor = visit(served.address, None, permissions=["clipboard-read", "clipboard-write"])
    page = visitor.open(more="#texts=the+number+80%0A100%25+ink%3F&example=3")
    best = page.locator(".cards > li", has_text="80.png").locator(".best span")
    assert best.inner_text() == "the number 80"  # stands there when the page says Ready
    expect(page.locator(".cards > li")).to_have_count(1)
    page.locator("#sentences").fill("one & two\nthree #4")
    page.get_by_role("button", name="Copy a link").click()
    page.locator("#link", has_text="Copied").wait_for()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.url and link.startswith(f"{served.address}#")
    page.close()
    page = visitor.open(more=link.removeprefix(served.address))
    expect(page.locator(".cards ol span")).to_have_text(["one & two", "three #4"])
    assert not [path for path in served.asked if "100" in path or "three" in path]


def test_pictures_and_numbers_can_be_saved(digits, address, visit):
    page = visit(address).page
    page.get_by_label("Try 80.png").click()
    page.locator(".cards .best").nth(1).wait_for()
    page.get_by_role("button", name="As a table").click()
    cosines = digits.encode_image([EXAMPLES[2], EXAMPLES[0]]) @ digits.encode_text(TEXTS).T
    cells = page.locator(".table td").all_inner_texts()[1:]
    np.testing.assert_allclose(np.array(cells, float).reshape(2, 4), cosines, atol=0.05)
    expect(page.locator(".table td.best")).to_have_count(2)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as CSV").click()
    text = download.value.path().read_text(encoding="utf-8-sig")
    head, *rows = csv.reader(io.StringIO(text))
    assert head == ["picture", *TEXTS] and [row[0] for row in rows] == ["80.png", "37.png"]
    np.testing.assert_allclose([[float(x) for x in row[1:]] for row in rows], cosines, atol=0.05)
    page.get_by_role("button", name="As a table").click()
    with page.expect_download() as download:
        page.get_by_label("Save 80.png as a picture").click()
    image = PIL.Image.open(download.value.path())
    assert image.format == "PNG" and image.width == 1000
    # The bar of the third sentence is full, the fourth is empty.
    third, fourth = (image.getpixel((900, image.height - y)) for y in (193, 117))
    assert third != fourth and fourth != image.getpixel((5, 5))
    page.get_by_role("button", name="Remove all").click()
    expect(page.locator(".cards > li")).to_have_count(0)
    assert not page.locator(".tools").is_visible()


def test_in_forced_colours_bars_can_be_told_apart(address, visit):
    page = visit(address, forced_colors="active").page
    bars = page.locator(".cards ol progress")
    full, empty = (
        PIL.Image.open(io.BytesIO(bars.nth(i).screenshot())).convert("RGB") for i in (0, 1)
    )
    middle = (full.width // 2, full.height // 2)
    assert full.getpixel(middle) != empty.getpixel(middle)
