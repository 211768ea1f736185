"""The exporter writes a whole site or none, and the server sends what a browser needs."""

import graphlib
import io
import json
import re
import urllib.request

import PIL.Image
import pytest
from playwright.sync_api import expect

import lit_tf
from lit_tf import cli
from lit_tf.errors import ExportError
from lit_tf.export import web
from lit_tf.export.web import runtime as web_runtime
from lit_tf.export.web import serve as serve_web
from lit_tf.export.web import site as web_site

from .helpers import changed, fetched, page_folder


def page_files(*suffixes):
    return [path for path in web_site.PAGE.iterdir() if path.suffix in suffixes]


def test_the_pages_own_files_stay_under_100_kilobytes():
    sizes = {path.name: path.stat().st_size for path in page_files(".html", ".js", ".css")}
    assert sum(sizes.values()) < 100_000, sizes


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
    address = serve(site).address
    runtime = json.loads((site / "lit_manifest.json").read_text())["runtime_folder"]
    for path, kind in (
        ("", "text/html"),
        (f"page/{page_folder(site).name}/main.js", "text/javascript"),
        (f"{runtime}wasm/litert_wasm_internal.wasm", "application/wasm"),
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
    for option in (["--max-pixels", "9"], ["--templates", "clip"], ["--strict"]):
        assert cli.main(["export", "LiT-digits", out, "--onnx", *option]) == cli.ERROR
        assert f"{option[0]} does not go with --onnx" in capsys.readouterr().err


def test_examples_are_numbered_and_keep_their_names_as_labels(tmp_path):
    kinds = {"a.png": "png", "2-a.png": "png", "x/a.png": "webp", "50% #1?.JPG": "jpeg"}
    kinds |= {"nothing": "gif", "odd.p#g": "png"}
    shown = [tmp_path / name for name in kinds]
    # Browsers show no TIFF, and HEIC may hide behind any name: these become JPEGs.
    others = {tmp_path / "b.tif": "tiff", tmp_path / "scan.png": "tiff", tmp_path / "c.bmp": "bmp"}
    (tmp_path / "x").mkdir()
    picture = PIL.Image.new("RGB", (4, 3), "red")
    for path, kind in {**dict(zip(shown, kinds.values(), strict=True)), **others}.items():
        picture.save(path, kind)
    (tmp_path / "site").mkdir()
    found = web_site._examples(tmp_path / "site", [*shown, *others])
    endings = [*kinds.values(), "jpeg", "jpeg", "jpeg"]
    assert [each["file"] for each in found] == [
        f"examples/{i}.{ending}" for i, ending in enumerate(endings, 1)
    ]
    assert [each["name"] for each in found] == [path.name for path in (*shown, *others)]
    written = [tmp_path / "site" / each["file"] for each in found]
    for path, copy in zip(shown, written, strict=False):
        assert copy.read_bytes() == path.read_bytes()
    for copy in written[len(shown) :]:
        with PIL.Image.open(copy) as opened:
            assert opened.format == "JPEG" and opened.size == (4, 3)


def test_large_files_are_split_for_hosts_that_refuse_them(
    site, tmp_path, monkeypatch, serve, visit
):
    monkeypatch.setattr(web_site, "LARGEST", 300_000)

    def split(manifest):
        for name, record in manifest["files"].items():
            record |= web_site._file(tmp_path / "site" / name)

    folder = changed(site, tmp_path / "site", split)
    sizes = [path.stat().st_size for path in (folder / "model").iterdir()]
    assert len(sizes) > 4 and max(sizes) == 300_000
    expect(visit(serve(folder).address).page.locator(".cards .best")).to_have_count(1)


def test_a_face_for_messengers_and_search_engines(site, tmp_path):
    face = {"title": 'Cats & "dogs" <b>', "description": "D", "author": "{{texts}}"}
    folder = changed(site, tmp_path / "site", address="https://example.org/pets/", **face)
    page = (folder / "index.html").read_text()
    assert "<title>Cats &amp; &quot;dogs&quot; &lt;b&gt;</title>" in page
    picture = re.search('property="og:image" content="https://example.org/pets/([^"]+)"', page)[1]
    assert PIL.Image.open(folder / picture).size == (1200, 630)
    assert '<meta name="author" content="{{texts}}">' in page
    assert "</textarea>" in page and "the number 37\nthe number 41" in page
