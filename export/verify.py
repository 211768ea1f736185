"""Runs an exported artefact in a separate process, as its users will.

This is a script, not a part of the package. It imports NumPy and the runtime, but nothing of
lit_tf, so it gives the same results as a machine without lit_tf.

    python verify.py saved_model FOLDER INPUTS.npz OUTPUTS.npz
    python verify.py tflite FILE INPUTS.npz OUTPUTS.npz

INPUTS holds one array for every `signature/argument`; none of its strings ends in NUL. OUTPUTS gets
`signature/output`, and `record`, a JSON text about the artefact.
"""

import json
import os
import subprocess
import sys
import tempfile

import numpy as np


def run_in_process(kind, path, inputs):
    """Runs an artefact in a fresh process; returns {"signature/output": array} and its record.

    `inputs` is {signature: {argument: array, or list of bytes}}.
    """
    from lit_tf.errors import ExportError  # the script itself does without lit_tf

    with tempfile.TemporaryDirectory() as folder:
        given, got = os.path.join(folder, "inputs.npz"), os.path.join(folder, "outputs.npz")
        flat = {
            f"{s}/{name}": v for s, arguments in inputs.items() for name, v in arguments.items()
        }
        np.savez(
            given, **{k: np.array(v, "S") if isinstance(v, list) else v for k, v in flat.items()}
        )
        command = [sys.executable, os.path.abspath(__file__), kind, str(path), given, got]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
        if done.returncode:
            raise ExportError(
                f"{os.path.basename(path)} failed in a fresh process, so nothing was written: "
                f"{done.stderr.strip()[-2000:]}"
            )
        with np.load(got, allow_pickle=False) as arrays:
            found = dict(arrays)
        return found, json.loads(str(found.pop("record")))


def _saved_model(path, inputs):
    import tensorflow as tf

    with open(os.path.join(path, "lit_manifest.json"), encoding="utf-8") as file:
        if "tensorflow_text" in json.load(file)["needs"]:
            import tensorflow_text  # noqa: F401  registers the tokenizer's ops
    model = tf.saved_model.load(path)
    out = {}
    for signature, arguments in inputs.items():
        found = model.signatures[signature](**{k: tf.constant(v) for k, v in arguments.items()})
        for name, value in found.items():
            value = value.numpy()
            out[f"{signature}/{name}"] = value.astype("S") if value.dtype == object else value
    return out, {
        name: {
            "inputs": _specs(function.structured_input_signature[1]),
            "outputs": _specs(function.structured_outputs),
        }
        for name, function in model.signatures.items()
    }


def delegated(interpreter, plain):
    """Returns how XNNPACK divides a graph, whose operations without delegates are `plain`."""
    operations = interpreter._get_ops_details()
    # If a tensor has two producers, the later one is the delegate that replaced the earlier one.
    producer = {t: i for i, op in enumerate(operations) for t in op["outputs"]}
    seen, todo = set(), [d["index"] for d in interpreter.get_output_details()]
    while todo:
        index = producer.get(todo.pop())
        if index is not None and index not in seen:
            seen.add(index)
            todo.extend(t for t in operations[index]["inputs"] if t >= 0)
    names = [operations[i]["op_name"] for i in sorted(seen)]
    left = [n for n in names if n != "DELEGATE"]
    return {
        "nodes": len(plain),
        "in_xnnpack": len(plain) - len(left),
        "partitions": names.count("DELEGATE"),
        "left": {n: left.count(n) for n in sorted(set(left))},
    }


def _tflite(path, inputs):
    from ai_edge_litert import interpreter as litert

    options = {"model_path": path, "num_threads": os.cpu_count()}
    resolver = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    if path.endswith("_strings.tflite"):
        from tensorflow_text.core.pybinds import tflite_registrar

        options["custom_op_registerers"] = tflite_registrar.SELECT_TFTEXT_OPS
        make = litert.InterpreterWithCustomOps
    else:
        make = litert.Interpreter
    plain = make(**options, experimental_op_resolver_type=resolver)._get_ops_details()
    interpreter = make(**options)
    ((signature, arguments),) = inputs.items()
    runner = interpreter.get_signature_runner(signature)
    arguments = {k: np.array(v, object) if isinstance(v, list) else v for k, v in arguments.items()}
    out = {f"{signature}/{name}": value for name, value in _answer(runner, arguments).items()}
    return out, {
        "signature": signature,
        "inputs": _specs(runner.get_input_details()),
        "outputs": _specs(runner.get_output_details()),
        "delegation": delegated(interpreter, plain),
    }


def _specs(tensors):
    """Returns {name: dtype and shape}, with N for a size that is chosen at run time."""
    out = {}
    for name, found in sorted(tensors.items()):
        lite = isinstance(found, dict)
        shape = list(map(int, found["shape_signature"])) if lite else found.shape.as_list()
        dtype = np.dtype(found["dtype"] if lite else found.dtype.as_numpy_dtype).name
        shape = str(shape).replace("-1", "N").replace("None", "N")
        out[name] = f"{dtype.replace('object', 'string')} {shape}"
    return out


def _answer(runner, arguments):
    """Runs a graph once, or as often as its fixed batch size needs, with the last row repeated."""
    shapes = [details["shape_signature"] for details in runner.get_input_details().values()]
    size = shapes[0][0] if all(map(len, shapes)) else -1
    if size < 0:
        return runner(**arguments)
    count = len(next(iter(arguments.values())))
    rows = np.minimum(np.arange(-(-count // size) * size).reshape(-1, size), count - 1)
    parts = [runner(**{k: v[part] for k, v in arguments.items()}) for part in rows]
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}


if __name__ == "__main__":
    kind, artefact, given, got = sys.argv[1:]
    # Keras imports these if they are installed. Without them it starts in half the time.
    sys.modules |= dict.fromkeys(("matplotlib", "pandas", "sklearn"))  # type: ignore[arg-type]
    run = {"saved_model": _saved_model, "tflite": _tflite}[kind]
    inputs: dict = {}
    with np.load(given, allow_pickle=False) as arrays:
        for key, value in arrays.items():
            signature, name = key.rsplit("/", 1)
            value = value.tolist() if value.dtype.kind == "S" else value
            inputs.setdefault(signature, {})[name] = value
    answers, record = run(artefact, inputs)
    np.savez(got, record=json.dumps(record), **answers)
