"""A folder of photos is searched, and what is said to be remembered is what was stored."""

import shutil

import numpy as np
from playwright.sync_api import expect

from .helpers import EXAMPLES, jpeg, pick


def open_search(page):
    page.get_by_role("tab", name="Search").click()


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
    expect(page.locator("#search .errors")).to_contain_text("broken.png")
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
    expect(visitor.open().locator(".results li")).to_have_count(0)


def test_another_tab_that_forgets_is_heeded_and_all_photos_can_be_seen(address, visit):
    visitor = visit(address)
    one = visitor.page
    open_search(one)
    rng = np.random.default_rng(0)
    photos = [jpeg(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in range(64)]
    given = [
        {"name": f"{i}.jpg", "mimeType": "image/jpeg", "buffer": data}
        for i, data in enumerate(photos)
    ]
    pick(one, given, "search", 1)
    one.locator(".known", has_text="64 photos are remembered").wait_for()
    one.locator(".more", has_text="60 of 64 photos").wait_for()
    one.get_by_role("button", name="Show more").click()
    expect(one.locator(".results li")).to_have_count(64)
    two = visitor.open()
    open_search(two)
    two.locator(".known", has_text="64 photos").wait_for()
    two.get_by_role("button", name="Forget them").click()
    expect(one.locator(".results li")).to_have_count(0)
    expect(one.locator(".known")).to_have_text("")  # said once the store has answered
