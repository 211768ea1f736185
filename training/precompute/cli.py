"""`lit-tf precompute`: embed a dataset's images once, to train on the embeddings."""

import argparse
import dataclasses
import sys

from lit_tf.commands import common, inputs, outputs
from lit_tf.errors import ConfigError

from ..config import add_config, load_config
from ..names import AUTO, MULTI_WORKER, STRATEGIES, add_strategy


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", help="folder to write to, local or gs://")
    add_config(parser)
    parser.add_argument(
        "--views",
        type=int,
        default=1,
        metavar="N",
        help="embeddings to store per image: 1 without augmentation (default), or several, each "
        "of another augmentation by data.augment",
    )
    parser.add_argument("--shards", type=int, default=16, metavar="N", help="files to write")
    add_strategy(parser, "compute", [name for name in STRATEGIES if name != MULTI_WORKER])
    parser.add_argument("--host", type=int, default=0, help="number of this host")
    parser.add_argument("--hosts", type=int, default=1, help="number of hosts")
    common.add(parser, "engine", "engine-options")


def run(args: argparse.Namespace) -> int:
    config = load_config(args.config, args.overrides)
    checkpoint = config.model.init or config.model.image_init
    if not checkpoint:
        raise ConfigError("the config starts from no image tower: set model.image_init")
    read = [*inputs.checkpoint_files(checkpoint), config.data.source]
    outputs.check_output_folder(args.output, read)
    from .shards import Job, is_finished, precompute, precompute_with_beam

    augment = config.data.augment if args.views > 1 else ""
    job = Job(
        checkpoint=checkpoint,
        data=dataclasses.replace(config.data, augment=augment),
        output=args.output,
        resolution=config.model.resolution,
        shards=args.shards,
        views=args.views,
        batch_size=config.eval.batch_size,
        seed=config.seed,
        dtype=config.dtype_policy,
    )
    if args.engine == "beam":
        if args.strategy != AUTO or args.tpu or args.host or args.hosts != 1:
            raise ConfigError(
                "--strategy, --tpu, --host and --hosts cannot be used with --engine beam: its "
                "runner decides where the workers run (--engine-options)"
            )
        precompute_with_beam(job, common.engine_options(args))
    else:
        counters = precompute(job, host=args.host, hosts=args.hosts, strategy=_strategy(args))
        if counters.bad:
            print(counters.report(), file=sys.stderr)
    if not is_finished(job):
        print(f"{args.output}: waiting for the shards of other hosts")
    elif not augment:
        print(f"{args.output}: complete, without augmentation; train with data.augment=''")
    else:
        print(f"{args.output}: complete, {args.views} augmented views per image")
    return 0


def _strategy(args):
    from ..distribution import strategies

    if args.strategy == AUTO and len(strategies.listed_workers()) > 1:
        raise ConfigError(
            "TF_CONFIG lists several workers, but precomputing hosts do not talk to each other: "
            "clear TF_CONFIG, and give each host its number with --host and --hosts"
        )
    return strategies.of_arguments(args)
