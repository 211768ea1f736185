"""Names that configs and commands take; they need no TensorFlow, so `--help` is quick."""

AUTO, TPU, MIRRORED, MULTI_WORKER = "auto", "tpu", "mirrored", "multi_worker"
ONE_DEVICE = "one_device"
STRATEGIES = (AUTO, TPU, MIRRORED, MULTI_WORKER, ONE_DEVICE)
# How folders of classes are sorted.
CLASS_ORDERS = ("alphabetical", "natural")
