"""`lit-tf search`: the pictures of an index that fit a text, or look like a picture."""

import argparse
import os
import sys

from lit_tf.commands import common, inputs, outputs, printing
from lit_tf.errors import ConfigError
from lit_tf.files import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("db", metavar="DB", help="folder that `lit-tf index` wrote")
    add("texts", nargs="*", metavar="TEXT", help="what the pictures show; several are averaged")
    like = "pictures that they look like"
    common.add_several(parser, "--like", "IMAGE", like, default=[])
    common.add_several(parser, "--minus", "TEXT", "what they do not show", default=[])
    common.add(parser, "templates")
    add("--top", type=int, default=20, help="pictures to find (default 20)")
    add(
        "--where",
        metavar="SQL",
        help="only pictures whose columns fit (taken, width, height, size, mtime, path), such as "
        "\"taken > '2020' AND width > height\"",
    )
    add("--exact", action="store_true", help="compare with every picture, without an index of them")
    add("--html", metavar="FILE", help="write a page of thumbnails")
    add("--copy-to", metavar="DIR", help="copy the pictures that were found")
    common.add(parser, "model")
    printed = parser.add_mutually_exclusive_group()
    paths0 = "print paths only, ended by NUL, for xargs -0"
    printed.add_argument("--paths0", action="store_true", help=paths0)
    common.add(printed, "json")


def run(args: argparse.Namespace) -> int:
    if not args.texts and not args.like:
        raise ConfigError("there is no question: expected a TEXT or --like IMAGE")
    if args.html:
        read = inputs.checkpoint_files(args.model) if args.model else []
        outputs.check_output_files([args.html], [args.db, args.templates, *args.like, *read])
    from lit_tf import search

    pictures = search.open(args.db, args.model)
    how = {name: getattr(args, name) for name in ("minus", "templates", "top", "exact", "where")}
    found = pictures.find(texts=args.texts, images=args.like, **how)
    if args.html:
        from lit_tf.search.page import write_page

        store = pictures.store
        write_page(args.html, _question(args), found, store.rows, store.model.checkpoint)
    answer = [{k: v for k, v in vars(p).items() if k != "thumbnail"} for p in found]
    value = {"question": _question(args), "found": answer}
    if args.copy_to:
        from lit_tf.search.copies import copy_pictures

        failures = copy_pictures([picture.path for picture in found], args.copy_to)
        value["left_out"] = [{"path": path, "reason": reason} for path, reason in failures]
        for path, reason in failures:
            print(f"not copied: {printable(path)}: {reason}", file=sys.stderr)
    if args.json:
        printing.print_json(value)
    elif args.paths0:
        sys.stdout.buffer.write(b"".join(os.fsencode(p.path) + b"\0" for p in found))
    else:
        _print_table(args, found)
    return 0


def _question(args):
    """Returns the question in words."""
    words = " + ".join([*args.texts, *(f"like {printable(path)}" for path in args.like)])
    return " - ".join([words, *args.minus])


def _print_table(args, found):
    match = any(picture.match is not None for picture in found)
    rows = [("", "score", *(["match"] if match else []), "taken", "picture")]
    for rank, picture in enumerate(found, 1):
        chance = [f"{100 * picture.match:.1f} %"] if match else []
        day = (picture.taken or "")[:10]
        rows.append((f"{rank}.", f"{picture.score:+.3f}", *chance, day, picture.path))
    if found:
        printing.print_table(rows, right=(0, 1, 2) if match else (0, 1))
    else:
        print("No picture fits.")
    if args.html:
        print(f"Page: {args.html}")
    if args.copy_to:
        print(f"Copies: {args.copy_to}")
