"""Runs an exported folder's self-test, as an app does at its start: NumPy and one runtime.

    python examples/self_test.py device [--gpu]

The runtime is LiteRT (`ai-edge-litert`), `tflite-runtime` or TensorFlow, whichever is installed.
Prints the worst cosine of each graph to the model's answers; returns 1 if one is below its bound.
"""

import argparse
import base64
import json
import pathlib
import sys

import numpy as np


def array(record):
    """Returns an array of self_test.json."""
    data = np.frombuffer(base64.b64decode(record["base64"]), record["dtype"])
    return data.reshape(record["shape"])


def on_cpu(path, inputs, batch):
    """Returns a graph's answers (N, D) to inputs (N, ...) from the Interpreter."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError:
            import tensorflow as tf

            Interpreter = tf.lite.Interpreter
    interpreter = Interpreter(str(path), num_threads=2)
    (entry,), (end,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(entry["index"], [batch, *inputs.shape[1:]])
    interpreter.allocate_tensors()
    answers = []
    for start in range(0, len(inputs), batch):
        interpreter.set_tensor(entry["index"], inputs[start : start + batch])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(end["index"]))
    return np.concatenate(answers)


def on_gpu(path, inputs, batch):
    """Returns a graph's answers (N, D) to inputs (N, ...) from a CompiledModel."""
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator

    # With the CPU for what the GPU does not take: reading rows of a token table.
    hardware = HardwareAccelerator.GPU | HardwareAccelerator.CPU
    model = CompiledModel.from_file(str(path), hardware_accel=hardware)
    shape = [batch, *inputs.shape[1:]]
    model.resize_input_tensor(0, shape, strict=False)
    (entry,), (end,) = model.create_input_buffers(0), model.create_output_buffers(0)
    size = model.get_output_buffer_requirements(0)["buffer_size"] // 4
    answers = []
    for start in range(0, len(inputs), batch):
        entry.write(np.ascontiguousarray(inputs[start : start + batch]))
        model.run_by_index(0, [entry], [end])
        answers.append(np.array(end.read(size, np.float32)).reshape(batch, -1))
    return np.concatenate(answers)


def main():
    """Runs the test of every graph but those of strings, which need more than the runtime."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--gpu", action="store_true", help="LiteRT's GPU")
    args = parser.parse_args()
    test = json.loads((args.folder / "self_test.json").read_text(encoding="utf-8"))
    manifest = json.loads((args.folder / "lit_manifest.json").read_text(encoding="utf-8"))
    failed = []
    for file, graph in test["graphs"].items():
        if graph["values"] == "texts":
            continue
        inputs, expected = array(test[graph["values"]]), array(graph["answers"])
        batch = manifest["batch"] or 2
        rows = np.arange(-(-len(inputs) // batch) * batch) % len(inputs)  # whole batches
        run = on_gpu if args.gpu else on_cpu
        found, expected = run(args.folder / file, inputs[rows], batch), expected[rows]
        lengths = np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
        worst = ((found * expected).sum(-1) / lengths).min()
        print(f"{file:30s} {worst:.5f}  at least {graph['least_cosine']}", flush=True)
        if not worst >= graph["least_cosine"]:  # NaN fails too
            failed.append(file)
    if failed:
        print(f"this runtime misreads {', '.join(failed)}: do not use it", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
