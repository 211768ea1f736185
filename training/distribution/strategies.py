"""From names to `tf.distribute` strategies. No step asks which strategy it runs under."""

import contextlib
import glob
import hashlib
import json
import os
import re
import sys

import numpy as np
import tensorflow as tf

from lit_tf.contrastive.collectives import Collectives
from lit_tf.errors import TrainingError

from ..names import AUTO, MIRRORED, MULTI_WORKER, ONE_DEVICE, STRATEGIES, TPU

_GOOGLE_PCI_VENDOR = "0x1ae0"
# What collectives end with when a worker has gone.
_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError)
_LOST += (tf.errors.CancelledError, tf.errors.DeadlineExceededError)


def make_strategy(name: str = AUTO, *, tpu: str | None = None) -> tf.distribute.Strategy:
    """Builds a strategy. Call it first: before any tensor, dataset or model is made.

    "auto" takes a TPU if there is one, several workers if `TF_CONFIG` lists them, all GPUs if there
    are several, else one device. `tpu` is a name, a gRPC address, or "local" for this TPU VM.
    """
    if name not in STRATEGIES:
        raise TrainingError(f"unknown strategy {name!r}; expected one of {', '.join(STRATEGIES)}")
    if tpu and name not in (AUTO, TPU):
        raise TrainingError(f"a TPU ({tpu!r}) was named, but the strategy is {name!r}, not 'tpu'")
    if name == AUTO:
        name = _detect(tpu)
    if name == TPU:
        return _tpu_strategy(tpu)
    if name == MULTI_WORKER:
        if len(listed_workers()) < 2:
            raise TrainingError(
                "strategy 'multi_worker' needs TF_CONFIG in the environment, listing the workers "
                "and which one this is"
            )
        return tf.distribute.MultiWorkerMirroredStrategy()
    gpus = tf.config.list_logical_devices("GPU")
    if name == MIRRORED:
        devices = gpus or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.OneDeviceStrategy(gpus[0].name if gpus else "CPU:0")


def of_arguments(args) -> tf.distribute.Strategy:
    """Builds the strategy of a command's `--strategy` and `--tpu`, and says what it is."""
    strategy = make_strategy(args.strategy, tpu=args.tpu)
    count = strategy.num_replicas_in_sync
    replicas = f"{count} replica{'s' if count > 1 else ''}"
    print(f"strategy: {type(strategy).__name__}, {replicas}", file=sys.stderr)
    return strategy


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes checkpoints, summaries and the final model."""
    resolver = strategy.cluster_resolver
    if resolver is None or isinstance(resolver, tf.distribute.cluster_resolver.TPUClusterResolver):
        return True  # one process drives all of a TPU slice
    return resolver.task_type in (None, "chief") or (
        resolver.task_type == "worker"
        and resolver.task_id == 0
        and "chief" not in resolver.cluster_spec().jobs
    )


def has_workers(strategy: tf.distribute.Strategy | None) -> bool:
    """Whether several processes take part, which must all run the same collectives."""
    return strategy is not None and strategy.extended._in_multi_worker_mode()


def check_agreement(strategy, values: dict) -> None:
    """Stops all workers if a value differs between them, and says which. All have to call it."""
    if not has_workers(strategy):
        return
    digests = [hashlib.sha256(repr(value).encode()).digest() for value in values.values()]
    # Two numbers of 24 bits for each value: float32 carries and sums them exactly.
    parts = [[int.from_bytes(d[i : i + 3], "big") for i in (0, 3)] for d in digests]
    mine = tf.constant([parts], tf.float32)  # (1, values, 2)
    gather = tf.function(
        lambda: strategy.run(lambda: Collectives().gather(mine + 0.0)), autograph=False
    ).get_concrete_function()  # or TensorFlow would warn of retracing
    found = strategy.experimental_local_results(gather())[0].numpy()  # (replicas, values, 2)
    differ = np.flatnonzero((found != found[0]).any(axis=(0, 2)))
    if differ.size:
        names = list(values)
        here = [f"{names[i]} (here {values[names[i]]!r:.60})" for i in differ]
        raise TrainingError(
            f"the workers disagree on {', '.join(here)}; start all of them with the same "
            "configuration, data and checkpoints"
        )


def _detect(tpu):
    if tpu or os.environ.get("TPU_NAME") or _on_tpu_vm():
        return TPU
    if len(listed_workers()) > 1:
        return MULTI_WORKER
    return MIRRORED if len(tf.config.list_physical_devices("GPU")) > 1 else ONE_DEVICE


def _on_tpu_vm(root="/"):
    """Whether this machine has TPU chips: v2 to v4 show as /dev/accel0, v5e and v6e by VFIO."""
    if os.path.exists(os.path.join(root, "dev/accel0")):
        return True
    if not os.path.exists(os.path.join(root, "dev/vfio/0")):
        return False
    # VFIO passes through devices of any maker; one of them has to be Google's.
    for path in glob.glob(os.path.join(root, "sys/bus/pci/devices/*/vendor")):
        # A device may go away.
        with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
            if file.read().strip() == _GOOGLE_PCI_VENDOR:
                return True
    return False


def lost_worker(strategy: tf.distribute.Strategy, error: BaseException) -> str | None:
    """Returns the task that an error says is gone, such as "worker 1", or None if it says none."""
    if not has_workers(strategy) or not isinstance(error, _LOST):
        return None
    tasks = re.findall(r"/job:(\w+)(?:/replica:\d+)?/task:(\d+)", str(error))
    resolver = strategy.cluster_resolver
    mine = resolver.task_type, str(resolver.task_id)
    return next((f"{job} {task}" for job, task in tasks if (job, task) != mine), "another worker")


def listed_workers() -> list[str]:
    """Returns the addresses of all workers that TF_CONFIG lists."""
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
        return [w for job in ("chief", "worker") for w in cluster.get(job, [])]
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise TrainingError(f"TF_CONFIG is not the JSON of a cluster: {error}") from error


def _tpu_strategy(tpu):
    tpu = tpu or os.environ.get("TPU_NAME") or "local"
    try:
        # In this order and before anything else: resolve, connect, initialize, build. On a TPU VM
        # ("local") the TPU belongs to this process, so there is nothing to connect to.
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu)
        if tpu != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        raise TrainingError(
            f"no TPU answered as {tpu!r}: {str(error).splitlines()[0]}. Name one with --tpu (a "
            "name, grpc:// address, or 'local' on a TPU VM, with tensorflow-tpu installed)"
        ) from error
