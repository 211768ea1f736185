"""What several subcommands share: their arguments, their inputs, and how they print."""

import glob
import importlib
import json
import math
import os
import pathlib
import re
import shlex
import sys

from lit_tf.checkpoints import registry
from lit_tf.config import PREPROCESSINGS
from lit_tf.errors import ConfigError, DataError, ImageError, plain
from lit_tf.images.formats import MAX_PIXELS
from lit_tf.texts import vocabularies


def add_checkpoint(parser):
    """Adds the checkpoint and its vocabulary."""
    parser.add_argument("checkpoint", metavar="CKPT", help="a name, a path or an address")
    parser.add_argument(
        "--vocab", metavar="FILE", help="vocabulary (default: beside the checkpoint)"
    )


def add_model(parser):
    """Adds what every command takes that runs a model."""
    add_checkpoint(parser)
    parser.add_argument("--resolution", type=int, metavar="N", help="side of the images in pixels")
    add_dtype(parser)
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="images at a time (default 32)"
    )
    add_max_pixels(parser)
    add_max_patches(parser)
    add_preprocessing(parser)


def add_preprocessing(parser):
    """Adds `--preprocessing`."""
    parser.add_argument(
        "--preprocessing",
        choices=PREPROCESSINGS,
        help="whose pixels and tokens to compute (default: as the model was trained, or what "
        "NAME.json beside the checkpoint says)",
    )


def add_max_patches(parser):
    """Adds `--max-patches`."""
    parser.add_argument(
        "--max-patches",
        type=int,
        metavar="N",
        help="NaFlex models: the most patches of an image, which keeps its shape (default 256)",
    )


def limits(args):
    """Returns what `LitModel.encode_image` takes of `--max-pixels` and `--max-patches`."""
    return {"max_pixels": args.max_pixels, "max_patches": args.max_patches}


def add_dtype(parser):
    """Adds `--dtype`."""
    parser.add_argument(
        "--dtype",
        help="float32, bfloat16 or mixed_bfloat16 (default: Keras's policy, which is float32 "
        "unless keras.json says otherwise)",
    )


def add_max_pixels(parser):
    """Adds `--max-pixels`."""
    parser.add_argument(
        "--max-pixels",
        type=int,
        default=MAX_PIXELS,
        metavar="N",
        help=f"width times height of the largest image that is decoded (default {MAX_PIXELS:,})",
    )


def add_engine(parser, help):
    """Adds `--engine` and `--engine-options`."""
    parser.add_argument("--engine", choices=("local", "beam"), default="local", help=help)
    parser.add_argument(
        "--engine-options",
        default="",
        metavar="OPTIONS",
        help="Beam's own options in one string, --runner among them; by default its DirectRunner",
    )


def engine_options(args):
    """Returns the words of `--engine-options`."""
    try:
        return shlex.split(args.engine_options)
    except ValueError as e:
        raise ConfigError(f"--engine-options: {e}") from e


def add_int8(parser):
    """Adds `--int8`."""
    parser.add_argument(
        "--int8",
        action="store_true",
        help="embed with the quantized image tower, at a third of the time on a CPU; it is made "
        "once a model (extra `lite`)",
    )


def int8_images(args):
    """Returns the function that makes a quantized image tower, or None without `--int8`."""
    return importlib.import_module("lit_tf.export").int8_images if args.int8 else None


def add_json(parser):
    """Adds `--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def load(args):
    """Returns the model that `add_model`'s arguments name."""
    import lit_tf

    how = {k: getattr(args, k) for k in ("vocab", "resolution", "dtype", "preprocessing")}
    return lit_tf.load(args.checkpoint, **how)


def encode_images(model, paths, args):
    """Returns float32 embeddings (N, D) of image files, with a progress bar."""
    with progress("image", paths) as images:
        return model.encode_image(images, args.batch_size, **limits(args))


def add_strict(parser, default=False):
    """Adds `--strict`."""
    parser.add_argument(
        "--strict",
        action="store_true",
        default=default,
        help="stop at the first image that cannot be read (default: leave it out and name it)",
    )


class LeftOut(list):
    """The files that could not be read, as (path, reason), in their order.

    `add` is what functions take as `failed`.
    """

    def add(self, path, error):
        """Notes a file and the error that it gave."""
        self.append((path, plain(error)))

    def check(self, given):
        """Raises ImageError if not one of the `given` files was readable."""
        if self and len(self) == given:
            raise ImageError(f"none of {given} images can be read; the first: {self[0][1]}")

    def report(self):
        """Names the files on standard error."""
        for _, reason in self:
            print(f"left out: {' '.join(reason.split())}", file=sys.stderr)

    def to_json(self):
        """Returns the files for `print_json`."""
        return [{"path": path, "reason": reason} for path, reason in self]


def encode_readable_images(model, paths, args, left_out):
    """Returns the paths of the N images that can be read, and float32 embeddings (N, D)."""
    import numpy as np

    model.tower("image")
    failed = None if args.strict else left_out.add
    int8 = int8_images(args)
    readable, parts = [], []
    with progress("image", paths) as images:
        for batch in model.embed_stream(
            images, args.batch_size, **limits(args), failed=failed, embed=int8 and int8(model)
        ):
            readable += batch.items
            parts.append(batch.embeddings)
    left_out.check(len(paths))
    return readable, np.concatenate(parts)


