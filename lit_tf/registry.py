"""The published models: sizes, where their files are, their published figures.

Sources: the LiT paper (arXiv:2111.07991), the model card and README of google-research/
vision_transformer (`vit_jax`), the README of google-research/big_vision (`lit_coco`). Figures are
those that the authors report; this library only repeats them beside what it measures.
"""

import dataclasses
import functools
import pathlib

_WEB = "https://storage.googleapis.com/vit_models"
_BUCKET = "gs://vit_models"
DATA = pathlib.Path(__file__).parent / "data"


@dataclasses.dataclass(frozen=True)
class PublishedModel:
    """A tuned two-tower model that anybody can download.

    Attributes:
      name: what `lit_tf.load` takes.
      aliases: what else it is called.
      urls: addresses of the `.npz` file, all of the same bytes.
      vocab_url: address of the vocabulary.
      tokenizer: `bert` or `sentencepiece`.
      out_dim: widths of the (image, text) head; None where there is no head.
      image: the image tower, in words.
      text: the text tower, in words.
      parameters: how many numbers the file's parameters hold.
      figures: {what was measured: per cent}. A dataset's name alone is zero-shot accuracy;
        `coco_captions/i2t` and `coco_captions/t2i` are Recall@1 of retrieval, image to text and
        text to image. Empty where nothing was published.
      config_arg: the argument string of big_vision's `lit_coco` config that builds it.
    """

    name: str
    urls: tuple[str, ...]
    vocab_url: str
    tokenizer: str
    out_dim: tuple[int | None, int]
    image: str
    text: str
    parameters: int
    figures: dict[str, float]
    config_arg: str
    aliases: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class UpstreamModel:
    """A checkpoint of one tower, from which tuning starts.

    Attributes:
      name: what `lit_tf.from_upstream` takes, beside paths.
      config_arg: what configs call it.
      tower: `image` or `text`.
      urls: addresses of the `.npz` file, or of the folder that holds a TF1 BERT checkpoint.
    """

    name: str
    config_arg: str
    tower: str
    urls: tuple[str, ...]


def _published(name, path, vocab, tokenizer, **rest):
    return PublishedModel(
        name=name,
        urls=(f"{_WEB}/{path}", f"{_BUCKET}/{path}"),
        vocab_url=f"{_WEB}/{vocab}",
        tokenizer=tokenizer,
        **rest,
    )


_B16, _L16 = "ViT-B/16, 224", "ViT-L/16, 224"

MODELS = {
    model.name: model
    for model in (
        _published(
            "LiT-B16B",
            "lit/LiT-B16B.npz",
            "lit/LiT-B16B.txt",
            "bert",
            out_dim=(768, 768),
            image=_B16,
            text="BERT base",
            parameters=195_871_489,
            figures={"imagenet2012": 72.1, "coco_captions/i2t": 49.4, "coco_captions/t2i": 31.1},
            config_arg="txt=bert_base,img=B/16,img_head",
            aliases=("mixed_B16B",),
        ),
        _published(
            "LiT-B16B_2",
            "lit/LiT-B16B_2.npz",
            "lit/LiT-B16B_2.txt",
            "bert",
            out_dim=(None, 768),
            image=_B16,
            text="BERT base",
            parameters=195_280_897,
            figures={
                "imagenet2012": 73.9,
                "imagenet_v2": 65.1,
                "cifar100": 79.0,
                "oxford_iiit_pet": 83.3,
                "resisc45": 25.3,
                "coco_captions/i2t": 51.5,
                "coco_captions/t2i": 31.8,
            },
            config_arg="txt=bert_base,img=B/16",
            aliases=("mixed_B16B_2",),
        ),
        _published(
            "LiT-L16L",
            "lit/LiT-L16L.npz",
            "lit/LiT-L16L.txt",
            "bert",
            out_dim=(None, 1024),
            image=_L16,
            text="BERT large",
            parameters=638_443_521,
            figures={
                "imagenet2012": 75.7,
                "imagenet_v2": 66.6,
                "cifar100": 80.5,
                "oxford_iiit_pet": 83.3,
                "resisc45": 25.6,
                "coco_captions/i2t": 48.5,
                "coco_captions/t2i": 31.2,
            },
            config_arg="txt=bert_large,img=L/16",
            aliases=("mixed_L16L",),
        ),
        _published(
            "LiT-L16S",
            "lit/LiT-L16S.npz",
            "lit/LiT-L16S.model",
            "sentencepiece",
            out_dim=(None, 1024),
            image=_L16,
            text="transformer, width 384, depth 12",
            parameters=331_140_353,
            figures={},
            config_arg="",
        ),
        _published(
            "LiT-L16Ti",
            "lit/LiT-L16Ti.npz",
            "lit/LiT-L16Ti.model",
            "sentencepiece",
            out_dim=(None, 1024),
            image=_L16,
            text="transformer, width 192, depth 12",
            parameters=311_913_089,
            figures={},
            config_arg="",
        ),
        _published(
            "coco_B16B",
            "lit/big_vision/coco_B16B/checkpoint.npz",
            "lit/bert/uncased_L-12_H-768_A-12/vocab.txt",
            "bert",
            out_dim=(None, 768),
            image=_B16,
            text="BERT base",
            parameters=195_280_129,
            figures={"imagenet2012": 20.7, "coco_captions/i2t": 47.2, "coco_captions/t2i": 32.1},
            config_arg="txt=bert_base,img=B/16",
        ),
    )
}

UPSTREAM = {
    name: UpstreamModel(name, config_arg, tower, (f"{_WEB}/{path}", f"{_BUCKET}/{path}"))
    for name, config_arg, tower, path in (
        (
            "uncased_L-12_H-768_A-12",
            "bert_base",
            "text",
            "lit/bert/uncased_L-12_H-768_A-12",
        ),
        (
            "uncased_L-24_H-1024_A-16",
            "bert_large",
            "text",
            "lit/bert/uncased_L-24_H-1024_A-16",
        ),
        *(
            (stem, config_arg, "image", f"augreg/{stem}.npz")
            for config_arg, stem in (
                ("B/32", "B_32-i21k-300ep-lr_0.001-aug_light1-wd_0.1-do_0.0-sd_0.0"),
                ("B/16", "B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0"),
                ("L/16", "L_16-i21k-300ep-lr_0.001-aug_strong1-wd_0.1-do_0.0-sd_0.0"),
            )
        ),
    )
}


@functools.cache
def _names() -> dict[str, PublishedModel]:
    """Returns {name or alias: model}."""
    return {n: m for m in MODELS.values() for n in (m.name, *m.aliases)}


def find_published(name: str) -> PublishedModel | None:
    """Returns the published model of that name or alias, or None."""
    return _names().get(name)


def find_upstream(name: str) -> UpstreamModel | None:
    """Returns the upstream checkpoint of that name or config argument (`B/16`), or None."""
    by_arg = {m.config_arg: m for m in UPSTREAM.values()}
    return UPSTREAM.get(name) or by_arg.get(name)


def embedded_models() -> dict[str, pathlib.Path]:
    """Returns {name: path} of the checkpoints that are part of this package."""
    return {path.stem: path for path in sorted(DATA.glob("*.npz"))}


def list_models() -> list[str]:
    """Returns the names that `lit_tf.load` takes: embedded models first, then published ones."""
    return [*embedded_models(), *MODELS]
