"""`lit-tf info`: what a checkpoint holds, and what it lacks."""

import argparse

from lit_tf.commands import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `lit-tf info`."""
    common.add_checkpoint(parser)
    common.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Runs `lit-tf info`."""
    from lit_tf.commands.summary import summarize

    found = summarize(args.checkpoint, vocab=args.vocab)
    if args.json:
        common.print_json(found)
        return 0
    rows = [
        ("file", found["path"]),
        ("layout", f"{found['layout']} ({', '.join(found['dtypes'])})"),
        ("parameters", f"{found['parameters']:,}"),
    ]
    config = found["config"]
    for tower in ("image", "text"):
        part = config[tower]
        if part is None:
            rows.append((f"{tower} tower", "none"))
            continue
        part = dict(part)
        kind = "ViT" if tower == "image" else {"bert": "BERT"}.get(part.pop("kind"), "transformer")
        words = [f"{k} {v}" for k, v in part.items() if v is not None]
        rows.append((f"{tower} tower", f"{kind}: {', '.join(words)}"))
        rows.append(("", f"{found['tower_parameters'][tower]:,} parameters"))
    rows.append(("embeddings", f"{found['embedding_dim']} wide"))
    if found["temperature"] is not None:
        bias = "none" if found["bias"] is None else f"{found['bias']:.4g}"
        rows.append(("temperature", f"{found['temperature']:.4g}, bias {bias}"))
    if config["text"] is not None:
        size = found["vocabulary"]
        pieces = "none found" if size is None else f"{size:,} tokens"
        rows.append(("vocabulary", f"{pieces} ({found['tokenizer']})"))
    rows.append(("missing", "; ".join(found["missing"]) or "nothing"))
    common.print_table(rows)
    return 0
