"""`lit-tf models`: the names that `lit_tf.load` takes."""

import argparse
import math

from lit_tf.checkpoints import registry
from lit_tf.commands import common, printing

_FIGURES = ("imagenet2012", "coco_captions/i2t", "coco_captions/t2i")
_HEADER = (
    *("name", "image tower", "text tower", "parameters", "ImageNet", "I->T", "T->I"),
    *("file", "Hugging Face"),
)
_PUBLISHED = (
    *("name", "huggingface", "family", "resolution", "token_length", "tokenizer", "parameters"),
    *("figures", "config_arg", "urls", "vocab_url"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add(parser, "json")


def run(args: argparse.Namespace) -> int:
    """Lists embedded models first, then published ones, family by family."""
    from lit_tf.checkpoints.download import cache_dir

    rows = [_embedded(name, path) for name, path in registry.embedded_models().items()]
    rows += [_published(model, cache_dir()) for model in registry.MODELS.values()]
    if args.json:
        printing.print_json(rows)
        return 0
    table: list[tuple[str, ...]] = [_HEADER]
    for family in dict.fromkeys(row["family"] for row in rows):
        table.append((f"{family}:", *("" for _ in _HEADER[1:])))
        table += [_cells(row) for row in rows if row["family"] == family]
    printing.print_table(table, right=(3, 4, 5, 6))
    print(
        "\nPublished figures in per cent: zero-shot accuracy on ImageNet; Recall@1 on COCO, image "
        f"to text and text to image.\nFiles are kept in {cache_dir()}."
    )
    return 0


def _embedded(name, path):
    """Returns the row of a model that is part of the package, read off its file."""
    from lit_tf.checkpoints.layouts import read_canonical
    from lit_tf.checkpoints.npz import open_npz
    from lit_tf.checkpoints.shapes import config_of

    with read_canonical(open_npz(path)) as checkpoint:
        shapes, config = checkpoint.shapes, config_of(checkpoint)
    image, text = config.image, config.text
    kind = "BERT" if text.kind == "bert" else "transformer"
    return {
        **{"name": name, "path": str(path), "embedded": True, "family": "embedded", "figures": {}},
        "image": f"ViT/{image.patch_size}, width {image.width}, depth {image.depth}",
        "text": f"{kind}, width {text.width}, depth {text.depth}",
        **{"out_dim": (image.out_dim, text.out_dim), "tokenizer": config.tokenizer_kind},
        "parameters": sum(math.prod(shape) for shape in shapes.values()),
    }


def _published(model, cache):
    path = cache / f"{model.name}.npz"
    return {
        **{name: getattr(model, name) for name in _PUBLISHED},
        "path": str(path) if path.exists() else None,
        "embedded": False,
        "image": model.image_words,
        "text": model.text_words,
        "out_dim": (model.image.out_dim, model.text.out_dim),
    }


def _cells(row):
    figures = [row["figures"].get(key) for key in _FIGURES]
    figures = ["-" if figure is None else f"{figure:.1f}" for figure in figures]
    millions = row["parameters"] / 1e6  # shown with three digits
    size = f"{millions:,.0f} M" if millions >= 100 else f"{millions:.3g} M"
    place = "in the package" if row["embedded"] else "in the cache" if row["path"] else "-"
    start = (row["name"], row["image"], row["text"], size)
    return (*start, *figures, place, row.get("huggingface") or "")
