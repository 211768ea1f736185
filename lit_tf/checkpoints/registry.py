"""The published models: sizes, where their files are, their published figures.

They are listed in `data/published_models.json`. Sources: the LiT paper (arXiv:2111.07991), the
model card and README of google-research/vision_transformer (`vit_jax`), the README of
google-research/big_vision (`lit_coco`); of the SigLIP family arXiv:2303.15343, arXiv:2502.14786 and
big_vision's own list; the names on Hugging Face are those of its converters. Sizes of towers:
arXiv:2010.11929, table 1; Ti and S of arXiv:2106.10270, table 1; So400m of arXiv:2305.13035; g-opt
of arXiv:2502.14786; BERT of arXiv:1810.04805, section 3. Figures are those that the authors report;
this library only repeats them beside what it measures.
"""

import dataclasses
import functools
import json
import pathlib
import re

from lit_tf.config import BertConfig, TextTransformerConfig, ViTConfig
from lit_tf.errors import nearest

_STORAGE = "https://storage.googleapis.com/"
DATA = pathlib.Path(__file__).parents[1] / "data"
_LISTED = json.loads((DATA / "published_models.json").read_text(encoding="utf-8"))

# {name of a size, such as `B` or `bert_base`: fields of the tower's configuration}
SIZES: dict[str, dict[str, int]] = _LISTED["sizes"]


@dataclasses.dataclass(frozen=True)
class PublishedModel:
    """A tuned two-tower model that can be downloaded.

    Attributes:
        aliases: what else it is called, by big_vision and vit_jax.
        huggingface: its name on Hugging Face's hub, or None.
        urls: addresses of the `.npz` file, all of the same bytes.
        image_size: the name of the image tower's size in `SIZES`; `text_size` likewise.
        parameters: how many numbers the file's parameters hold.
        figures: {what was measured: per cent}. A dataset's name alone is zero-shot accuracy;
            `coco_captions/i2t` and `coco_captions/t2i` are Recall@1 of retrieval, image to text and
            text to image. Empty where nothing was published.
        config_arg: the argument string of big_vision's `lit_coco` config that builds it.
    """

    name: str
    family: str
    aliases: tuple[str, ...]
    urls: tuple[str, ...]
    vocab_url: str
    image: ViTConfig
    text: BertConfig | TextTransformerConfig
    image_size: str
    text_size: str
    parameters: int
    figures: dict[str, float]
    huggingface: str | None = None
    config_arg: str = ""

    @property
    def resolution(self) -> int:
        """Side of the images in pixels; of NaFlex that of square ones at 256 patches."""
        return self.image.image_size

    @property
    def tokenizer(self) -> str:
        """`bert` or `sentencepiece`."""
        return "bert" if self.text.kind == "bert" else "sentencepiece"

    @property
    def token_length(self) -> int:
        """Tokens per text."""
        return self.text.usual_token_length

    @property
    def image_words(self) -> str:
        """The image tower, in words."""
        shape = "any shape" if self.image.naflex else self.resolution
        return f"ViT-{self.image_size}/{self.image.patch_size}, {shape}"

    @property
    def text_words(self) -> str:
        """The text tower, in words."""
        if self.text.kind == "bert":
            return self.text_size.replace("bert_", "BERT ")
        return f"transformer, width {self.text.width}, depth {self.text.depth}"


@dataclasses.dataclass(frozen=True)
class UpstreamModel:
    """A checkpoint of one tower (`image` or `text`), from which tuning starts."""

    name: str
    config_arg: str
    tower: str
    urls: tuple[str, ...]


def _urls(paths):
    return tuple(f"{root}{path}" for path in paths for root in (_STORAGE, "gs://"))


def _published(listed):
    image, text = dict(listed["image"]), dict(listed["text"])
    image_size, text_size = image.pop("size"), text.pop("size")
    kind = BertConfig if text_size.startswith("bert_") else TextTransformerConfig
    return PublishedModel(
        urls=_urls([listed["url"]]),
        vocab_url=_STORAGE + listed["vocab_url"],
        aliases=tuple(listed["aliases"]),
        image=ViTConfig(**SIZES[image_size], **image),
        text=kind(**SIZES[text_size], **text),
        image_size=image_size,
        text_size=text_size,
        **{k: listed[k] for k in ("name", "family", "parameters", "figures")},
        **{k: listed[k] for k in ("huggingface", "config_arg") if k in listed},
    )


MODELS = {model["name"]: _published(model) for model in _LISTED["models"]}
UPSTREAM = {
    m["name"]: UpstreamModel(m["name"], m["config_arg"], m["tower"], _urls(m["paths"]))
    for m in _LISTED["upstream"]
}


def _key(name):
    """Returns a name without case and punctuation; Hugging Face's names in big_vision's words."""
    key = re.sub(r"[^a-z0-9]", "", name.lower().removesuffix(".npz").removeprefix("google/"))
    for theirs, ours in (("base", "b"), ("large", "l"), ("giantopt", "gopt")):
        key = key.replace(theirs, ours)
    return key.replace("patch", "")


def did_you_mean(name: str) -> str:
    """Returns the end of an error message that names models like an unknown name, or ""."""
    known = {_key(n): n for n in (*embedded_models(), *UPSTREAM)}
    known |= {_key(n): model.name for n, model in _names().items()}
    key = _key(name)
    longer = [k for k in known if k.startswith(key)]
    return nearest(key, [key] if key in known else longer or known, shown=known)


@functools.cache
def _names() -> dict[str, PublishedModel]:
    return {n: m for m in MODELS.values() for n in (m.name, *m.aliases, m.huggingface) if n}


def find_published(name: str) -> PublishedModel | None:
    """Returns the published model of that name or alias, or None."""
    return _names().get(name)


def find_upstream(name: str) -> UpstreamModel | None:
    """Returns the upstream checkpoint of that name or config argument (`B/16`), or None."""
    by_arg = {m.config_arg: m for m in UPSTREAM.values()}
    return UPSTREAM.get(name) or by_arg.get(name)


def published_vocabulary(rows: int) -> str | None:
    """Returns the address of the SigLIP vocabulary for a token table of so many rows, or None."""
    siglip = (m for m in MODELS.values() if m.family != "LiT")
    return next((m.vocab_url for m in siglip if m.text.vocab_size == rows), None)


def embedded_models() -> dict[str, pathlib.Path]:
    """Returns {name: path} of the checkpoints that are part of this package."""
    return {path.stem: path for path in sorted(DATA.glob("*.npz"))}


def list_models() -> list[str]:
    """Returns the names that `lit_tf.load` takes: embedded models first, then published ones."""
    return [*embedded_models(), *MODELS]
