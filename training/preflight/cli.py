"""`lit-tf tpu-preflight`: whether a run compiles and fits, before a TPU is rented."""

import argparse
import concurrent.futures
import dataclasses
import itertools
import multiprocessing
import sys

from lit_tf.commands import common, printing
from lit_tf.errors import LitError, TrainingError

from ..config import add_config

FAILED, DOES_NOT_FIT = 1, 3  # exit codes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    table = "of several configs or topologies, a table in Markdown is printed, row by row"
    add_config(parser, nargs="+", more=f"; {table}")
    parser.add_argument(
        "--topology",
        nargs="+",
        default=["v4:2x2x4"],
        metavar="CHIP:SHAPE",
        help="chips and how they are connected: v4:2x2x4 (16 chips; default), v5e:4x4, ...",
    )
    parser.add_argument(
        "--what",
        choices=("train", "encode_image", "encode_text"),
        default="train",
        help="the train step (default), or a tower at inference",
    )
    parser.add_argument(
        "--batch", type=int, default=256, metavar="N", help="examples per chip at inference"
    )
    common.add(parser, "json")


def run(args) -> int:
    from . import report
    from .compiler import check_installed

    check_installed()
    jobs = list(itertools.product(args.config, args.topology))
    if len(jobs) > 1:
        return _table(args, jobs)
    found = preflight(*jobs[0], args.overrides, args.what, args.batch)
    if args.json:
        printing.print_json(dataclasses.asdict(found))
    else:
        print(report.as_text(found))
    return 0 if found.fits else DOES_NOT_FIT


def preflight(spec, topology, overrides=(), what="train", batch=256):
    """Returns the `Report` of what a config describes on a slice; `batch` is per chip."""
    from ..config import load_config
    from . import programs, report
    from .chips import parse_topology
    from .compiler import DoesNotFit, compile_stablehlo
    from .lowering import lower

    topology = parse_topology(topology)
    config = load_config(spec, overrides)
    if what == "train":
        program = programs.train_step(config, topology.chips)
        title, batch_size = spec, config.batch_size
    else:
        program = programs.encode(what, config, batch, topology.chips)
        title, batch_size = f"{spec} {what}", batch * topology.chips
    try:
        compiled = compile_stablehlo(lower(program.function, program.arguments), topology)
    except DoesNotFit as error:
        compiled = error
    return report.make_report(title, topology, batch_size, program, compiled)


def _table(args, jobs):
    """Compiles programs, prints each row or error as soon as it is known; returns the exit code."""
    from . import report

    values, codes = [], []
    for spec, topology in jobs:
        print(f"compiling {spec} for {topology} ...", file=sys.stderr, flush=True)
        try:
            found = run_apart(preflight, spec, topology, args.overrides, args.what, args.batch)
        except LitError as error:
            codes.append(FAILED)
            values.append({"title": spec, "topology": topology, "error": str(error)})
            reason = " ".join(str(error).split()).replace("|", "/")[:200]
            row = (f"`{spec}`", topology, "-", "-", f"does not compile: {reason}", "-")
        else:
            codes.append(0 if found.fits else DOES_NOT_FIT)
            values.append(dataclasses.asdict(found))
            row = report.as_row(found)
        heads = (report.COLUMNS, ["---"] * len(row)) if len(values) == 1 else ()
        if not args.json:
            for cells in (*heads, row):
                print(report.markdown_row(cells), flush=True)
    if args.json:
        printing.print_json(values)
    return min(filter(None, codes), default=0)


def run_apart(function, *args):
    """Returns function(*args) of a new process: the compiler keeps all programs in memory."""
    fresh = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=fresh) as pool:
        try:
            return pool.submit(function, *args).result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise TrainingError("the compiler ended without an answer; short of memory?") from error
