"""Names of quantizations, each spelled once, and without TensorFlow, so `--help` is quick."""

from lit_tf.errors import ExportError

QUANTIZATIONS = NONE, FLOAT16, DYNAMIC_INT8, INT8 = ("none", "float16", "dynamic_int8", "int8")
WEB_QUANTIZATIONS = (DYNAMIC_INT8, FLOAT16, NONE)  # the fastest first; none needs calibration
# TFLite's versions for which a graph can be written; the newest is the default.
MIN_RUNTIMES = OLDEST, NEWEST = ("2.14", "2.16")


def check(name: str, value, known) -> None:
    """Raises an ExportError for a name that is not known."""
    if value not in known:
        raise ExportError(f"{name} must be one of {', '.join(known)}; found {value!r}")
