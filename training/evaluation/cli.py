"""`lit-tf eval`: evaluates a model by the published protocol."""

import argparse
import dataclasses
import json
import os
import pathlib
import sys

from lit_tf.commands import common, printing
from lit_tf.commands.inputs import checkpoint_files
from lit_tf.commands.outputs import check_output_files
from lit_tf.errors import ConfigError
from lit_tf.files import write_text
from lit_tf.images.formats import check_max_pixels

from ..config import load_config
from ..names import CLASS_ORDERS, add_strategy

# The datasets of big_vision's `lit_coco`, used unless the command line names others.
DEFAULT_ZERO_SHOT = ("imagenet2012",)
DEFAULT_RETRIEVAL = ("coco_captions",)
# For a config that names no datasets, such as `runlocal`: a smoke test on a few images.
TRIAL = (("imagenet2012:validation[:64]",), ("coco_captions:test[:64]",))

DEFAULT_BATCH_SIZE = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what to evaluate (one of)")
    what.add_argument("model", nargs="?", help="a published or embedded name, or a checkpoint")
    what.add_argument(
        "--config",
        metavar="NAME:ARGS",
        help="a training config with big_vision's arguments, such as "
        "lit_coco:txt=bert_base,img=B/16,img_head,init=LiT-B16B.npz",
    )
    what.add_argument("--saved-model", metavar="DIR", help="what `lit-tf export` wrote")
    what.add_argument("--tflite", metavar="DIR", help="what `lit-tf export --tflite` wrote")
    data = parser.add_argument_group("on what")
    data.add_argument(
        "--zero-shot",
        metavar="A,B",
        help="datasets to classify: NAME[:SPLIT] of tfds, or folders with one folder per class",
    )
    data.add_argument(
        "--retrieval",
        metavar="A,B",
        help="datasets to retrieve from: NAME[:SPLIT] of tfds, tables (.csv, .tsv, .jsonl, "
        ".parquet) with the columns image and caption, or shards as for training (.tar, .tfrecord, "
        ".parquet)",
    )
    data.add_argument(
        "--few-shot",
        metavar="A,B",
        help="datasets for few-shot accuracy on frozen features: NAME or NAME:TRAIN:TEST of tfds, "
        "or folders with the folders train and test",
    )
    data.add_argument(
        "--shots",
        default="1,5,10,25",
        metavar="A,B",
        help="examples of each class (default: 1,5,10,25)",
    )
    data.add_argument(
        "--templates",
        metavar="NAME|FILE",
        help="prompt templates: clip_paper (81, default), clip_best (8), class_name_only, or a "
        "file with one template per line",
    )
    data.add_argument(
        "--class-names",
        metavar="FILE|imagenet",
        help="names of the classes, one per line, in the order of the labels; for class folders "
        "also FOLDER<tab>NAME; by default the dataset's own",
    )
    data.add_argument(
        "--class-order",
        choices=CLASS_ORDERS,
        help="how class folders are sorted whose names are given in an order: class10 before "
        "class2, or after; folders 0, 1, ... are in their own",
    )
    data.add_argument("--data-dir", metavar="DIR", help="where tfds keeps its data")
    data.add_argument(
        "--exif",
        action="store_true",
        help="turn images as their EXIF orientation says, which the published protocol does not",
    )
    common.add(data, "max-pixels")
    how = parser.add_argument_group("how")
    common.add(how, "vocab", "resolution", "max-patches", "preprocessing", "dtype")
    how.add_argument("--batch-size", type=int, metavar="N", help="images at a time (default: 64)")
    add_strategy(how, "evaluate")
    out = parser.add_argument_group("output")
    out.add_argument("--json", metavar="FILE", help="write all figures as JSON")
    out.add_argument("--report", metavar="FILE.html", help="write an HTML page with examples")


