"""What the runtimes that devices have answer: each graph's worst cosine to Keras, as a table.

    make runtimes
    python benchmarks/runtimes.py [--quantizations dynamic_int8 float16] [--batches 1 0]

Models: LiT-digits, and small ones of BERT's and SigLIP's kinds whose token tables are large enough
for int8. The GPU is LiteRT's delegate on SwiftShader, which Debian's package chromium brings.
Prints each graph's size and the seconds to its first answer, too.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

import lit_tf
from lit_tf.config import BertConfig, LitConfig, TextTransformerConfig, ViTConfig
from lit_tf.export import samples, tflite
from lit_tf.export.names import MIN_RUNTIMES, QUANTIZATIONS
from lit_tf.model import LitModel

ROOT = pathlib.Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "self_test.py"
CHROMIUM = pathlib.Path("/usr/lib/chromium")
GPU = "LiteRT GPU (SwiftShader)"


def models():
    """Returns {name: model}."""
    sizes = {"width": 64, "depth": 2, "num_heads": 4, "mlp_dim": 128}
    bert = BertConfig(30522, 64, 2, 4, 128, max_length=64, out_dim=64)
    plain = TextTransformerConfig(32000, 64, 2, 4, 128, max_length=64, out_dim=64)
    siglip = LitConfig(ViTConfig(8, 32, pool="attention", **sizes), plain, token_length=64)
    return {
        "LiT-digits": lit_tf.load("LiT-digits"),
        "small BERT": LitModel(LitConfig(ViTConfig(8, 32, **sizes), bert), seed=3),
        "small SigLIP": LitModel(siglip, seed=4),
    }


def runtimes():
    """Returns {name: (Python, options, environment)} of what is installed."""
    found = {"LiteRT of this environment": (sys.executable, [], {})}
    for folder in sorted((ROOT / ".venv-runtimes").glob("*/bin/python")):
        name = folder.parents[1].name
        found[name] = (str(folder), ["--openvino"] * (name == "openvino"), {})
    driver = CHROMIUM / "vk_swiftshader_icd.json"
    if driver.is_file():
        variables = {"VK_ICD_FILENAMES": str(driver), "LD_LIBRARY_PATH": str(CHROMIUM)}
        found[GPU] = (sys.executable, ["--gpu"], variables)
    return found


def cosines(runtime, folder):
    """Returns {file: worst cosine, as text} of a folder in a runtime."""
    python, options, variables = runtime
    command = [python, str(SCRIPT), str(folder), *options]
    environment = {**os.environ, **variables}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    lines = [line.split() for line in done.stdout.splitlines() if ".tflite" in line]
    return {line[0]: line[1] for line in lines} or {"failed": done.stderr.strip()[-80:]}


def first_answer(file):
    """Returns the seconds to load a graph in LiteRT and run it once."""
    from ai_edge_litert.interpreter import Interpreter

    start = time.perf_counter()
    interpreter = Interpreter(str(file), num_threads=2)
    interpreter.allocate_tensors()
    for given in interpreter.get_input_details():  # else they hold what was in memory
        interpreter.set_tensor(given["index"], np.zeros(given["shape"], given["dtype"]))
    interpreter.invoke()
    return time.perf_counter() - start


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quantizations", nargs="+", default=QUANTIZATIONS, choices=QUANTIZATIONS)
    parser.add_argument("--batches", nargs="+", type=int, default=[0, 1, 4], help="0: open")
    args = parser.parse_args()
    print("| model | quantization | batch | for | runtime | image | text |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    sizes = []
    for name, model in models().items():
        pixels = samples.sample_images(model.config.image.image_size, 22)[6:]
        for quantization in args.quantizations:
            for batch, oldest in [(b, v) for b in args.batches for v in MIN_RUNTIMES]:
                with tempfile.TemporaryDirectory() as folder:
                    out = pathlib.Path(folder, "out")
                    options = {"quantization": quantization, "min_runtime": oldest}
                    files = tflite(model, out, batch=batch or None, calibration=pixels, **options)
                    what = f"{name} | {quantization} | {batch or 'open'} | {oldest}"
                    for runtime, how in runtimes().items():
                        found = cosines(how, out)
                        image, text = (
                            found.get(f"{part}_encoder.tflite", found.get("failed", "-"))
                            for part in ("image", "text")
                        )
                        print(f"| {what} | {runtime} | {image} | {text} |", flush=True)
                    for file in ("image_encoder.tflite", "text_encoder.tflite"):
                        size = files[file]["bytes"] / 1e6
                        sizes.append((what, file, size, first_answer(out / file)))
    print("\n| model | quantization | batch | for | file | MB | first answer, ms |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for what, file, size, seconds in sizes:
        print(f"| {what} | {file} | {size:.2f} | {1000 * seconds:.1f} |")


if __name__ == "__main__":
    main()
