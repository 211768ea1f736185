"""`lit-tf export`: turns a checkpoint into a model to deploy."""

import argparse
import importlib
import os
import shlex

from lit_tf.commands import common, inputs, outputs, printing
from lit_tf.errors import ExportError
from lit_tf.images.formats import MAX_PIXELS

from .names import DYNAMIC_INT8, INT8, MIN_RUNTIMES, NEWEST, QUANTIZATIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="CKPT", help="a published or embedded name, or a path")
    add("out", metavar="OUT", help="the folder to write")
    kind = parser.add_mutually_exclusive_group(required=True)
    for name, text in (
        ("saved-model", "a SavedModel, to serve"),
        ("tflite", "TFLite graphs, for devices"),
        ("onnx", "ONNX graphs, in float32"),
        ("web", "a web page that runs the model itself"),
    ):
        kind.add_argument(f"--{name}", action="store_true", help=text)
    common.add(parser, "vocab", "resolution", "preprocessing", "templates", "classes")
    exif = "SavedModel: do not turn JPEGs upright by their EXIF orientation"
    add("--no-exif", action="store_true", default=None, help=exif)
    quantization = f"TFLite, or web page (no {INT8}); default: {DYNAMIC_INT8}"
    add("--quantization", choices=QUANTIZATIONS, help=quantization)
    oldest = f"TFLite: the oldest that the files are for (default: {NEWEST})"
    add("--min-runtime", choices=MIN_RUNTIMES, help=oldest)
    add("--batch", type=int, help="TFLite: a fixed batch size, 1 for a GPU or NPU; default: any")
    for name, text in (
        ("parts", "SavedModel: some of image,text (default) and tokens (text without a tokenizer)"),
        ("dtype", "SavedModel: precision, such as bfloat16"),
        ("title", "web page: its heading (default: the model's name)"),
        ("description", "web page: what search engines and messengers say of it"),
        ("author", "web page: who made it"),
        ("preview", "web page: picture FILE that messengers show (default: the first example)"),
        ("address", "web page: where it will be, such as https://example.org/pets/, for --preview"),
    ):
        add(f"--{name}", help=text)
    for name, metavar, text in (
        ("calibration", "GLOB", "TFLite int8: images like those that the device will see"),
        ("images", "GLOB", "web page: example pictures that it offers"),
        ("texts", "TEXT", "web page: its first sentences; @FILE stands for its lines"),
        ("runtime", "FILE", "web page: npm packages of its runtime, where npm cannot fetch them"),
    ):
        common.add_several(parser, f"--{name}", metavar, text)
    common.add(parser, "max-pixels", "strict", default=None)
    common.add(parser, "max-patches", "json")


_BAKED = ("classes", "templates", "max_patches")
# The options that only some kinds of export take.
_OPTIONS = {
    "onnx": ("max_patches",),
    "saved_model": ("parts", "dtype", "no_exif", "max_pixels", *_BAKED),
    "tflite": (
        *("quantization", "batch", "min_runtime", "calibration", "max_pixels", "strict"),
        *_BAKED,
    ),
    "web": (
        *("quantization", "images", "texts", "runtime", "title", "description", "author"),
        *("preview", "address", *_BAKED),
    ),
}


def run(args: argparse.Namespace) -> int:
    (kind,) = (name for name in _OPTIONS if getattr(args, name))
    for name in {option for options in _OPTIONS.values() for option in options}:
        if getattr(args, name) is not None and name not in _OPTIONS[kind]:
            raise ExportError(f"--{name} does not go with --{kind}".replace("_", "-"))
    outputs.check_output_folder(args.out, _inputs(args), replaced=True)
    import lit_tf
    from lit_tf.checkpoints import download

    source = download.resolve(args.model, with_vocab=args.vocab is None)
    how = {"resolution": args.resolution, "preprocessing": args.preprocessing}
    model = lit_tf.load(args.model, vocab=args.vocab, **how)
    values = {name: getattr(args, name) for name in _OPTIONS[kind]}
    given = {name: value for name, value in values.items() if value is not None}
    left_out = common.LeftOut()
    if args.classes:
        names, classifier = inputs.classes_or_classifier(args.classes)
        given["classes"] = classifier or names
    if args.saved_model:
        given["parts"] = args.parts.split(",") if args.parts else _all_parts(model)
        given["exif"] = not given.pop("no_exif", False)
    if args.tflite:
        given = {k: v for k, v in given.items() if k not in ("max_pixels", "strict")}
    if args.calibration:
        given["calibration"] = calibration_images(model, args, left_out)
    if args.images:
        given["images"] = inputs.matching_files(args.images)
    if args.texts:
        given["texts"] = inputs.texts(args.texts)
    export = getattr(importlib.import_module("lit_tf.export"), kind)
    measured = export(model, args.out, source=source, **given)
    if args.json:
        printing.print_json(measured | ({"left_out": left_out} if args.calibration else {}))
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
    most = MAX_PIXELS if args.max_pixels is None else args.max_pixels
    options = {"max_pixels": most, "max_patches": args.max_patches, "failed": failed}
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
