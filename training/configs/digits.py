"""LiT-digits, the embedded model: a small BERT tuned against a locked ViT on pairs of digits.

    lit-tf train --config digits --workdir runs/digits

By default the image tower is the shipped model's own, so that this works at once; the text tower
starts from scratch. `make digits-model` pre-trains an image tower first and passes it on.
"""

import inspect
import pathlib

import lit_tf
from lit_tf.contrastive.config import SIGMOID, SOFTMAX
from lit_tf.training.config import (
    DataConfig,
    EvalConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
    parse_arguments,
)

# Sizes are those of recipes/digits/pretrain.py; with locking=uu both towers start from scratch.
IMAGE = "patch_size=8,width=96,depth=5,num_heads=3,mlp_dim=384"
TEXT = "bert:width=128,depth=3,num_heads=2,mlp_dim=512,max_length=16"

_DATA = pathlib.Path(lit_tf.__file__).parent / "data"


def get_config(argument=""):
    """Returns the config for the arguments of `make_config`, as in "steps=100,locking=uu"."""
    defaults = {k: p.default for k, p in inspect.signature(make_config).parameters.items()}
    return make_config(**vars(parse_arguments(argument, **defaults)))


def make_config(
    img: str = str(_DATA / "LiT-digits.npz"),  # checkpoint of the image tower
    vocab: str = str(_DATA / "LiT-digits.txt"),
    locking: str = "Lu",  # or uu: nothing is locked and the image tower starts from scratch
    steps: int = 500,
    batch_size: int = 256,
    data_dir: str = "",  # where tfds keeps its data, or "" for its default
    dataset: str = "digit_pairs",  # a tfds dataset with the features of `digit_pairs`
    loss: str = SOFTMAX,  # or sigmoid, which adds a bias
) -> TrainConfig:
    """Returns the config."""
    return TrainConfig(
        name="digits",
        model=ModelConfig(
            image=IMAGE,
            image_init=None if locking.startswith("u") else img,
            text=TEXT,
            vocab=vocab,
            resolution=48,
            locking=locking,
            bias=-2.71 if loss == SIGMOID else None,
        ),
        data=DataConfig(
            source=dataset,
            data_dir=data_dir or None,
            text_key="captions/text",
            shuffle_buffer=20_000,
        ),
        # As lit_coco, weight decay included. With less, the text tower memorizes which pairs are
        # captioned, and within a few hundred steps it no longer reads the others.
        optimizer=OptimizerConfig(lr=1e-3, weight_decay=1e-2, warmup=min(100, steps // 5)),
        loss=LossConfig(name=loss),
        eval=EvalConfig(),
        batch_size=batch_size,
        steps=steps,
        dtype="float32",
        steps_per_loop=50,
        checkpoint_every=500,
    )
