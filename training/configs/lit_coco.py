"""LiT on COCO captions, with the arguments of big_vision's config of that name.

    lit-tf train --config lit_coco:txt=bert_base,img=B/16 --workdir gs://bucket/run1
    lit-tf eval --config lit_coco:txt=bert_base,img=B/16,img_head,init=LiT-B16B.npz

BERT base trains with Adam, BERT large with Adafactor, as published.
"""

import dataclasses

from lit_tf.errors import ConfigError
from lit_tf.training.config import (
    DataConfig,
    EvalConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
    parse_arguments,
)
from lit_tf.training.names import ADAFACTOR, ADAM, SOFTMAX

_BUCKET = "gs://vit_models"
# AugReg checkpoints (arXiv:2106.10270) and BERT's own, as big_vision starts from.
_IMAGE_INIT = {
    "B/32": "B_32-i21k-300ep-lr_0.001-aug_light1-wd_0.1-do_0.0-sd_0.0.npz",
    "B/16": "B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0.npz",
    "L/16": "L_16-i21k-300ep-lr_0.001-aug_strong1-wd_0.1-do_0.0-sd_0.0.npz",
}
_TEXT_INIT = {
    "bert_base": "uncased_L-12_H-768_A-12",
    "bert_large": "uncased_L-24_H-1024_A-16",
}


def get_config(argument="", *, loss=SOFTMAX, bias=None, name="lit_coco"):
    """Returns the config.

    Arguments: `txt` (bert_base, bert_large), `img` (B/32, B/16, L/16), `img_head`, `init` (a whole
    LiT checkpoint), `img_init` and `txt_init` (other towers to start from), `vocab`, `res`,
    `token_len`, `batch_size`, `steps`, `locking` and `runlocal` (a handful of small steps, to see
    that everything works).
    """
    args = parse_arguments(
        argument,
        txt="bert_base",
        img="B/16",
        img_head=False,
        init="",
        img_init="",
        txt_init="",
        vocab="",
        res=224,
        token_len=16,
        batch_size=4096,
        steps=5000,
        locking="LU",
        runlocal=False,
    )
    variant = args.img.removesuffix("_2")  # the published commands write B/16_2 for LiT-B16B_2
    if variant not in _IMAGE_INIT:
        raise ConfigError(f"img is {args.img!r}; expected one of {', '.join(_IMAGE_INIT)}")
    if args.txt not in _TEXT_INIT:
        raise ConfigError(f"txt is {args.txt!r}; expected one of {', '.join(_TEXT_INIT)}")
    image_init = args.img_init or f"{_BUCKET}/augreg/{_IMAGE_INIT[variant]}"
    text_init = args.txt_init or f"{_BUCKET}/lit/bert/{_TEXT_INIT[args.txt]}"
    config = TrainConfig(
        name=name,
        model=ModelConfig(
            init=args.init or None,
            image=variant,
            image_init=None if args.init or args.locking.startswith("u") else image_init,
            image_head=args.img_head,
            text=args.txt,
            text_init=None if args.init or args.locking.endswith("u") else text_init,
            vocab=args.vocab or None,
            resolution=args.res,
            token_length=args.token_len,
            locking=args.locking,
            bias=bias,
        ),
        data=DataConfig(source="coco_captions", augment="flip_lr|randaug(2,10)"),
        optimizer=OptimizerConfig(
            name=ADAFACTOR if args.txt == "bert_large" else ADAM,
            warmup=2 if args.runlocal else None,
        ),
        loss=LossConfig(name=loss),
        eval=EvalConfig(
            every=1000,
            zero_shot=("imagenet2012",),
            retrieval=("coco_captions",),
            templates="clip_paper",
        ),
        batch_size=args.batch_size,
        steps=args.steps,
    )
    return _runlocal(config) if args.runlocal else config


def _runlocal(config):
    """Returns a handful of small steps, without evaluation."""
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, shuffle_buffer=50),
        eval=EvalConfig(templates=config.eval.templates),
        batch_size=32,
        steps=10,
        steps_per_loop=5,
        checkpoint_every=10,
    )
