"""What a two-tower model is made of: the sizes of its towers."""

import dataclasses
from collections.abc import Mapping

from lit_tf.errors import ConfigError

POOLINGS = ("cls", "attention")
GEMMA_ROWS = 256_000  # of a token table: SigLIP 2, which Hugging Face resizes bilinearly
PREPROCESSINGS = ("big_vision", "huggingface", "open_clip")


class _Tower:
    """What the configurations of all towers share."""

    width: int
    num_heads: int
    out_dim: int | None

    def __post_init__(self) -> None:
        kind, expected = type(self).__name__, None
        for name, value in vars(self).items():
            if name == "dropout_rate":
                expected = None if 0 <= value < 1 else "in [0, 1)"
            elif name == "pool":
                expected = None if value in POOLINGS else f"one of {POOLINGS}"
            elif name == "naflex":
                expected = None if isinstance(value, bool) else "True or False"
            elif value is not None and (not isinstance(value, int) or value < 1):
                expected = "a positive integer"
            if expected:
                raise ConfigError(f"{kind}.{name} must be {expected}, found {value!r}")
        if self.width % self.num_heads:
            raise ConfigError(f"{kind}: width {self.width} is not a multiple of {self.num_heads}")

    @property
    def embedding_dim(self) -> int:
        """Width of the tower's output."""
        return self.out_dim or self.width


