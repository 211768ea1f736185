"""From files to models and back."""

import contextlib
import dataclasses
import math
import os
import pathlib
import warnings
from typing import Any

import numpy as np
import tensorflow as tf

from lit_tf import files
from lit_tf.checkpoints import (
    download,
    huggingface,
    huggingface_write,
    layouts,
    npz,
    record,
    tensorflow_files,
    zarr_folder,
)
from lit_tf.checkpoints.shapes import canonical_shapes, check_shapes, config_of
from lit_tf.config import BertConfig, LitConfig, TextTransformerConfig, ViTConfig
from lit_tf.errors import CheckpointError, ConfigError, TokenizerError
from lit_tf.model import LitModel
from lit_tf.texts import tokenizer_json, vocabularies
from lit_tf.texts.tokenizers import tokenizer_from_bytes
from lit_tf.towers.layers import dtype_policy

_PIECE = 4 << 20  # bytes
_MAX_LOG_TEMPERATURE = np.log(np.finfo(np.float32).max)


def load(
    name_or_path: str | os.PathLike,
    *,
    vocab: str | os.PathLike | None = None,
    resolution: int | None = None,
    dtype: Any = None,
    preprocessing: str | None = None,
) -> LitModel:
    """Returns a model read from a checkpoint, its configuration read off the file.

    Args:
        name_or_path: a published or embedded name (`lit_tf.list_models()`), its name on Hugging
            Face, or any repository there, `hf://OWNER/NAME[@REVISION]`; or the path or URL of a
            file of any published layout, the folder of a TF1 BERT checkpoint, or the folder that
            big_vision's trainer writes: `NAME.bv-000001000`, or `NAME.bv` for the newest step; or
            `WORKDIR/checkpoints/ckpt-30` of a training run; or a folder of Hugging Face's or
            open_clip's with a SigLIP, or its `.safetensors` file. A ViT or BERT alone gives a model
            with one tower.
        vocab: path of the vocabulary, also a `tokenizer.json`; by default NAME.txt, NAME.model or
            vocab.txt beside the file, or what a folder of Hugging Face's holds.
        resolution: side of the images in pixels, a multiple of the patch; the position embedding is
            resampled. By default the checkpoint's own.
        dtype: `float32`, `bfloat16`, `mixed_bfloat16` or any other Keras dtype policy of floats; by
            default Keras's global policy, float32 unless you changed it.
        preprocessing: `huggingface` or `open_clip` to compute pixels and tokens as that library
            does, for whoever has embeddings from there. By default `big_vision`, as the models were
            trained, unless the checkpoint was saved with another. open_clip needs the package ftfy.
            Resizing is the library's for this model; a SigLIP 2 image tower alone, which shows no
            difference from SigLIP, is resized as its folder says, else by bicubic interpolation.

    Returns:
        The model. `model.tokenizer` is None where no vocabulary was found.

    Raises:
        CheckpointError: the file is damaged or of no known layout.
        ConfigError: the resolution, the dtype or the preprocessing is impossible.
        DownloadError: a published file is neither in the cache nor reachable.
    """
    dtype = dtype_policy(dtype)
    path = download.resolve(name_or_path, with_vocab=vocab is None)
    with open_checkpoint(path) as checkpoint:
        config = config_of(checkpoint)
        if resolution is not None:
            config = _at_resolution(config, resolution)
        if preprocessing not in (None, config.preprocessing):  # else it is as recorded
            own = huggingface.is_folder(path)
            resample = huggingface.resample(path, preprocessing) if own else None
            config = dataclasses.replace(config, preprocessing=preprocessing, resample=resample)
        tokenizer = find_tokenizer(path, config, vocab)
        model = LitModel(config, tokenizer, seed=None, dtype=dtype, name=_model_name(path))
        _fill(model, checkpoint)
    return model


def open_checkpoint(path: str | os.PathLike) -> layouts.CanonicalCheckpoint:
    """Opens a checkpoint at a local path, of any layout, without reading arrays; to be closed."""
    path = pathlib.Path(path)
    if prefix := tensorflow_files.find_prefix(path):
        return tensorflow_files.open_prefix(prefix)
    is_zarr = zarr_folder.is_folder(path)
    if not is_zarr and huggingface.is_folder(path):
        return huggingface.open_folder(path)
    file = zarr_folder.ZarrFolder(path) if is_zarr else npz.open_npz(path)
    try:
        checkpoint = layouts.read_canonical(file)
        checkpoint.stated = {} if is_zarr else record.read(record.path_of(path))
        return checkpoint
    except BaseException:
        file.close()
        raise


