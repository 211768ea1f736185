"""LiT on COCO captions, with the arguments of big_vision's config of that name.

    lit-tf train --config lit_coco:txt=bert_base,img=B/16 --workdir gs://bucket/run1
    lit-tf eval --config lit_coco:txt=bert_base,img=B/16,img_head,init=LiT-B16B.npz
    lit-tf train --config siglit_coco:txt=bert_base,img=SigLIP2-B16-256 --workdir DIR
    lit-tf train --config siglit_coco:txt=B,vocab=my.model,img=SigLIP2-B16-256 --workdir DIR

BERT base trains with Adam, BERT large with Adafactor, as published.
"""

import dataclasses

from lit_tf.checkpoints import registry
from lit_tf.contrastive.config import ADAFACTOR, ADAM, SOFTMAX
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
from lit_tf.training.known_towers import TRANSFORMERS, known_tower

# What big_vision starts from, by argument: AugReg checkpoints (arXiv:2106.10270) and BERT's own.
_AUGREG = {m.config_arg: m.name for m in registry.UPSTREAM.values() if m.tower == "image"}
_BERT = {m.config_arg: m.name for m in registry.UPSTREAM.values() if m.tower == "text"}


# Every argument and its default; "", 0 and None let the towers decide.
_ARGUMENTS = {
    # bert_base or bert_large; a published model or a path; or Ti, S, B, L or So400m, from scratch
    "txt": "bert_base",
    # B/32, B/16 or L/16, which start from AugReg; a published model, or a checkpoint's path
    "img": "B/16",
    "img_head": False,  # a linear head on top
    "init": "",  # a whole LiT checkpoint
    "img_init": "",  # other checkpoints of these towers to start from
    "txt_init": "",
    "vocab": "",  # the sentencepiece model of a text tower from scratch
    "res": 0,
    "token_len": 0,
    "batch_size": 4096,
    "steps": 5000,
    "locking": None,
    "runlocal": False,  # a handful of small steps, to see that all works
}


def get_config(argument="", *, loss=SOFTMAX, bias=None, name="lit_coco"):
    """Returns the config for `_ARGUMENTS`, given as "key=value,flag".

    The towers decide the resolution and the number of tokens: they are the checkpoint's own, 224
    and 16 with AugReg and BERT, and 64 tokens from scratch. The logits start with `bias`.
    """
    args = parse_arguments(argument, **_ARGUMENTS)
    config = TrainConfig(
        name=name,
        model=_model(args, bias),
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


def _model(args, bias):
    variant = args.img.removesuffix("_2")  # the published commands write B/16_2 for LiT-B16B_2
    image_init, resolution = _image(variant)
    text_init, token_length = _text(args.txt)
    usual = "LU" if text_init else "Lu"
    locking = usual if args.locking is None else str(args.locking)
    return ModelConfig(
        init=args.init or None,
        image=variant,
        image_init=_start(args.init, locking[:1], args.img_init or image_init),
        image_head=args.img_head,
        text=args.txt,
        text_init=_start(args.init, locking[-1:], args.txt_init or text_init),
        vocab=args.vocab or None,
        resolution=args.res or resolution,
        token_length=args.token_len or token_length,
        locking=locking,
        bias=bias,
    )


def _image(name):
    """Returns (checkpoint, resolution) of an image tower."""
    if name in _AUGREG:
        return _AUGREG[name], 224
    tower = _known(name, "image", "img", _AUGREG)
    return name, tower.image_size


def _text(name):
    """Returns (checkpoint or None for a tower from scratch, tokens) of a text tower."""
    if name in _BERT:
        return _BERT[name], 16
    if name in TRANSFORMERS:
        return None, 64
    tower = _known(name, "text", "txt", [*_BERT, *TRANSFORMERS])
    return name, tower.usual_token_length


def _known(name, tower, argument, others):
    found = known_tower(name, tower)
    if found is None:
        raise ConfigError(
            f"{argument} is {name!r}; expected one of {', '.join(others)}, a published model (see "
            f"`lit-tf models`) or the path of a checkpoint{registry.did_you_mean(name)}"
        )
    return found


def _start(init, letter, checkpoint):
    """Returns a tower's own checkpoint, or None if `init` brings it or it starts from scratch."""
    return None if init or letter == "u" else checkpoint


def _runlocal(config):
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, shuffle_buffer=50),
        eval=EvalConfig(templates=config.eval.templates),
        batch_size=32,
        steps=10,
        steps_per_loop=5,
        checkpoint_every=10,
    )
