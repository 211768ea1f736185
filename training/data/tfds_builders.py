"""Opens tfds datasets, and says what is missing if one cannot be opened."""

import importlib
import os
import socket
import urllib.parse
import urllib.request

import absl.logging

from lit_tf.errors import DataError, extra, nearest

with extra("train"):
    import tensorflow_datasets as tfds

# Datasets of this project: name here -> (name in tfds, module of the builder). Importing the module
# registers the builder with tfds, which happens when the dataset is opened.
_OWN = {
    "digits": ("digit_pairs", "lit_tf.training.digits.dataset"),
    "digit_pairs": ("digit_pairs", "lit_tf.training.digits.dataset"),
}


class NotPreparedError(DataError):
    """A dataset exists, but its files are not there and could not be fetched."""


def open_tfds(
    name: str, data_dir: str | None = None, split: str | None = None, download: bool = True
):
    """Returns a tfds builder whose files are there, preparing them (of `split` only) if need be."""
    first, slash, config = name.partition("/")
    if first in _OWN:
        first, module = _OWN[first]
        importlib.import_module(module)  # registers the builder
        name = f"{first}{slash}{config}"
    builder = _find(name, data_dir)
    own = hasattr(builder, "for_split")  # drawn here, without a download
    if split and own:
        builder = builder.for_split(split)
    if not builder.is_prepared():
        _prepare(builder, name, download or own)
    return builder


def _find(name, data_dir):
    # tfds warns about every dataset that is not prepared yet; what matters is raised below.
    absl.logging.set_verbosity(absl.logging.ERROR)
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as e:
        raise DataError(
            f"no dataset {name!r}: neither a folder, nor a file, nor known to tfds"
            f"{nearest(name, {*tfds.list_builders(), *_OWN})}"
        ) from e
    except (ValueError, RuntimeError) as e:  # an unknown config or version
        raise DataError(f"tfds cannot open {name!r}: {str(e).strip().splitlines()[0]}") from e


def _prepare(builder, name, may_download):
    # Where `data_dir` is after tfds's defaults. (pathlib would make gs:/ of gs://.)
    root = os.fspath(builder._data_dir_root)
    manual = os.path.join(root, "downloads", "manual")
    reason = _unreachable(builder) if may_download else ""
    if may_download and not reason:
        try:
            builder.download_and_prepare()
            return
        except Exception as e:  # whatever a builder raises: no space, a changed checksum, ...
            lines = [line for line in str(e).splitlines() if line.strip()]
            reason = next(iter(lines), repr(e)).strip(" .:")
    why = f" and could not be: {reason}" if reason else ""
    instructions = " ".join((builder.MANUAL_DOWNLOAD_INSTRUCTIONS or "").split())
    raise NotPreparedError(
        f"{name} is not prepared below {root}{why}. Prepare it where there is a network (`tfds "
        f"build {name} --data_dir DIR`), copy DIR/{builder.name} and name its parent: --data-dir, "
        "or in a training config --set eval.data_dir=DIR (the pairs': data.data_dir)."
        + (f" By hand, into {manual}: {instructions}" if instructions else "")
    )


def _unreachable(builder):
    """Returns why nothing can be downloaded, or None. tfds itself retries for minutes first."""
    hosts = {urllib.parse.urlsplit(url).hostname for url in builder.url_infos or ()}
    if not hosts or urllib.request.getproxies():
        return None
    for host in hosts:
        try:
            socket.create_connection((host, 443), timeout=5).close()
            return None
        except OSError as e:
            reason = f"{host} cannot be reached ({e})"
    return reason
