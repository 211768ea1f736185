"""`lit-tf classify`: which class's name fits each image best."""

import argparse

from lit_tf.commands import common, inputs, printing
from lit_tf.errors import ConfigError, positive_integer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    common.add_model(parser)
    images = "image files, or patterns of them"
    add("images", nargs="+", metavar="IMAGE", help=images)
    common.add(parser, "classes", required=True)
    common.add(parser, "templates", default="clip_best")
    add("--top", type=int, default=5, help="classes to print (default 5)")
    common.add(parser, "strict", "json")


def run(args: argparse.Namespace) -> int:
    from lit_tf import zero_shot

    classes, classifier = inputs.classes_or_classifier(args.classes)
    positive_integer(args.top, "--top", ConfigError)
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
        results = []
        for i, path in enumerate(paths):
            best = classes[order[i, 0]]
            results.append({"image": path, "best": best, "probabilities": probabilities[i]})
            results[i] |= {} if match is None else {"match": match[i]}
        printing.print_json({"classes": classes, "results": results, "left_out": left_out})
        return 0
    top = min(args.top, len(classes))
    table = [("image", *(f"{i + 1}." for i in range(top)), *["1. fits"] * (match is not None))]
    for i, path in enumerate(paths):
        cells = [f"{classes[c]} {100 * probabilities[i, c]:.1f} %" for c in order[i, :top]]
        fits = [] if match is None else [f"{100 * match[i, order[i, 0]]:.1f} %"]
        table.append((path, *cells, *fits))
    printing.print_table(table)
    if match is not None:
        print("\n1. fits: the probability that the best class fits, whatever the others are.")
    return 0
