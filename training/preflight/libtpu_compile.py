"""Compiles a StableHLO file with libtpu, ahead of time; run as a script, in a process of its own.

    python libtpu_compile.py PROGRAM TOPOLOGY CHIP_CONFIG REPLICAS RESULT

RESULT gets the fields of `compiler.Compiled`, or {"error", "kind": "compiler" or "interface"}. It
shares libraries with TensorFlow that neither expects to share, and it may end its process.
"""

import json
import os
import pathlib
import sys
import time


def main(program, topology, config, replicas, result):
    """Compiles a program; writes the result file whatever happens."""
    try:
        answer = _compile(pathlib.Path(program).read_text(), topology, config, int(replicas))
    except (ImportError, AttributeError, TypeError) as error:
        answer = {"error": f"{type(error).__name__}: {error}", "kind": "interface"}
    except Exception as error:  # whatever the compiler says is the answer
        answer = {"error": str(error), "kind": "compiler"}
    pathlib.Path(result).write_text(json.dumps(answer))


def _compile(program, topology, config, replicas):
    # There is no TPU here, so there is no metadata server to ask.
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    os.environ["JAX_PLATFORMS"] = "cpu"
    # Nor can two compilations compete for a TPU, so several may run at once.
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
    import numpy as np
    from jax._src.interpreters import mlir
    from jax._src.lib import xla_client
    from jax.experimental import topologies
    from jax.extend.mlir import ir

    about = {"chip_config_name": config} if config else {}
    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology, **about).devices
    compile_options = xla_client.CompileOptions()
    compile_options.num_replicas = replicas
    compile_options.num_partitions = 1
    numbers = np.arange(replicas).reshape(replicas, 1)
    compile_options.device_assignment = xla_client.DeviceAssignment.create(numbers)
    start = time.monotonic()
    with mlir.make_ir_context():
        module = ir.Module.parse(program)
        executable = devices[0].client.compile(
            module, xla_client.DeviceList(tuple(devices[:replicas])), compile_options
        )
    seconds = time.monotonic() - start
    memory, cost = executable.get_compiled_memory_stats(), executable.cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    return {
        "arguments": memory.argument_size_in_bytes,
        "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "code": memory.generated_code_size_in_bytes,
        "flops": cost["flops"],
        "bytes_accessed": cost["bytes accessed"],
        "seconds": seconds,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
