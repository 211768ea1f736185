"""Runs an exported folder's self-test, as an app does at its start: NumPy and one runtime.

    python examples/self_test.py device [--gpu | --openvino]

The runtime is LiteRT (`ai-edge-litert`), `tflite-runtime` or TensorFlow, whichever is installed.
Prints the worst cosine of each graph to the model's answers; returns 1 if one is below its bound.
"""

import argparse
import base64
import functools
import json
import pathlib
import sys

import numpy as np


def array(record):
    """Returns an array of self_test.json."""
    data = np.frombuffer(base64.b64decode(record["base64"]), record["dtype"])
    return data.reshape(record["shape"])


def parts(inputs, batch):
    """Yields inputs {name: (N, ...)}, a batch at a time."""
    for start in range(0, len(next(iter(inputs.values()))), batch):
        yield {name: value[start : start + batch] for name, value in inputs.items()}


def on_cpu(path, inputs, batch):
    """Returns a graph's answers (N, D) to inputs {name: (N, ...)} from the Interpreter."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError:
            import tensorflow as tf

            Interpreter = tf.lite.Interpreter
    run = Interpreter(str(path), num_threads=2).get_signature_runner()
    answers = [next(iter(run(**part).values())) for part in parts(inputs, batch)]
    return np.concatenate(answers)


def gpu_options():
    """Returns options of a CompiledModel for LiteRT's GPU."""
    from ai_edge_litert.compiled_model import HardwareAccelerator, Options

    # With the CPU for what the GPU does not take: reading rows of a token table.
    return Options(HardwareAccelerator.GPU | HardwareAccelerator.CPU)


def openvino_options():
    """Returns options for LiteRT's way to an NPU, compiled just in time for this processor."""
    from ai_edge_litert.compiled_model import HardwareAccelerator, IntelOpenVinoOptions, Options

    hardware = HardwareAccelerator.NPU | HardwareAccelerator.CPU
    openvino = IntelOpenVinoOptions(graph_backend=IntelOpenVinoOptions.GRAPH_BACKEND.CPU)
    return Options(hardware, intel_openvino_options=openvino)


def compiled(options, path, inputs, batch):
    """Returns a graph's answers (N, D) to inputs {name: (N, ...)} from a CompiledModel."""
    from ai_edge_litert.compiled_model import CompiledModel

    model = CompiledModel.from_file(str(path), options=options)
    names = model.get_signature_by_index(0)["inputs"]
    for i, name in enumerate(names):
        model.resize_input_tensor(i, [batch, *inputs[name].shape[1:]], strict=False)
    entries, (end,) = model.create_input_buffers(0), model.create_output_buffers(0)
    size = model.get_output_buffer_requirements(0)["buffer_size"] // 4
    answers = []
    for part in parts(inputs, batch):
        for name, entry in zip(names, entries, strict=True):
            entry.write(np.ascontiguousarray(part[name]))
        model.run_by_index(0, entries, [end])
        answers.append(np.array(end.read(size, np.float32)).reshape(batch, -1))
    return np.concatenate(answers)


def main():
    """Runs the test of every graph but those of strings, which need more than the runtime."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--gpu", action="store_true", help="LiteRT's GPU")
    where.add_argument("--openvino", action="store_true", help="LiteRT's NPU, on Intel's CPU")
    args = parser.parse_args()
    run = on_cpu
    if args.gpu or args.openvino:
        run = functools.partial(compiled, gpu_options() if args.gpu else openvino_options())
    test = json.loads((args.folder / "self_test.json").read_text(encoding="utf-8"))
    manifest = json.loads((args.folder / "lit_manifest.json").read_text(encoding="utf-8"))
    failed = []
    for file, graph in test["graphs"].items():
        if "text" in graph["inputs"]:
            continue
        expected, batch = array(graph["answers"]), manifest["batch"] or 2
        rows = np.arange(-(-len(expected) // batch) * batch) % len(expected)  # whole batches
        inputs = {name: array(test[key])[rows] for name, key in graph["inputs"].items()}
        expected, found = expected[rows], run(args.folder / file, inputs, batch)
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
