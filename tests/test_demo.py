"""`make demo` and `make demo-full` run to their end, and say what is so."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# As `make demo`, but with a shorter tuning run.
SHORT = """
import sys
sys.path.insert(0, sys.argv[1])
import demo, demo_tools
demo.STEPS, demo.TRAINING_IMAGES = 50, 1000
demo_tools.run(demo.digits)
"""


def run(folder, *command):
    """Runs Python in a folder, without a network to be had; returns what it printed."""
    env = {**os.environ, "LIT_TF_CACHE": str(folder / "cache"), "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=folder, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr, done.stderr
    return done.stdout


def answers(out):
    """The rows of percentages that three runtimes gave: [(Keras, SavedModel, TFLite), ...]."""
    rows = re.findall(r"^ +\".*\" +([\d.]+) % +([\d.]+) % +([\d.]+) %$", out, re.MULTILINE)
    return [tuple(map(float, row)) for row in rows]


def check(out, folder):
    """Checks what both demos promise: answers that agree, no long lines, files that are there."""
    rows = answers(out)
    assert len(rows) == 4
    for keras, saved_model, tflite in rows:
        assert abs(keras - saved_model) <= 0.01 and abs(keras - tflite) < 15
    assert "runtimes agree: yes" in out
    for line in out.splitlines():
        assert len(line) <= 100 or line.startswith("   $ "), line
    paths = re.findall(r"demo_output/[\w./-]*\w", out)
    assert paths and all((folder / path).exists() for path in paths)
    assert (folder / "demo_output" / "device" / "image_encoder.tflite").is_file()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """What the demo printed, and the folder it ran in."""
    folder = tmp_path_factory.mktemp("demo")
    return run(folder, "-c", SHORT, ROOT / "examples"), folder


@pytest.mark.full
def test_it_ends_well_and_runtimes_agree(demo):
    out, folder = demo
    check(out, folder)
    assert "the numbers of the JAX code: yes" in out
    for picture in ("digits.png", "tuning.png"):
        assert (folder / "demo_output" / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.full
def test_it_tunes_and_leaves_events_and_a_checkpoint(demo):
    out, folder = demo
    tuning = folder / "demo_output" / "tuning"
    assert list(tuning.glob("train/events.*")) and list(tuning.glob("eval/events.*"))
    assert (tuning / "final.npz").is_file()
    assert json.loads((tuning / "config.json").read_text())["steps"] == 50
    pattern = r"^ +80 pairs .* 400 +([\d.]+) % +([\d.]+) % +([\d.]+) %$"
    before, after, shipped = map(float, re.search(pattern, out, re.MULTILINE).groups())
    assert before <= 5 < shipped and after < shipped


@pytest.mark.full
def test_a_failed_command_ends_it_with_the_reason(tmp_path):
    (tmp_path / "demo_output").mkdir()
    code = "import demo_tools as t; t.LOG.touch(); t.command('info', 'nothing.npz')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "examples")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "nothing.npz: no such file" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("demo: lit-tf info failed")


@pytest.mark.full
def test_the_whole_demo_learns(tmp_path):
    out = run(tmp_path, ROOT / "examples" / "demo.py")
    check(out, tmp_path)
    assert out.splitlines()[-1].count("yes") == 4


@pytest.mark.full
def test_without_a_network_the_full_size_demo_says_that_its_weights_are_random(tmp_path):
    out = run(tmp_path, ROOT / "examples" / "demo_full.py")
    check(out, tmp_path)
    assert "RANDOM weights" in out and "the numbers of the JAX code: yes" in out
