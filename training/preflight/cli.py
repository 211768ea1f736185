"""`lit-tf tpu-preflight`: whether a run compiles and fits, before a TPU is rented."""

import argparse
import concurrent.futures
import dataclasses
import json
import multiprocessing
import sys

from lit_tf.errors import ConfigError, LitError, TrainingError

FAILED, DOES_NOT_FIT = 1, 3  # exit codes

# Every shipped config, on slices of the sizes that people rent for it.
SHIPPED = (
    ("lit_coco:txt=bert_base,img=B/16", ("v4:2x2x4", "v5e:4x4")),
    ("siglit_coco:txt=bert_base,img=B/16", ("v4:2x2x4", "v5e:4x4")),
    ("lit_coco:txt=bert_large,img=L/16", ("v4:2x2x4", "v5e:4x8")),
    ("siglit_coco:txt=bert_base,img=SigLIP2-B16-256", ("v5e:4x4", "v6e:4x4")),
    ("siglit_coco:txt=bert_base,img=SigLIP2-So400m14-384", ("v5e:4x8", "v6e:4x8")),
    ("digits", ("v4:2x2x1", "v5e:2x4")),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `lit-tf tpu-preflight`."""
    what = parser.add_argument_group("what to compile")
    source = what.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--config",
        metavar="NAME:ARGS",
        help="a training config, such as lit_coco:txt=bert_base,img=B/16,batch_size=4096",
    )
    source.add_argument(
        "--shipped",
        action="store_true",
        help="every shipped config on v4, v5e or v6e, as a table in Markdown",
    )
    what.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a field of the config, as in `lit-tf train`",
    )
    what.add_argument(
        "--what",
        choices=("train", "encode_image", "encode_text"),
        default="train",
        help="the train step (default), or a tower at inference",
    )
    what.add_argument(
        "--batch", type=int, default=256, metavar="N", help="examples per chip at inference"
    )
    where = parser.add_argument_group("for what")
    where.add_argument(
        "--topology",
        metavar="CHIP:SHAPE",
        help="chips and how they are connected: v4:2x2x4 (16 chips; default), v5e:4x4, ...",
    )
    where.add_argument(
        "--sweep",
        metavar="batch_size=N,N,...",
        help="compile for several global batches, and say which is the largest that fits",
    )
    how = parser.add_argument_group("output")
    how.add_argument("--json", action="store_true", help="print JSON")


def run(args) -> int:
    """Runs `lit-tf tpu-preflight`.

    Returns:
        0 if the program compiles and fits (of a sweep, at least one), 3 if it does not fit, 1 if a
        shipped config does not compile.
    """
    from . import report
    from .compiler import check_installed

    _check_combination(args)
    check_installed()
    if args.shipped:
        return _shipped(args)
    args.topology = args.topology or "v4:2x2x4"
    if args.sweep:
        reports = []
        for batch_size in _sweep(args.sweep):
            print(f"compiling batch_size={batch_size:,} ...", file=sys.stderr)
            overrides = [*args.set, f"batch_size={batch_size}"]
            reports.append(run_apart(preflight, args.config, args.topology, overrides))
        show = _as_sweep
    else:
        reports = [
            preflight(args.config, args.topology, args.set, what=args.what, batch=args.batch)
        ]
        show = lambda reports: report.as_text(reports[0])  # noqa: E731
    if args.json:
        values = [dataclasses.asdict(r) for r in reports]
        print(json.dumps(values if args.sweep else values[0], indent=2))
    else:
        print(show(reports))
    fits = [r.fits for r in reports]
    return 0 if (any(fits) if args.sweep else all(fits)) else DOES_NOT_FIT


def preflight(spec, topology, overrides=(), *, what="train", batch=256):
    """Compiles what a config describes for a slice, and returns the `Report`.

    Args:
        spec: "NAME:ARGS", as for `--config`.
        topology: "CHIP:SHAPE".
        overrides: "FIELD=VALUE", as for `--set`.
        what: "train", "encode_image" or "encode_text".
        batch: examples per chip, at inference.

    Raises:
        ConfigError: the config is wrong, or that many chips cannot share its batch.
        TrainingError: the program needs an op that TPUs lack, or the compiler refuses it.
    """
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
        program = getattr(programs, what)(config, batch, topology.chips)
        title, batch_size = f"{spec} {what}", batch * topology.chips
    about = {"sizes": program.sizes, "model_flops": program.model_flops}
    stablehlo = lower(program.function, program.arguments)
    try:
        compiled = compile_stablehlo(stablehlo, topology, replicas=topology.chips)
    except DoesNotFit as error:
        return report.does_not_fit(title, topology, batch_size, error, **about)
    return report.make_report(title, topology, batch_size, compiled, **about)


def _check_combination(args):
    if args.shipped and (args.topology or args.sweep or args.what != "train"):
        raise ConfigError("--shipped has its own topologies, and compiles train steps only")
    if args.sweep and args.what != "train":
        raise ConfigError(f"--sweep compiles train steps only; for --what {args.what}, use --batch")


def _shipped(args):
    """Compiles every shipped config, and prints each row as soon as it is known.

    The error of a config that fails becomes its row, so the other rows are not lost.
    """
    from .report import as_row, failed_row, markdown_head, markdown_row

    values, bad = [], []
    if not args.json:
        print(markdown_head(), flush=True)
    for spec, topologies in SHIPPED:
        for topology in topologies:
            print(f"compiling {spec} for {topology} ...", file=sys.stderr, flush=True)
            try:
                report = run_apart(preflight, spec, topology, args.set)
            except LitError as error:
                bad.append(FAILED)
                values.append({"title": spec, "topology": topology, "error": str(error)})
                row = failed_row(spec, topology, error)
            else:
                if not report.fits:
                    bad.append(DOES_NOT_FIT)
                values.append(dataclasses.asdict(report))
                row = as_row(report)
            if not args.json:
                print(markdown_row(row), flush=True)
    if args.json:
        print(json.dumps(values, indent=2))
    return min(bad, default=0)


def run_apart(function, *args, **kwargs):
    """Returns function(*args, **kwargs), called in a process of its own.

    The compiler keeps memory of every program that it has seen: gigabytes after a few of them.
    """
    fresh = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=fresh) as pool:
        try:
            return pool.submit(function, *args, **kwargs).result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise TrainingError(
                "the compiler's process ended without an answer; is memory short?"
            ) from error


def _sweep(text):
    field, _, values = text.partition("=")
    if field != "batch_size" or not all(v.isdigit() for v in values.split(",")):
        raise ConfigError(f"--sweep {text!r}: expected batch_size=N,N,...")
    return sorted({int(v) for v in values.split(",")})


def _as_sweep(reports):
    from .report import as_markdown

    fitting = [r.batch_size for r in reports if r.fits]
    verdict = (
        f"the largest of these that fits on {reports[0].topology} is {max(fitting):,}"
        if fitting
        else f"none of these fits on {reports[0].topology}"
    )
    return f"{as_markdown(reports)}\n\n{verdict}"
