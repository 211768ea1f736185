"""`lit-tf classify`: which class's name fits each image best."""

import argparse

from lit_tf.commands import common
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
        help="names of the classes: separated by commas, or a file with one per line; or a "
        "classifier NAME.npz of `lit-tf adapt`",
    )
    parser.add_argument(
        "--templates",
        default="clip_best",
        metavar="NAME|FILE",
        help="prompt templates: clip_best or clip (8, default), clip_paper (81), class_name_only, "
        "or a file with one template per line",
    )
    parser.add_argument(
        "--top", type=int, default=5, metavar="K", help="classes to print (default 5)"
    )
    common.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Runs `lit-tf classify`."""
    from lit_tf.zero_shot import make_prompts

    classes, classifier = common.classes_or_classifier(args.classes)
    if args.top < 1:
        raise ConfigError(f"--top is {args.top}; expected at least 1")
    paths = common.matching_files(args.images)
    model = common.load(args)
    if classifier is not None:
        classifier.check(model)
        logits, match = classifier.logits(common.encode_images(model, paths, args)), None
    else:
        with common.progress("image", paths) as images:
            how = common.limits(args)
            logits = model.class_logits(images, classes, args.templates, args.batch_size, **how)
        common.report_cut(model, make_prompts(classes, args.templates)[0])
        match = common.match(model, logits)
    probabilities = common.softmax(logits)
    order = (-probabilities).argsort(axis=1, kind="stable")
    if args.json:
        results = [
            {"image": path, "best": classes[best[0]], "probabilities": row.tolist()}
            for path, row, best in zip(paths, probabilities, order, strict=True)
        ]
        if match is not None:
            for result, row in zip(results, match, strict=True):
                result["match"] = row.tolist()
        common.print_json({"classes": classes, "results": results})
        return 0
    top = min(args.top, len(classes))
    table = [("image", *(f"{i + 1}." for i in range(top)))]
    for path, row, best in zip(paths, probabilities, order, strict=True):
        table.append((path, *(f"{classes[c]} {100 * row[c]:.1f} %" for c in best[:top])))
    if match is not None:
        rows = zip(match, order, strict=True)
        column = ["1. fits", *(f"{100 * row[best[0]]:.1f} %" for row, best in rows)]
        table = [(*cells, cell) for cells, cell in zip(table, column, strict=True)]
    common.print_table(table)
    if match is not None:
        print("\n1. fits: the probability that the best class fits, whatever the others are.")
    return 0
