"""The graphs in the runtimes that devices have: the self-test passes, or it refuses."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

import lit_tf
from lit_tf.config import BertConfig, LitConfig, TextTransformerConfig, ViTConfig
from lit_tf.export import samples, tflite
from lit_tf.model import LitModel

pytest.importorskip("ai_edge_litert")

ROOT = pathlib.Path(__file__).parents[2]
CHROMIUM = pathlib.Path("/usr/lib/chromium")  # has SwiftShader: Vulkan on a CPU
SIZES = {"width": 64, "depth": 2, "num_heads": 4, "mlp_dim": 128}
# Their token tables are large enough for int8, as a published model's are.
TEXTS = {
    "cls": BertConfig(30522, 64, 2, 4, 128, max_length=64, out_dim=64),
    "attention": TextTransformerConfig(32000, 64, 2, 4, 128, max_length=64, out_dim=64),
}
RUNTIMES = ("tflite-2.14", "tensorflow-2.16", "tensorflow-2.17", "litert-1.0", "litert-1.4")
RUNTIMES += ("litert-2.0",)


@pytest.fixture(scope="module")
def models():
    """{pooling: a model with random weights}, small but for its token table."""
    lengths = {"cls": 16, "attention": 64}
    configs = {
        pool: LitConfig(ViTConfig(8, 32, pool=pool, **SIZES), text, token_length=lengths[pool])
        for pool, text in TEXTS.items()
    }
    return {pool: LitModel(config, seed=3) for pool, config in configs.items()}


def self_test(folder, *options, python=sys.executable, **variables):
    """Runs a folder's self-test; returns the process."""
    command = [str(python), str(ROOT / "examples" / "self_test.py"), str(folder), *options]
    environment = {**os.environ, **variables}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def on_gpu(folder):
    """Runs a folder's self-test on LiteRT's GPU; skips where there is no SwiftShader."""
    driver = CHROMIUM / "vk_swiftshader_icd.json"
    if not driver.is_file():
        pytest.skip("Debian's package chromium is not installed: no SwiftShader")
    found = {"VK_ICD_FILENAMES": str(driver), "LD_LIBRARY_PATH": str(CHROMIUM)}
    return self_test(folder, "--gpu", **found)


def python_of(runtime):
    """Returns the Python of a runtime's environment; skips where it is absent."""
    python = ROOT / ".venv-runtimes" / runtime / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no environment for {runtime}: `make runtimes` makes it")
    return python


@pytest.mark.parametrize("pool", ["cls", pytest.param("attention", marks=pytest.mark.full)])
def test_cpu_and_gpu_answer_right_in_the_default_quantization(models, tmp_path, pool):
    batch = {"cls": None, "attention": 1}[pool]
    tflite(models[pool], tmp_path / "out", batch=batch)
    done = self_test(tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    done = on_gpu(tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


@pytest.fixture(scope="module")
def folders(models, tmp_path_factory):
    """A function from quantization, batch size and oldest runtime to folders of graphs."""
    made = {}

    def get(quantization, batch, min_runtime="2.16"):
        key = (quantization, batch, min_runtime)
        if key not in made:
            out = tmp_path_factory.mktemp("graphs")
            options = {"quantization": quantization, "batch": batch, "min_runtime": min_runtime}
            for pool, model in {**models, "digits": lit_tf.load("LiT-digits")}.items():
                pixels = samples.sample_images(model.config.image.image_size, 22)[6:]
                pixels = pixels if quantization == "int8" else None
                tflite(model, out / pool, calibration=pixels, **options)
            made[key] = sorted(out.iterdir())
        return made[key]

    return get


def check(folders, run):
    for folder in folders:
        done = run(folder)
        assert done.returncode == 0, (folder.name, done.stdout, done.stderr[-2000:])


@pytest.mark.full
@pytest.mark.parametrize("batch", [1, 4, None])
@pytest.mark.parametrize("quantization", ["dynamic_int8", "float16"])
def test_the_gpu_answers_right_at_every_batch_size(folders, quantization, batch):
    check(folders(quantization, batch), on_gpu)


@pytest.mark.full
@pytest.mark.parametrize("quantization", ["none", "float16", "dynamic_int8", "int8"])
def test_the_way_to_an_npu_takes_every_graph_whole(folders, quantization):
    """Compiled just in time by OpenVINO, which computes on this machine's processor."""
    python = python_of("openvino")

    def run(folder):
        done = self_test(folder, "--openvino", python=python)
        assert done.stderr.count("resulted in 1 partitions") == 2, done.stderr[-2000:]
        for selected, total in re.findall(r"selected (\d+) ops.* total of (\d+)", done.stderr):
            assert selected == total
        return done

    check(folders(quantization, 1), run)


@pytest.mark.full
@pytest.mark.parametrize("batch", [4, None])
@pytest.mark.parametrize("runtime", [r for r in RUNTIMES if r != "tflite-2.14"])
def test_other_runtimes_answer_right(folders, runtime, batch):
    python = python_of(runtime)
    check(folders("dynamic_int8", batch), lambda folder: self_test(folder, python=python))


@pytest.mark.full
@pytest.mark.parametrize("runtime", [*RUNTIMES, "litert-1.2"])
def test_graphs_for_old_runtimes_answer_right(folders, runtime):
    python = python_of(runtime)
    check(folders("dynamic_int8", None, "2.14"), lambda folder: self_test(folder, python=python))


@pytest.mark.full
@pytest.mark.parametrize("runtime", ["tflite-2.14", "litert-1.2"])
def test_the_self_test_refuses_a_runtime_that_misreads(folders, runtime):
    python = python_of(runtime)
    for folder in folders("dynamic_int8", None):
        done = self_test(folder, python=python)
        assert done.returncode == 1 and "misreads" in done.stderr
