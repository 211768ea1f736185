"""`lit-tf embed`: embeddings of images or texts, into a file."""

import argparse
import os

import numpy as np

from lit_tf import files
from lit_tf.commands import common, inputs, outputs
from lit_tf.commands.printing import print_json
from lit_tf.errors import ConfigError, extra


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    common.add_model(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    common.add_several(what, "--images", "GLOB", "image files, or patterns of them")
    texts = "file with one text per line, UTF-8; - is standard input"
    what.add_argument("--texts", metavar="FILE", help=texts)
    add("-o", "--out", required=True, metavar="OUT", help="where to write")
    form = "npz: a file of arrays (default); clip-retrieval: a new folder for that project"
    add("--format", choices=("npz", "clip-retrieval"), default="npz", help=form)
    common.add(parser, "int8", "strict", "json")


def run(args: argparse.Namespace) -> int:
    if args.texts and args.int8:
        raise ConfigError("--int8 is for --images: there is no quantized text tower")
    paths = inputs.matching_files(args.images) if args.images else inputs.text_files(args.texts)
    read = [*inputs.checkpoint_files(args.checkpoint, args.vocab), *paths]
    if args.format == "npz":
        outputs.check_output_files([args.out], read)
    else:
        _check_folder(args.out, read)
    left_out = common.LeftOut()
    if args.images:
        paths, embeddings, left_out = common.encode_images(common.load(args), paths, args)
        names, kind, words = paths, "path", ("img_emb", "image_path")
    else:
        names, kind, words = inputs.read_texts(args.texts), "text", ("text_emb", "caption")
        embeddings = common.encode_texts(common.load(args), names)
    arrays = {"embeddings": embeddings, **_packed(kind, names)}
    if args.format == "npz":
        with files.replacing(args.out) as file:
            np.savez(file, **arrays)
    else:
        _write_folder(args.out, *words, embeddings, names)
    count, width = embeddings.shape
    if args.json:
        found = {"path": args.out, "count": count, "width": width, "arrays": list(arrays)}
        print_json({**found, "left_out": left_out})
    else:
        what = f" (arrays {' and '.join(arrays)})" if args.format == "npz" else ""
        others = f"; {len(left_out)} images could not be read" if left_out else ""
        print(f"{count} embeddings, {width} wide: {args.out}{what}{others}")
    return 0


def _packed(name, texts):
    """Returns texts as their bytes in one array, since one of strings is as wide as its longest."""
    data = [text.encode("utf-8", "surrogateescape") for text in texts]  # a path may be any bytes
    return {
        f"{name}_bytes": np.frombuffer(b"".join(data), np.uint8),
        f"{name}_offsets": np.cumsum([0, *map(len, data)], dtype=np.int64),  # (N + 1,)
    }


def _check_folder(folder, read):
    """Refuses what is not a new folder, in which all partitions would belong to one collection."""
    with extra("search"):
        import pyarrow  # noqa: F401  rather missing now than after minutes of work
    outputs.check_output_folder(folder, read)
    if not os.path.isdir(os.path.dirname(os.path.abspath(folder))):
        raise ConfigError(f"{folder} cannot be written: its parent does not exist")
    if os.path.exists(folder) and not (os.path.isdir(folder) and not os.listdir(folder)):
        raise ConfigError(f"{folder} is not empty; expected a new folder")


def _write_folder(folder, kind, column, embeddings, names):
    """Writes what clip-retrieval's writer (clip_inference/writer.py) does for one partition."""
    with extra("search"):
        import pyarrow as pa
        import pyarrow.parquet

    # Parquet holds UTF-8 only; other bytes of a file's name are escaped.
    texts = [os.fsencode(name).decode("utf-8", "backslashreplace") for name in names]
    with files.replacing_folder(folder) as new:
        for name in ("metadata", kind):
            (new / name).mkdir()
        pyarrow.parquet.write_table(pa.table({column: texts}), new / "metadata/metadata_0.parquet")
        np.save(new / kind / f"{kind}_0.npy", embeddings.astype(np.float32))