def save_npz(
    model: LitModel,
    path: str | os.PathLike,
    layout: str | None = None,
    dtype: str = "float32",
    *,
    stacked: bool = False,
) -> None:
    """Writes a model as the JAX code bases read it; the vocabulary goes beside it.

    What was loaded from float32 and is saved in the same layout is equal bit for bit.

    Args:
        model: the model.
        path: where to, NAME.npz; replaced only when the new file is whole. The vocabulary is
            NAME.txt or NAME.model; if such a file is there, it must be the same. NAME.json says
            what the arrays cannot show of this model, and is not written where they show all.
        layout: `vit_jax` or `big_vision`. The latter puts `params/` before every name, unless the
            model comes from a big_vision file without. By default `vit_jax`, or `big_vision` for a
            model with attention pooling, which vit_jax does not have.
        dtype: `float32`, or `float16` for half the size. Temperature and bias stay float32: JAX
            computes with the dtype of the file, and exp in float16 moves logits by 2e-3.
        stacked: whether big_vision's blocks of a tower go into one array, layers first, as SigLIP 2
            is published; its demo reads a text tower only so.

    Raises:
        CheckpointError: the layout or dtype cannot be written, a value is too large for float16,
            the name does not end in .npz, or another vocabulary is in the way; nothing is written
            then.
    """
    if dtype not in ("float32", "float16"):
        raise CheckpointError(f"dtype {dtype!r} cannot be written, expected float32 or float16")
    path = pathlib.Path(path)
    if path.suffix != ".npz":
        raise CheckpointError(f"{path}: expected a name that ends in .npz")
    layout = layout or default_layout(model.config)
    entries = layouts.to_layout(_readers(model), layout, model.config.bare, stacked)

    def written(key, array):
        if dtype == "float32" or key.removeprefix("params/") in ("t", "b"):
            return array
        return layouts.as_float16(path, key, array)

    arrays = ((key, written(key, read())) for key, read in entries)
    beside = {record.path_of(path): record.to_bytes(written_config(model))}
    if model.tokenizer is not None:
        suffix = vocabularies.suffix(model.tokenizer.kind)
        beside[path.with_suffix(suffix)] = model.tokenizer.to_bytes()
    try:
        with contextlib.ExitStack() as stack:
            # It ends in reverse: a checkpoint without what lies beside it is taken for another.
            archive = stack.enter_context(files.replacing(path))
            for file, data in beside.items():
                _write_beside(stack, file, data)
            npz.write_archive(archive, path, arrays)
            archive.flush()  # a full disk shows here, before anything takes its place
    except OSError as e:
        raise CheckpointError(f"{path}: cannot be written: {e}") from e


def save_huggingface(model: LitModel, folder: str | os.PathLike, *, dtype: str = "float32") -> None:
    """Writes a SigLIP as Hugging Face's transformers reads it: weights, configuration, vocabulary.

    What was loaded from such a folder, or from float32, and is saved so is equal bit for bit. The
    preprocessing that is written is transformers' own, which differs from ours; see
    docs/checkpoints.md.

    Args:
        model: a model with attention pooling and a plain text transformer, or one such tower.
        folder: where to; it appears when it is whole, and replaces an older one of this kind.
        dtype: `float32`, `bfloat16` or `float16`, of all tensors.

    Raises:
        CheckpointError: this layout cannot hold the model, a value is too large for float16, or
            the folder holds other files; nothing is written then.
    """
    path, config = pathlib.Path(folder), written_config(model)
    huggingface_write.write(path, config, _readers(model), model.tokenizer, dtype)


def written_config(model: LitModel) -> LitConfig:
    """Returns the configuration to write: the model's, as its tokenizer has it."""
    config, tokenizer = model.config, model.tokenizer
    if tokenizer is None:
        return config
    # BERT always lower-cases, and so does a vocabulary of Gemma's kind.
    told = tokenizer.kind == "sentencepiece" and not tokenizer.byte_fallback
    lowercase = tokenizer.lowercase if told else config.lowercase
    return dataclasses.replace(config, lowercase=lowercase, token_length=tokenizer.length)


def default_layout(config: LitConfig) -> str:
    """Returns the layout that `save_npz` writes where none is named."""
    pooled = config.image is not None and config.image.pool == "attention"
    return "big_vision" if pooled else "vit_jax"


def _readers(model):
    variables = model.canonical_variables()
    return {k: lambda v=v: np.asarray(v.numpy(), np.float32) for k, v in variables.items()}


