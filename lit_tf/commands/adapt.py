"""`lit-tf adapt`: a classifier of a handful of one's own pictures, mixed with their names."""

import argparse
import pathlib

import numpy as np

from lit_tf.commands import common, outputs, printing
from lit_tf.commands.inputs import checkpoint_files
from lit_tf.errors import ConfigError, DataError, positive_integer
from lit_tf.images.formats import is_systems
from lit_tf.search.paths import Walk

_MANY = 4  # held-out pictures a class; of fewer, the share is chosen by cross-validation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    common.add_model(parser)
    add("folder", metavar="FOLDER", help="a folder of pictures for each class")
    add("--shots", type=int, default=20, help="pictures of each class (default 20)")
    add("--seed", type=int, default=0, help="of their choice (default 0)")
    common.add(parser, "templates", default="clip_best")
    add("--out", metavar="NAME.npz", help="mixed classifier, for --classes")
    common.add(parser, "strict", "json")


def run(args: argparse.Namespace) -> int:
    """Prints zero-shot, few-shot and mixed accuracy; writes the mixed classifier."""
    positive_integer(args.shots, "--shots", ConfigError)
    if args.out and not args.out.endswith(".npz"):
        raise ConfigError(f"--out {args.out}: expected a name that ends in .npz")
    names, paths, labels, walk = _pictures(args.folder)
    outputs.check_output_files([args.out], [*checkpoint_files(args.checkpoint, args.vocab), *paths])
    from lit_tf import few_shot, zero_shot

    model = common.load(args)
    classes = zero_shot.class_embeddings(model.encode_text, names, args.templates)
    readable, zimg, left_out = common.encode_images(model, paths, args)
    labels = labels[np.isin(paths, readable)]
    if lost := set(range(len(names))).difference(labels):
        raise DataError(f"not one picture of {names[min(lost)]} can be read")
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
    found = {kind: classifier.accuracy for kind, classifier in made.items()}
    for kind, classifier in made.items() if len(measuring) else ():
        right = classifier.logits(zimg[measuring]).argmax(axis=1) == labels[measuring]
        found[kind] = float(right.mean())
    if args.out:
        made["mixed"].save(args.out)
    answer: dict = {"accuracy": found, "share": made["mixed"].share, "images": len(measuring)}
    if args.json:
        answer |= {"classes": names, "chosen": len(chosen), "left_out": left_out}
        printing.print_json(answer | {"passed_over": walk.passed_over})
        return 0
    printing.print_table([("", "accuracy"), *((k, f"{100 * v:.1f} %") for k, v in found.items())])
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
    walk, found = Walk(), {}
    for path in filter(pathlib.Path.is_dir, sorted(pathlib.Path(folder).glob("[!.]*"))):
        if not is_systems(path.name) and (paths := sorted(walk.pictures([path]))):
            found[path.name] = paths
    printing.report_walk(walk)
    if len(found) < 2:
        raise DataError(f"{folder} holds {len(found)} folders with pictures; expected one a class")
    counts = [len(paths) for paths in found.values()]
    return list(found), sum(found.values(), []), np.repeat(np.arange(len(found)), counts), walk
