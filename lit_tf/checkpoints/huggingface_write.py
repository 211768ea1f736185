"""Writes a SigLIP as transformers stores it: tensors, configuration, preprocessing, vocabulary."""

import json
import pathlib

import ml_dtypes
import numpy as np

from lit_tf import files
from lit_tf.checkpoints.huggingface import rows, to_theirs
from lit_tf.checkpoints.layouts import as_float16
from lit_tf.checkpoints.registry import DATA
from lit_tf.config import LitConfig
from lit_tf.errors import CheckpointError
from lit_tf.images.naflex import MAX_PATCHES

DTYPES = {
    "float32": ("F32", np.dtype(np.float32)),
    "float16": ("F16", np.dtype(np.float16)),
    "bfloat16": ("BF16", np.dtype(ml_dtypes.bfloat16)),
}
_FILES = {
    *("model.safetensors", "config.json", "preprocessor_config.json", "tokenizer_config.json"),
    *("spiece.model", "tokenizer.model", "tokenizer.json", "special_tokens_map.json"),
}
# What the JSON files say of every model. They have no way to say that nothing is antialiased.
# `model_input_names` has no attention mask, as the models were trained.
_TEMPLATES = json.loads((DATA / "huggingface_files.json").read_text(encoding="utf-8"))


def write(folder: pathlib.Path, config: LitConfig, readers, tokenizer, dtype: str) -> None:
    """Writes the folder, which appears when it is whole; `readers` give the canonical arrays."""
    _check(folder, config, dtype)
    described = {"config.json": _configuration(config, dtype)}
    if config.image:
        side = config.image.image_size
        own: dict = {"size": {"height": side, "width": side}}
        if config.image.naflex:
            own = {"patch_size": config.image.patch_size, "max_num_patches": MAX_PATCHES}
            own |= _TEMPLATES["naflex"]
        own["resample"] = 3 if config.resample == "bicubic" else 2
        described["preprocessor_config.json"] = {**_TEMPLATES["preprocessor"], **own}
    vocabulary = None
    if tokenizer is not None:
        vocabulary = "tokenizer.model" if tokenizer.byte_fallback else "spiece.model"
        described["tokenizer_config.json"] = {
            **_TEMPLATES["tokenizer"],
            **_TEMPLATES["gemma" if tokenizer.byte_fallback else "t5"],
            "model_max_length": config.token_length,
        }
    try:
        with files.replacing_folder(folder) as new:
            for name, value in described.items():
                text = json.dumps(value, indent=2, sort_keys=True) + "\n"
                (new / name).write_text(text, encoding="utf-8")
            if vocabulary:
                (new / vocabulary).write_bytes(tokenizer.to_bytes())
            _write_tensors(new / "model.safetensors", config, dict(readers), dtype)
    except OSError as e:
        raise CheckpointError(f"{folder}: cannot be written: {e}") from e


def _check(folder, config, dtype):
    if dtype not in DTYPES:
        raise CheckpointError(f"dtype {dtype!r} cannot be written, expected {', '.join(DTYPES)}")
    wrong = None
    if config.image and (config.image.pool != "attention" or config.image.out_dim):
        wrong = "an image tower without attention pooling, or with a head"
    if config.text and config.text.kind != "text_transformer":
        wrong = "a BERT"
    if config.crop or not config.lowercase:
        wrong = "crops its images or takes cased texts"
    if wrong:
        raise CheckpointError(
            f"layout huggingface holds SigLIP only, and this model is or has {wrong}; use save_npz"
        )
    if folder.is_file() or folder.is_symlink() and not folder.exists():
        raise CheckpointError(f"{folder}: expected the name of a folder, found a file")
    others = {f.name for f in folder.iterdir()} - _FILES if folder.is_dir() else set()
    if others:
        raise CheckpointError(
            f"{folder} holds other files, such as {sorted(others)[0]}, and it would be replaced as "
            "a whole; name a new folder"
        )


def _configuration(config, dtype):
    out: dict = {"torch_dtype": dtype, "initializer_factor": 1.0}
    if config.preprocessing != "big_vision":  # for `load`; transformers reads past it
        out["lit_tf"] = {"preprocessing": config.preprocessing, "resample": config.resample}
    naflex, towers = config.image is not None and config.image.naflex, {}
    family = "siglip2" if naflex else "siglip"
    for tower in filter(None, (config.image, config.text)):
        kind = "vision" if tower is config.image else "text"
        towers[kind] = {
            **_TEMPLATES["tower"],
            "model_type": f"{family}_{kind}_model",
            "hidden_size": tower.width,
            "intermediate_size": tower.mlp_dim,
            "num_hidden_layers": tower.depth,
            "num_attention_heads": tower.num_heads,
        }
    if config.image:
        towers["vision"] |= {
            **({} if naflex else {"image_size": config.image.image_size}),
            **({"num_patches": config.image.grid**2} if naflex else {}),
            "patch_size": config.image.patch_size,
            "num_channels": 3,
            "vision_use_head": True,
        }
    if config.text:
        towers["text"] |= {
            "vocab_size": config.text.vocab_size,
            "max_position_embeddings": config.text.max_length,
            "projection_size": config.text.embedding_dim,
        }
    if len(towers) == 1:
        ((kind, tower),) = towers.items()
        return {**out, **tower, "architectures": [f"{family.title()}{kind.title()}Model"]}
    named = {f"{kind}_config": tower for kind, tower in towers.items()}
    return {**out, **named, "model_type": family, "architectures": [f"{family.title()}Model"]}


def _write_tensors(path, config, readers, dtype):
    """Writes the tensors one by one, in the order of their names."""
    width = config.embedding_dim
    if config.text and not config.text.out_dim:  # transformers has no text tower without a head
        readers["txt/head/kernel"] = lambda: np.eye(width, dtype=np.float32)
        readers["txt/head/bias"] = lambda: np.zeros(width, np.float32)
    if config.image and config.text:
        readers.setdefault("b", lambda: np.zeros(1, np.float32))
    depths = [tower.depth if tower else None for tower in (config.image, config.text)]
    naflex = config.image is not None and config.image.naflex
    table = sorted(rows("huggingface", *depths, naflex=naflex))
    code, kind = DTYPES[dtype]

    def array(name, ours, form):
        parts = [to_theirs(np.asarray(readers[n]()), form) for n in ours]
        whole = np.concatenate(parts) if len(parts) > 1 else parts[0]
        whole = np.ascontiguousarray(whole)
        if dtype == "float16":
            return as_float16(path, name, whole)
        return whole.astype(kind, copy=False)

    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, ours, form in table:  # twice, so that one array at a time is in memory
        shape = array(name, ours, form).shape
        start, end = end, end + int(np.prod(shape)) * kind.itemsize
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for row in table:
            file.write(array(*row).data.cast("B") if dtype == "float32" else array(*row).tobytes())
