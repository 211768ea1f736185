"""`lit-tf embed`: embeddings of images or texts, into a file."""

import argparse

from lit_tf import files
from lit_tf.commands import clip_retrieval, common, outputs


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
    parser.add_argument("-o", "--out", required=True, metavar="OUT", help="where to write")
    parser.add_argument(
        "--format",
        choices=("npz", "clip-retrieval"),
        default="npz",
        help="npz: a file of arrays (default); clip-retrieval: a new folder that its index and "
        "back end read",
    )
    common.add_int8(parser)
    common.add_strict(parser)
    common.add_json(parser)


def _packed(texts):
    """Returns texts as their UTF-8 bytes, one after the other, and where each begins and ends.

    An array of strings would be as wide as its longest, four bytes a character.
    """
    import numpy as np

    data = [text.encode() for text in texts]
    return {
        "text_bytes": np.frombuffer(b"".join(data), np.uint8),
        "text_offsets": np.cumsum([0, *map(len, data)], dtype=np.int64),  # (N + 1,)
    }


def run(args: argparse.Namespace) -> int:
    """Runs `lit-tf embed`."""
    import numpy as np

    paths = common.matching_files(args.images) if args.images else common.text_files(args.texts)
    inputs = [*common.checkpoint_files(args.checkpoint, args.vocab), *paths]
    if args.format == "npz":
        outputs.check_output_files([args.out], inputs)
    else:
        outputs.check_output_folder(args.out, inputs)
        clip_retrieval.check_folder(args.out)
    left_out = common.LeftOut()
    if args.images:
        model = common.load(args)
        paths, embeddings = common.encode_readable_images(model, paths, args, left_out)
        arrays = {"embeddings": embeddings, "paths": np.array(paths)}
    else:
        texts = common.read_texts(args.texts)
        model = common.load(args)
        embeddings = common.encode_texts(model, texts)
        arrays = {"embeddings": embeddings, **_packed(texts)}
    if args.format == "npz":
        with files.replacing(args.out) as file:
            np.savez(file, **arrays)
    else:
        kind, names = ("image", paths) if args.images else ("text", texts)
        clip_retrieval.write(args.out, kind, embeddings, names)
    count, width = embeddings.shape
    if args.json:
        found = {"path": args.out, "count": count, "width": width, "arrays": list(arrays)}
        common.print_json({**found, "left_out": left_out.to_json()})
    else:
        what = f" (arrays {' and '.join(arrays)})" if args.format == "npz" else ""
        others = f"; {len(left_out)} images could not be read" if left_out else ""
        print(f"{count} embeddings, {width} wide: {args.out}{what}{others}")
    left_out.report()
    return 0
