"""`lit-tf convert`: a checkpoint in another published layout."""

import argparse
import os
import sys

from lit_tf.commands import common, outputs, printing
from lit_tf.commands.inputs import checkpoint_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    common.add_checkpoint(parser)
    add("out", metavar="OUT", help="NAME.npz, the vocabulary goes beside it; or a folder")
    layout = "default: vit_jax, or big_vision with attention pooling; huggingface writes a folder"
    add("--layout", choices=("vit_jax", "big_vision", "huggingface"), help=layout)
    add("--stacked", action="store_true", help="big_vision: all blocks of a tower in one array")
    common.add(parser, "resolution", help="resample to this image size")
    dtype = "default: float32; bfloat16 in layout huggingface only"
    add("--dtype", choices=("float32", "float16", "bfloat16"), default="float32", help=dtype)
    common.add(parser, "preprocessing", "json")


def run(args: argparse.Namespace) -> int:
    import lit_tf
    from lit_tf import loading
    from lit_tf.checkpoints import record

    inputs = checkpoint_files(args.checkpoint, args.vocab)
    if args.layout == "huggingface":
        outputs.check_output_folder(args.out, inputs, replaced=True)
    else:
        outputs.check_output_files([args.out], inputs)
    how = {"resolution": args.resolution, "preprocessing": args.preprocessing}
    model = lit_tf.load(args.checkpoint, vocab=args.vocab, **how)
    layout = args.layout or loading.default_layout(model.config)
    if layout == "huggingface":
        lit_tf.save_huggingface(model, args.out, dtype=args.dtype)
        size = os.path.getsize(f"{args.out}/model.safetensors")
    else:
        lit_tf.save_npz(model, args.out, layout, args.dtype, stacked=args.stacked)
        size = os.path.getsize(args.out)
        if lost := record.sentence(loading.written_config(model), args.out):
            print(lost, file=sys.stderr)
    if args.json:
        found = {"path": args.out, "layout": layout, "dtype": args.dtype, "bytes": size}
        printing.print_json(found)
    else:
        print(f"{args.out}: layout {layout}, {args.dtype}, {size / 1e6:.1f} MB")
    return 0
