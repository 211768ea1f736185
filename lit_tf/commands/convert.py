"""`lit-tf convert`: a checkpoint in another published layout."""

import argparse
import os
import sys

from lit_tf.commands import common, outputs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `lit-tf convert`."""
    common.add_checkpoint(parser)
    parser.add_argument(
        "out", metavar="OUT.npz", help="where to write; the vocabulary goes beside it"
    )
    parser.add_argument(
        "--layout",
        choices=("vit_jax", "big_vision"),
        help="default: vit_jax, or big_vision for a model with attention pooling",
    )
    parser.add_argument("--resolution", type=int, metavar="N", help="resample to this image size")
    parser.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="default: float32"
    )
    common.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Runs `lit-tf convert`."""
    import lit_tf
    from lit_tf import loading
    from lit_tf.checkpoints import record

    inputs = common.checkpoint_files(args.checkpoint, args.vocab)
    outputs.check_output_files([args.out], inputs)
    model = lit_tf.load(args.checkpoint, vocab=args.vocab, resolution=args.resolution)
    layout = args.layout or loading.default_layout(model.config)
    lit_tf.save_npz(model, args.out, layout=layout, dtype=args.dtype)
    if lost := record.sentence(loading.written_config(model), args.out):
        print(lost, file=sys.stderr)
    size = os.path.getsize(args.out)
    if args.json:
        common.print_json({"path": args.out, "layout": layout, "dtype": args.dtype, "bytes": size})
    else:
        print(f"{args.out}: layout {layout}, {args.dtype}, {size / 1e6:.1f} MB")
    return 0
