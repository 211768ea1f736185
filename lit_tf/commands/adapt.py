"""`lit-tf adapt`: a classifier of a handful of one's own pictures, mixed with their names."""

import argparse
import os
import pathlib

import numpy as np

from lit_tf.commands import common, outputs
from lit_tf.errors import ConfigError, DataError
from lit_tf.images.formats import IMAGE_SUFFIXES

_MANY = 4  # held-out pictures a class; of fewer, the share is chosen by cross-validation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `lit-tf adapt`."""
    common.add_model(parser)
    parser.add_argument("folder", metavar="FOLDER", help="one folder of pictures for each class")
    parser.add_argument(
        "--shots", type=int, default=20, metavar="N", help="pictures of each class (default 20)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of their choice (default 0)")
    parser.add_argument(
        "--class-names",
        metavar="FILE",
        help="what the classes are called, one per line, in the order of the folders' names; by "
        "default the folders' names",
    )
    parser.add_argument(
        "--templates", default="clip_best", metavar="NAME|FILE", help="as for classify"
    )
    parser.add_argument(
        "--out", metavar="NAME.npz", help="where to write the mixed classifier, for --classes"
    )
    common.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints zero-shot, few-shot and mixed accuracy; writes the mixed classifier."""
    if args.shots < 1:
        raise ConfigError(f"--shots is {args.shots}; expected at least 1")
    if args.out and not args.out.endswith(".npz"):
        raise ConfigError(f"--out {args.out}: expected a name that ends in .npz")
    names, paths, labels = _pictures(args.folder)
    if args.class_names:
        names = common.class_names(args.class_names) if "," not in args.class_names else []
        if len(names) != labels.max() + 1:
            raise DataError(
                f"--class-names has {len(names)} names, but there are {labels.max() + 1} folders"
            )
    inputs = [*common.checkpoint_files(args.checkpoint, args.vocab), *paths]
    outputs.check_output_files([args.out], inputs)
    from lit_tf import few_shot, zero_shot

    model = common.load(args)
    classes = zero_shot.class_embeddings(model.encode_text, names, args.templates)
    zimg = common.encode_images(model, paths, args)
    chosen = few_shot.choose(labels, args.shots, args.seed)
    rest = np.setdiff1d(np.arange(len(labels)), chosen)
    # Of what is left, one half chooses the share and the other measures.
    many = len(rest) >= 2 * _MANY * len(names)
    choosing, measuring = (rest[::2], rest[1::2]) if many else (rest[:0], rest)
    made = few_shot.adapt(
        *(zimg[chosen], labels[chosen], classes, names, model.temperature),
        held_out=(zimg[choosing], labels[choosing]) if many else None,
        tower=model.fingerprint("img/"),
    )
    found = {
        kind: float((c.logits(zimg[measuring]).argmax(axis=1) == labels[measuring]).mean())
        if len(measuring)
        else c.accuracy
        for kind, c in made.items()
    }
    if args.out:
        made["mixed"].save(args.out)
    answer = {"accuracy": found, "share": made["mixed"].share, "images": len(measuring)}
    if args.json:
        common.print_json({**answer, "classes": names, "chosen": len(chosen)})
        return 0
    common.print_table([("", "accuracy"), *((k, f"{100 * v:.1f} %") for k, v in found.items())])
    where = f"{len(measuring)} other pictures" if len(measuring) else "cross-validation"
    print(
        f"\n{len(chosen)} pictures of {len(names)} classes; measured by {where}. The mixed "
        f"classifier is {100 * answer['share']:.0f} % pictures, the rest is names."
    )
    if args.out:
        print(f"Wrote {args.out}: lit-tf classify ... --classes {args.out}")
    return 0


def _pictures(folder):
    """Returns class names, the paths of all pictures, and their labels int64 (N,)."""
    root = pathlib.Path(folder)
    if not root.is_dir():
        raise DataError(f"{folder} is not a folder")
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith((".", "@")))
    paths, labels, names = [], [], []
    for path in folders:
        found = sorted(
            os.path.join(where, name)
            for where, _, files in os.walk(path)
            for name in files
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
        )
        if not found:
            raise DataError(f"{path} holds no picture ({', '.join(IMAGE_SUFFIXES)})")
        labels += [len(names)] * len(found)
        names.append(path.name)
        paths += found
    if len(names) < 2:
        raise DataError(f"{folder} holds {len(names)} folders; expected one for each class")
    return names, paths, np.array(labels)
