"""Compiles a StableHLO file with libtpu, ahead of time; run as a script, in a process of its own.

    python libtpu_compile.py JOB.json

JOB.json holds {"stablehlo", "topology", "config", "replicas", "result", "program"}: three paths,
and what to compile for. The answer goes to `result`, as {"memory", "cost", "seconds"} or {"error",
"kind": "compiler" or "interface"}, and the optimized program to `program`.

The compiler needs jax and libtpu, but not TensorFlow. It runs in a process of its own because
TensorFlow and jax share libraries that neither expects to share, and because a compiler that ends
its process must not end the preflight's.
"""

import json
import os
import pathlib
import sys
import time


def main(job):
    """Compiles what the job names; writes its result file whatever happens."""
    answer = {}
    try:
        answer = _compile(job)
    except (ImportError, AttributeError, TypeError) as error:
        answer = {"error": f"{type(error).__name__}: {error}", "kind": "interface"}
    except Exception as error:  # whatever the compiler says is the answer
        answer = {"error": str(error), "kind": "compiler"}
    pathlib.Path(job["result"]).write_text(json.dumps(answer))


def _compile(job):
    # There is no TPU here, so there is no metadata server to ask.
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    os.environ["JAX_PLATFORMS"] = "cpu"
    # Nor can two compilations compete for a TPU, so several may run at once.
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
    import numpy as np
    from jax._src.interpreters import mlir
    from jax._src.lib import xla_client
    from jax._src.lib.mlir import ir
    from jax.experimental import topologies

    options = {"chip_config_name": job["config"]} if job["config"] else {}
    devices = topologies.get_topology_desc(
        platform="tpu", topology_name=job["topology"], **options
    ).devices
    replicas = job["replicas"]
    if len(devices) < replicas:
        raise ValueError(f"{job['topology']} has {len(devices)} devices, {replicas} wanted")
    compile_options = xla_client.CompileOptions()
    compile_options.num_replicas = replicas
    compile_options.num_partitions = 1
    compile_options.device_assignment = xla_client.DeviceAssignment.create(
        np.arange(replicas).reshape(replicas, 1)
    )
    # libtpu also writes the optimized program to a file: see `_program`.
    dump = pathlib.Path(job["program"]).with_suffix(".dump")
    debug = compile_options.executable_build_options.debug_options
    debug.xla_dump_to, debug.xla_dump_hlo_as_text = str(dump), True
    start = time.monotonic()
    with mlir.make_ir_context():
        module = ir.Module.parse(pathlib.Path(job["stablehlo"]).read_text())
        executable = devices[0].client.compile(
            module, xla_client.DeviceList(tuple(devices[:replicas])), compile_options
        )
    seconds = time.monotonic() - start
    memory = executable.get_compiled_memory_stats()
    cost = executable.cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    pathlib.Path(job["program"]).write_text(_program(executable, dump))
    return {
        "memory": {
            name: getattr(memory, f"{name}_size_in_bytes")
            for name in ("argument", "output", "alias", "temp", "generated_code")
        },
        "cost": {k: cost[k] for k in ("flops", "bytes accessed")},
        "seconds": seconds,
    }


def _program(executable, dump):
    """Returns the optimized program as text.

    jaxlib parses what libtpu hands over, and refuses some asynchronous operations of v6e
    ("async-update instruction should have 1 operands"). The text that libtpu wrote itself has them.
    """
    try:
        return executable.hlo_modules()[0].to_string()
    except Exception:
        for path in dump.glob("*.after_optimizations.txt"):
            return path.read_text()
        raise


if __name__ == "__main__":
    main(json.loads(pathlib.Path(sys.argv[1]).read_text()))
