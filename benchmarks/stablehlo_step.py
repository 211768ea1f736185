"""The train step's StableHLO on a CUDA machine, through JAX's client: step time and share of peak.

    python benchmarks/stablehlo_step.py lower --config lit_coco:txt=bert_base,img=B/16 --batch 1024
    python stablehlo_step.py run step.mlir

The first line runs where lit_tf is installed, on a CPU. The second needs JAX, this file and
step.mlir, and nothing else.

What runs is the step that the TPU preflight lowers: model, loss, gradient and optimizer.
"""

import argparse
import json
import re
import sys
import time

DTYPES = {
    **{"i1": "bool", "ui8": "uint8", "i32": "int32", "i64": "int64", "ui64": "uint64"},
    **{"f32": "float32", "bf16": "bfloat16"},
}
# Dense bfloat16 TFLOP/s, from NVIDIA's data sheets.
PEAKS = {"A100": 312, "H100": 989, "H200": 989, "L4": 121, "L40S": 362}


def lower(args):
    """Writes a config's train step for one device; its first line says what it computes."""
    from lit_tf.files import write_text
    from lit_tf.training.config import load_config
    from lit_tf.training.preflight import lowering, programs

    config = load_config(args.config, [*args.set, f"batch_size={args.batch}"])
    program = programs.train_step(config, 1)
    text = lowering.lower(program.function, program.arguments)
    about = {
        "config": args.config,
        "batch": args.batch,
        "dtype": config.dtype,
        "model_flops": program.model_flops,
        "arguments": list(arguments_of(text)),
    }
    write_text(args.output, f"// {json.dumps(about)}\n{text}")
    print(f"{args.output}: {args.config}, {args.batch} examples, {config.dtype}")


def arguments_of(text):
    """Yields (shape, NumPy dtype, number of the result that replaces it or None) per argument."""
    alias = r"parameter_number = (\d+) : i64\}, output_index = array<i64: (\d+)>"
    replaced_by = {int(i): int(result) for i, result in re.findall(alias, text)}
    main = text[text.index("@main(") :]
    arguments = re.findall(r"%arg(\d+): tensor<((?:\d+x)*)(\w+)>", main[: main.index(") ->")])
    for i, sizes, kind in arguments:
        yield [int(n) for n in sizes.split("x") if n], DTYPES[kind], replaced_by.get(int(i))


def compile_file(path):
    """Compiles a file of `lower` for JAX's first device.

    Returns:
        What its first line says, and the executable.
    """
    import jax
    from jax._src.lib import xla_client

    with open(path, encoding="utf-8") as file:
        about = json.loads(file.readline().removeprefix("// "))
        text = file.read()
    device = jax.devices()[0]
    executable = device.client.compile_and_load(
        text, xla_client.DeviceList((device,)), xla_client.CompileOptions()
    )
    return about, executable


def random_arguments(arguments):
    """Returns device arrays: small normal numbers, and whole numbers below 100.

    Not zeros: a card that multiplies zeros draws less power and keeps a higher clock.
    """
    import jax
    import numpy as np

    rng = np.random.default_rng(0)
    for shape, dtype, _ in arguments:
        if "int" in dtype or dtype == "bool":
            array = rng.integers(0, 100, shape).astype(dtype)
        else:
            array = (0.02 * rng.standard_normal(shape, np.float32)).astype(dtype)
        yield jax.device_put(array)


def run(args):
    """Times the step and prints a row of the documentation's table."""
    import jax

    jax.config.update("jax_enable_x64", True)  # the step counter is an int64
    about, executable = compile_file(args.file)
    device = jax.devices()[0]
    inputs = list(random_arguments(about["arguments"]))
    seconds = []
    for _ in range(args.steps + 2):  # the first two are not counted
        start = time.perf_counter()
        results = jax.block_until_ready(executable.execute(inputs))
        seconds.append(time.perf_counter() - start)
        for i, (_, _, result) in enumerate(about["arguments"]):  # parameters and optimizer state
            inputs[i] = inputs[i] if result is None else results[result]
    best = min(seconds[2:])
    rate = about["model_flops"] / best / 1e12
    peak = args.peak or next((v for k, v in PEAKS.items() if k in device.device_kind.split()), None)
    share = f"{rate / peak:.0%}" if peak else "-"
    print("| card | config | batch | step | examples/s | TFLOP/s | of its peak |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print(
        f"| {device.device_kind} | `{about['config']}`, {about['dtype']} | {about['batch']:,} "
        f"| {1e3 * best:.1f} ms | {about['batch'] / best:,.0f} | {rate:.3g} | {share} |"
    )


def main():
    """Runs one of the two halves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    halves = parser.add_subparsers(dest="half", required=True)
    sub = halves.add_parser("lower", help="write the lowered step; needs lit_tf")
    sub.add_argument("--config", required=True, metavar="NAME:ARGS", help="a training config")
    sub.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    sub.add_argument("--batch", type=int, default=1024, metavar="N", help="default: 1024")
    sub.add_argument("-o", "--output", default="step.mlir", metavar="FILE")
    sub.set_defaults(function=lower)
    sub = halves.add_parser("run", help="run the lowered step; needs JAX")
    sub.add_argument("file", metavar="FILE")
    sub.add_argument("--steps", type=int, default=20, metavar="N", help="timed steps")
    sub.add_argument("--peak", type=float, metavar="TFLOPS", help="of a card not known here")
    sub.set_defaults(function=run)
    args = parser.parse_args()
    args.function(args)


if __name__ == "__main__":
    sys.exit(main())
