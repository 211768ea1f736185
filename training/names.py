"""Names that configs and commands take; they need no TensorFlow, so `--help` is quick."""

AUTO, TPU, MIRRORED, MULTI_WORKER = "auto", "tpu", "mirrored", "multi_worker"
ONE_DEVICE = "one_device"
STRATEGIES = (AUTO, TPU, MIRRORED, MULTI_WORKER, ONE_DEVICE)


def add_strategy(parser, purpose: str, choices=STRATEGIES) -> None:
    """Adds `--strategy` and `--tpu` to a command's arguments."""
    where = f"devices to {purpose} on (default: what this machine has)"
    parser.add_argument("--strategy", default=AUTO, choices=choices, help=where)
    parser.add_argument("--tpu", metavar="NAME", help="a TPU's name or address, or local")


# How folders of classes are sorted.
CLASS_ORDERS = ("alphabetical", "natural")
