"""The command line, `lit-tf`: thin; every subcommand does what the library offers as functions.

TensorFlow takes seconds to import, so it is imported where it is needed and not for `--help`. The
upper storeys (export, training) are imported only when one of their subcommands runs; their modules
offer `add_arguments(parser)` and `run(args) -> int`, as the functions here do.
"""

import argparse
import glob
import importlib
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import sys
import textwrap
import traceback

from lit_tf import __version__, files
from lit_tf.errors import ConfigError, DataError, ImageError, LitError, extra

ERROR = 2  # exit code of what the user can put right; argparse's, too
BUG = 1  # exit code of what is ours


# --- lit-tf models -------------------------------------------------------------------------------


def _add_models(parser):
    _add_json(parser)


def _models(args):
    """Lists the names that `lit_tf.load` takes."""
    from lit_tf import registry
    from lit_tf.checkpoints.download import cache_dir
    from lit_tf.checkpoints.layouts import read_canonical
    from lit_tf.checkpoints.npz import open_npz
    from lit_tf.checkpoints.shapes import config_from_shapes

    rows = []
    for name, path in registry.embedded_models().items():
        with read_canonical(open_npz(path)) as checkpoint:
            layout = checkpoint.layout
            config = config_from_shapes(checkpoint.shapes, layout=layout, source=str(path))
        image, text = config.image, config.text
        kind = "BERT" if text.kind == "bert" else "transformer"
        rows.append(
            {
                "name": name,
                "path": str(path),
                "embedded": True,
                "image": f"ViT/{image.patch_size}, width {image.width}, depth {image.depth}",
                "text": f"{kind}, width {text.width}, depth {text.depth}",
                "out_dim": (image.out_dim, text.out_dim),
                "tokenizer": config.tokenizer_kind,
                "parameters": sum(math.prod(shape) for shape in checkpoint.shapes.values()),
                "figures": {},
            }
        )
    for model in registry.MODELS.values():
        path = cache_dir() / f"{model.name}.npz"
        rows.append(
            {
                "name": model.name,
                "path": str(path) if path.exists() else None,
                "embedded": False,
                "image": model.image,
                "text": model.text,
                "out_dim": model.out_dim,
                "tokenizer": model.tokenizer,
                "parameters": model.parameters,
                "figures": model.figures,
                "config_arg": model.config_arg,
                "urls": model.urls,
                "vocab_url": model.vocab_url,
            }
        )
    if args.json:
        _print_json(rows)
        return 0
    figures = ("imagenet2012", "coco_captions/i2t", "coco_captions/t2i")
    table = [
        ("name", "image tower", "text tower", "parameters", "ImageNet", "I->T", "T->I", "file")
    ]
    for row in rows:
        millions = f"{row['parameters'] / 1e6:.3g} M"
        cells = [_number(row["figures"].get(key)) for key in figures]
        file = "in the package" if row["embedded"] else "in the cache" if row["path"] else "-"
        table.append((row["name"], row["image"], row["text"], millions, *cells, file))
    _print_table(table, right=(3, 4, 5, 6))
    print(
        "\nPublished figures in per cent: zero-shot accuracy on ImageNet; Recall@1 on COCO, image "
        f"to text and text to image.\nFiles are kept in {cache_dir()}."
    )
    return 0


def _number(value):
    return "-" if value is None else f"{value:.1f}"


# --- lit-tf info ---------------------------------------------------------------------------------


def _add_info(parser):
    parser.add_argument("checkpoint", metavar="CKPT", help="a name, a path or an address")
    parser.add_argument(
        "--vocab", metavar="FILE", help="vocabulary (default: beside the checkpoint)"
    )
    _add_json(parser)


def _info(args):
    """Says what a checkpoint holds, and what it lacks."""
    from lit_tf.describe import describe

    found = describe(args.checkpoint, vocab=args.vocab)
    if args.json:
        _print_json(found)
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
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    return 0


# --- lit-tf embed --------------------------------------------------------------------------------


def _add_embed(parser):
    _add_model(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--images", nargs="+", metavar="GLOB", help="image files, or patterns of them"
    )
    what.add_argument("--texts", metavar="FILE", help="a text a line, UTF-8; - is standard input")
    parser.add_argument("-o", "--out", required=True, metavar="OUT.npz", help="where to write")
    _add_json(parser)