def _write_beside(stack, path, data):
    """Writes a file beside a checkpoint, or removes an old record for None, as `stack` ends.

    Only another model's record is replaced: a vocabulary may be the user's own.
    """
    old = path.read_bytes() if path.exists() else None
    is_record = path.suffix == ".json" and bool(record.read(path))
    if old == data or (data is None and not is_record):
        return
    if data is None:
        stack.push(lambda kind, *_: None if kind else path.unlink())
        return
    if old is not None and not is_record:
        raise CheckpointError(
            f"{path} is in the way: a part of the checkpoint belongs there, and it is another "
            "file. Move it away, or choose another name for the checkpoint"
        )
    stack.enter_context(files.replacing(path)).write(data)


def from_upstream(
    image: str | os.PathLike | ViTConfig,
    text: str | os.PathLike | BertConfig | TextTransformerConfig,
    resolution: int | None = None,
    image_head: bool = False,
    seed: int = 0,
    *,
    vocab: str | os.PathLike | None = None,
    temperature: float = 10.0,
    bias: float | None = None,
    dtype: Any = None,
) -> LitModel:
    """Returns two towers that have not met: where tuning starts (big_vision's `lit_coco`).

    Args:
        image: path of an AugReg ViT or of any checkpoint with an image tower, or a ViTConfig to
            start from scratch.
        text: folder of a TF1 BERT checkpoint or any checkpoint with a text tower, or a BertConfig
            or TextTransformerConfig to start from scratch. Heads in the files are left out.
        resolution: side of the images in pixels; by default the image tower's own.
        image_head: whether the image tower gets a new linear head too; the text tower always does.
        seed: of the new heads and of towers from scratch.
        vocab: path of the vocabulary; by default the one beside `text`.
        temperature: where the temperature starts.
        bias: where the bias starts, or None for a model without.
        dtype: a Keras dtype policy, as for `load`.

    Returns:
        The model; embeddings are as wide as the image tower.

    Raises:
        CheckpointError: a file is damaged or has no such tower.
        ConfigError: the resolution, the temperature or the dtype is impossible.
    """
    dtype = dtype_policy(dtype)
    if not 0 < temperature < np.inf:
        raise ConfigError(f"temperature is {temperature}, expected a positive number")
    image_config, image_file = _upstream_tower(image, "image", "img/", with_vocab=False)
    text_config, text_file = _upstream_tower(text, "text", "txt/", with_vocab=vocab is None)
    image_config = dataclasses.replace(image_config, out_dim=None)
    out_dim = image_config.width
    config = LitConfig(
        image=dataclasses.replace(image_config, out_dim=out_dim if image_head else None),
        text=dataclasses.replace(text_config, out_dim=out_dim),
        has_bias=bias is not None,
        token_length=text_config.usual_token_length,
    )
    if resolution is not None:
        config = _at_resolution(config, resolution)
    if text_file is not None:
        _warn_of_case(config, text_file)
    if vocab is None and text_file is None:
        tokenizer = None
    else:
        folder = text_file and download.resolve(text, with_vocab=vocab is None)
        tokenizer = find_tokenizer(folder, config, vocab)
    model = LitModel(config, tokenizer, seed=None, dtype=dtype)
    for prefix, tower, file in (
        ("img/", model.image_tower, image_file),
        ("txt/", model.text_tower, text_file),
    ):
        if file is None:
            tower.initialize(seed)
            continue
        if tower.head is not None:
            tower.initialize(seed, "head/")
        with file:
            keep = {
                k: s
                for k, s in file.shapes.items()
                if k.startswith(prefix) and not k.startswith(f"{prefix}head/")
            }
            _fill(model, file, keep)
    model.t.assign(np.log([temperature]).astype(np.float32))
    if bias is not None:
        model.b.assign([bias])
    return model


def _warn_of_case(config, text_file):
    """Warns if one of the new model and the text tower's own lower-cases and the other does not."""
    theirs = config_of(text_file)
    if config.tokenizer_kind == "sentencepiece" and config.lowercase != theirs.lowercase:
        how = ("cased", "lower-cased")
        warnings.warn(
            f"{text_file.source}: its model takes {how[theirs.lowercase]} texts, and this one "
            f"{how[config.lowercase]} ones, because of its image tower, bias or number of tokens",
            stacklevel=3,
        )


def _upstream_tower(source, kind, prefix, with_vocab):
    """Returns (tower's configuration, its checkpoint or None)."""
    configs = (ViTConfig,) if kind == "image" else (BertConfig, TextTransformerConfig)
    if isinstance(source, configs):
        return source, None
    if dataclasses.is_dataclass(source):
        raise ConfigError(f"{type(source).__name__} does not describe the {kind} tower")
    file = open_checkpoint(download.resolve(source, with_vocab))
    shapes = {k: s for k, s in file.shapes.items() if k.startswith(prefix)}
    if not shapes:
        raise CheckpointError(f"{file.source}: has no {kind} tower ({prefix}...)")
    config = config_of(file, shapes)
    return (config.image or config.text), file


