"""`lit-tf info`: what a checkpoint holds and what it lacks, without building the model."""

import argparse
import math
import pathlib

from lit_tf.commands import common, printing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_checkpoint(parser)
    common.add(parser, "json")


def run(args: argparse.Namespace) -> int:
    found = summarize(args.checkpoint, vocab=args.vocab)
    if args.json:
        printing.print_json(found)
        return 0
    rows = [
        ("file", found["path"]),
        ("layout", f"{found['layout']} ({', '.join(found['dtypes'])})"),
        ("parameters", f"{found['parameters']:,}"),
    ]
    config = found["config"]
    for tower in ("image", "text"):
        part = dict(config[tower] or {})
        kind = {None: "ViT", "bert": "BERT"}.get(part.pop("kind", None), "transformer")
        words = ", ".join(f"{k} {v}" for k, v in part.items() if v is not None)
        rows.append((f"{tower} tower", f"{kind}: {words}" if part else "none"))
        if part:
            rows.append(("", f"{found['tower_parameters'][tower]:,} parameters"))
    rows.append(("embeddings", f"{found['embedding_dim']} wide"))
    if found["temperature"] is not None:
        bias = "none" if found["bias"] is None else f"{found['bias']:.4g}"
        rows.append(("temperature", f"{found['temperature']:.4g}, bias {bias}"))
    if config["text"] is not None:
        size = f"{found['vocabulary']:,} tokens" if found["vocabulary"] else "none found"
        rows.append(("vocabulary", f"{size} ({found['tokenizer']})"))
    rows.append(("missing", "; ".join(found["missing"]) or "nothing"))
    printing.print_table(rows)
    return 0


def summarize(name_or_path, *, vocab=None) -> dict:
    """Returns what a checkpoint holds and what it lacks, in plain values, ready for JSON."""
    from lit_tf import loading
    from lit_tf.checkpoints import download
    from lit_tf.checkpoints.shapes import config_of
    from lit_tf.texts import vocabularies

    path = download.resolve(name_or_path, with_vocab=vocab is None)
    with loading.open_checkpoint(path) as checkpoint:
        config = config_of(checkpoint)
        scalars = {name: checkpoint.read(name)[0] for name in "tb" if name in checkpoint.shapes}
    if "t" in scalars:
        loading.check_log_temperature(scalars["t"], checkpoint.source)
    sizes = {name: math.prod(shape) for name, shape in checkpoint.shapes.items()}
    if checkpoint.layout == "big_vision":
        sizes.pop("img/cls_pos_embedding", None)  # zeros that the file does not contain
    tokenizer = loading.find_tokenizer(path, config, vocab)
    missing = [] if config.image else ["an image tower: it embeds texts only"]
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
        "temperature": math.exp(scalars["t"]) if "t" in scalars else None,
        "bias": float(scalars["b"]) if "b" in scalars else None,
        "tokenizer": config.tokenizer_kind,
        "vocabulary": tokenizer.vocab_size if tokenizer else None,
        "missing": missing,
    }
