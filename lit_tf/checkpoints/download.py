"""Downloads published files into a cache folder. Downloads resume, and files are never partial.

pooch and `keras.utils.get_file` start over after an interruption, and huggingface_hub resumes from
its own hub only. Checkpoints take up to 2.5 GB.
"""

import base64
import contextlib
import glob
import hashlib
import http.client
import os
import pathlib
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
import warnings

from tqdm import tqdm

from lit_tf import files
from lit_tf.checkpoints import hub, npz, record, registry, zarr_folder
from lit_tf.errors import CheckpointError, DownloadError, TokenizerError, plain
from lit_tf.texts import vocabularies, wordpiece

_CHUNK = 1 << 20
_TIMEOUT = 30.0  # seconds without a byte
_ATTEMPTS = 4
_PAUSE = 1.0  # seconds before the second attempt; twice as long before each further one
_BERT_FILES = ("vocab.txt", "bert_model.ckpt.data-00000-of-00001", "bert_model.ckpt.index")


def cache_dir() -> pathlib.Path:
    """Returns `$LIT_TF_CACHE`, else `lit_tf` in `$XDG_CACHE_HOME`, else `~/.cache/lit_tf`."""
    if os.environ.get("LIT_TF_CACHE"):
        return pathlib.Path(os.environ["LIT_TF_CACHE"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(base).expanduser() / "lit_tf"


def resolve(name_or_path, with_vocab: bool = True) -> pathlib.Path:
    """Returns the local path of what `lit_tf.load` takes; downloads it and its vocabulary.

    If the working folder has a checkpoint with a model's name, it is taken, with a warning.
    """
    try:
        name = os.fsdecode(name_or_path)
    except TypeError as e:
        raise CheckpointError(f"{name_or_path!r} is not a name, a path or an address: {e}") from e
    path = pathlib.Path(name).expanduser()
    embedded, published = registry.embedded_models().get(name), registry.find_published(name)
    upstream = registry.find_upstream(name)
    if name.startswith(hub.SCHEME):
        return hub.fetch(name, with_vocab)
    if published and name == published.huggingface:
        return path if path.exists() else hub.fetch(name, with_vocab)
    if embedded or published or upstream:
        # Other folders do not count: exports and runs often have their model's name.
        if path.is_file() or (path / "bert_model.ckpt.index").is_file():
            warnings.warn(
                f"{name} is a model's name, and a checkpoint in this folder has that name too. The "
                f"checkpoint is loaded. Write ./{name} to say so, or rename it to load the model",
                stacklevel=3,
            )
            return path
        if embedded:
            return embedded
        if published:
            return _published(published, with_vocab)
        if not upstream.urls[0].endswith(".npz"):
            return _bert_folder(upstream.urls, cache_dir() / upstream.name, with_vocab)
        where = f"Without a network, put {upstream.urls[0]} into {cache_dir()}"
        return fetch(upstream.urls, cache_dir() / f"{upstream.name}.npz", where)
    if "://" in name:
        return _address(name, with_vocab)
    if step := zarr_folder.find(path):
        return step
    if path.exists() or path.with_name(f"{path.name}.index").exists():
        return path
    hint = registry.did_you_mean(name)
    if re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", name):
        hint += f"; a repository of Hugging Face is named {hub.SCHEME}{name};"
    raise CheckpointError(
        f"{name}: no such file, and not a known model{hint or ';'} "
        f"models are {', '.join(registry.list_models())}"
    )


def _published(model, with_vocab):
    path = cache_dir() / f"{model.name}.npz"
    vocab = path.with_suffix(vocabularies.suffix(model.tokenizer))
    where = (
        f"Without a network, put {model.urls[0]} into {cache_dir()} (or LIT_TF_CACHE) as "
        f"{path.name}, and {model.vocab_url} as {vocab.name}"
    )
    if with_vocab and not vocab.exists():
        try:
            fetch((model.vocab_url,), vocab, where)
        except DownloadError as e:
            if not path.exists():
                raise
            warnings.warn(f"{path}: no vocabulary beside it: {e}", stacklevel=3)
    return fetch(model.urls, path, where)


def _bert_folder(urls, folder, with_vocab):
    pages = " or ".join(url for url in urls if not url.startswith("gs://")) or urls[0]
    where = f"Without a network, put {', '.join(_BERT_FILES)} from {pages} into {folder}"
    for file in _BERT_FILES if with_vocab else _BERT_FILES[1:]:
        fetch([f"{url}/{file}" for url in urls], folder / file, where)
    return folder


def _address(url, with_vocab):
    """Returns the cached copy of a file or folder at an address, beside its vocabulary if any."""
    url = url.rstrip("/")
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError as e:
        raise DownloadError(f"{url}: is not an address: {e}") from None
    name = pathlib.PurePosixPath(urllib.parse.unquote(parts.path)).name
    if parts.scheme not in ("https", "http", "gs") or not parts.netloc or name in ("", ".", ".."):
        raise DownloadError(f"{url}: expected https://HOST/PATH or gs://BUCKET/PATH")
    # Different addresses may end in the same name (checkpoint.npz).
    folder = cache_dir() / "addresses" / hashlib.sha256(url.encode()).hexdigest()[:16]
    path = folder / name
    if zarr_folder.is_step_name(name) or name.endswith(zarr_folder.NEWEST):
        return _zarr_folder(url, folder, with_vocab)
    if not path.suffix:
        return _bert_folder((url,), path, with_vocab)
    if path.exists() or path.suffix != ".npz":
        return fetch((url,), path)
    folder_path = parts.path[: parts.path.rfind("/")]
    base = parts._replace(path=folder_path, query="", fragment="").geturl()
    stem = name[: -len(".npz")]
    if with_vocab:
        _fetch_vocabulary(base, stem, folder, url)
    with contextlib.suppress(_NotThereError):
        fetch((f"{base}/{urllib.parse.quote(stem)}.json",), record.path_of(path))
    return fetch((url,), path)


def _fetch_vocabulary(base, stem, folder, url):
    """Fetches the vocabulary of STEM.npz in the folder at `base`; `url` is for messages."""
    for vocab in vocabularies.names(stem):
        try:
            fetch((f"{base}/{urllib.parse.quote(vocab)}",), folder / vocab)
        except _NotThereError:
            continue
        except DownloadError as e:
            # Some servers refuse files that they do not list, but still send the checkpoint.
            said = f"{url} may have a vocabulary beside it: {e}. If so, pass it as vocab"
            warnings.warn(said, stacklevel=5)
        break


def _zarr_folder(url, folder, with_vocab):
    """Returns the cached folder of a gs:// address `NAME.bv-000001000`, or of the newest `NAME.bv`.

    Only parameters are fetched, not the optimizer's state, which takes twice as much.
    """
    import tensorflow as tf

    if not url.startswith("gs://"):
        raise DownloadError(f"{url}: a folder is listed at a gs://BUCKET/PATH address only")
    base, name = url.rsplit("/", 1)
    try:
        if name.endswith(zarr_folder.NEWEST):
            with tf.io.gfile.GFile(f"{url}-LAST", "r") as file:
                name = f"{name}-{zarr_folder.checked_step(file.read(), f'{url}-LAST')}"
        names = (n for n in (name, f"{name}-tmp") if tf.io.gfile.isdir(f"{base}/{n}"))
        if (name := next(names, None)) is None:
            raise _NotThereError(f"{url}: no such folder")
        arrays = [a.rstrip("/") for a in tf.io.gfile.listdir(f"{base}/{name}")]
        for array in filter(zarr_folder.holds_parameters, arrays):
            npz.check_key(url, array)  # it becomes a folder's name
            for file in filter(None, tf.io.gfile.listdir(f"{base}/{name}/{array}")):
                npz.check_key(url, file)
                fetch((f"{base}/{name}/{array}/{file}",), folder / name / array / file)
    except tf.errors.OpError as e:
        raise DownloadError(f"{url}: cannot be listed ({plain(e)})") from e
    if with_vocab:
        _fetch_vocabulary(base, name.split(".bv-")[0], folder, url)
    return folder / name


class _NotThereError(DownloadError):
    """The server answers that it has no such file, or sends a web page instead."""


class _RetryError(Exception):
    """The transfer stopped half-way, or the server is busy. Another attempt may succeed."""


def fetch(urls, path, where="") -> pathlib.Path:
    """Downloads a file from the first address that works, unless it exists; returns `path`.

    If the transfer stops, the received part is kept, and a later call continues from there if the
    server still has the same version. The file appears under its name only when it is complete: it
    has the announced length and MD5 (if the server sends one, as Google's do), and a `.npz` is
    readable. Two processes may ask for the same file. `where` ends the error if no address works.
    """
    import filelock  # takes 0.1 s, and most names need no download

    path = pathlib.Path(path)
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_name(f".{path.name}.lock")) as lock:
            if path.exists():
                return path
            errors = []
            for url in urls:
                try:
                    _fetch_one(url, path)
                    pathlib.Path(lock.lock_file).unlink(missing_ok=True)
                    return path
                except DownloadError as e:
                    errors.append(e)
    except OSError as e:
        raise DownloadError(f"{path}: cannot be completed: {e}") from e
    kind = _NotThereError if all(isinstance(e, _NotThereError) for e in errors) else DownloadError
    raise kind("; ".join(map(str, errors)) + (f". {where}" if where else ""))


def _fetch_one(url, path):
    for attempt in range(_ATTEMPTS):
        try:
            if url.startswith("gs://"):
                partial, md5 = _transfer_gs(url, path), None
            else:
                partial, md5 = _transfer_http(url, path)
            break
        except _RetryError as e:
            if attempt == _ATTEMPTS - 1:
                raise DownloadError(f"{url}: {e}") from e
            time.sleep(_PAUSE * 2**attempt)
    if md5 and files.digest(partial, hashlib.md5(usedforsecurity=False)) != md5:
        partial.unlink()
        raise DownloadError(f"{url}: damaged on the way: its MD5 differs from the server's")
    if path.suffix == ".npz":
        try:
            npz.open_npz(partial).close()
        except CheckpointError as e:
            partial.unlink()
            raise DownloadError(f"{url}: the server did not return a checkpoint: {e}") from e
    elif wrong := _no_vocabulary(partial, path.suffix):
        partial.unlink()
        raise _NotThereError(f"{url}: the server did not return a vocabulary: {wrong}")
    files.put_in_place(partial, path)


def _no_vocabulary(partial, suffix):
    """Returns why a file is neither a vocabulary nor part of a checkpoint, or None if it is one."""
    with open(partial, "rb") as f:
        start = f.read(1024).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html")):
        return "it is a web page"
    if suffix == ".json" and not start.startswith(b"{"):
        return "it is not a JSON object"
    if suffix == ".txt":
        try:
            wordpiece.read_vocabulary(partial.read_bytes(), "the file")
        except TokenizerError as e:
            return str(e)
    return None


def _partial(path, version):
    """Returns the path of a partial file; its name contains the version (ETag or date)."""
    return path.with_name(f".{path.name}.{version.encode().hex()}.partial")


def _partials(path):
    return list(path.parent.glob(f".{glob.escape(path.name)}.*.partial"))


def _transfer_http(url, path):
    """Receives the missing part of `url`; returns (partial file, its MD5 or None)."""
    # Browsers accept addresses with spaces and non-ASCII letters; HTTP does not.
    quoted = urllib.parse.quote(url, safe="/%:@?#[]!$&'()*+,;=~")
    request = urllib.request.Request(quoted, headers={"User-Agent": "lit_tf"})
    old, done = next(iter(_partials(path)), None), 0
    if old:
        version, done = bytes.fromhex(old.name.split(".")[-2]).decode(), old.stat().st_size
        if version and done:
            request.add_header("Range", f"bytes={done}-")
            request.add_header("If-Range", version)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            headers = response.headers
            version = headers.get("ETag") or headers.get("Last-Modified") or ""
            if version.startswith("W/") or len(version) > 90:
                version = headers.get("Last-Modified") or ""
            partial = _partial(path, version)
            if response.status == 206:
                found = headers.get("Content-Range", "")
                if old != partial or not found.startswith(f"bytes {done}-"):
                    old.unlink()
                    raise _RetryError(f"asked for bytes {done}-, the server sent {found!r}")
            else:  # the server has no ranges, or the file has changed: start again
                for stale in _partials(path):
                    stale.unlink()
                done = 0
            total = None if response.length is None else done + response.length
            received = _receive(response.read1, partial, done, total, path.name)
            if total is not None and received != total:
                raise _RetryError(f"{received:,} of {total:,} bytes came and are kept; try again")
            # Google's storage sends the MD5 of the whole file.
            sent = re.search("md5=([^, ]+)", ",".join(headers.get_all("x-goog-hash") or ()))
            return partial, base64.b64decode(sent[1]).hex() if sent else None
    except urllib.error.HTTPError as e:
        e.close()
        if e.code == 416 and old:  # the partial file is longer than the file
            old.unlink()
            raise _RetryError("the server has less than was received") from e
        if e.code in (408, 429, 500, 502, 503, 504):
            raise _RetryError(f"the server is busy (HTTP {e.code})") from e
        kind = _NotThereError if e.code in (403, 404, 410) else DownloadError
        raise kind(f"{url}: the server refuses (HTTP {e.code} {e.reason})") from e
    except urllib.error.URLError as e:
        if isinstance(e.reason, TimeoutError | ConnectionResetError):
            raise _RetryError(f"no answer ({e.reason})") from e
        raise DownloadError(f"{url}: cannot be reached ({e.reason})") from e
    except (http.client.InvalidURL, ValueError) as e:
        raise DownloadError(f"{url}: is not an address: {e}") from e
    except (http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as e:
        what = f"the connection broke ({type(e).__name__}); what arrived is kept: try again"
        raise _RetryError(what) from e


def _receive(read, partial, done, total, name):
    """Appends the response to `partial`; returns the bytes it then holds."""
    # `disable=None` shows the bar on terminals only.
    units = {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
    bar = tqdm(total=total, initial=done, desc=name, disable=None, **units)
    with open(partial, "ab") as f, bar:
        # read1 returns what has arrived so far, so an interruption loses nothing
        while chunk := read(_CHUNK):
            f.write(chunk)
            bar.update(len(chunk))
        return f.tell()


def _transfer_gs(url, path):
    """Receives the missing part of a gs:// address, through TensorFlow's file system."""
    import tensorflow as tf  # imported here, because names and local files do not need it

    try:
        stat = tf.io.gfile.stat(url)
        partial = _partial(path, f"{stat.length}-{stat.mtime_nsec}")
        for stale in _partials(path):
            if stale != partial:
                stale.unlink()
        done = partial.stat().st_size if partial.exists() else 0
        with tf.io.gfile.GFile(url, "rb") as source:
            source.seek(done)
            received = _receive(source.read, partial, done, stat.length, path.name)
    except tf.errors.NotFoundError as e:
        raise _NotThereError(f"{url}: no such object") from e
    except tf.errors.OpError as e:
        raise DownloadError(f"{url}: cannot be read ({plain(e)})") from e
    if received != stat.length:
        raise _RetryError(f"{received:,} of {stat.length:,} bytes came")
    return partial
