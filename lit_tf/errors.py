"""One exception type per kind of fault, so that callers can tell them apart."""

import contextlib
import difflib
import numbers
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


class LitError(Exception):
    """Base of every error that this package raises on purpose."""

    # Keras then raises it as it is, without the arguments of every layer on the way.
    _keras_call_info_injected = True


class CheckpointError(LitError):
    """A checkpoint cannot be read, or is not what its layout promises."""


class ConfigError(LitError):
    """A configuration names something unknown or impossible."""


class TokenizerError(LitError):
    """A vocabulary or a text cannot be used."""


class ImageError(LitError):
    """An image cannot be read or has no usable shape."""


class DownloadError(LitError):
    """A published file could not be fetched."""


class DataError(LitError):
    """A dataset is missing, malformed, or more of it is bad than was allowed."""


class ExportError(LitError):
    """An exported artefact could not be written or does not agree with its model."""


class TrainingError(LitError):
    """A training run cannot start or cannot go on."""


class MissingPackageError(LitError, ImportError):
    """A package that is not part of the base installation is missing."""


@contextlib.contextmanager
def extra(name: str) -> Iterator[None]:
    """Guards imports of packages that an extra of `setup.py` brings: an error names the extra.

    Examples:
        >>> with extra("lite"):
        ...     from ai_edge_litert import interpreter
    """
    try:
        yield
    except ModuleNotFoundError as e:
        package = (e.name or str(e)).partition(".")[0]
        raise MissingPackageError(
            f"this needs the package {package}, which is not installed: "
            f"pip install 'lit_tf[{name}]'"
        ) from e


def wrong_backend(found: str) -> ConfigError:
    """Returns the error for a Keras that runs on another backend than TensorFlow."""
    return ConfigError(
        f"Keras runs on {found}, but lit_tf needs its TensorFlow backend: set "
        'KERAS_BACKEND=tensorflow before Keras is imported, or "backend" in ~/.keras/keras.json'
    )


def plain(error: BaseException | str) -> str:
    """Returns an error's message in one line, without what TensorFlow says of its own graph."""
    noise = r"\{\{(?:function_)?node [^}]*\}\}|\[\[[^]]*\]\]|\[Op:\w+\](?: name:)?"
    return " ".join(re.sub(noise, "", str(error)).split()) or type(error).__name__


def positive_integer(value: Any, name: str, error: type[LitError] = LitError) -> int:
    """Returns an integer of any type, NumPy's too, if it is at least 1; else raises the error."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise error(f"{name} must be a positive integer, found {value!r}")
    return int(value)


def nearest(
    name: str,
    known: Iterable[str],
    sentence: str = "; did you mean {}?",
    *,
    shown: Mapping[str, str] | None = None,
) -> str:
    """Returns the end of an error message with up to three known names like `name`, or "".

    `sentence` has `{}` where the names belong; `shown` says how each is shown. Comparing takes
    about 0.1 ms per candidate, so ask for the first few of many missing names only.
    """
    found = difflib.get_close_matches(name, list(known), n=6, cutoff=0.6)
    names = list(dict.fromkeys(shown[n] if shown else n for n in found))[:3]
    return sentence.format(" or ".join(map(repr, names))) if names else ""
