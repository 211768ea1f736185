"""`lit-tf embed`: embeddings of images or texts, into an .npz file."""

import argparse

from lit_tf import files
from lit_tf.commands import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `lit-tf embed`."""
    common.add_model(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--images", nargs="+", metavar="GLOB", help="image files, or patterns of them"
    )
    what.add_argument(
        "--texts", metavar="FILE", help="file with one text per line, UTF-8; - is standard input"
    )
    parser.add_argument("-o", "--out", required=True, metavar="OUT.npz", help="where to write")
    common.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Runs `lit-tf embed`."""
    import numpy as np

    common.check_writable(args.out)
    if args.images:
        paths = common.matching_files(args.images)
        model = common.load(args)
        embeddings = common.encode_images(model, paths, args.batch_size)
        arrays = {"embeddings": embeddings, "paths": np.array(paths)}
    else:
        texts = common.read_texts(args.texts)
        model = common.load(args)
        embeddings = common.encode_texts(model, texts)
        arrays = {"embeddings": embeddings, "texts": np.array(texts)}
    with files.replacing(args.out) as file:
        np.savez(file, **arrays)
    count, width = embeddings.shape
    if args.json:
        common.print_json(
            {"path": args.out, "count": count, "width": width, "arrays": list(arrays)}
        )
    else:
        print(f"{count} embeddings, {width} wide: {args.out} (arrays {' and '.join(arrays)})")
    return 0
