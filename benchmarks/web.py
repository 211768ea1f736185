"""The exported page in Chromium: seconds per picture, and the memory of the page's process.

    python benchmarks/web.py [--small]

Pictures are JPEGs of smooth noise. LiT-B16B_2 has random weights of its layout. `--small` measures
LiT-digits only. Needs the extra `lite`, npm or a filled cache, playwright and Chromium.
"""

import argparse
import pathlib
import shutil
import sys
import tempfile
import threading
import time

import numpy as np
import PIL.Image
from playwright import sync_api

import lit_tf
from export import reference_weights
from lit_tf.checkpoints import npz
from lit_tf.export import web
from lit_tf.export.web import serve

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLES = [ROOT / f"examples/images/{name}.png" for name in (37, 41, 80)]
TEXTS = ["the number 37", "a four and a one", "red ink"]
ARGUMENTS = ["--no-sandbox", "--disable-gpu"]


def write_photos(folder, count, side):
    """Writes JPEGs of side x 3/4 side pixels; returns their paths."""
    rng, paths = np.random.default_rng(0), []
    folder.mkdir()
    for i in range(count):
        small = PIL.Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        paths.append(folder / f"{i}.jpg")
        small.resize((side, side * 3 // 4), PIL.Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def full_size(folder):
    """Writes sites of LiT-B16B_2, with both towers and with classes."""
    path = folder / "LiT-B16B_2.npz"
    npz.write_npz(path, reference_weights("LiT-B16B_2"))
    shutil.copy(ROOT / "tests" / "reference" / "vocab.txt", path.with_suffix(".txt"))
    model = lit_tf.load(path)
    path.unlink()
    web(model, folder / "both", images=EXAMPLES, texts=TEXTS)
    web(model, folder / "classes", images=EXAMPLES, classes=["cat", "dog", "boat"])


def peak_memory(browser):
    """Returns the largest number of bytes that a page's process has held."""
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    pages = [p["id"] for p in processes if p["type"] == "renderer"]
    status = [pathlib.Path(f"/proc/{i}/status").read_text() for i in pages]
    return max(int(text.split("VmHWM:")[1].split()[0]) for text in status) * 1024


def measure(playwright, site, name, photos):
    """Prints a line about a site, opened in a browser of its own."""
    server = serve.make_server(site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
    page = browser.new_page()
    page.set_default_timeout(300_000)
    page.goto(f"http://localhost:{server.server_address[1]}/")
    page.locator("#status span", has_text="Ready").wait_for()
    # The first picture loads what is loaded at first use.
    page.locator(".examples button").first.click()
    page.locator(".cards .best").wait_for()
    start = time.perf_counter()
    page.locator("#compare input[type=file]").set_input_files(photos)
    page.locator(".cards > li").nth(len(photos)).wait_for()
    page.locator("#compare .queue").wait_for(state="hidden")
    seconds = (time.perf_counter() - start) / len(photos)
    print(f"  {name:44s} {seconds:5.3f} s per picture, {peak_memory(browser) / 1e9:.2f} GB")
    browser.close()
    server.shutdown()
    server.server_close()


def main():
    """Measures all sites."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="LiT-digits only")
    small = parser.parse_args().small
    with tempfile.TemporaryDirectory() as folder, sync_api.sync_playwright() as playwright:
        folder = pathlib.Path(folder)
        photos = write_photos(folder / "photos", 100, 1024)
        web(lit_tf.load("LiT-digits"), folder / "digits", images=EXAMPLES, texts=TEXTS)
        measure(playwright, folder / "digits", "LiT-digits, 1024 x 768", photos)
        if small:
            return
        full_size(folder)
        measure(playwright, folder / "both", "LiT-B16B_2, 1024 x 768", photos[:12])
        measure(playwright, folder / "classes", "LiT-B16B_2 with classes, 1024 x 768", photos[:12])
        photos = write_photos(folder / "large", 6, 4000)
        measure(playwright, folder / "classes", "LiT-B16B_2 with classes, 12 megapixels", photos)


if __name__ == "__main__":
    sys.exit(main())
