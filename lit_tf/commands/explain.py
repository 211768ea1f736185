"""`lit-tf explain`: which parts of a picture speak for a text."""

import argparse

from lit_tf.commands import common, outputs, printing
from lit_tf.commands.inputs import checkpoint_files
from lit_tf.errors import extra


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    common.add_checkpoint(parser)
    common.add(parser, "resolution", "dtype", "max-pixels", "preprocessing")
    add("image", metavar="IMAGE", help="an image file")
    add("text", metavar="TEXT", help='what to look for, such as "a dog"')
    plot = "where to draw the parts over the picture"
    add("--plot", required=True, metavar="OUT.png", help=plot)
    common.add(parser, "json")


def run(args: argparse.Namespace) -> int:
    """Draws the parts; prints the cosine of picture and text."""
    outputs.check_output_files(
        [args.plot], [*checkpoint_files(args.checkpoint, args.vocab), args.image]
    )
    with extra("demo"):
        import matplotlib  # noqa: F401  rather missing now than after the work
    from lit_tf import plots
    from lit_tf.images import preprocessing

    model = common.load(args)
    image = preprocessing.to_uint8(args.image, max_pixels=args.max_pixels)
    relevance = plots.attention_map(model, image, args.text, args.plot)
    cosine = float((model.encode_image([image]) @ model.encode_text([args.text]).T)[0, 0])
    if args.json:
        printing.print_json({"cosine": cosine, "relevance": relevance})
        return 0
    print(f"cosine {cosine:.3f}; {args.plot} shows which parts of the picture speak for the text")
    print(
        "(by gradient-weighted attention, arXiv:2103.15679: an explanation of the model's answer, "
        "not a proof)"
    )
    return 0