def _embed(args):
    """Writes the embeddings of images or texts into an .npz file."""
    import numpy as np

    _check_parent(args.out)
    if args.images:
        paths = expand(args.images)
        model = _load(args)
        embeddings = _encode_images(model, paths, args.batch_size)
        arrays = {"embeddings": embeddings, "paths": np.array(paths)}
    else:
        texts = _read_texts(args.texts)
        model = _load(args)
        embeddings = _encode_texts(model, texts)
        arrays = {"embeddings": embeddings, "texts": np.array(texts)}
    with files.replacing(args.out) as file:
        np.savez(file, **arrays)
    count, width = embeddings.shape
    if args.json:
        _print_json({"path": args.out, "count": count, "width": width, "arrays": list(arrays)})
    else:
        print(f"{count} embeddings, {width} wide: {args.out} (arrays {' and '.join(arrays)})")
    return 0


# --- lit-tf classify -----------------------------------------------------------------------------


def _add_classify(parser):
    _add_model(parser)
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="image files, or patterns of them"
    )
    parser.add_argument(
        "--classes",
        required=True,
        metavar="A,B,C|FILE",
        help="names of the classes: separated by commas, or a file with one a line",
    )
    parser.add_argument(
        "--templates",
        default="clip_best",
        metavar="NAME|FILE",
        help="prompt templates: clip_best or clip (8, default), clip_paper (81), class_name_only, "
        "or a file with one template a line",
    )
    parser.add_argument(
        "--top", type=int, default=5, metavar="K", help="classes to print (default 5)"
    )
    _add_json(parser)


def _classify(args):
    """Tells which class's name fits each image best."""
    classes = class_names(args.classes)
    if args.top < 1:
        raise ConfigError(f"--top is {args.top}; expected at least 1")
    paths = expand(args.images)
    model = _load(args)
    with _progress("image", paths) as images:
        probabilities = model.classify(images, classes, args.templates, args.batch_size)
    order = (-probabilities).argsort(axis=1, kind="stable")
    if args.json:
        results = [
            {"image": path, "best": classes[best[0]], "probabilities": [float(p) for p in row]}
            for path, row, best in zip(paths, probabilities, order, strict=True)
        ]
        _print_json({"classes": classes, "results": results})
        return 0
    top = min(args.top, len(classes))
    table = [("image", *(f"{i + 1}." for i in range(top)))]
    for path, row, best in zip(paths, probabilities, order, strict=True):
        table.append((path, *(f"{classes[c]} {100 * row[c]:.1f} %" for c in best[:top])))
    _print_table(table)
    return 0


# --- lit-tf compare ------------------------------------------------------------------------------


def _add_compare(parser):
    _add_model(parser)
    parser.add_argument(
        "--images",
        nargs="+",
        required=True,
        metavar="GLOB",
        help="image files, or patterns of them",
    )
    parser.add_argument(
        "--texts",
        nargs="+",
        required=True,
        metavar="TEXT",
        help="texts; @FILE stands for its lines",
    )
    parser.add_argument("--plot", metavar="OUT.png", help="draw a heat map with thumbnails")
    _add_json(parser)


def _compare(args):
    """Tells which text fits which image, in numbers and as a picture."""
    import numpy as np

    texts = [
        text
        for item in args.texts
        for text in (_read_texts(item[1:]) if item.startswith("@") else [item])
    ]
    if args.plot:
        _check_parent(args.plot)
        with extra("demo"):
            import matplotlib  # noqa: F401  rather missing now than after minutes of work
    paths = expand(args.images)
    model = _load(args)
    zimg = _encode_images(model, paths, args.batch_size)
    ztxt = _encode_texts(model, texts)
    similarities = zimg @ ztxt.T  # (images, texts)
    logits = model.logits(zimg, ztxt).numpy()
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = odds / odds.sum(axis=1, keepdims=True)  # over the texts of each image
    if args.plot:
        from lit_tf import images as images_lib
        from lit_tf.plots import heat_map

        thumbnails = [images_lib.to_uint8(path) for path in paths]
        title = f"{pathlib.PurePath(args.checkpoint).name}: cosine similarity, the best text framed"
        heat_map(args.plot, similarities, thumbnails, texts, title)
    if args.json:
        _print_json(
            {
                "images": paths,
                "texts": texts,
                "temperature": model.temperature,
                "bias": model.bias,
                "similarities": similarities.tolist(),
                "probabilities": probabilities.tolist(),
                "plot": args.plot,
            }
        )
        return 0
    best = probabilities.argmax(axis=1)
    table = [("", *(f"[{i + 1}]" for i in range(len(paths))))]
    for t, text in enumerate(texts):
        cells = [
            f"{'*' if best[i] == t else ' '}{cosine:+.3f} {100 * probability:5.1f} %"
            for i, (cosine, probability) in enumerate(
                zip(similarities[:, t], probabilities[:, t], strict=True)
            )
        ]
        table.append((textwrap.shorten(text, 50, placeholder="...") or '""', *cells))
    _print_table(table, right=range(1, len(paths) + 1))
    print("\nCosine similarity, and probability among the texts of each image; * is the best text.")
    for i, path in enumerate(paths):
        print(f"[{i + 1}] {path}")
    if args.plot:
        print(f"Picture: {args.plot}")
    return 0


