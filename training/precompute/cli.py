"""`lit-tf precompute`: embed a dataset's images once, to train on the embeddings."""

import argparse
import shlex
import sys

from lit_tf.commands import common as commands
from lit_tf.commands import outputs
from lit_tf.errors import ConfigError

from ..names import AUTO, MULTI_WORKER, STRATEGIES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `lit-tf precompute`."""
    parser.add_argument("checkpoint", help="name or path of a checkpoint with the image tower")
    parser.add_argument("output", help="folder to write to, local or gs://")
    data = parser.add_argument_group("data, as in a training config")
    data.add_argument(
        "--source", required=True, metavar="NAME|PATTERN", help="tfds dataset, shards or table"
    )
    data.add_argument(
        "--format", default="auto", help="auto (default), tfds, tar, tfrecord or table"
    )
    data.add_argument("--split", default="train", help="of a tfds dataset (default: train)")
    data.add_argument("--data-dir", metavar="DIR", help="where tfds keeps its data")
    data.add_argument(
        "--image-key",
        default="image",
        help="feature, extension, field or column of the image (default: image)",
    )
    data.add_argument(
        "--text-key", default="captions/text", help="the same of the text (default: captions/text)"
    )
    data.add_argument(
        "--exif", action="store_true", help="turn images as their EXIF orientation says"
    )
    commands.add_max_pixels(data)
    data.add_argument(
        "--max-bad-share",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="share of unusable examples beyond which it stops (default: 0.01)",
    )
    data.add_argument(
        "--augment",
        default="",
        help="augmentation, such as 'flip_lr|randaug(2,10)', drawn once for every stored view "
        "(default: none). Training on embeddings cannot augment images any more",
    )
    data.add_argument(
        "--views", type=int, default=1, help="differently augmented embeddings to store per image"
    )
    data.add_argument("--seed", type=int, default=0, help="of the augmentation")
    how = parser.add_argument_group("how")
    how.add_argument("--resolution", type=int, metavar="N", help="side of the images in pixels")
    how.add_argument(
        "--dtype",
        choices=("float32", "mixed_bfloat16"),
        default="float32",
        help="precision to compute in (default: float32); embeddings are stored in float32",
    )
    how.add_argument(
        "--batch-size", type=int, default=64, metavar="N", help="images at a time (default: 64)"
    )
    how.add_argument(
        "--strategy",
        choices=[name for name in STRATEGIES if name != MULTI_WORKER],
        default=AUTO,
        help="devices of this host to compute on (default: what it has)",
    )
    how.add_argument("--tpu", metavar="NAME", help="a TPU's name or address, or local")
    how.add_argument("--shards", type=int, default=16, metavar="N", help="files to write")
    how.add_argument("--host", type=int, default=0, help="number of this host")
    how.add_argument("--hosts", type=int, default=1, help="number of hosts")
    how.add_argument(
        "--engine",
        choices=("local", "beam"),
        default="local",
        help="local: this process writes its host's shards; beam: an Apache Beam pipeline",
    )
    how.add_argument(
        "--beam-options",
        default="",
        metavar="OPTIONS",
        help="Beam's own options in one string, such as --runner (default: its DirectRunner)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs `lit-tf precompute`; run it again to continue after an interruption."""
    inputs = [*commands.checkpoint_files(args.checkpoint), args.source]
    outputs.check_output_folder(args.output, inputs)
    from ..config import DataConfig
    from .shards import Job, is_finished, precompute, precompute_with_beam

    data = DataConfig(
        source=args.source,
        format=args.format,
        split=args.split,
        data_dir=args.data_dir,
        image_key=args.image_key,
        text_key=args.text_key,
        augment=args.augment,
        max_bad_share=args.max_bad_share,
        exif=args.exif,
        max_pixels=args.max_pixels,
    )
    job = Job(
        checkpoint=args.checkpoint,
        data=data,
        output=args.output,
        resolution=args.resolution,
        shards=args.shards,
        views=args.views,
        batch_size=args.batch_size,
        seed=args.seed,
        dtype=args.dtype,
    )
    if args.engine == "beam":
        if args.strategy != AUTO or args.tpu or args.host or args.hosts != 1:
            raise ConfigError(
                "--strategy, --tpu, --host and --hosts cannot be used with --engine beam: its "
                "runner decides where the workers run (--beam-options)"
            )
        precompute_with_beam(job, shlex.split(args.beam_options))
    else:
        counters = precompute(job, host=args.host, hosts=args.hosts, strategy=_strategy(args))
        if counters.bad:
            print(counters.report(), file=sys.stderr)
    if not is_finished(job):
        print(f"{args.output}: waiting for the shards of other hosts")
    elif not args.augment:
        print(f"{args.output}: complete, without augmentation; train with data.augment=''")
    else:
        print(f"{args.output}: complete, {args.views} augmented view(s) per image")
    return 0


def _strategy(args):
    from ..distribution import strategies

    if args.strategy == AUTO and len(strategies.listed_workers()) > 1:
        raise ConfigError(
            "TF_CONFIG lists several workers, but precomputing hosts do not talk to each other: "
            "clear TF_CONFIG, and give each host its number with --host and --hosts"
        )
    strategy = strategies.make_strategy(args.strategy, tpu=args.tpu)
    print(f"strategy: {strategies.summary(strategy)}", file=sys.stderr)
    return strategy
