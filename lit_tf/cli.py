"""The command line, `lit-tf`: the parser, the table of subcommands, errors and exit codes.

A subcommand is a module with `add_arguments(parser)` and `run(args) -> int`, and a line in
`COMMANDS`. Only the module of the subcommand that runs is imported: TensorFlow takes seconds, and
export and training need packages that the library does not.
"""

import argparse
import importlib
import importlib.metadata
import io
import os
import platform
import sys
import traceback

from lit_tf import __version__
from lit_tf.errors import LitError, plain
from lit_tf.files import disk_error, printable
from lit_tf.serialized import lighten_keras

ERROR = 2  # exit code of what the user can put right; argparse's, too
BUG = 1  # exit code of what is ours
INTERRUPTED = 130  # exit code of Ctrl-C, as shells have it

# name -> (help, module)
COMMANDS = {
    "models": ("list the published and embedded models", "lit_tf.commands.models"),
    "info": ("what a checkpoint holds, and what it lacks", "lit_tf.commands.info"),
    "embed": ("embeddings of images or texts, into a file", "lit_tf.commands.embed"),
    "classify": ("which class fits each image", "lit_tf.commands.classify"),
    "adapt": ("a classifier of a few of your own pictures", "lit_tf.commands.adapt"),
    "compare": ("which text fits which image; with --plot as a picture", "lit_tf.commands.compare"),
    "explain": ("which parts of a picture speak for a text", "lit_tf.commands.explain"),
    "index": ("an index of the pictures in folders", "lit_tf.commands.index"),
    "search": ("find indexed pictures by words, or by pictures", "lit_tf.commands.search"),
    "browse": ("a local page to search indexed pictures with", "lit_tf.commands.browse"),
    "convert": ("write a checkpoint in another published layout", "lit_tf.commands.convert"),
    "export": ("SavedModels to serve, TFLite graphs for devices, web pages", "lit_tf.export.cli"),
    "serve-web": ("show a web page that export --web wrote", "lit_tf.export.web.serve"),
    "train": ("tune a text tower to a locked image tower", "lit_tf.training.cli"),
    "eval": ("zero-shot accuracy and retrieval, as published", "lit_tf.training.evaluation.cli"),
    "precompute": ("embed images once, to train on embeddings", "lit_tf.training.precompute.cli"),
    "tpu-preflight": ("whether a run fits on a TPU, without one", "lit_tf.training.preflight.cli"),
}

# Arguments of any number, which Python before 3.12.8 and 3.13.1 gives nothing behind an option.
ANY_NUMBER = {"index": "sources", "search": "texts"}
# What an interrupted command has kept; others have written nothing.
KEPT = {
    "index": "pictures that were embedded are in the index; the same command goes on",
    "precompute": "shards that were finished are kept; the same command goes on",
    "search": "copies that were finished are kept; the same command goes on",
    "train": "the checkpoints in its workdir are kept; the same command goes on",
}


class _Version(argparse.Action):
    """Prints the versions that a bug report needs; reads them without importing anything."""

    def __call__(self, parser, namespace, values, option_string=None):
        print(f"lit_tf {__version__}")
        for package in ("tensorflow", "tensorflow-text", "keras", "ai-edge-litert", "numpy"):
            try:
                print(f"{package} {importlib.metadata.version(package)}")
            except importlib.metadata.PackageNotFoundError:
                print(f"{package} is not installed")
        print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
        parser.exit()


def build_parser(command: str | None) -> argparse.ArgumentParser:
    """Returns the parser, complete for one subcommand only."""
    parser = argparse.ArgumentParser(
        prog="lit-tf",
        description="LiT (Locked-image text Tuning) for TensorFlow.",
        epilog="`lit-tf COMMAND --help` explains a command.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="versions of lit_tf and more")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (text, path) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name == command:
            module = importlib.import_module(path)
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
        sub.add_argument("--debug", action="store_true", help="show where an error came from")
        sub.set_defaults(refuse=sub.error)
    return parser


def _make_printable():
    """Lets both outputs take any text. Output to a closed stream is discarded.

    What an output's encoding lacks is escaped: bytes of a file name that are not UTF-8, or all but
    ASCII in the C locale.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started this process
            setattr(sys, name, open(os.devnull, "w"))
        elif isinstance(stream, io.TextIOWrapper):  # tests put others there
            stream.reconfigure(errors="backslashreplace")


def main(argv=None) -> int:
    """Runs the command line; returns its exit code, also of errors and of Ctrl-C."""
    argv = list(sys.argv[1:] if argv is None else argv)
    _make_printable()
    lighten_keras()
    # lit_tf runs on TensorFlow, whatever this machine's other programs use.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    debug = "--debug" in argv
    if not debug:
        # Nobody wants to read a log line for every device that is not there.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    command = next((a for a in argv if not a.startswith("-")), None)
    try:
        args, unknown = build_parser(command).parse_known_args(argv)
        if unknown and command in ANY_NUMBER and not any(a.startswith("-") for a in unknown):
            getattr(args, ANY_NUMBER[command]).extend(unknown)
            unknown = []
        if unknown:  # argparse itself would show the usage of lit-tf, not of the subcommand
            args.refuse(f"unrecognized arguments: {' '.join(unknown)}")
        code = args.run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        kept = KEPT.get(command or "", "no output was written")
        print(f"lit-tf: interrupted: {kept}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `lit-tf models | head`
        _discard_output()
        return 0
    except Exception as e:
        if debug:
            traceback.print_exc()
        users = _user_error(e)
        what = users or f"{type(e).__name__}: {e}"
        hint = "" if users or debug else " (unexpected; --debug shows where)"
        print(f"lit-tf: error: {plain(what)}{hint}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:  # it is on a full disk
            _discard_output()
        return ERROR if users else BUG


def _user_error(error):
    """Returns the message of an error that the user can mend, or None for a bug of ours."""
    if isinstance(error, LitError):
        return str(error)
    if isinstance(error, OSError) or disk_error(error):
        return f"{type(error).__name__}: {error}"
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        return f"{printable(error.object[:200])} is not UTF-8 text, which is needed here"
    return None


def _discard_output():
    """Discards what could not be printed; otherwise Python would try to print it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