# --- lit-tf convert ------------------------------------------------------------------------------


def _add_convert(parser):
    parser.add_argument("checkpoint", metavar="CKPT", help="a name, a path or an address")
    parser.add_argument(
        "out", metavar="OUT.npz", help="where to write; the vocabulary goes beside it"
    )
    parser.add_argument(
        "--layout", choices=("vit_jax", "big_vision"), default="vit_jax", help="default: vit_jax"
    )
    parser.add_argument(
        "--vocab", metavar="FILE", help="vocabulary (default: beside the checkpoint)"
    )
    parser.add_argument("--resolution", type=int, metavar="N", help="resample to this image size")
    parser.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="default: float32"
    )
    _add_json(parser)


def _convert(args):
    """Writes a checkpoint in another published layout."""
    import lit_tf

    _check_parent(args.out)
    model = lit_tf.load(args.checkpoint, vocab=args.vocab, resolution=args.resolution)
    lit_tf.save_npz(model, args.out, layout=args.layout, dtype=args.dtype)
    size = os.path.getsize(args.out)
    if args.json:
        _print_json({"path": args.out, "layout": args.layout, "dtype": args.dtype, "bytes": size})
    else:
        print(f"{args.out}: layout {args.layout}, {args.dtype}, {size / 1e6:.1f} MB")
    return 0


# --- shared by the commands ----------------------------------------------------------------------


def _add_model(parser):
    """Adds what every command takes that runs a model."""
    parser.add_argument("checkpoint", metavar="CKPT", help="a name, a path or an address")
    parser.add_argument(
        "--vocab", metavar="FILE", help="vocabulary (default: beside the checkpoint)"
    )
    parser.add_argument("--resolution", type=int, metavar="N", help="side of the images in pixels")
    parser.add_argument("--dtype", help="float32 (default), bfloat16 or mixed_bfloat16")
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="images at a time (default 32)"
    )


def _add_json(parser):
    parser.add_argument("--json", action="store_true", help="print JSON")


def _load(args):
    import lit_tf

    return lit_tf.load(
        args.checkpoint, vocab=args.vocab, resolution=args.resolution, dtype=args.dtype
    )


def _encode_images(model, paths, batch_size):
    with _progress("image", paths) as images:
        return model.encode_image(images, batch_size)


def _encode_texts(model, texts, block=1024):
    import numpy as np

    parts = []
    with _progress("text", total=len(texts)) as bar:
        for start in range(0, len(texts), block):
            parts.append(model.encode_text(texts[start : start + block]))
            bar.update(len(parts[-1]))
    return np.concatenate(parts)


def _progress(unit, items=None, total=None):
    """Returns a progress bar, shown only where a person looks."""
    from tqdm import tqdm

    return tqdm(items, total=total, unit=f" {unit}s", disable=None, leave=False)


def expand(patterns):
    """Returns the files that patterns stand for, each pattern's sorted.

    Raises:
        ImageError: if a pattern matches nothing.
    """
    paths = []
    for pattern in patterns:
        if os.path.exists(pattern):
            found = [pattern]  # also where its name holds a bracket
        elif "://" in pattern:
            import tensorflow as tf

            try:
                found = sorted(tf.io.gfile.glob(pattern))
            except tf.errors.OpError as e:
                raise ImageError(f"{pattern}: {e.message}") from None
        else:
            found = sorted(glob.glob(os.path.expanduser(pattern), recursive=True))
        if not found:
            raise ImageError(f"{pattern}: no such file, and as a pattern it matches none")
        paths.extend(found)
    return paths


def _read_texts(path):
    """Returns the lines of a file, or of standard input.

    Raises:
        DataError: if there are none, or they cannot be read.
    """
    from lit_tf import zero_shot

    if path == "-":
        try:
            texts = [line.rstrip("\r\n") for line in sys.stdin]
        except UnicodeDecodeError as e:
            raise DataError(f"standard input is not UTF-8 text: {e}") from None
    else:
        texts = zero_shot.read_lines(path)
    if not texts:
        raise DataError(f"{path}: no texts in it; expected one a line")
    return texts


