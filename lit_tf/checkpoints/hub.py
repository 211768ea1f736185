"""Repositories of Hugging Face's hub, `hf://OWNER/NAME[@REVISION]`, in the cache of its library.

The library huggingface_hub has the cache that transformers uses, revisions, tokens and the offline
mode (`HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE`).
"""

import functools
import pathlib

from lit_tf.errors import DownloadError, extra, plain

SCHEME = "hf://"
_CONFIGS = ["config.json", "open_clip_config.json", "preprocessor_config.json"]
_WEIGHTS = ["model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors"]
_OPEN_CLIP_WEIGHTS = ["open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"]


def fetch(name: str, with_vocab: bool) -> pathlib.Path:
    """Returns the local folder of `hf://OWNER/NAME[@REVISION]`, with the files that are read."""
    repository, _, revision = name.removeprefix(SCHEME).partition("@")
    with extra("huggingface"):
        import huggingface_hub
    get = functools.partial(huggingface_hub.snapshot_download, repository)
    try:
        folder = pathlib.Path(get(revision=revision or None, allow_patterns=_CONFIGS))
        get = functools.partial(get, revision=folder.name)  # the commit: one version of all files
        is_open_clip = (folder / "open_clip_config.json").is_file()
        weights = _OPEN_CLIP_WEIGHTS if is_open_clip else _WEIGHTS
        get(allow_patterns=[*weights, *(["*.model"] if with_vocab else [])])
        if with_vocab and not list(folder.glob("*.model")):
            get(allow_patterns=["tokenizer.json"])  # Gemma's takes 34 MB, and is not needed then
    except Exception as e:  # of several libraries: bad names, missing repositories, no network
        raise DownloadError(
            f"{SCHEME}{repository}: cannot be fetched from Hugging Face: {plain(e)[:500]}"
        ) from e
    return folder