def encode_texts(model, texts, block=1024):
    """Returns float32 embeddings (N, D) of texts, with a progress bar."""
    import numpy as np

    parts = []
    with progress("text", total=len(texts)) as bar:
        for start in range(0, len(texts), block):
            parts.append(model.encode_text(texts[start : start + block]))
            bar.update(len(parts[-1]))
    return np.concatenate(parts)


def report_cut(model, texts):
    """Says on standard error that texts are longer than what the model reads of them."""
    cut, own = [], model.tokenizer
    longer = own.with_length(own.length + 1)
    for start in range(0, len(texts), 1024):
        block = texts[start : start + 1024]
        ids, more = own(block).numpy(), longer(block).numpy()
        # One more token either shows at the end, or the end of the text moves to it.
        differ = (more[:, :-1] != ids).any(axis=1) | (more[:, -1] != getattr(own, "pad", 0))
        cut += [text for text, is_cut in zip(block, differ, strict=True) if is_cut]
    if cut:
        print(
            f"cut: of {len(cut)} of {len(texts)} texts the model reads the first {own.length} "
            f"tokens only, such as {cut[0]!r:.80}",
            file=sys.stderr,
        )


def progress(unit, items=None, total=None):
    """Returns a progress bar over `items`; it shows on a terminal only."""
    from tqdm import tqdm

    return tqdm(items, total=total, unit=f" {unit}s", disable=None, leave=False)


def matching_files(patterns):
    """Returns the files that match patterns, sorted within each pattern."""
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
            raise ImageError(f"{pattern}: no file has this name or matches it as a pattern")
        paths.extend(found)
    return paths


def read_texts(path):
    """Returns the lines of a UTF-8 file; `-` is standard input."""
    from lit_tf.texts.files import read_lines

    if path == "-":
        try:
            lines = [line.rstrip("\r\n") for line in sys.stdin]
        except UnicodeDecodeError as e:
            raise DataError(f"standard input is not UTF-8 text: {e}") from None
        texts = [line.removeprefix("\ufeff") if i == 0 else line for i, line in enumerate(lines)]
    else:
        texts = read_lines(path)
    if not texts:
        raise DataError(f"{path}: no texts in this file; expected one per line")
    return texts


def texts(items):
    """Returns texts as given, with `@FILE` replaced by the lines of the file."""
    out = []
    for item in items:
        out += read_texts(item[1:]) if item.startswith("@") else [item]
    return out


def classes_or_classifier(value):
    """Returns (class names, None), or (its names, a `few_shot.Classifier`) of a NAME.npz."""
    if not value.endswith(".npz"):
        return class_names(value), None
    from lit_tf import few_shot

    classifier = few_shot.load(value)
    return list(classifier.names), classifier


def class_names(value):
    """Returns class names, given either separated by commas or as a file with one per line."""
    # A single class is useless, so one value that looks like a file's name is taken for a file.
    is_path = "," not in value and (os.sep in value or re.search(r"\.[A-Za-z]{2,5}$", value))
    if is_path or os.path.isfile(value):
        from lit_tf.texts.files import read_list

        names = read_list(value, "class name")
        if len(names) == 1 and "," in names[0]:  # of which only the first name would count
            raise DataError(
                f"--classes {value!r} holds one line, {names[0]!r:.60}; expected one class per line"
            )
    else:
        names = [name.strip() for name in value.split(",")]
    names = [name for name in names if name]
    if not names:
        raise DataError(f"--classes {value!r} names no class; expected A,B,C or a file")
    return names


def text_files(*arguments):
    """Returns the files that arguments name for `check_output_files`: `@FILE`, FILE, `-`."""
    return [0 if a == "-" else a.removeprefix("@") for a in arguments if a is not None]


def checkpoint_files(checkpoint, vocab=None):
    """Returns the local files that loading a checkpoint may read, for `check_output_files`."""
    from lit_tf.checkpoints.download import cache_dir

    model = registry.find_published(checkpoint) or registry.find_upstream(checkpoint)
    cached = cache_dir() / f"{model.name}.npz" if model else None
    found = [vocab]
    for path in (checkpoint, registry.embedded_models().get(checkpoint), cached):
        if path is None or "://" in os.fspath(path):
            continue
        path = pathlib.Path(path).expanduser()
        beside = (*vocabularies.names(path.stem), f"{path.stem}.json")
        found += [path, *(path.parent / name for name in beside)]
        found += path.iterdir() if path.is_dir() else ()
    return found


def print_json(value):
    """Prints a value as indented JSON: times and the like as their text, NaN as null."""
    value = _without_nan(value)
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    # Bytes of a file name that are not UTF-8 are surrogates, which cannot be printed: escaped, they
    # come back as they were. The same goes for all but ASCII where the output takes only that.
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2, default=str)
    print(text)


def _without_nan(value):
    """Returns a value with None for NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(rows, right=(), *, ruled=False):
    """Prints rows of strings in columns, some of which are right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
        if ruled and number == 0:
            print("  ".join("-" * width for width in widths))


def softmax(logits):
    """Returns the softmax over the last axis of logits (N, M)."""
    import numpy as np

    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def match(model, logits):
    """Returns sigmoid(logits) (N, M) of a model with a bias, else None; see `LitModel.match`."""
    import tensorflow as tf

    return None if model.b is None else tf.sigmoid(logits).numpy()