def class_names(value):
    """Returns the names of classes, given separated by commas or in a file.

    Raises:
        DataError: if there are none, or what looks like a file's name is none's.
    """
    path = "," not in value and (value.endswith(".txt") or os.sep in value)
    if path or os.path.isfile(value):
        names = [line.strip() for line in _read_texts(value)]
    else:
        names = [name.strip() for name in value.split(",")]
    names = [name for name in names if name]
    if not names:
        raise DataError(f"--classes {value!r} names no class; expected A,B,C or a file")
    return names


def _check_parent(path):
    """Raises ConfigError now, rather than after minutes of work, if `path` cannot be written."""
    folder = pathlib.Path(path).parent
    if not folder.is_dir():
        raise ConfigError(f"{path} cannot be written: there is no folder {folder}")
    if pathlib.Path(path).is_dir():
        raise ConfigError(f"{path} cannot be written: it is a folder")


def _print_json(value):
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _print_table(rows, right=()):
    """Prints rows of strings in columns; those numbered in `right` end at their right side."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


# --- the program ---------------------------------------------------------------------------------

# name -> (help, adds arguments, runs); of the upper storeys' commands, the module that has both.
_OWN = {
    "models": ("list the published and embedded models", _add_models, _models),
    "info": ("what a checkpoint holds, and what it lacks", _add_info, _info),
    "embed": ("embeddings of images or texts, into an .npz file", _add_embed, _embed),
    "classify": ("which class fits each image", _add_classify, _classify),
    "compare": ("which text fits which image; with --plot as a picture", _add_compare, _compare),
    "convert": ("write a checkpoint in another published layout", _add_convert, _convert),
}
_UPPER = {
    "export": ("SavedModels to serve, TFLite graphs for devices", "lit_tf.export.cli"),
    "train": ("tune a text tower to a locked image tower", "lit_tf.training.cli"),
    "eval": ("zero-shot accuracy and retrieval, as published", "lit_tf.training.evaluation.cli"),
    "precompute": (
        "embed a dataset's images once, to train on the embeddings",
        "lit_tf.training.precompute.cli",
    ),
    "tpu-preflight": (
        "whether a training run compiles and fits on a TPU, without one",
        "lit_tf.training.preflight.cli",
    ),
}


class _Version(argparse.Action):
    """Prints the versions that a bug report needs; reads them without importing anything."""

    def __call__(self, parser, namespace, values, option_string=None):
        print(f"lit_tf {__version__}")
        for package in ("tensorflow", "tensorflow-text", "keras", "ai-edge-litert", "numpy"):
            try:
                print(f"{package} {importlib.metadata.version(package)}")
            except importlib.metadata.PackageNotFoundError:
                print(f"{package} is not installed")
        print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
        parser.exit()


def _build_parser(command):
    """Returns the parser; of the upper storeys, only `command`'s module is imported."""
    parser = argparse.ArgumentParser(
        prog="lit-tf",
        description="LiT (Locked-image text Tuning) for TensorFlow.",
        epilog="`lit-tf COMMAND --help` tells more about each.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="versions of lit_tf and more")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (text, add_arguments, run) in _OWN.items():
        sub = commands.add_parser(name, help=text, description=run.__doc__)
        add_arguments(sub)
        sub.set_defaults(run=run)
    for name, (text, module) in _UPPER.items():
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name == command:
            module = importlib.import_module(module)
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    for sub in commands.choices.values():
        sub.add_argument("--debug", action="store_true", help="show where an error came from")
    return parser


def main(argv=None):
    """Runs the command line.

    Args:
        argv: the arguments, by default those of the process.

    Returns:
        The exit code: 0, 2 for an error that the user can put right, 1 for one that is ours.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    if not debug:
        # A log line for every device that is not there is not what a person wants to read.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        args = _build_parser(next((a for a in argv if not a.startswith("-")), None)).parse_args(
            argv
        )
        code = args.run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `lit-tf models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as e:
        if debug:
            traceback.print_exc()
        ours = isinstance(e, (LitError, OSError))
        what = str(e) if isinstance(e, LitError) else f"{type(e).__name__}: {e}"
        hint = "" if ours or debug else " (unexpected; --debug shows where)"
        print(f"lit-tf: error: {' '.join(what.split())}{hint}", file=sys.stderr)
        return ERROR if ours else BUG


if __name__ == "__main__":
    sys.exit(main())
