"""What the page keeps: nothing foreign, nothing wrong, no mix of two exports; and what fails."""

import hashlib

import numpy as np
from playwright.sync_api import expect

from ...conftest import PLAIN
from .helpers import EXAMPLES, as_base64, changed, page_folder, pick


def bars(page):
    return page.locator(".cards .best")


def test_the_second_visit_loads_nothing_and_works_offline(site, serve, visit):
    served = serve(site)
    first = visit(served.address)
    first.wait_offline()
    assert "/model/image_encoder.tflite" in served.asked
    assert "/model/text_encoder.tflite" in served.asked
    served.asked.clear()
    for offline in (False, True):
        first.page.close()
        first.context.set_offline(offline)
        first.open()
        expect(bars(first.page)).to_have_count(1)
        assert not [path for path in served.asked if path != "/sw.js"]
        if offline:
            first.errors.clear()  # that sw.js cannot be looked for is said on the console


def test_a_host_without_headers_gets_threads_for_all_its_sites(site, serve, visit, tmp_path):
    (tmp_path / "one").symlink_to(site)
    (tmp_path / "two").symlink_to(site)
    for name in ("lit_manifest.json", "index.html"):
        (tmp_path / name).touch()
    served = serve(tmp_path, plain=True)
    visitor = visit(served.address, None)
    page = visitor.open(more="one/")
    assert page.evaluate("crossOriginIsolated")
    page.goto(f"{served.address}two/")  # in the same tab
    visitor.wait()
    assert page.evaluate("crossOriginIsolated")
    assert any("two" in path and "threaded" in path for path in served.asked)


def test_neither_the_page_nor_its_worker_reaches_another_host(address, visit):
    started = visit(address)
    elsewhere = address.replace("localhost", "127.0.0.1")  # another origin, and it would answer
    code = f"fetch('{elsewhere}', {{mode: 'no-cors'}}).then(() => 'reached', () => 'refused')"
    assert started.page.evaluate(code) == "refused"
    assert started.page.workers[0].evaluate(code) == "refused"
    assert all("Content Security Policy" in error for error in started.errors)
    started.errors.clear()
    started.requests[:] = [url for url in started.requests if not url.startswith(elsewhere)]


def test_wrong_answers_are_not_shown(site, serve, visit, tmp_path):
    wrong = as_base64(np.ones(96, np.float32).tobytes())
    edit = lambda manifest: manifest["self_test"].update(image_embedding=wrong)  # noqa: E731
    visitor = visit(serve(changed(site, tmp_path / "site", edit)).address, None)
    visitor.open("differs from the model's own")
    visitor.page.get_by_role("button", name="Try again").click()
    visitor.page.locator("#status.error", has_text="differs from").wait_for()
    # What failed the test is not kept.
    assert visitor.page.evaluate(KEPT) == []


KEPT = """() => new Promise((resolve) => {
  const request = indexedDB.open("lit " + location.origin + location.pathname);
  request.onsuccess = () => {
    const keys = request.result.transaction("models").objectStore("models").getAllKeys();
    keys.onsuccess = () => { request.result.close(); resolve(keys.result); };
  };
})"""


def test_over_plain_http_a_wrong_model_is_refused_and_nothing_is_said_of_offline_use(
    site, serve, visit
):
    served = serve(site, plain=True)
    model = bytearray((site / "model" / "image_encoder.tflite").read_bytes())
    model[5000:5005] = b"other"
    served.fault = lambda path: bytes(model) if "image_encoder" in path else None
    visitor = visit(f"http://{PLAIN}:{served.port}/", None)
    visitor.open("is not the file that this page expects")
    assert visitor.page.evaluate(KEPT) == []
    served.fault = lambda path: None
    visitor.page.get_by_role("button", name="Try again").click()
    visitor.wait()
    expect(bars(visitor.page)).to_have_count(1)
    about = visitor.page.locator("dd", has_text="does not work in this browser")
    about.wait_for(state="attached")
    expect(visitor.page.locator("#offline")).to_have_text("")


def test_without_room_the_page_works_and_claims_nothing(site, serve, visit):
    address = serve(site).address
    visitor = visit(address, None)
    page = visitor.context.new_page()
    page.goto(f"{address}licences/NOTICE.txt")
    session = visitor.context.new_cdp_session(page)
    origin = {"origin": address.rstrip("/")}
    session.send("Storage.overrideQuotaForOrigin", {**origin, "quotaSize": 1000})
    for _ in range(2):
        visitor.open()
        expect(bars(visitor.page)).to_have_count(1)
        visitor.page.locator("dd", has_text="does not work").wait_for(state="attached")
        expect(visitor.page.locator("#offline")).to_have_text("")
    visitor.page.get_by_role("tab", name="Search").click()
    code = """async () => {
      const response = await fetch(document.querySelector(".examples img").src);
      const file = new File([await response.blob()], "a.png", { type: "image/png" });
      gathered.take([{ file, name: "a.png" }], "search");
    }"""
    visitor.page.evaluate(code)
    visitor.page.locator(".known", has_text="1 photos. This browser does not remember").wait_for()


