"""The page that `lit-tf browse` serves: only to itself, only pictures of the index; in Chromium."""

import errno
import http.client
import io
import json
import os
import pathlib
import shutil
import socket
import threading
import urllib.parse

import numpy as np
import PIL.Image
import pytest

from lit_tf import cli, search
from lit_tf.images import to_uint8
from lit_tf.search import index

from .conftest import write_pictures

browse = pytest.importorskip("lit_tf.search.browse")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, settings):
    """132 pictures and their index: a name that is not UTF-8, a BMP, a HEIC, dates of some."""
    folder = tmp_path_factory.mktemp("browse")
    paths = write_pictures(folder / "pictures", range(130))
    os.rename(paths[7], os.fsencode(folder / "pictures") + b"/caf\xe9.png")
    PIL.Image.open(paths[8]).save(folder / "pictures" / "b.bmp")
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(PIL.Image.open(paths[9])).save(folder / "pictures" / "c.heic")
    for i in range(3):
        exif = PIL.Image.Exif()
        exif[PIL.ExifTags.Base.Orientation] = 1
        date = f"{2001 + i}:06:01 12:00:00"
        exif.get_ifd(PIL.ExifTags.IFD.Exif)[PIL.ExifTags.Base.DateTimeOriginal] = date
        PIL.Image.open(paths[i]).save(paths[i], exif=exif)
    index.update(folder / "db", [folder / "pictures"], settings)
    return folder


