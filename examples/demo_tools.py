"""What both demos are made of: commands whose output goes to a log, tables, three runtimes."""

import contextlib
import importlib.util
import io
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import textwrap
import threading
import time

# Not as a default: make sets 2, which lets through what is said of GPUs that are not there.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

START = time.perf_counter()  # before the imports that take seconds

import numpy as np
import PIL.Image
from sklearn.datasets import load_sample_images

from lit_tf import cli

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLES, REFERENCE = ROOT / "examples", ROOT / "tests" / "reference"
OUT = pathlib.Path("demo_output")
LOG = OUT / "log.txt"
BIN = ".venv/bin/" if (ROOT / ".venv" / "bin" / "lit-tf").exists() else ""
INDENT = ("initial_indent", "subsequent_indent")  # of textwrap
# `lit-tf` in a process of its own, wherever it is installed.
LIT_TF = (sys.executable, "-c", "import sys; from lit_tf.cli import main; sys.exit(main())")


# --- what the commands print goes to a log, so that the demo itself stays readable --------------


@contextlib.contextmanager
def logged():
    """Sends all output to the log, that of C++ libraries included."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with open(LOG, "a", encoding="utf-8") as log:
        try:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for copy, stream in zip(saved, (1, 2), strict=True):
                os.dup2(copy, stream)
                os.close(copy)


def failed(what):
    """Ends the demo with the end of the log."""
    lines = LOG.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
    sys.exit("\n".join([*lines, f"demo: {what} failed; all of its output is in {LOG}"]))


def shell(*words):
    """Returns a command as one would type it."""
    return shlex.join(str(word) for word in words)


def command(*words, show=False):
    """Runs `lit-tf WORDS...` in this process, which saves importing TensorFlow once more.

    Args:
        *words: the arguments.
        show: whether to print what the command prints, too.

    Returns:
        The seconds that it took.
    """
    words = [str(word) for word in words]
    start = time.perf_counter()
    print(f"   $ lit-tf {shell(*words)}", flush=True)
    printed = io.StringIO()
    with logged(), contextlib.redirect_stdout(printed) if show else contextlib.nullcontext():
        code = cli.main(words)
    if code:
        failed(f"lit-tf {words[0]}")
    if show:
        print(textwrap.indent(printed.getvalue(), "   "), end="")
    return time.perf_counter() - start


def title(number, text):
    """Prints the head of a part."""
    print(f"\n{number}  {text}", flush=True)


def table(rows, left=(0,)):
    """Prints rows of strings in columns; those numbered in `left` begin at their left side."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("   " + "  ".join(cells).rstrip(), flush=True)


# --- the numbers of the JAX code ----------------------------------------------------------------