def _fill(model, checkpoint, keys=None):
    """Assigns what the checkpoint holds (under `keys`, by default everything) to the model."""
    variables = model.canonical_variables()
    expected = canonical_shapes(model.config)
    keys = checkpoint.shapes if keys is None else keys
    resampled = "img/pos_embedding"
    check_shapes(
        {k: s for k, s in keys.items() if k != resampled},
        {k: expected[k] for k in keys if k in expected and k != resampled},
        checkpoint.source,
    )
    for name in filter(keys.__contains__, checkpoint.names):
        blocks = checkpoint.blocks(name)
        if name == resampled and not model.config.image.naflex:
            grid = np.concatenate(list(blocks))
            blocks = [layouts.resample_positions(grid, model.config.image.grid)]
        if name == "t":
            blocks = list(blocks)
            check_log_temperature(blocks[0][0], checkpoint.source)
        _assign(variables[name], blocks)


def check_log_temperature(t, source):
    """Raises CheckpointError if float32 cannot hold the temperature whose logarithm is `t`."""
    if t > _MAX_LOG_TEMPERATURE:
        raise CheckpointError(
            f"{source}: 't' is {t:g}, but it is the temperature's logarithm, and float32 cannot "
            "hold its exponential; was the temperature itself stored?"
        )


def _assign(variable, blocks):
    """Assigns an array that comes in blocks of rows; a large one piece by piece.

    At once, it would be in memory four times. The raw operation is used because
    `target[i:j].assign` first reads target[i:j], and TensorFlow then copies the whole variable.
    """
    target = variable.value
    size = math.prod(target.shape) * np.dtype(np.float32).itemsize
    if size <= _PIECE or isinstance(target, tf.distribute.DistributedValues):
        blocks = list(blocks)
        variable.assign(blocks[0] if len(blocks) == 1 else np.concatenate(blocks))
        return
    start = 0  # row of the variable
    rows = max(1, _PIECE * target.shape[0] // size)
    for block in blocks:
        for i in range(0, len(block), rows):
            piece = tf.cast(block[i : i + rows], target.dtype)
            end = start + len(block[i : i + rows])
            tf.raw_ops.ResourceStridedSliceAssign(
                ref=target.handle, begin=[start], end=[end], strides=[1], value=piece
            )
            start = end
        del block  # before the next one is read


def _at_resolution(config, resolution):
    if config.image is None:
        raise ConfigError("resolution was given, but the checkpoint has no image tower")
    if config.image.naflex and resolution != config.image.image_size:
        raise ConfigError(
            "resolution was given, but a NaFlex model takes images of any shape; "
            "encode_image(images, max_patches=N) says how many patches"
        )
    if isinstance(resolution, np.integer):
        resolution = int(resolution)
    try:
        image = dataclasses.replace(config.image, image_size=resolution)
    except ConfigError as error:
        raise ConfigError(f"resolution {resolution}: {error}") from None
    return dataclasses.replace(config, image=image)


def find_tokenizer(path, config, vocab):
    """Returns the tokenizer for a checkpoint at `path` (file or folder), or None."""
    kind = config.tokenizer_kind
    if kind is None:
        if vocab is not None:
            raise TokenizerError(f"vocab={vocab} was given, but the model has no text tower")
        return None
    if vocab is not None:
        file = download.resolve(vocab)
    else:
        path = pathlib.Path(path)
        folder = path.parent if zarr_folder.is_step_name(path.name) else path
        folder = folder if folder.is_dir() else folder.parent
        if kind == "sentencepiece" and huggingface.is_folder(path):
            file = vocabularies.find_huggingface(folder)
        else:
            file = vocabularies.find(folder, path.stem, kind)
        if file is None:
            return None
    rebuilt = pathlib.Path(file).name == "tokenizer.json"
    data = tokenizer_json.sentencepiece_model(file) if rebuilt else os.fspath(file)
    how = (config.token_length, bool(config.lowercase), config.preprocessing)
    tokenizer = tokenizer_from_bytes(kind, data, *how)
    if tokenizer.vocab_size > config.text.vocab_size:
        raise TokenizerError(
            f"{file}: {tokenizer.vocab_size} tokens, but the checkpoint's table has "
            f"{config.text.vocab_size} rows; this vocabulary belongs to another checkpoint"
        )
    return tokenizer


def _model_name(path):
    path = pathlib.Path(path)
    stem = path.stem
    if path.parent.name == "snapshots":  # of Hugging Face's cache: models--OWNER--NAME
        stem = path.parents[1].name.rpartition("--")[2]
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in stem) or "lit"