@pytest.fixture(scope="module")
def page(folder, model):
    """The application, served."""
    import uvicorn

    listening = socket.create_server(("127.0.0.1", 0))
    made = browse.Browser(search.open(folder / "db", model), listening.getsockname()[1])
    server = uvicorn.Server(uvicorn.Config(made.app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield made
    server.should_exit = True
    thread.join()


def request(page, path, method="GET", body=None, **headers):
    """Returns (status, content) of a request below the page's address, or of a whole path."""
    address = urllib.parse.urlsplit(page.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, urllib.parse.urljoin(address.path, path), body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def find(page, **question):
    status, content = request(page, f"find?{urllib.parse.urlencode(question)}")
    return json.loads(content) if status == 200 else json.loads(content)["error"]


def test_only_the_page_itself_is_answered(page):
    port = urllib.parse.urlsplit(page.url).port
    ours = f"http://127.0.0.1:{port}"
    assert request(page, "", Host=f"localhost:{port}")[0] == 200
    assert request(page, "find", Origin=ours, Sec_Fetch_Site="same-origin")[0] == 200
    for headers in (
        {"Host": f"evil.example:{port}"},
        {"Host": "127.0.0.1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"https://evil.example:{port}"},
        {"Sec_Fetch_Site": "cross-site"},
    ):
        assert request(page, "find", **headers)[0] == 403, headers
        assert request(page, "copy", "POST", "{}", **headers)[0] == 403, headers
    for path in ("/", "/find", "/wrong/find", "/wrong/", "/favicon.ico"):
        assert request(page, path)[0] == 404, path


def test_nothing_outside_the_index_is_served(page, folder, settings, tmp_path):
    secret = tmp_path / "secret.png"
    shutil.copy(folder / "pictures" / "020.png", secret)
    token = urllib.parse.urlsplit(page.url).path
    for path in (
        *("picture/0" * 2, f"picture/{secret}", "picture/..%2f..%2fetc%2fpasswd", "thumbnail/x"),
        *(f"{token}../../etc/passwd", f"{token}browse.py", f"{token}picture/{'0' * 32}"),
    ):
        assert request(page, path)[0] in (400, 404), path
    found = {os.path.basename(p["path"]): p["id"] for p in find(page, text="a")["found"]}
    name, number = next((n, i) for n, i in found.items() if n.startswith("0"))
    assert request(page, f"picture/{number}")[1] == (folder / "pictures" / name).read_bytes()
    kept = folder / "kept.png"
    os.rename(folder / "pictures" / name, kept)
    try:
        (folder / "pictures" / name).write_text("root:x:0:0")  # not a picture any more
        assert request(page, f"picture/{number}")[0] == 400
        os.unlink(folder / "pictures" / name)
        assert request(page, f"picture/{number}")[0] == 400
        index.update(folder / "db", [folder / "pictures"], settings, prune=True)
        assert request(page, f"thumbnail/{number}")[0] in (200, 400)  # still in memory
        (folder / "pictures" / name).write_bytes(b"\xff\xd8 is not in the index")
        assert request(page, f"picture/{number}")[0] == 400
    finally:
        os.replace(kept, folder / "pictures" / name)
        index.update(folder / "db", [folder / "pictures"], settings)


def test_what_is_asked_is_what_the_library_answers(page, folder, model):
    searcher = search.open(folder / "db", model)
    answer = find(page, text="a cat", minus="a dog", offset=60)
    want = searcher.text("a cat", minus="a dog", top=120)[60:]
    assert [p["path"] for p in answer["found"]] == [p.path for p in want]
    assert answer["all"] == 132 and answer["more"]
    assert len(find(page, text="a cat", offset=120)["found"]) == 12
    like = answer["found"][0]
    assert find(page, like=like["id"])["found"][0]["path"] == like["path"]
    dated = find(page, **{"from": "2001-06-01", "to": "2002-06-01"})["found"]
    assert [p["taken"][:4] for p in dated] == ["2002", "2001"]  # the latest first
    assert find(page, text="a", **{"from": "2003-06-02"})["found"] == []
    assert "is not a day" in find(page, **{"from": "' OR true"})
    assert "not in the index" in find(page, like="0" * 32)
    for ending in (".bmp", ".heic"):  # a JPEG is made on the way
        path = next(p.path for p in searcher.latest(top=200) if p.path.endswith(ending))
        status, content = request(page, f"picture/{_id(page, path)}")
        assert status == 200 and content.startswith(b"\xff\xd8")
        shown = np.asarray(PIL.Image.open(io.BytesIO(content)), np.int16)
        assert shown.shape == (24, 32, 3)
        assert abs(shown - to_uint8(path).astype(np.int16)).mean() < 8


def test_requests_to_copy_that_are_not_understood_are_refused_in_words(page, tmp_path):
    for body in (
        "",
        "{",
        "[]",
        '{"ids": 3, "folder": "x"}',
        '{"ids": [[]], "folder": "x"}',
        "[" * 9999,
    ):
        status, content = request(page, "copy", "POST", body)
        assert status == 400 and "expected JSON such as" in json.loads(content)["error"], body
    ids = [picture["id"] for picture in find(page, text="a")["found"][:2]]
    body = json.dumps({"ids": [*ids, ids[0], "0" * 32], "folder": str(tmp_path / "x")})
    status, content = request(page, "copy", "POST", body)
    answer = json.loads(content)
    assert status == 200 and answer["copied"] == 2 == len(os.listdir(tmp_path / "x"))
    assert answer["failures"] == ["a picture is not in the index any more"]


def _id(page, path):
    for offset in (0, 60, 120):
        for picture in find(page, offset=offset)["found"]:
            if picture["path"] == path:
                return picture["id"]
    raise AssertionError(path)


@pytest.mark.parametrize("width", [1280, 390])
def test_a_visitor_searches_marks_and_copies(page, folder, browser, tmp_path, width):
    tab = browser.new_page(viewport={"width": width, "height": 800})
    faults, hosts = [], set()
    tab.on("console", lambda m: m.type == "error" and faults.append(m.text))
    tab.on("pageerror", lambda e: faults.append(str(e)))
    tab.on("request", lambda r: hosts.add(urllib.parse.urlsplit(r.url).hostname))
    tab.goto(page.url)
    expect = pytest.importorskip("playwright.sync_api").expect
    cards, said = tab.locator("#found li"), tab.locator("#said")
    expect(said).to_have_text("132 pictures, the latest first")
    expect(cards.nth(59)).to_be_attached()
    tab.mouse.wheel(0, 1e6)  # more on scrolling
    expect(cards.nth(60)).to_be_attached()
    tab.mouse.wheel(0, -1e6)

    with tab.expect_response(lambda r: "text=a+cat" in r.url) as answer:
        tab.fill("#text", "a cat")
    first = answer.value.json()["found"][0]
    expect(said).to_have_text("132 pictures, the most similar first")
    cards.first.locator("input").check()
    cards.nth(1).locator("input").check()
    assert tab.locator("#count").inner_text() == "2 marked"
    with tab.expect_download() as download:
        tab.click("#json")
    marked = json.loads(pathlib.Path(download.value.path()).read_text())
    assert len(marked) == 2 and marked[0] == first["path"]
    with tab.expect_download() as download:
        tab.click("#csv")
    lines = pathlib.Path(download.value.path()).read_text().splitlines()
    assert lines[0] == "path,taken,width,height" and len(lines) == 3
    tab.fill("#folder", str(tmp_path / "chosen"))
    tab.click("#copy button")
    expect(said).to_have_text(f"2 pictures are in {tmp_path / 'chosen'}")
    assert sorted(os.listdir(os.fsencode(tmp_path / "chosen"))) == sorted(
        os.path.basename(os.fsencode(path)) for path in marked
    )

    with tab.expect_response(lambda r: "like=" in r.url):
        cards.nth(2).get_by_text("Similar").click()
    assert tab.locator("#like img").is_visible()
    cards.first.locator(".show").click()
    expect(tab.locator("#large img")).to_have_js_property("naturalWidth", 32)
    assert str(folder) in tab.locator(".path").inner_text()
    tab.keyboard.press("Escape")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not faults and hosts == {"127.0.0.1", None} - ({None} - hosts), (faults, hosts)
    tab.close()


def test_copies_and_names_ended_by_nul(folder, command, tmp_path, settings):
    ask = ["search", folder / "db", "a cat", "--top", 3]
    copies = tmp_path / "copies"
    names = lambda: sorted(os.listdir(copies))  # noqa: E731
    found = [p["path"] for p in command(*ask, "--copy-to", copies, "--json")["found"]]
    assert names() == sorted(os.path.basename(path) for path in found)
    for path in found:
        copied = copies / os.path.basename(path)
        assert copied.read_bytes() == pathlib.Path(path).read_bytes()
        assert copied.stat().st_mtime == pytest.approx(os.stat(path).st_mtime)
    command(*ask, "--copy-to", copies)
    assert len(names()) == 3  # they are there already
    (copies / os.path.basename(found[0])).write_bytes(b"another")
    command(*ask, "--copy-to", copies)
    stem, ending = os.path.splitext(os.path.basename(found[0]))
    assert f"{stem} (2){ending}" in names() and len(names()) == 4
    assert (copies / os.path.basename(found[0])).read_bytes() == b"another"
    assert "cannot be made" in command(*ask, "--copy-to", tmp_path / "no" / "x", code=2)
    assert np.all([os.path.exists(path) for path in found])
    answer = command(*ask, "--copy-to", copies, "--json")
    assert answer["left_out"] == []


def test_what_could_not_be_copied_is_in_the_json_too(folder, command, tmp_path, monkeypatch):
    from lit_tf.search import copies

    def full(path, partial):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(copies.shutil, "copy2", full)
    ask = ["search", folder / "db", "a cat", "--top", 2, "--copy-to", tmp_path / "c", "--json"]
    answer = command(*ask)
    reasons = {bad["path"]: bad["reason"] for bad in answer["left_out"]}
    assert reasons == {p["path"]: "No space left on device" for p in answer["found"]}
    assert command.err.count("not copied: ") == 2 and os.listdir(tmp_path / "c") == []


def test_paths_for_xargs(folder, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written))
    ask = ["search", str(folder / "db"), "a", "--top", "200", "--paths0"]
    assert cli.main(ask) == 0
    paths = written.getvalue().split(b"\0")
    assert len(paths) == 133 and paths[-1] == b"" and all(map(os.path.exists, paths[:-1]))
    assert any(path.endswith(b"/caf\xe9.png") for path in paths)
