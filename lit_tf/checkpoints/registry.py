"""The published models: sizes, where their files are, their published figures.

Sources: the LiT paper (arXiv:2111.07991), the model card and README of google-research/
vision_transformer (`vit_jax`), the README of google-research/big_vision (`lit_coco`); of the SigLIP
family arXiv:2303.15343, arXiv:2502.14786 and big_vision's own list. Figures are those that the
authors report; this library only repeats them beside what it measures.
"""

import dataclasses
import functools
import pathlib
import re

from lit_tf.errors import nearest

_WEB = "https://storage.googleapis.com/vit_models"
_BUCKET = "gs://vit_models"
_ROOTS = (_WEB, _BUCKET)
_STORAGE = "https://storage.googleapis.com"
DATA = pathlib.Path(__file__).parents[1] / "data"


@dataclasses.dataclass(frozen=True)
class PublishedModel:
    """A tuned two-tower model that can be downloaded.

    Attributes:
        name: what `lit_tf.load` takes.
        family: `LiT`, `SigLIP` or `SigLIP 2`.
        resolution: side of the images in pixels.
        token_length: tokens per text.
        vocab_size: rows of the token table.
        aliases: what else it is called.
        urls: addresses of the `.npz` file, all of the same bytes.
        vocab_url: address of the vocabulary.
        tokenizer: `bert` or `sentencepiece`.
        out_dim: widths of the (image, text) head; None without one.
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
    out_dim: tuple[int | None, int | None]
    image: str
    text: str
    parameters: int
    figures: dict[str, float]
    config_arg: str
    aliases: tuple[str, ...] = ()
    family: str = "LiT"
    resolution: int = 224
    token_length: int = 16
    vocab_size: int = 0


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
        vocab_size=30_522 if tokenizer == "bert" else 16_000,
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

# Transformers of the SigLIP family: width, depth, MLP width.
_SIGLIP_SIZES = {
    "B": (768, 12, 3072),
    "L": (1024, 24, 4096),
    "So400m": (1152, 27, 4304),
    "g-opt": (1536, 40, 6144),
}
# Vocabularies of the SigLIP family: rows of the token table, address of the sentencepiece model.
_SIGLIP_VOCABULARIES = {
    "c4_en": (32_000, f"{_STORAGE}/t5-data/vocabs/cc_en.32000/sentencepiece.model"),
    "mc4": (250_000, f"{_STORAGE}/t5-data/vocabs/mc4.250000.100extra/sentencepiece.model"),
    "gemma": (256_000, f"{_STORAGE}/big_vision/gemma_tokenizer.model"),
}


def _block_parameters(width, mlp_dim):
    """Returns how many numbers a pre-norm block holds: attention, MLP, two norms."""
    return 4 * width * (width + 1) + mlp_dim * (2 * width + 1) + width + 4 * width


def _siglip(title, patch, side, file, vocabulary, tokens=64, text_head=True, figures=()):
    """Returns a model of the SigLIP family.

    Args:
        title: family, size and variant as big_vision calls them, such as "SigLIP2 B/16".
        patch: side of a patch.
        side: side of the images.
        file: path of the checkpoint in big_vision's bucket.
        vocabulary: a name in _SIGLIP_VOCABULARIES.
        tokens: tokens per text.
        text_head: whether the text tower ends in a linear head.
        figures: published ImageNet zero-shot accuracy and COCO Recall@1, text to image and image to
            text.
    """
    family, size = title.split("/")[0].split()
    width, depth, mlp_dim = _SIGLIP_SIZES[size]
    text_size = "So400m" if size == "g-opt" else size
    text_width, text_depth, text_mlp = _SIGLIP_SIZES[text_size]
    rows, vocab_url = _SIGLIP_VOCABULARIES[vocabulary]
    block = _block_parameters(width, mlp_dim)
    image = (3 * patch**2 + 1 + (side // patch) ** 2 + 2) * width + depth * block
    image += block - width  # the pooling: a block with a probe in place of a norm's two vectors
    text = (rows + tokens + 2) * text_width + text_depth * _block_parameters(text_width, text_mlp)
    head = (text_width + 1) * width if text_head else 0
    keys = ("imagenet2012", "coco_captions/t2i", "coco_captions/i2t")
    url = f"{_STORAGE}/big_vision/{file}.npz"
    return PublishedModel(
        name=f"{title.replace(' ', '-').replace('/', '')}-{side}",
        urls=(url, url.replace(f"{_STORAGE}/", "gs://")),
        vocab_url=vocab_url,
        tokenizer="sentencepiece",
        out_dim=(None, width if text_head else None),
        image=f"ViT-{size}/{patch}, {side}",
        text=f"transformer, width {text_width}, depth {text_depth}",
        parameters=image + text + head + 2,
        figures=dict(zip(keys, figures, strict=False)),
        config_arg="",
        aliases=(f"{title} {side}", file.rpartition("/")[2]),
        family="SigLIP 2" if family == "SigLIP2" else family,
        resolution=side,
        token_length=tokens,
        vocab_size=rows,
    )


def _siglip2(size, patch, *sides):
    """Returns the SigLIP 2 models of one size: for each side (side, published figures)."""
    return [
        _siglip(
            f"SigLIP2 {size}/{patch}",
            patch,
            side,
            f"siglip2/siglip2_{size.lower()}{patch}_{side}",
            "gemma",
            figures=figures,
        )
        for side, figures in sides
    ]


_SIGLIP = (
    _siglip("SigLIP B/16", 16, 224, "siglip/webli_en_b16_224_63724782", "c4_en"),
    _siglip("SigLIP B/16", 16, 256, "siglip/webli_en_b16_256_60500360", "c4_en"),
    _siglip("SigLIP B/16", 16, 384, "siglip/webli_en_b16_384_68578854", "c4_en"),
    _siglip("SigLIP B/16", 16, 512, "siglip/webli_en_b16_512_68580893", "c4_en"),
    _siglip("SigLIP L/16", 16, 256, "siglip/webli_en_l16_256_60552751", "c4_en"),
    _siglip("SigLIP L/16", 16, 384, "siglip/webli_en_l16_384_63634585", "c4_en"),
    _siglip("SigLIP So400m/14", 14, 224, "siglip/webli_en_so400m_224_57633886", "c4_en", tokens=16),
    _siglip("SigLIP So400m/14", 14, 384, "siglip/webli_en_so400m_384_58765454", "c4_en"),
    _siglip("SigLIP B/16-i18n", 16, 256, "siglip/webli_i18n_b16_256_66117334", "mc4"),
    _siglip(
        "SigLIP So400m/16-i18n",
        16,
        256,
        "siglip/webli_i18n_so400m_16_256_78061115",
        "mc4",
        text_head=False,
    ),
    *_siglip2("B", 32, (256, (74.0, 47.2, 63.7))),
    *_siglip2(
        "B",
        16,
        (224, (78.2, 52.1, 68.9)),
        (256, (79.1, 53.2, 69.7)),
        (384, (80.6, 54.6, 71.4)),
        (512, (81.2, 55.2, 71.2)),
    ),
    *_siglip2(
        "L", 16, (256, (82.5, 54.7, 71.5)), (384, (83.1, 55.3, 71.4)), (512, (83.5, 55.2, 72.1))
    ),
    *_siglip2("So400m", 14, (224, (83.2, 55.1, 71.5)), (384, (84.1, 55.8, 71.7))),
    *_siglip2(
        "So400m",
        16,
        (256, (83.4, 55.4, 71.5)),
        (384, (84.1, 56.0, 71.2)),
        (512, (84.3, 56.0, 71.3)),
    ),
    *_siglip2("g-opt", 16, (256, (84.5, 55.7, 72.5)), (384, (85.0, 56.1, 72.8))),
)
MODELS |= {model.name: model for model in _SIGLIP}

NAFLEX = (
    "a NaFlex checkpoint: its image tower takes patches of any aspect ratio (big_vision's "
    "naflex_vit.py) and is another model, which lit_tf does not have. Take SigLIP2-B16-256 or "
    "another SigLIP 2 model of a fixed resolution"
)


def _key(name):
    """Returns a name without case and punctuation; Hugging Face's names in big_vision's words."""
    key = re.sub(r"[^a-z0-9]", "", name.lower().removesuffix(".npz").removeprefix("google/"))
    for theirs, ours in (("base", "b"), ("large", "l"), ("giantopt", "gopt")):
        key = key.replace(theirs, ours)
    return key.replace("patch", "")


def is_naflex(name: str) -> bool:
    """Returns whether a name or address means one of SigLIP 2's NaFlex checkpoints."""
    name = name.rstrip("/").rpartition("/")[2] if "://" in name else name
    return re.fullmatch("siglip2(b16|so400m16)?naflex[0-9]*", _key(name)) is not None


def did_you_mean(name: str) -> str:
    """Returns the end of an error message that names models like an unknown name, or ""."""
    known = {_key(n): n for n in (*embedded_models(), *UPSTREAM)}
    known |= {_key(n): model.name for n, model in _names().items()}
    key = _key(name)
    longer = [k for k in known if k.startswith(key)]
    return nearest(key, [key] if key in known else longer or known, shown=known)


UPSTREAM = {
    name: UpstreamModel(
        name, config_arg, tower, tuple(f"{root}/{path}" for path in paths for root in _ROOTS)
    )
    for name, config_arg, tower, *paths in (
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
            "lit/bert/uncased_L-uncased_L-24_H-1024_A-16",  # as big_vision's code spells it
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
