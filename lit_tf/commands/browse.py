"""`lit-tf browse`: a local page to look through an index of pictures."""

import argparse
import webbrowser

from lit_tf.commands import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("db", metavar="DB", help="folder that `lit-tf index` wrote")
    add("--port", type=int, default=0, help="default: a free one")
    add("--no-open", action="store_true", help="do not open the page in a browser")
    common.add(parser, "model")


def run(args: argparse.Namespace) -> int:
    """Runs `lit-tf browse`, until Ctrl-C."""
    from lit_tf import search
    from lit_tf.search import browse

    def started(url):
        print(f"{url}\nOnly this machine reaches this address. Ctrl-C ends the page.", flush=True)
        if not args.no_open:
            webbrowser.open(url)

    searcher = search.open(args.db, args.model)
    searcher.text("warm", top=1)  # the first question loads and compiles the model
    browse.serve(searcher, args.port, started)
    return 0
