"""`lit-tf index`: an index of the pictures in folders, to be searched by words."""

import argparse
import dataclasses
import importlib
import os
import sys

from lit_tf.commands import common, inputs, outputs, printing
from lit_tf.errors import ConfigError
from lit_tf.files import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    common.add_model(parser)
    add("sources", nargs="*", metavar="FOLDER", help="folders, pictures, or patterns of either")
    add("--db", required=True, metavar="DIR", help="folder of the index, such as pictures.lance")
    exclude = "names to pass over, or paths with a slash"
    common.add_several(parser, "--exclude", "PATTERN", exclude, default=[])
    for name, text in (
        ("prune", "delete pictures that are gone, unless nothing is left of their folder"),
        ("prune-all", "delete all that are gone; without their drive, whole folders are"),
        ("reembed", "embed all anew, by another model or tower; until then the old ones answer"),
    ):
        add(f"--{name}", action="store_true", help=text)
    common.add(parser, "int8", "engine", "engine-options", "json")


def run(args: argparse.Namespace) -> int:
    """Runs `lit-tf index`; run it again to add what is new, or after an interruption."""
    read = [*inputs.checkpoint_files(args.checkpoint, args.vocab), *args.sources]
    outputs.check_output_folder(args.db, read)
    from lit_tf.search import index
    from lit_tf.search.paths import Source

    sources = [Source.of(source) for source in args.sources]
    for path in map(os.path.abspath, filter(os.path.isdir, args.exclude)):
        if not any(source.covers(path) for source in sources):
            what = f"--exclude took {printable(path)}, which is in no folder to index"
            others = f"'*/{printable(os.path.basename(path))}' for folders of this name everywhere"
            raise ConfigError(f"{what}: write all FOLDERs before --exclude, or {others}")
    if not args.sources and not args.reembed:
        raise ConfigError("no folder of pictures was given")
    embed = None
    if args.engine == "beam":
        beam = importlib.import_module("lit_tf.training.precompute.pictures")
        embed = beam.engine(args.db, common.engine_options(args))
    elif args.engine_options:
        raise ConfigError("--engine-options belong to --engine beam")
    names = {field.name for field in dataclasses.fields(index.Settings)} - {"int8"}
    options = {name: getattr(args, name) for name in names}
    settings = index.Settings(**options, int8=common.int8_images(args))
    how = {name: getattr(args, name) for name in ("prune", "prune_all", "exclude", "reembed")}
    how["progress"] = lambda total: printing.progress("picture", total=total)
    report = index.update(args.db, args.sources, settings, embed=embed, **how)
    _print(args, report)
    return 0


def _print(args, report):
    if args.json:
        value = {**vars(report), "others": sum(report.passed_over.values())}
        for name in ("failures", "problems"):
            value[name] = [{"path": path, "reason": reason} for path, reason in value[name]]
        printing.print_json(value)
        return
    printing.report_walk(report)
    for _, reason in report.failures:
        print(f"not a picture: {reason}", file=sys.stderr)
    unchanged = report.found - report.new - report.changed
    print(
        f"{report.found} pictures: {report.new} new, {report.changed} changed, {unchanged} as "
        f"before; {report.embedded} embedded, {len(report.failures)} could not be read"
    )
    if report.moved:
        print(f"{report.moved} only moved, and kept their embedding")
    if report.deleted:
        print(f"{report.deleted} are gone from the folders and were deleted")
    elif report.gone:
        print(f"{len(report.gone)} are gone from the folders; --prune deletes them from the index")
    for place, count in () if args.prune_all else report.doubtful.items():
        print(f"{count} were in {printable(place)}, where nothing is left", end=". ")
        print("If its drive is mounted, --prune-all deletes them from the index")
    print(f"{args.db}: {report.rows} pictures")