def run(args: argparse.Namespace) -> int:
    _check(args)
    # Imported here, because `lit-tf --help` does not need TensorFlow.
    from ..distribution import strategies
    from . import few_shot, protocol
    from .captioned import open_captioned
    from .classification import open_classification
    from .images import Decoding
    from .text_cache import TextCache

    subject = _open(args)
    encoder, data_dir = subject.encoder, args.data_dir or subject.data_dir
    zero_shot = _names(args.zero_shot, subject.zero_shot, args.retrieval or args.few_shot)
    retrieval = _names(args.retrieval, subject.retrieval, args.zero_shot or args.few_shot)
    shots = args.shots.split(",")
    if not all(s.isdecimal() and int(s) for s in shots):
        raise ConfigError(f"--shots is {args.shots!r}; expected whole numbers, as in 1,5,10,25")
    if args.class_names and len(zero_shot) != 1:
        raise ConfigError("--class-names belongs to one dataset: give exactly one --zero-shot")
    decoding = Decoding(args.exif, check_max_pixels(args.max_pixels))
    how = {"data_dir": data_dir, "decoding": decoding}
    # All datasets are opened before anything is embedded, so a missing one is found in seconds.
    labelled = [
        open_classification(name, class_names=args.class_names, class_order=args.class_order, **how)
        for name in zero_shot
    ]
    captioned = [open_captioned(name, **how) for name in retrieval]
    few = [few_shot.open_few_shot(name, **how) for name in _names(args.few_shot, (), None)]
    photos = [path for data in (*labelled, *captioned, *sum(few, ())) for path in data.images.paths]
    check_output_files([args.json, args.report], photos)

    templates = args.templates or subject.templates
    shared = {"text_cache": TextCache(), "progress": True}
    results = [protocol.zero_shot(encoder, data, templates, **shared) for data in labelled]
    results += [protocol.retrieval(encoder, data, **shared) for data in captioned]
    results += [few_shot.measure(encoder, data, map(int, shots), progress=True) for data in few]
    if encoder.strategy is None or strategies.is_chief(encoder.strategy):
        _show(args, subject, results)  # every worker has the same figures, so only one prints
    return 0


def _check(args):
    sources = [s for s in (args.model, args.config, args.saved_model, args.tflite) if s]
    if len(sources) != 1:
        raise ConfigError(
            "name what to evaluate, and only one of: a model, --config, --saved-model, --tflite"
            + (f"; found {', '.join(sources)}" if sources else "")
        )
    if args.saved_model or args.tflite:
        for flag in ("vocab", "resolution", "max_patches", "preprocessing", "dtype"):
            if getattr(args, flag) is not None:
                flag = flag.replace("_", "-")
                raise ConfigError(f"--{flag} was fixed when the model was exported")
    check_output_files([args.json, args.report], _inputs(args))


def _inputs(args):
    found = [args.vocab, args.templates, args.class_names]
    if args.model:
        found += checkpoint_files(args.model)
    if args.config:
        found.append(args.config.partition(":")[0])
        init = load_config(args.config).model.init
        found += checkpoint_files(init) if init else []
    for names in (args.zero_shot, args.retrieval, args.few_shot):
        found += names.split(",") if names else []
    for folder in filter(None, (args.saved_model, args.tflite)):
        # All files of an export. Other JSON and HTML files may be earlier outputs of this command.
        files, outputs = pathlib.Path(folder).rglob("*"), (".json", ".html")
        found += [p for p in files if p.name == "lit_manifest.json" or p.suffix not in outputs]
    return found


def _show(args, subject, results):
    from . import published

    rows = published.comparison(subject.published, results)
    table = published.as_table(rows)
    printing.print_table(table, right=range(3, len(table[0])), ruled=True)
    for result in results:
        for note in result.notes:
            print(f"{result.dataset}: {note}")
    if args.json:
        answer = {"model": subject.title, "rows": rows, "results": [r.to_dict() for r in results]}
        write_text(args.json, json.dumps(answer, indent=2) + "\n")
        print(f"figures: {args.json}", file=sys.stderr)
    if args.report:
        from . import report

        report.write_report(args.report, subject.title, table, results)
        print(f"report: {args.report}", file=sys.stderr)