def side_of_images(grid: int, patch_size: int, pool: str) -> int:
    """Returns the usual side of the images, in pixels, of a ViT with `grid` patches along a side.

    It is `grid * patch_size`, with one exception that files do not show: SigLIP at 384 pixels in
    patches of 14 has 27 of them, which leave 6 pixels over. With attention pooling, files are
    therefore read as the multiple of 32 that has as many patches, if there is one. Another side
    (378) has to be asked for.
    """
    least = grid * patch_size
    rounded = -(-least // 32) * 32
    return rounded if pool == "attention" and rounded < least + patch_size else least


@dataclasses.dataclass(frozen=True)
class ViTConfig(_Tower):
    """A Vision Transformer, on square images or (NaFlex) on images of any shape.

    Attributes:
        patch_size: side of a square patch, in pixels.
        image_size: side of the square input, in pixels: a multiple of the patch, or what
            `side_of_images` says. Of NaFlex, the side at which positions are not interpolated.
        width: width of the residual stream.
        depth: number of blocks.
        num_heads: attention heads per block.
        mlp_dim: hidden width of each block's MLP.
        out_dim: width of the linear head, or None without one.
        pool: what represents an image: `cls`, the class token, or `attention`, where a learned
            query attends to all patches (SigLIP).
        naflex: whether it takes patches with coordinates, of images that keep their shape (SigLIP
            2 NaFlex). Pools by attention.
    """

    patch_size: int
    image_size: int
    width: int
    depth: int
    num_heads: int
    mlp_dim: int
    out_dim: int | None = None
    pool: str = "cls"
    naflex: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.naflex and (self.pool != "attention" or self.image_size % self.patch_size):
            raise ConfigError(
                "a NaFlex tower pools by attention, and image_size is a multiple of patch_size; "
                f"found pool {self.pool!r}, {self.image_size} and {self.patch_size}"
            )
        usual = side_of_images(self.grid, self.patch_size, self.pool)
        if self.image_size not in (self.grid * self.patch_size, usual) or not self.grid:
            what = f"a multiple of patch_size {self.patch_size}"
            if self.pool == "attention":
                what += ", nor a multiple of 32 that leaves less than a patch over"
            raise ConfigError(f"image_size {self.image_size} is not {what}")

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size


@dataclasses.dataclass(frozen=True)
class BertConfig(_Tower):
    """A BERT encoder with an optional linear head on [CLS].

    Attributes:
        vocab_size: rows of the token table.
        max_length: rows of the position table.
        out_dim: width of the linear head, or None without one.
        dropout_rate: used in training only.
        segments: rows of the segment table; segment 0 is the only one used.
    """

    vocab_size: int
    width: int
    depth: int
    num_heads: int
    mlp_dim: int
    max_length: int = 512
    out_dim: int | None = None
    dropout_rate: float = 0.1
    segments: int = 2

    kind = "bert"

    @property
    def usual_token_length(self) -> int:
        """Tokens per text where nothing says another number."""
        return min(16, self.max_length)


@dataclasses.dataclass(frozen=True)
class TextTransformerConfig(_Tower):
    """The plain text transformer of LiT-L16S, LiT-L16Ti and the SigLIP family.

    Attributes:
        vocab_size: rows of the token table.
        max_length: rows of the position table, which is the number of tokens it takes.
        out_dim: width of the linear head, or None without one.
    """

    vocab_size: int
    width: int
    depth: int
    num_heads: int
    mlp_dim: int
    max_length: int = 16
    out_dim: int | None = None

    kind = "text_transformer"

    @property
    def usual_token_length(self) -> int:
        """Tokens per text: the last position answers."""
        return self.max_length


@dataclasses.dataclass(frozen=True)
class LitConfig:
    """Two towers, either of which may be missing.

    Attributes:
        image: the image tower, or None.
        text: the text tower, or None.
        has_bias: whether logits get a bias, as in SigLIP-style models.
        token_length: tokens per text, 16 in LiT, mostly 64 in SigLIP; of a text transformer all
            that it has positions for.
        layout: the checkpoint layout that the model was read from.
        bare: whether that was a big_vision file of parameters alone, without `params/` before their
            names; it is written back as one.
        crop: whether images are cropped to a square instead of plainly resized.
        lowercase: whether texts are lower-cased before sentencepiece splits them. By default as in
            the SigLIP family: with attention pooling, a bias or more than 16 tokens. LiT's own text
            transformers are cased.
        preprocessing: whose pixels and tokens the model takes: `big_vision`, `huggingface` or
            `open_clip`; the two others are for SigLIP on square images.
        resample: how these two resize, with antialias: `bicubic` or `bilinear`; by default as they
            do for a model of this kind. An image tower alone does not show whether it is SigLIP 2,
            so its default is `bicubic`.
    """

    image: ViTConfig | None
    text: BertConfig | TextTransformerConfig | None
    has_bias: bool = False
    token_length: int = 16
    layout: str = "vit_jax"
    bare: bool = False
    crop: bool = False
    lowercase: bool | None = None
    preprocessing: str = "big_vision"
    resample: str | None = None

    def __post_init__(self) -> None:
        if type(self.token_length) is not int or self.token_length < 1:
            raise ConfigError(f"token_length must be a positive integer, found {self.token_length}")
        siglip = self.image is not None and self.image.pool == "attention"
        if self.tokenizer_kind != "sentencepiece":
            object.__setattr__(self, "lowercase", True)  # BERT always does
        elif self.lowercase is None:
            rule = siglip or self.has_bias or self.token_length > 16
            object.__setattr__(self, "lowercase", rule)
        if self.image is None and self.text is None:
            raise ConfigError("a model needs an image tower, a text tower or both")
        if self.image and self.text and self.image.embedding_dim != self.text.embedding_dim:
            raise ConfigError(
                f"the towers' embeddings differ in width: image {self.image.embedding_dim}, "
                f"text {self.text.embedding_dim}"
            )
        if self.text and self.token_length > self.text.max_length:
            raise ConfigError(
                f"token_length {self.token_length} is more than the text tower's "
                f"{self.text.max_length} positions"
            )
        needs_all = self.text and self.text.kind == "text_transformer"
        if needs_all and self.token_length != self.text.max_length:
            raise ConfigError(
                f"token_length is {self.token_length}, but this text tower answers with the last "
                f"of its {self.text.max_length} positions: it takes exactly as many tokens"
            )

        self._check_preprocessing()

    def _check_preprocessing(self):
        if self.preprocessing == "big_vision":
            object.__setattr__(self, "resample", None)  # bilinear, without antialias
            return
        if self.preprocessing not in PREPROCESSINGS:
            raise ConfigError(
                f"preprocessing is {self.preprocessing!r}, expected {', '.join(PREPROCESSINGS)}"
            )
        naflex = self.image is not None and self.image.naflex
        if self.crop or naflex or self.tokenizer_kind == "bert":
            raise ConfigError(
                f"preprocessing {self.preprocessing} is for SigLIP on square images; expected "
                "big_vision for a NaFlex model, a BERT, or one that crops its images"
            )
        if self.resample is None:
            gemma = self.text is not None and self.text.vocab_size == GEMMA_ROWS
            bilinear = self.preprocessing == "huggingface" and gemma
            object.__setattr__(self, "resample", "bilinear" if bilinear else "bicubic")
        if self.resample not in ("bilinear", "bicubic"):
            raise ConfigError(f"resample is {self.resample!r}, expected bilinear or bicubic")

    @property
    def embedding_dim(self) -> int:
        """Width of the embeddings."""
        return (self.image or self.text).embedding_dim

    @property
    def tokenizer_kind(self) -> str | None:
        """`bert` or `sentencepiece`, or None without a text tower."""
        if self.text is None:
            return None
        return "bert" if self.text.kind == "bert" else "sentencepiece"

    def to_dict(self) -> dict:
        """Returns plain dictionaries, for JSON."""
        out = dataclasses.asdict(self)
        if self.text is not None:
            out["text"]["kind"] = self.text.kind
        return out

    @classmethod
    def from_dict(cls, data: Mapping) -> "LitConfig":
        """Returns the configuration that `to_dict` described.

        Args:
            data: what `to_dict` returned.

        Raises:
            ConfigError: it names an unknown kind of text tower, or unknown fields.
        """
        data = dict(data)
        kinds = {"bert": BertConfig, "text_transformer": TextTransformerConfig}
        try:
            if data.get("image") is not None:
                data["image"] = ViTConfig(**data["image"])
            if data.get("text") is not None:
                text = dict(data["text"])
                kind = text.pop("kind", None)
                if kind not in kinds:
                    raise ConfigError(f"text tower {kind!r} is unknown; expected {sorted(kinds)}")
                data["text"] = kinds[kind](**text)
            return cls(**data)
        except TypeError as error:
            raise ConfigError(f"not a model configuration: {error}") from None
