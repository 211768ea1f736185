"""`lit-tf classify`: which class's name fits each image best."""

import argparse

from lit_tf.commands import common, inputs, printing
from lit_tf.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `lit-tf classify`."""
    common.add_model(parser)
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="image files, or patterns of them"
    )
    parser.add_argument(
        "--classes",
        required=True,
        metavar="A,B,C|FILE",
        help="names, or a file with one per line, or NAME.npz of `lit-tf adapt`",
    )
    common.add(parser, "templates", default="clip_best")
    parser.add_argument("--top", type=int, default=5, help="classes to print (default 5)")
    common.add(parser, "strict", "json")


def run(args: argparse.Namespace) -> int:
    """Runs `lit-tf classify`."""
    from lit_tf import zero_shot

    classes, classifier = inputs.classes_or_classifier(args.classes)
    if args.top < 1:
        raise ConfigError(f"--top is {args.top}; expected at least 1")
    paths = inputs.matching_files(args.images)
    model = common.load(args)
    if classifier is not None:
        classifier.check(model)
    else:
        names = zero_shot.checked_class_names(classes)
        embedded = zero_shot.class_embeddings(model.encode_text, names, args.templates)
        printing.report_cut(model, zero_shot.make_prompts(names, args.templates)[0])
    paths, zimg, left_out = common.encode_images(model, paths, args)
    logits = classifier.logits(zimg) if classifier else model.logits(zimg, embedded).numpy()
    probabilities, match = common.probabilities(model, logits)
    match = None if classifier else match
    order = (-probabilities).argsort(axis=1, kind="stable")
    if args.json:
        results = [
            {"image": path, "best": classes[best[0]], "probabilities": row.tolist()}
            for path, row, best in zip(paths, probabilities, order, strict=True)
        ]
        if match is not None:
            for result, row in zip(results, match, strict=True):
                result["match"] = row.tolist()
        printing.print_json({"classes": classes, "results": results, "left_out": left_out})
        return 0
    top = min(args.top, len(classes))
    table = [("image", *(f"{i + 1}." for i in range(top)))]
    for path, row, best in zip(paths, probabilities, order, strict=True):
        table.append((path, *(f"{classes[c]} {100 * row[c]:.1f} %" for c in best[:top])))
    if match is not None:
        rows = zip(match, order, strict=True)
        column = ["1. fits", *(f"{100 * row[best[0]]:.1f} %" for row, best in rows)]
        table = [(*cells, cell) for cells, cell in zip(table, column, strict=True)]
    printing.print_table(table)
    if match is not None:
        print("\n1. fits: the probability that the best class fits, whatever the others are.")
    return 0
