"""Takes the runs of expected/train.npz in a process of its own.

    python -m tests.workers.reference_runs FOLDER REPLICAS OUT.npz RUN...

REPLICAS is a number, or "workers" for a process that TF_CONFIG makes one of several. Logical CPU
devices have to be configured before TensorFlow starts, so runs on several replicas take a process
of their own.
"""

import os
import sys

import numpy as np


def main():
    folder, replicas, out, *names = sys.argv[1:]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    from lit_tf.training.distribution.strategies import make_strategy

    from ..conftest import reference_fixtures
    from ..training.reference_runs import RUNS, run

    if replicas == "workers":
        strategy = make_strategy("multi_worker")
    else:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * int(replicas)
        )
        strategy = make_strategy("mirrored")
    batches = reference_fixtures().train_batches()
    results = {}
    for name in names:
        metrics, final = run(strategy, folder, batches, **RUNS[name])
        results |= {f"{name}/{k}": v for k, v in metrics.items()}
        results |= {f"{name}/final/{k}": v for k, v in final.items()}
    np.savez(out, **results)


if __name__ == "__main__":
    main()