def fixtures():
    """Returns the module that writes the reference's checkpoints."""
    spec = importlib.util.spec_from_file_location("fixtures", REFERENCE / "reference_fixtures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compare_numbers(rows):
    """Prints (what, found, expected, bound) in a table; returns whether all are within bounds."""
    out, equal = [("", "shape", "largest difference", "allowed")], True
    for what, found, expected, bound in rows:
        error = float(np.abs(np.asarray(found, np.float64) - expected).max())
        equal &= error <= bound
        out.append((what, str(np.shape(found)), f"{error:.1e}", f"{bound:.0e}" if bound else "0"))
    table(out)
    return equal


def photographs():
    """Writes the two photographs that scikit-learn ships; returns their paths."""
    sample = load_sample_images()
    paths = []
    for name, pixels in zip(sample.filenames, sample.images, strict=True):
        paths.append(OUT / pathlib.Path(name).with_suffix(".png").name)
        PIL.Image.fromarray(pixels).save(paths[-1])
    return paths


# --- one checkpoint, three runtimes -------------------------------------------------------------

# Runs a script in a process where some packages cannot be imported, as if they were not installed.
WITHOUT = """
import runpy, sys
sys.modules.update(dict.fromkeys(sys.argv[1].split(",")))
sys.argv = sys.argv[2:]
sys.path[0] = ""
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def export(checkpoint, quantization, calibration=()):
    """Exports for servers and for devices; prints commands, times and sizes."""
    served, device = OUT / "served" / "1", OUT / "device"
    served.parent.mkdir(exist_ok=True)
    rows = []
    for folder, arguments in (
        (served, ["--saved-model"]),
        (device, ["--tflite", "--quantization", quantization, *calibration]),
    ):
        seconds = command("export", checkpoint, folder, *arguments)
        size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        manifest = json.loads((folder / "lit_manifest.json").read_text(encoding="utf-8"))
        if folder is served:
            worst = max(v["max_abs_difference"] for v in manifest["parity"].values())
            parity = f"differs from Keras by at most {worst:.0e}"
        else:
            worst = min(f["mean_cosine"] for f in manifest["files"].values())
            parity = f"cosine to Keras {worst:.4f}, measured in LiteRT"
        rows.append(f"{folder}: {size / 1e6:.1f} MB in {seconds:.0f} s, {parity}")
    print("   " + "\n   ".join(rows), flush=True)
    return served, device


def ask(model, checkpoint, served, device, image, texts):
    """Starts three runtimes in three processes, asking which text fits an image; returns them."""
    from lit_tf.images import preprocessing

    pixels = OUT / "pixels.npy"
    np.save(
        pixels,
        preprocessing.resize_uint8(preprocessing.to_uint8(image), model.config.image.image_size),
    )
    lines = OUT / "texts.txt"
    lines.write_text("\n".join(texts) + "\n", encoding="utf-8")
    python = [sys.executable, "-c", WITHOUT]
    runtimes = {
        "Keras": [*LIT_TF, "compare", checkpoint, "--images", image, "--texts", f"@{lines}"],
        "SavedModel": [*python, "lit_tf", EXAMPLES / "serve_saved_model.py", served, image, *texts],
        # on_device.py reads one file of lit_tf, which imports nothing but Python's own.
        "TFLite": [
            *(*python, "tensorflow,keras", EXAMPLES / "on_device.py", device, pixels),
            *texts,
        ],
    }
    with open(LOG, "a", encoding="utf-8") as log:
        return {
            name: subprocess.Popen([*map(str, words), "--json"], stdout=subprocess.PIPE, stderr=log)
            for name, words in runtimes.items()
        }


def compare_answers(processes, quantization, texts):
    """Waits for the processes of `ask` and prints what they say; returns whether they agree."""
    answers = {}
    for name, process in processes.items():
        answer, _ = process.communicate()
        if process.returncode:
            failed(f"the answer of {name}")
        answers[name] = np.ravel(json.loads(answer)["probabilities"])  # of one image
    keras = answers["Keras"]
    best = keras.argsort()[::-1][:4]
    rows = [
        ("", "Keras", "SavedModel", f"TFLite {quantization}"),
        ("installed beside NumPy", "lit_tf", "TensorFlow", "LiteRT"),
    ]
    for i in best:
        rows.append((f'"{texts[i]}"', *(f"{100 * a[i]:.2f} %" for a in answers.values())))
    differences = {n: np.abs(a - keras).max() for n, a in answers.items() if n != "Keras"}
    rows.append(
        (f"largest difference of {len(texts)}", "-", *map("{:.1e}".format, differences.values()))
    )
    table(rows)
    same = all(a.argmax() == keras.argmax() for a in answers.values())
    return same and differences["SavedModel"] <= 1e-3


# --- a web page ---------------------------------------------------------------------------------


def web_page(checkpoint, images, texts):
    """Writes a site, and takes a picture of it in a browser; says what is missing for either."""
    from lit_tf.errors import ExportError
    from lit_tf.export.web import runtime

    site = OUT / "site"
    try:
        with logged():
            runtime.fetch([runtime.CORE, runtime.UTILS])
    except ExportError as error:
        print(textwrap.fill(f"No page was written: {error}", 97, **dict.fromkeys(INDENT, "   ")))
        return
    words = ["export", checkpoint, site, "--web", "--images", *images, "--texts", *texts]
    seconds = command(*words)
    size = sum(p.stat().st_size for p in (site / "model").iterdir())
    print(f"   {site}: a model of {size / 1e6:.1f} MB, in {seconds:.0f} s")
    try:
        screenshot(site, OUT / "site.png", len(images))
        print(f"   Picture: {OUT / 'site.png'}")
    except (ImportError, FileNotFoundError) as error:
        print(f"   No picture of the page: {error}")
    print(f"   To open it in your browser: {BIN}lit-tf serve-web {site}")


def screenshot(site, path, pictures):
    """Opens a site in Chromium, tries its example pictures, and writes a picture of the page.

    Raises:
        ImportError: playwright is not installed.
        FileNotFoundError: no Chromium is.
    """
    from playwright import sync_api

    from lit_tf.export.web import serve

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise FileNotFoundError("no chromium is installed")
    server = serve.make_server(site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with logged(), sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.goto(f"http://localhost:{server.server_address[1]}/")
        page.locator("#status span", has_text="Ready").wait_for(timeout=120_000)
        for button in page.locator(".examples button").all():
            button.click()
        page.locator(".cards .best").nth(pictures - 1).wait_for()
        page.mouse.move(0, 0)
        page.screenshot(path=path)
        browser.close()
    server.shutdown()


def browse(db, question, path):
    """Opens `lit-tf browse` in Chromium, asks it, and writes a picture of the page.

    Raises:
        ImportError: playwright is not installed.
        FileNotFoundError: no Chromium is.
    """
    from playwright import sync_api

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise FileNotFoundError("no chromium is installed")
    words = [*LIT_TF, "browse", str(db), "--no-open"]
    with LOG.open("a") as log, logged(), sync_api.sync_playwright() as playwright:
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True) as server:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 860})
            page.goto(server.stdout.readline().strip())
            page.fill("#text", question)
            page.locator("#said", has_text="similar").wait_for(timeout=120_000)
            page.wait_for_load_state("networkidle")
            for i in range(2):
                page.locator("#found input").nth(i).check()
            page.screenshot(path=path)
            browser.close()
            server.terminate()


# --- beginning and end --------------------------------------------------------------------------


def run(demo):
    """Runs a demo that returns {what: whether it held}, in a new folder; returns the exit code."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    LOG.touch()
    held = demo()
    print(f"\n{time.perf_counter() - START:.0f} s. ", end="")
    print(", ".join(f"{what}: {'yes' if ok else 'NO'}" for what, ok in held.items()) + ".")
    return 0 if all(held.values()) else 1
