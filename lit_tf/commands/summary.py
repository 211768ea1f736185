"""What a checkpoint holds, without building the model."""

import math
import pathlib

import numpy as np

from lit_tf.checkpoints import download
from lit_tf.checkpoints.shapes import config_of
from lit_tf.loading import check_log_temperature, find_tokenizer, open_checkpoint
from lit_tf.texts import vocabularies


def summarize(name_or_path, *, vocab=None) -> dict:
    """Returns what a checkpoint holds and what it lacks, in plain values, ready for JSON."""
    path = download.resolve(name_or_path, with_vocab=vocab is None)
    with open_checkpoint(path) as checkpoint:
        config = config_of(checkpoint)
        scalars = {name: checkpoint.read(name)[0] for name in "tb" if name in checkpoint.shapes}
    if "t" in scalars:
        check_log_temperature(scalars["t"], checkpoint.source)
    sizes = {name: math.prod(shape) for name, shape in checkpoint.shapes.items()}
    if checkpoint.layout == "big_vision":
        sizes.pop("img/cls_pos_embedding", None)  # zeros that the file does not contain
    tokenizer = find_tokenizer(path, config, vocab)
    missing = []
    if config.image is None:
        missing.append("an image tower: it embeds texts only")
    if config.text is None:
        missing.append("a text tower: it embeds images only")
    elif tokenizer is None:
        names = " or ".join(vocabularies.names(pathlib.Path(path).stem, config.tokenizer_kind))
        missing.append(f"a vocabulary ({names} beside it): it embeds tokens, but no strings")
    return {
        "path": str(path),
        "layout": checkpoint.layout,
        "dtypes": sorted(checkpoint.dtypes),
        "config": config.to_dict(),
        "parameters": sum(sizes.values()),
        "tower_parameters": {
            tower: sum(n for name, n in sizes.items() if name.startswith(prefix))
            for tower, prefix in (("image", "img/"), ("text", "txt/"))
        },
        "embedding_dim": config.embedding_dim,
        "temperature": float(np.exp(scalars["t"])) if "t" in scalars else None,
        "bias": float(scalars["b"]) if "b" in scalars else None,
        "tokenizer": config.tokenizer_kind,
        "vocabulary": tokenizer.vocab_size if tokenizer else None,
        "missing": missing,
    }