def _names(argument, default, other):
    """Returns the datasets of one kind. The default applies only if neither kind is asked for."""
    if argument is None:
        return () if other is not None else default
    names = tuple(name for name in argument.split(",") if name)
    if not names:
        raise ConfigError("expected the names of datasets, joined by commas")
    return names


@dataclasses.dataclass
class _Subject:
    encoder: object
    title: str
    published: str | None
    zero_shot: tuple[str, ...] = DEFAULT_ZERO_SHOT
    retrieval: tuple[str, ...] = DEFAULT_RETRIEVAL
    templates: str = "clip_paper"
    data_dir: str | None = None


def _open(args):
    from ..distribution import strategies

    if args.saved_model or args.tflite:
        return _open_exported(args)
    strategy = strategies.of_arguments(args)
    if args.config:
        return _open_config(args, strategy)
    return _open_checkpoint(args.model, args, strategy)


def _open_exported(args):
    from . import artefacts, published

    folder = args.saved_model or args.tflite
    kind = artefacts.SavedModelEncoder if args.saved_model else artefacts.TFLiteEncoder
    encoder = kind(folder, args.batch_size or DEFAULT_BATCH_SIZE)
    title = f"{encoder.model_name} ({encoder.name}, {folder})"
    return _Subject(encoder, title, published.published_name(encoder.model_name))


def _open_checkpoint(source, args, strategy):
    import lit_tf

    from . import encoders, published

    overrides = {k: getattr(args, k) for k in ("vocab", "resolution", "dtype", "preprocessing")}
    with strategy.scope():
        model = lit_tf.load(source, **overrides)
    name = published.published_name(source, args.resolution)
    how = (strategy, args.batch_size or DEFAULT_BATCH_SIZE, args.max_patches)
    encoder = encoders.KerasEncoder(model, *how)
    return _Subject(encoder, str(source), name)


def _open_config(args, strategy):
    from . import published

    config = load_config(args.config)
    source = config.model.init
    if not source:
        raise ConfigError(f"--config {args.config}: nothing to evaluate without init=CHECKPOINT")
    name = published.published_name(source)
    if name and not os.path.exists(source):
        source = name  # people write init=LiT-B16B.npz and mean the published file
    args.vocab = args.vocab or config.model.vocab
    args.resolution = args.resolution or config.model.resolution
    args.batch_size = args.batch_size or config.eval.batch_size
    subject = _open_checkpoint(source, args, strategy)
    _check_towers(subject.encoder.model.config, config, args.config)
    zero_shot, retrieval = config.eval.zero_shot, config.eval.retrieval
    if not (zero_shot or retrieval):
        zero_shot, retrieval = TRIAL
    how = {"templates": config.eval.templates, "data_dir": config.eval.data_dir}
    return dataclasses.replace(subject, zero_shot=zero_shot, retrieval=retrieval, **how)


def _check_towers(found, config, spec):
    """Refuses a checkpoint whose model differs from the config's."""
    from ..towers import lit_config

    wanted, differences = lit_config(config), []
    for tower, sizes in (
        ("image", ("patch_size", "width", "depth", "num_heads", "mlp_dim", "pool")),
        ("text", ("kind", "width", "depth", "num_heads", "mlp_dim")),
    ):
        a, b = getattr(wanted, tower), getattr(found, tower)
        if b is None:
            raise ConfigError(f"{config.model.init} has no {tower} tower")
        pairs = [(size, getattr(a, size), getattr(b, size)) for size in sizes]
        differences += [f"{tower} {size} {x}, not {y}" for size, x, y in pairs if x != y]
    if wanted.token_length != found.token_length:
        differences.append(f"{wanted.token_length} tokens, not {found.token_length}")
    if (wanted.image.out_dim is None) != (found.image.out_dim is None):
        has = "no image head, the checkpoint has one (say img_head)"
        lacks = "an image head, the checkpoint has none (leave out img_head)"
        differences.append(lacks if wanted.image.out_dim else has)
    if differences:
        said = "; ".join(differences)
        raise ConfigError(f"--config {spec} says {said}: {config.model.init} is another model")
