"""LiT-digits, the embedded model: a small BERT tuned against a locked ViT on pairs of digits.

    lit-tf train --config digits --workdir runs/digits

By default the image tower is the shipped model's own, so that this works at once; the text tower
starts from scratch. `make digits-model` pre-trains an image tower first and passes it on.
"""

import pathlib

import lit_tf
from lit_tf.training.config import (
    DataConfig,
    EvalConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
    parse_arguments,
)

# Sizes are those of training/digits/pretrain.py; with locking=uu both towers start from scratch.
IMAGE = "patch_size=8,width=96,depth=5,num_heads=3,mlp_dim=384"
TEXT = "bert:width=128,depth=3,num_heads=2,mlp_dim=512,max_length=16"

_DATA = pathlib.Path(lit_tf.__file__).parent / "data"


def get_config(argument=""):
    """Returns the config.

    Arguments: `img` (checkpoint of the image tower), `vocab`, `locking` (Lu, or uu: nothing is
    locked and the image tower starts from scratch), `steps`, `batch_size`, `data_dir`, `dataset`.
    """
    args = parse_arguments(
        argument,
        img=str(_DATA / "LiT-digits.npz"),
        vocab=str(_DATA / "LiT-digits.txt"),
        locking="Lu",
        steps=500,
        batch_size=256,
        data_dir="",
        dataset="digit_pairs",
    )
    data_dir = args.data_dir or None
    return TrainConfig(
        name="digits",
        model=ModelConfig(
            image=IMAGE,
            image_init=None if args.locking.startswith("u") else args.img,
            text=TEXT,
            vocab=args.vocab,
            resolution=48,
            locking=args.locking,
        ),
        data=DataConfig(
            source=args.dataset,
            data_dir=data_dir,
            text_key="captions/text",
            shuffle_buffer=20_000,
        ),
        # As lit_coco, weight decay included: with less, the text tower learns by heart which pairs
        # are captioned, and forgets how to read the others within a few hundred steps.
        optimizer=OptimizerConfig(lr=1e-3, weight_decay=1e-2, warmup=min(100, args.steps // 5)),
        eval=EvalConfig(),
        batch_size=args.batch_size,
        steps=args.steps,
        dtype="float32",
        steps_per_loop=50,
        checkpoint_every=500,
    )
