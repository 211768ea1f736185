"""`lit-tf export`: turns a checkpoint into a model to deploy."""

import argparse
import os
import shlex

from lit_tf.commands import common, inputs, outputs, printing
from lit_tf.errors import ExportError

from .names import DYNAMIC_INT8, INT8, MIN_RUNTIMES, QUANTIZATIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `lit-tf export`."""
    parser.add_argument("model", metavar="CKPT", help="a published or embedded name, or a path")
    parser.add_argument("out", metavar="OUT", help="the folder to write")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--saved-model", action="store_true", help="a SavedModel, to serve")
    kind.add_argument("--tflite", action="store_true", help="TFLite graphs, for devices")
    kind.add_argument("--onnx", action="store_true", help="ONNX graphs, in float32")
    kind.add_argument("--web", action="store_true", help="a web page that runs the model itself")
    parser.add_argument("--vocab", metavar="FILE", help="the vocabulary, if not beside CKPT")
    parser.add_argument("--resolution", type=int, help="side of the images in pixels")
    common.add(parser, "preprocessing")
    parser.add_argument(
        "--classes",
        metavar="A,B,C|FILE",
        help="class names to bake in: separated by commas, or a file with one per line",
    )
    parser.add_argument(
        "--templates",
        default="clip_best",
        help="prompt templates for --classes: a name or a file (default: clip_best)",
    )
    parser.add_argument(
        "--parts",
        help="SavedModel: some of image,text,tokens; tokens is text without a tokenizer "
        "(default: image,text)",
    )
    parser.add_argument("--dtype", help="SavedModel: precision, such as bfloat16")
    parser.add_argument(
        "--no-exif",
        action="store_true",
        default=None,
        help="SavedModel: do not turn JPEGs upright by their EXIF orientation",
    )
    parser.add_argument(
        "--quantization",
        choices=QUANTIZATIONS,
        help=f"of TFLite files or a web page (no {INT8}); default: {DYNAMIC_INT8}",
    )
    parser.add_argument(
        "--batch", type=int, help="TFLite: a fixed batch size, 1 for a GPU or NPU; default: any"
    )
    parser.add_argument(
        "--min-runtime",
        choices=MIN_RUNTIMES,
        help=f"the oldest TFLite that the files are for (default: {MIN_RUNTIMES[-1]})",
    )
    parser.add_argument(
        "--calibration",
        metavar="GLOB",
        nargs="+",
        help="TFLite int8: images like those that the device will see",
    )
    common.add(parser, "strict", default=None)
    parser.add_argument(
        "--images", metavar="GLOB", nargs="+", help="web page: example pictures that it offers"
    )
    parser.add_argument(
        "--texts",
        metavar="TEXT",
        nargs="+",
        help="web page: the sentences that it starts with; @FILE stands for its lines",
    )
    for name, what in (
        ("title", "its heading (default: the model's name)"),
        ("description", "what search engines and messengers say of it"),
        ("author", "who made it"),
        ("preview", "the picture that messengers show (default: the first example)"),
        ("address", "where it will be, such as https://example.org/pets/, for the preview"),
    ):
        value = "FILE" if name == "preview" else name.upper()
        parser.add_argument(f"--{name}", metavar=value, help=f"web page: {what}")
    parser.add_argument(
        "--runtime",
        metavar="FILE",
        nargs="+",
        help="web page: npm packages of its runtime, where npm cannot fetch them",
    )
    common.add(parser, "max-pixels", "max-patches")
    parser.add_argument("--json", action="store_true", help="print what was measured as JSON")


_FACE = ("title", "description", "author", "preview", "address")
# The options that only some kinds of export take.
_OPTIONS = {
    "onnx": ("max_patches",),
    "saved_model": ("parts", "dtype", "no_exif", "max_patches", "classes"),
    "tflite": (
        "quantization",
        "batch",
        "min_runtime",
        "calibration",
        "strict",
        "max_patches",
        "classes",
    ),
    "web": ("quantization", "max_patches", "images", "texts", "runtime", "classes", *_FACE),
}


def run(args: argparse.Namespace) -> int:
    """Runs `lit-tf export`."""
    (kind,) = (name for name in _OPTIONS if getattr(args, name))
    for name in {option for options in _OPTIONS.values() for option in options}:
        if getattr(args, name) is not None and name not in _OPTIONS[kind]:
            raise ExportError(f"--{name} does not go with --{kind}".replace("_", "-"))
    outputs.check_output_folder(args.out, _inputs(args), replaced=True)
    import lit_tf
    from lit_tf.checkpoints import download

    from . import onnx, saved_model, tflite, web

    source = download.resolve(args.model, with_vocab=args.vocab is None)
    how = {"resolution": args.resolution, "preprocessing": args.preprocessing}
    model = lit_tf.load(args.model, vocab=args.vocab, **how)
    shared = {"classes": None, "templates": args.templates, "source": source}
    if args.classes:
        names, classifier = inputs.classes_or_classifier(args.classes)
        shared["classes"] = classifier or names
    quantization, left_out = args.quantization or DYNAMIC_INT8, common.LeftOut()
    if args.saved_model:
        parts = args.parts.split(",") if args.parts else _all_parts(model)
        more = {"parts": parts, "dtype": args.dtype, "max_pixels": args.max_pixels}
        more |= {"exif": not args.no_exif, "max_patches": args.max_patches}
        measured = saved_model(model, args.out, **more, **shared)
    elif args.onnx:
        measured = onnx(model, args.out, max_patches=args.max_patches, source=source)
    elif args.web:
        given = {"texts": inputs.texts(args.texts)} if args.texts else {}
        images = inputs.matching_files(args.images or ())
        more = {"quantization": quantization, "images": images, "runtime": args.runtime or ()}
        more["max_patches"] = args.max_patches
        more |= {name: getattr(args, name) for name in _FACE}
        measured = web(model, args.out, **more, **given, **shared)
    else:
        images = calibration_images(model, args, left_out) if args.calibration else None
        more = {"quantization": quantization, "calibration": images, "batch": args.batch}
        more |= {
            "min_runtime": args.min_runtime or MIN_RUNTIMES[-1],
            "max_patches": args.max_patches,
        }
        measured = tflite(model, args.out, **more, **shared)
    if args.json:
        printing.print_json(measured)
        return 0
    _print(measured)
    print(f"Wrote and verified {os.path.abspath(args.out)}")
    if args.saved_model and not os.path.basename(os.path.abspath(args.out)).isdecimal():
        print("TensorFlow Serving takes numbered folders only: name one OUT/1 for it")
    if args.web:
        print(f"To look at it: lit-tf serve-web {shlex.quote(args.out)}")
    return 0


def _inputs(args):
    """Returns all files that the command reads, for `check_output_folder`."""
    texts = [text for text in args.texts or () if text.startswith("@")]
    return [
        *inputs.checkpoint_files(args.model, args.vocab),
        *(args.classes, args.templates, args.preview),
        *inputs.text_files(*texts),
        *inputs.matching_files([*(args.calibration or ()), *(args.images or ())]),
        *(args.runtime or ()),
    ]


def calibration_images(model, args, left_out):
    """Returns the calibration images that can be read, as the model's graphs take them."""
    from . import samples

    model.tower("image")
    paths = inputs.matching_files(args.calibration)
    failed = None if args.strict else left_out.add
    options = {"max_pixels": args.max_pixels, "max_patches": args.max_patches, "failed": failed}
    images = samples.prepared(model, paths, **options)
    left_out.report(len(paths))
    return images


def _all_parts(model):
    """Returns the parts that a SavedModel of the model can have."""
    image = [] if model.image_tower is None else ["image"]
    text = ["text" if model.tokenizer or image else "tokens"]
    return image if model.text_tower is None else image + text


_MEASURES = ("mean_cosine", "same_class", "max_abs_difference", "max_probability_difference")


def _print(measured):
    """Prints a line for each file or signature: its size and its difference from the model."""
    width = max(map(len, measured))
    for name, found in measured.items():
        cells = [f"{found['bytes'] / 1e6:9.2f} MB"] if "bytes" in found else []
        cells += [f"{key.replace('_', ' ')} {found[key]:.6g}" for key in _MEASURES if key in found]
        print("  ".join([name.ljust(width), *cells]))