def test_a_visitor_during_an_upload_keeps_nothing_wrong(site, serve, visit):
    served = serve(site)
    cut = (page_folder(site) / "compare.js").read_bytes()[:-200]
    served.fault = lambda path: cut if path.endswith("/compare.js") else None
    visitor = visit(served.address, None)
    visitor.open("needs JavaScript")
    visitor.page.close()
    visitor.errors.clear()  # a script that is cut off
    served.fault = lambda path: None
    visitor.open()
    visitor.wait_offline()
    # The service worker refuses the file too.
    served.fault = lambda path: cut if path.endswith("/compare.js") else None
    code = """async () => {
      for (const name of await caches.keys()) await caches.delete(name);
      const address = document.querySelector("[type=module]").src.replace("main", "compare");
      return fetch(address, { cache: "reload" }).then(() => "given", () => "refused");
    }"""
    assert visitor.page.evaluate(code) == "refused"
    visitor.errors.clear()


def test_an_open_page_and_a_returning_visitor_use_one_export(site, serve, visit, tmp_path):
    served = serve(site)
    visitor = visit(served.address)
    visitor.wait_offline()
    old, (first,) = visitor.page, [page_folder(site).name]
    # Another export takes its place.
    new = changed(site, tmp_path / "new", title="Another")
    second = page_folder(new).name
    served.folder = new
    served.fault = lambda path: 404 if path.endswith("/compare.js") else None  # not yet there
    for _ in range(2):
        expect(visitor.open().locator("h1")).to_have_text("LiT-digits")
        visitor.wait_offline()
        visitor.page.close()
    served.fault = lambda path: None
    visitor.open()
    visitor.wait_offline()  # with the old one; the new service worker is there
    visitor.page.close()
    tab = visitor.open()
    expect(tab.locator("h1")).to_have_text("Another")
    visitor.wait_offline()
    # The old page goes on with its own files.
    loaded = "performance.getEntriesByType('resource').map((entry) => entry.name).join()"
    old.locator("#sentences").fill("blue ink\ngreen ink")
    old.locator(".cards .best", has_text="ink").wait_for()
    assert first in old.evaluate(loaded) and second not in old.evaluate(loaded)
    assert second in tab.evaluate(loaded) and first not in tab.evaluate(loaded)
    # Nobody needs it any more.
    old.close()
    tab.reload()
    visitor.wait_offline()
    names = tab.evaluate("caches.keys()")
    assert len(names) == 1 and names[0].endswith(second)


def test_a_failed_request_is_tried_again(site, serve, visit):
    served = serve(site)
    failing = iter([503, 503, 503, 503])
    served.fault = lambda path: next(failing, None) if "text_encoder" in path else None
    visitor = visit(served.address, None)
    visitor.open("sentences could not be read")
    expect(visitor.page.locator("#status")).to_contain_text("503")
    visitor.page.get_by_role("button", name="Try again").click()  # the fourth fails, the fifth not
    visitor.wait()
    expect(bars(visitor.page)).to_have_count(1)
    visitor.errors.clear()  # 503s are said on the console


def test_a_missing_example_takes_nothing_else_away(site, serve, visit):
    served = serve(site, plain=True)
    served.fault = lambda path: 404 if "examples/2" in path else None
    visitor = visit(served.address)
    visitor.wait_offline()
    assert visitor.page.evaluate("crossOriginIsolated")
    visitor.page.get_by_label("Try 41.png").click()
    visitor.page.locator(".errors li", has_text="41.png: 2.png: the server answered 404").wait_for()
    visitor.errors.clear()


def test_without_examples_the_text_tower_is_fetched_when_the_page_is_idle(
    site, serve, visit, tmp_path
):
    edit = lambda manifest: manifest["examples"].update(images=[])  # noqa: E731
    visitor = visit(serve(changed(site, tmp_path / "site", edit)).address)
    visitor.wait_offline()
    visitor.page.close()
    visitor.context.set_offline(True)
    pick(visitor.open(), EXAMPLES[0])
    bars(visitor.page).wait_for()
    visitor.errors.clear()  # that sw.js cannot be looked for is said on the console


def test_digests_over_plain_http_are_sha256(site, scripts):
    lengths = [*range(54, 66), 0, 1, 127, 128, 129, 100_003]
    data = [bytes(i * i % 251 for i in range(length)) for length in lengths]
    code = """async (files) => {
      const { ownSha256 } = await import(PAGE + "sha256.js");
      const hex = (byte) => byte.toString(16).padStart(2, "0");
      return files.map((file) => {
        const bytes = Uint8Array.from(atob(file), (char) => char.charCodeAt(0));
        return Array.from(new Uint8Array(ownSha256(bytes)), hex).join("");
      });
    }"""
    found = scripts(site).evaluate(code, [as_base64(x) for x in data])
    assert found == [hashlib.sha256(x).hexdigest() for x in data]
