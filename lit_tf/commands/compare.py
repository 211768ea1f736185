"""`lit-tf compare`: which text fits which image, in numbers and as a picture."""

import argparse
import pathlib
import textwrap

from lit_tf.commands import common, inputs, outputs, printing
from lit_tf.errors import extra
from lit_tf.files import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_model(parser)
    images, texts = "image files, or patterns of them", "texts; @FILE stands for its lines"
    common.add_several(parser, "--images", "GLOB", images, required=True)
    common.add_several(parser, "--texts", "TEXT", texts, required=True)
    parser.add_argument("--plot", metavar="OUT.png", help="draw a heat map with thumbnails")
    common.add(parser, "strict", "json")


def run(args: argparse.Namespace) -> int:
    """Prints, for every image and text, their cosine and the text's probability."""
    texts = inputs.texts(args.texts)
    paths = inputs.matching_files(args.images)
    if args.plot:
        read = inputs.text_files(*(text for text in args.texts if text.startswith("@")))
        read += [*inputs.checkpoint_files(args.checkpoint, args.vocab), *paths]
        outputs.check_output_files([args.plot], read)
        with extra("demo"):
            import matplotlib  # noqa: F401  rather missing now than after minutes of work
    model = common.load(args)
    paths, zimg, left_out = common.encode_images(model, paths, args)
    ztxt = common.encode_texts(model, texts)
    printing.report_cut(model, texts)
    similarities = zimg @ ztxt.T  # (images, texts)
    logits = model.logits(zimg, ztxt).numpy()
    probabilities, match = common.probabilities(model, logits)  # over the texts of each image
    if args.plot:
        _plot(args, similarities, match, paths, texts)
    if args.json:
        found = {"images": paths, "texts": texts, "similarities": similarities}
        found |= {"temperature": model.temperature, "bias": model.bias, "match": match}
        found |= {"probabilities": probabilities, "plot": args.plot, "left_out": left_out}
        printing.print_json(found)
        return 0
    _print(paths, texts, similarities, probabilities, match)
    if args.plot:
        print(f"Picture: {args.plot}")
    return 0


def _plot(args, similarities, match, paths, texts):
    from lit_tf.images import preprocessing
    from lit_tf.plots import heat_map

    thumbnails = [preprocessing.to_uint8(path, max_pixels=args.max_pixels) for path in paths]
    shown = "cosine similarity" if match is None else "cosine similarity (and whether it fits)"
    title = f"{pathlib.PurePath(args.checkpoint).name}: {shown}, the best text framed"
    heat_map(args.plot, similarities, thumbnails, texts, title, match)


def _print(paths, texts, similarities, probabilities, match):
    """Prints one row per text and one column per image, numbered."""
    best = probabilities.argmax(axis=1)
    table = [["", *(f"[{i + 1}]" for i in range(len(paths)))]]
    for t, text in enumerate(texts):
        table.append([textwrap.shorten(text, 50, placeholder="...") or '""'])
        for i, similarity in enumerate(similarities[:, t]):
            fits = "" if match is None else f" {100 * match[i, t]:5.1f} %"
            cell = f"{similarity:+.3f} {100 * probabilities[i, t]:5.1f} %{fits}"
            table[-1].append(f"{'*' if best[i] == t else ' '}{cell}")
    printing.print_table(table, right=range(1, len(paths) + 1))
    print("\nCosine similarity, and probability among the texts of each image; * is the best text.")
    if match is not None:
        print("The last number is the probability that the text fits, whatever the others are.")
    for i, path in enumerate(paths):
        print(f"[{i + 1}] {printable(path)}")
