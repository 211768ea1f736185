"""`lit-tf train`: runs a config, from its last checkpoint if it has one."""

import argparse
import json
import os

from lit_tf.commands.inputs import checkpoint_files
from lit_tf.commands.outputs import check_output_files, check_output_folder

from .config import add_config, load_config
from .names import add_strategy

# EX_TEMPFAIL of sysexits.h: SIGTERM stopped the run after a checkpoint, or another worker is gone;
# run it again to resume.
PREEMPTED = 75
INTERRUPTED = 130  # Ctrl-C did, as shells have it; whoever repeats 75 should not go on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument(
        "--workdir",
        required=True,
        metavar="DIR",
        help="the run's folder for checkpoints, summaries and final.npz, local or gs://; a stopped "
        "run resumes from it",
    )
    add_strategy(parser, "train")
    parser.add_argument("--json", action="store_true", help="print the last figures as JSON")


def run(args) -> int:
    config = load_config(args.config, args.overrides)
    _check_outputs(config, args)
    from .distribution import strategies  # only now: a wrong config is refused without TensorFlow

    # Before anything else touches TensorFlow's runtime.
    strategy = strategies.of_arguments(args)
    from .loop import Preempted, WorkerLost
    from .train import train

    try:
        figures = train(config, args.workdir, strategy=strategy)
    except Preempted as stop:
        print(f"lit-tf: {stop}; run the same command again to resume")
        return INTERRUPTED if stop.interrupted else PREEMPTED
    except WorkerLost as lost:
        print(f"lit-tf: {lost}; start all workers again to resume from the last checkpoint")
        return PREEMPTED
    if not strategies.is_chief(strategy):
        return 0  # only the chief prints; it also wrote final.npz
    if args.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name}  {value:.4f}")
        print(f"{args.workdir}/final.npz")
    return 0


def _check_outputs(config, args):
    """Refuses a workdir whose final.npz or best.npz is where the run starts from."""
    inputs = [args.config.partition(":")[0]]
    for checkpoint in (config.model.init, config.model.image_init, config.model.text_init):
        inputs += checkpoint_files(checkpoint) if checkpoint else []
    check_output_folder(args.workdir, inputs)
    models = [f"{args.workdir}/{name}.npz" for name in ("final", "best")]
    check_output_files([model for model in models if os.path.exists(model)], inputs)
