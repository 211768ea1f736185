"""`lit-tf index`: an index of the pictures in folders, to be searched by words."""

import argparse
import importlib
import sys

from lit_tf.commands import common, outputs
from lit_tf.errors import ConfigError

# How pictures are embedded by other processes: engine -> (module, function of its options).
_ENGINES = {"beam": ("lit_tf.training.precompute.pictures", "engine")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `lit-tf index`."""
    common.add_model(parser)
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="FOLDER",
        help="folders with pictures, pictures, or patterns of either",
    )
    parser.add_argument(
        "--db", required=True, metavar="DIR", help="folder of the index, such as pictures.lance"
    )
    parser.add_argument(
        "--prune", action="store_true", help="delete pictures that are gone from the folders"
    )
    common.add_engine(
        parser, "local: this process embeds; beam: the workers of an Apache Beam pipeline do"
    )
    common.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Runs `lit-tf index`; run it again to add what is new, or after an interruption."""
    inputs = [*common.checkpoint_files(args.checkpoint, args.vocab), *args.sources]
    outputs.check_output_folder(args.db, inputs)
    from lit_tf.search import index

    embed = None
    if args.engine in _ENGINES:
        module, name = _ENGINES[args.engine]
        embed = getattr(importlib.import_module(module), name)(args.db, common.engine_options(args))
    elif args.engine_options:
        raise ConfigError("--engine-options belong to --engine beam")
    settings = index.Settings(
        args.checkpoint,
        args.vocab,
        args.resolution,
        args.dtype,
        args.batch_size,
        args.max_pixels,
    )
    report = index.update(
        args.db,
        args.sources,
        settings,
        prune=args.prune,
        embed=embed,
        progress=lambda total: common.progress("picture", total=total),
    )
    _print(args, report)
    return 0


def _print(args, report):
    from lit_tf.files import printable

    if args.json:
        counts = ("found", "new", "changed", "embedded", "deleted", "others", "rows")
        value = {name: getattr(report, name) for name in counts}
        for name in ("failures", "problems"):
            pairs = getattr(report, name)
            value[name] = [{"path": path, "reason": reason} for path, reason in pairs]
        common.print_json({**value, "gone": report.gone})
        return
    for path, reason in report.problems:
        print(f"left out: {printable(path)}: {reason}", file=sys.stderr)
    for _, reason in report.failures:
        print(f"not a picture: {reason}", file=sys.stderr)
    unchanged = report.found - report.new - report.changed
    print(
        f"{report.found} pictures: {report.new} new, {report.changed} changed, {unchanged} as "
        f"before; {report.embedded} embedded, {len(report.failures)} could not be read"
    )
    if report.deleted:
        print(f"{report.deleted} are gone from the folders and were deleted")
    elif report.gone:
        print(f"{len(report.gone)} are gone from the folders; --prune deletes them from the index")
    print(f"{args.db}: {report.rows} pictures")
