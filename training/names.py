"""Names that configs and commands take, each spelled here once.

They need no TensorFlow, so `--help` and the refusal of a wrong name are quick.
"""

AUTO, TPU, MIRRORED, MULTI_WORKER = "auto", "tpu", "mirrored", "multi_worker"
ONE_DEVICE = "one_device"
STRATEGIES = (AUTO, TPU, MIRRORED, MULTI_WORKER, ONE_DEVICE)
# How folders of classes are sorted.
CLASS_ORDERS = ("alphabetical", "natural")
