"""What several subcommands share: options, and the model that they name."""

import importlib
import shlex
import sys

import numpy as np

from lit_tf.commands.printing import progress
from lit_tf.config import PREPROCESSINGS
from lit_tf.errors import ConfigError, ImageError, plain
from lit_tf.images.formats import MAX_PIXELS

_HELP = {
    "vocab": "vocabulary (default: beside the checkpoint)",
    "resolution": "side of the images in pixels",
    "dtype": "float32, bfloat16 or mixed_bfloat16 (default: Keras's policy, as in keras.json)",
    "batch-size": "images at a time (default 32)",
    "max-pixels": f"width times height of the largest image that is read (default {MAX_PIXELS:,})",
    "max-patches": "NaFlex models: the most patches of an image, in its shape (default 256)",
    "preprocessing": "whose pixels and tokens to compute (default: as the model was trained, or "
    "what NAME.json beside the checkpoint says)",
    "int8": "embed with the quantized image tower, at a third of the time on a CPU (extra `lite`)",
    "strict": "stop at the first image that cannot be read (default: leave it out and name it)",
    "templates": "prompt templates: clip_best or clip (8), clip_paper (81), class_name_only, or a "
    "file with one per line",
    "classes": "names, or a file with one per line, or NAME.npz of `lit-tf adapt`",
    "engine": "local: this process does the work; beam: an Apache Beam pipeline",
    "engine-options": "Beam's own options in one string, such as --runner; default: DirectRunner",
    "model": "the model's path, if it has moved since indexing",
    "json": "print JSON",
}
_MORE: dict[str, dict] = {
    **{name: {"action": "store_true"} for name in ("int8", "strict", "json")},
    **{name: {"type": int, "metavar": "N"} for name in ("resolution", "max-patches")},
    "batch-size": {"type": int, "metavar": "N", "default": 32},
    "max-pixels": {"type": int, "metavar": "N", "default": MAX_PIXELS},
    "preprocessing": {"choices": PREPROCESSINGS},
    "engine": {"choices": ("local", "beam"), "default": "local"},
    **{"vocab": {"metavar": "FILE"}, "engine-options": {"default": "", "metavar": "OPTIONS"}},
    **{"model": {"metavar": "CKPT"}, "templates": {"metavar": "NAME|FILE"}},
    "classes": {"metavar": "A,B,C|FILE"},
}


def add(parser, *names, **changed):
    """Adds options that several commands have; `changed` is what is different here."""
    for name in names:
        options = {"help": _HELP[name], **_MORE.get(name, {}), **changed}
        parser.add_argument(f"--{name}", **options)


def add_several(parser, name, metavar, text, **options):
    """Adds an option that takes several values at once, and may be repeated for more."""
    parser.add_argument(name, nargs="+", action="extend", metavar=metavar, help=text, **options)


def add_checkpoint(parser):
    """Adds the checkpoint and its vocabulary."""
    parser.add_argument("checkpoint", metavar="CKPT", help="a name, a path or an address")
    add(parser, "vocab")


def add_model(parser):
    """Adds what every command takes that runs a model."""
    add_checkpoint(parser)
    add(parser, "resolution", "dtype", "batch-size", "max-pixels", "max-patches", "preprocessing")


def engine_options(args):
    """Returns the words of `--engine-options`."""
    try:
        return shlex.split(args.engine_options)
    except ValueError as e:
        raise ConfigError(f"--engine-options: {e}") from e


def load(args):
    """Returns the model that `add_model`'s arguments name."""
    import lit_tf

    how = {k: getattr(args, k) for k in ("vocab", "resolution", "dtype", "preprocessing")}
    return lit_tf.load(args.checkpoint, **how)


def int8_images(args):
    """Returns the function that makes a quantized image tower, or None without `--int8`."""
    wanted = getattr(args, "int8", False)
    return importlib.import_module("lit_tf.export").int8_images if wanted else None


def encode_images(model, paths, args):
    """Returns paths of images that can be read, their embeddings (N, D), and what was left out."""
    model.tower("image")
    left_out = LeftOut()
    how = {"max_pixels": args.max_pixels, "max_patches": args.max_patches}
    how["failed"] = None if args.strict else left_out.add
    if make := int8_images(args):
        how["embed"] = make(model)
    with progress("image", paths) as images:
        batches = list(model.embed_stream(images, args.batch_size, **how))
    left_out.report(len(paths))
    readable = [path for batch in batches for path in batch.items]
    return readable, np.concatenate([batch.embeddings for batch in batches]), left_out


def encode_texts(model, texts, block=1024):
    """Returns float32 embeddings (N, D) of texts, with a progress bar."""
    with progress("text", range(0, len(texts), block), unit_scale=block) as starts:
        return np.concatenate([model.encode_text(texts[i : i + block]) for i in starts])


def probabilities(model, logits):
    """Returns softmax(logits) (N, M), and sigmoid(logits) if the model has a bias, else None."""
    import tensorflow as tf

    return tf.nn.softmax(logits).numpy(), None if model.b is None else tf.sigmoid(logits).numpy()


class LeftOut(list):
    """The files that could not be read, as {"path", "reason"}, in their order."""

    def add(self, path, error):
        """Notes a file and the error that it gave; what functions take as `failed`."""
        self.append({"path": path, "reason": " ".join(plain(error).split())})

    def report(self, given):
        """Names the files on standard error; raises ImageError if they are all that was given."""
        if self and len(self) == given:
            raise ImageError(f"none of {given} images can be read; the first: {self[0]['reason']}")
        for left_out in self:
            print(f"left out: {left_out['reason']}", file=sys.stderr)
