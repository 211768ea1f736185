"""The model: two towers, normalized embeddings, a temperature."""

import base64
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from lit_tf import errors, zero_shot
from lit_tf.checkpoints.registry import published_vocabulary
from lit_tf.config import LitConfig
from lit_tf.contrastive.fit import ContrastiveModel
from lit_tf.errors import CheckpointError, ExportError, ImageError, LitError, TokenizerError
from lit_tf.images import preprocessing, stream
from lit_tf.images.formats import MAX_PIXELS, check_max_pixels
from lit_tf.images.preparation import on_cpu, preparation
from lit_tf.images.preprocessing import refuse_graphs
from lit_tf.texts import tokenizers, vocabularies
from lit_tf.texts.batching import distinct_by_length
from lit_tf.texts.tokenizers import BertTokenizer, SentencePieceTokenizer
from lit_tf.towers import layers
from lit_tf.towers.bert import Bert
from lit_tf.towers.text_transformer import TextTransformer
from lit_tf.towers.vit import ViT

TOWERS = {"bert": Bert, "text_transformer": TextTransformer}


def normalize(z: tf.Tensor) -> tf.Tensor:
    """Returns embeddings (batch, width) divided by (their L2 norm + 1e-8), in float32."""
    z = tf.cast(z, tf.float32)
    return z / (tf.norm(z, axis=-1, keepdims=True) + 1e-8)


@keras.saving.register_keras_serializable("lit_tf")
class LitModel(layers.Freezable, ContrastiveModel):
    """Locked-image text tuning: an image tower and a text tower with one embedding space.

    Examples:
        >>> model = lit_tf.load("LiT-B16B_2")
        >>> zimg = model.encode_image(["cat.jpg"])            # (1, 768)
        >>> ztxt = model.encode_text(["a cat", "a dog"])      # (2, 768)
        >>> probabilities = model.classify(["cat.jpg"], ["cat", "dog"])

    Args:
        config: what the towers are made of.
        tokenizer: turns strings into tokens; without one the model takes tokens only.
        seed: of the starting values, or None to leave all variables at zero, to be filled.
        **kwargs: of `keras.Model`, such as `name` and `dtype`.

    Attributes:
        image_tower: Keras layer, float (N, R, R, 3) -> (N, D), or None.
        text_tower: Keras layer, int32 (N, L) -> (N, D), or None.
        t: Variable (1,), the logarithm of the temperature; None where a tower is missing.
        b: Variable (1,), the bias of the logits, or None.
        image_function: `embed_pixels` as a `tf.function`, for callers outside of a graph.
        token_function: `embed_short_tokens` as a `tf.function`, for callers outside of a graph.
    """

    def __init__(
        self,
        config: LitConfig,
        tokenizer: BertTokenizer | SentencePieceTokenizer | None = None,
        seed: int | None = 0,
        **kwargs: Any,
    ) -> None:
        policy = layers.dtype_policy(kwargs.pop("dtype", None))
        super().__init__(dtype=policy, **kwargs)
        self.config, self.tokenizer, self.seed = config, tokenizer, seed
        self.image_tower = self.text_tower = self.t = self.b = None
        if config.image:
            self.image_tower = ViT(config.image, seed=seed, dtype=policy, name="image_tower")
            size = config.image.image_size
            if not config.image.naflex:
                self.image_tower.build((None, size, size, 3))  # shows its shape in summary()
        if config.text:
            tower = TOWERS[config.text.kind]
            self.text_tower = tower(config.text, seed=seed, dtype=policy, name="text_tower")
            self.text_tower.build((None, config.token_length))
        if config.image and config.text:
            # The temperature is exp(t). Nothing clips it, neither here nor in training.
            # float32 under every policy: a temperature in bfloat16 would move in steps of 0.4 %.
            self.t = self._scalar("t", np.log(10.0))
            if config.has_bias:
                self.b = self._scalar("b", -2.71)
        self.built = True
        if not kwargs.get("trainable", True):  # asked for before there were parts
            self.trainable = False
        # No Python control flow on tensors, so AutoGraph would only make tracing slower.
        options = {"reduce_retracing": True, "autograph": False}
        self.image_function = tf.function(self.embed_pixels, **options)
        self.token_function = tf.function(self.embed_short_tokens, **options)

    def _scalar(self, name, start):
        return self.add_weight(
            name=name,
            shape=(1,),
            initializer=keras.initializers.Constant(start),
            dtype="float32",
            autocast=False,
        )

    # --- graph level ---------------------------------------------------------------------------

    def embed_images(self, images: tf.Tensor) -> tf.Tensor:
        """Returns unit-length float32 embeddings (N, D) of float images (N, R, R, 3) in [-1, 1].

        A NaFlex model takes {"patches": float (N, L, 3 patch^2), "coordinates": int32 (N, L, 2),
        "mask": int32 (N, L)}; see `lit_tf.images.naflex`.
        """
        return normalize(self.tower("image")(images))

    def embed_tokens(
        self, tokens: tf.Tensor, training: bool = False, dropout_seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Returns unit-length float32 embeddings (N, D) of int32 tokens (N, L).

        In training, all dropout masks follow from `dropout_seed`, int32 (2,).
        """
        return normalize(self.tower("text")(tokens, training=training, dropout_seed=dropout_seed))

    def embed_pixels(self, pixels: tf.Tensor) -> tf.Tensor:
        """Returns unit-length float32 embeddings (N, D) of uint8 images (N, R, R, 3).

        A NaFlex model takes what `embed_images` does.
        """
        naflex = self.config.image and self.config.image.naflex
        return self.embed_images(pixels if naflex else preprocessing.normalize(pixels))

    def embed_short_tokens(self, tokens: tf.Tensor) -> tf.Tensor:
        """As `embed_tokens` outside training, for the work of the batch's longest text.

        Only a text tower that masks padding (BERT) can do with less than the full length.
        """
        z = self.embed_tokens(self.tower("text").without_padding(tokens))
        z.set_shape((tokens.shape[0], z.shape[1]))  # unknown after reshapes of an unknown length
        return z

    def logits(self, zimg: tf.Tensor, ztxt: tf.Tensor) -> tf.Tensor:
        """Returns float32 (N, M): temperature * zimg @ ztxt.T + bias, of (N, D) and (M, D)."""
        if self.t is None:
            raise LitError("this model has one tower only, so there is no temperature")
        logits = tf.matmul(zimg, ztxt, transpose_b=True) * tf.exp(tf.convert_to_tensor(self.t))
        return logits if self.b is None else logits + tf.convert_to_tensor(self.b)

    def __call__(self, inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As `call`, of tensors, arrays or Keras inputs."""
        if not isinstance(inputs, Mapping):
            found = " and ".join(kwargs) if inputs is None else type(inputs).__name__
            raise LitError(
                'expected a dict: model({"image": images, "tokens": tokens}), either of which may '
                f"be missing; found {found or 'nothing'}. encode_image and encode_text take files, "
                "pixels and strings"
            )
        return super().__call__(inputs, *args, **kwargs)

    def call(
        self,
        inputs: dict[str, tf.Tensor],
        training: bool = False,
        dropout_seed: tf.Tensor | None = None,
    ) -> dict[str, tf.Tensor]:
        """Embeds images, tokens or both.

        In a functional `keras.Model` around this one, `predict` concatenates the logits of batches,
        each of which compares its own images with its own texts only. Let such a model return the
        embeddings, which concatenate rightly, and call `logits` on those.

        Args:
            inputs: {"image": float (N, R, R, 3) in [-1, 1], "tokens": int32 (M, L)}; either may be
                missing.
            training: whether dropout is active in the text tower.
            dropout_seed: int32 (2,) from which all dropout masks follow.

        Returns:
            {"image_embedding": (N, D), "text_embedding": (M, D), "logits": (N, M)}, float32, as far
            as the inputs allow.
        """
        unknown = set(inputs) - {"image", "tokens"}
        if unknown or not inputs:
            raise LitError(f"expected inputs 'image' and/or 'tokens', found {sorted(inputs)}")
        out = {}
        if "image" in inputs:
            out["image_embedding"] = self.embed_images(inputs["image"])
        if "tokens" in inputs:
            out["text_embedding"] = self.embed_tokens(inputs["tokens"], training, dropout_seed)
        if len(inputs) == 2:
            out["logits"] = self.logits(out["image_embedding"], out["text_embedding"])
        return out

    def predict_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Embeds one batch for `predict`, without its logits, for the reason that `call` gives."""
        out = super().predict_step(data)
        out.pop("logits", None)
        return out

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> dict[str, np.ndarray]:
        """Embeds images, tokens or both in batches, and compares all images with all texts.

        Arguments are those of `keras.Model.predict`; `x` is as for `call`, arrays or a dataset.
        """
        predict = super().predict
        if isinstance(x, Mapping) and len({len(values) for values in x.values()}) > 1:
            # Keras splits arrays of one length only.
            outputs = [predict({k: v}, *args, **kwargs) for k, v in x.items()]
            return self._with_logits({k: v for out in outputs for k, v in out.items()})
        return self._with_logits(predict(x, *args, **kwargs))

    def predict_on_batch(self, x: Any) -> dict[str, np.ndarray]:
        """As `predict`, for one batch."""
        return self._with_logits(super().predict_on_batch(x))

    def _with_logits(self, out):
        if len(out) == 2:
            out["logits"] = self.logits(out["image_embedding"], out["text_embedding"]).numpy()
        return out

    def export(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Refuses: Keras's export would leave out the vocabulary and the decoding of images."""
        raise ExportError(
            f"model.export({os.fspath(filepath)!r}) is Keras's own export, which would leave out "
            "the vocabulary and the reading of images. Use lit_tf.export.saved_model(model, dir) "
            "or lit_tf.export.tflite(model, dir)"
        )

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Saves the model with its vocabulary as Keras does, in a file NAME.keras."""
        if not str(filepath).endswith(".keras"):
            raise CheckpointError(
                f"model.save({os.fspath(filepath)!r}): expected a name that ends in .keras. "
                "lit_tf.save_npz writes NAME.npz; the format .h5 cannot hold this model"
            )
        super().save(filepath, *args, **kwargs)

    def tower(self, kind: str) -> keras.layers.Layer:
        """Returns the `image` or `text` tower."""
        tower = self.image_tower if kind == "image" else self.text_tower
        if tower is None:
            raise LitError(f"this model has no {kind} tower; it was read from a checkpoint without")
        return tower

    # --- for people ----------------------------------------------------------------------------

    @property
    def temperature(self) -> float | None:
        """What similarities are multiplied by: exp(t)."""
        return None if self.t is None else float(np.exp(self.t.numpy()[0]))

    @property
    def bias(self) -> float | None:
        """What is added to the logits, in SigLIP-style models."""
        return None if self.b is None else float(self.b.numpy()[0])

    def encode_image(
        self,
        images: Iterable[Any],
        batch_size: int = 32,
        *,
        max_pixels: int = MAX_PIXELS,
        max_patches: int | None = None,
    ) -> np.ndarray:
        """Embeds images.

        Args:
            images: uint8 (N, H, W, 3), or a list of images of any sizes, each an array, encoded
                bytes (a JPEG or any other format that `images.to_uint8` takes), a PIL image or a
                path. Files and PIL images are turned upright by their EXIF orientation.
            batch_size: how many go through the tower at once; does not change the result.
            max_pixels: width times height of the largest file or PIL image that is decoded.
            max_patches: of a NaFlex model: into how many patches an image is cut at most, in its
                own shape (default 256). More see more detail, and cost more.

        Returns:
            float32 (N, D), unit length.

        Raises:
            ImageError: an image cannot be used; the message says which and why.
        """
        self.tower("image")
        instead = "model.embed_pixels(pixels) takes uint8 (N, R, R, 3)"
        refuse_graphs(images, ImageError, "encode_image", instead)
        images = preprocessing.checked_list(images)
        how: dict[str, Any] = {"max_pixels": max_pixels, "max_patches": max_patches}
        batches = self.embed_stream(images, batch_size, **how)
        return self._concatenate(batch.embeddings for batch in batches)

    def embed_stream(
        self,
        items: Iterable,
        batch_size: int = 32,
        *,
        max_pixels: int = MAX_PIXELS,
        max_patches: int | None = None,
        read: Callable[[Any], tuple[np.ndarray, Any]] | None = None,
        failed: Callable[[Any, ImageError], None] | None = None,
        embed: Callable[[np.ndarray], Any] | None = None,
    ) -> Iterator[stream.Embedded]:
        """Embeds a stream of images of any length in bounded memory; decoding runs beside it.

        Args:
            items: what to embed; taken lazily, at most two batches ahead.
            batch_size: how many images go through the tower at once; does not change the result.
            max_pixels: width times height of the largest file or PIL image that is decoded.
            max_patches: as for `encode_image`.
            read: a function of an item to (a prepared image, any value that travels along); see
                `lit_tf.images.preparation`. By default items are what `encode_image` takes. It runs
                in several threads, and raises ImageError if the item is not an image.
            failed: called with (item, error) for each item that is not an image, in their order;
                the stream goes on without it. By default the error is raised.
            embed: a function of uint8 (n, side, side, 3) to embeddings (n, D), in place of the
                image tower, such as `lit_tf.export.int8_images(model)`.

        Yields:
            Batches of at most `batch_size` images, none empty.

        Raises:
            ImageError: an item cannot be read and `failed` is None.
            LitError: the batch size is not a positive integer.
        """
        max_pixels = check_max_pixels(max_pixels)
        batch_size = errors.positive_integer(batch_size, "batch_size")
        prepare = preparation(self.config, max_patches)
        rest: dict[str, Any] = {"embed": embed or self.image_function, "batch_size": batch_size}
        rest["stack"] = prepare.stack
        if read is not None:
            yield from stream.embed_stream(items, read, failed=failed, **rest)
            return

        def read_numbered(numbered):
            number, item = numbered
            pixels = preprocessing.to_pixels(item, f"Image {number}", max_pixels)
            return on_cpu(prepare, pixels), None

        # The number is part of the item only in here, for the error's sake.
        told = None if failed is None else lambda numbered, error: failed(numbered[1], error)
        batches = stream.embed_stream(enumerate(items), read_numbered, failed=told, **rest)
        for batch in batches:
            yield batch._replace(items=[item for _, item in batch.items])

    def encode_text(self, texts: Sequence[str], batch_size: int = 256) -> np.ndarray:
        """Embeds texts.

        Args:
            texts: strings: a list or generator, or a column of pandas, Arrow or NumPy.
            batch_size: how many go through the tower at once; does not change the result.

        Returns:
            float32 (N, D), unit length.

        Raises:
            TokenizerError: the model has no vocabulary, or a text is not a string.
        """
        self.tower("text")
        if isinstance(texts, str | bytes) or getattr(texts, "ndim", None) == 0:
            raise TokenizerError("encode_text takes a list of texts, found one string: use [text]")
        return self.encode_tokens(self.tokenize(texts), batch_size)

    def tokenize(self, texts: Sequence[str]) -> np.ndarray:
        """Returns int32 tokens (N, L) of strings."""
        instead = "model.embed_tokens(model.tokenizer(texts)) takes a tensor of strings"
        refuse_graphs(texts, TokenizerError, "encode_text, tokenize", instead)
        if self.tokenizer is None:
            kind = self.config.tokenizer_kind
            file = " or ".join(vocabularies.names("NAME", kind))
            if url := published_vocabulary(self.config.text.vocab_size):
                file += f" (of a SigLIP with this table: {url})"
            raise TokenizerError(
                f"this model came without a vocabulary, so it cannot read text; it needs a {kind} "
                f"vocabulary: put {file} beside the checkpoint NAME.npz, or pass vocab=PATH to load"
            )
        return self.tokenizer(texts).numpy()

    def encode_tokens(self, tokens: ArrayLike, batch_size: int = 256) -> np.ndarray:
        """Embeds tokens.

        Args:
            tokens: int32 (N, L), as `tokenize` returns them.
            batch_size: how many go through the tower at once; does not change the result.

        Returns:
            float32 (N, D), unit length.

        Raises:
            TokenizerError: the tokens are not integers of that shape, or not in the vocabulary.
        """
        self.tower("text")
        refuse_graphs(tokens, TokenizerError, "encode_tokens", "model.embed_tokens(tokens)")
        try:
            tokens = np.asarray(tokens)
        except ValueError as e:  # lists of different lengths
            raise TokenizerError(f"tokens must form a rectangular array: {e}") from None
        length = self.config.token_length
        if tokens.shape[1:] != (length,):
            raise TokenizerError(f"tokens must have shape (N, {length}), found {tokens.shape}")
        self.text_tower.check(tokens)
        rows, places = distinct_by_length(tokens.astype(np.int32))
        starts = range(0, len(rows), errors.positive_integer(batch_size, "batch_size"))
        embed = self.token_function
        return self._concatenate(embed(rows[i : i + batch_size]).numpy() for i in starts)[places]

    def _concatenate(self, parts):
        return np.concatenate([np.zeros((0, self.config.embedding_dim), np.float32), *parts])

    def classify(
        self,
        images: Iterable[Any],
        class_names: Iterable[str],
        templates: str | os.PathLike | Sequence[str] = "clip_best",
        batch_size: int = 32,
        *,
        max_pixels: int = MAX_PIXELS,
        max_patches: int | None = None,
    ) -> np.ndarray:
        """Classifies images among classes named in plain words (paper, section 4.1).

        Args:
            images: as for `encode_image`.
            class_names: what the classes are called: strings, in any sequence.
            templates: `clip_best`, `clip_paper`, `class_name_only`, or a list of texts with `{}`.
            batch_size: how many images go through the tower at once; does not change the result.
            max_pixels: as for `encode_image`.
            max_patches: as for `encode_image`.

        Returns:
            float32 (N, classes), probabilities that sum to 1 for every image. Classes whose
            names are equal, or become the same tokens, have equal ones; a warning names them.
        """
        how: dict[str, Any] = {"max_pixels": max_pixels, "max_patches": max_patches}
        logits = self.class_logits(images, class_names, templates, batch_size, **how)
        return tf.nn.softmax(logits).numpy()

    def class_logits(
        self,
        images: Iterable[Any],
        class_names: Iterable[str],
        templates: str | os.PathLike | Sequence[str] = "clip_best",
        batch_size: int = 32,
        **how: Any,
    ) -> np.ndarray:
        """Returns the logits float32 (N, classes) behind `classify`, which takes the same.

        Their softmax is what `classify` answers. With a model that has a bias, their sigmoid is the
        probability that an image fits a class, independent of the other classes.
        """
        errors.positive_integer(batch_size, "batch_size")
        class_names = zero_shot.checked_class_names(class_names)
        classes = zero_shot.class_embeddings(self.encode_text, class_names, templates)
        zimg = self.encode_image(images, batch_size, **how)
        return self.logits(zimg, classes).numpy()

    def match(
        self,
        images: Iterable[Any],
        texts: Sequence[str],
        batch_size: int = 32,
        **how: Any,
    ) -> np.ndarray:
        """Returns the probability that each text fits each image, independent of all others.

        Unlike `classify`'s, these probabilities do not sum to 1: several texts may fit an image, or
        none. Needs a model with a bias, such as SigLIP, which was trained by the sigmoid loss.

        Examples:
            >>> model = lit_tf.load("SigLIP2-B16-256")
            >>> model.match(["cat.jpg"], ["a cat", "a sleeping cat", "a dog"])  # (1, 3)

        Args:
            images: as for `encode_image`.
            texts: M strings, taken as they are (no prompt template).
            batch_size: how many images go through the tower at once; does not change the result.
            **how: `max_pixels` and `max_patches`, as for `encode_image`.

        Returns:
            float32 (N, M) in [0, 1].

        Raises:
            LitError: the model has no bias, so its logits only rank texts.
        """
        if self.b is None and self.t is not None:  # else a tower is missing, which encoding says
            raise LitError(
                "match needs a model with a bias, such as SigLIP: only the sigmoid loss makes "
                "sigmoid(logits) a probability. Use classify, which compares texts with each other"
            )
        ztxt = self.encode_text(texts)
        zimg = self.encode_image(images, batch_size, **how)
        return tf.sigmoid(self.logits(zimg, ztxt)).numpy()

    def with_dtype(self, dtype: Any) -> "LitModel":
        """Returns this model in another Keras policy of floats; itself if it has that."""
        policy = layers.dtype_policy(dtype)
        if policy.name == self.dtype_policy.name:
            return self
        out = LitModel(self.config, self.tokenizer, seed=None, dtype=policy, name=self.name)
        given = self.canonical_variables()
        for name, variable in out.canonical_variables().items():
            variable.assign(tf.cast(given[name].value, variable.dtype))
        layers.freeze(out, layers.frozen(self))
        return out

    # --- checkpoints ---------------------------------------------------------------------------

    def canonical_variables(self) -> dict[str, keras.Variable]:
        """Returns {canonical name: variable} of every variable, ordered by name."""
        out = {}
        for prefix, tower in (("img", self.image_tower), ("txt", self.text_tower)):
            if tower is not None:
                out.update({f"{prefix}/{k}": v for k, v in tower.canonical_variables().items()})
        out |= {k: v for k, v in (("t", self.t), ("b", self.b)) if v is not None}
        return dict(sorted(out.items()))

    def fingerprint(self, prefix: str = "") -> str:
        """Returns a SHA-256 of the names and float32 values of variables whose names begin so."""
        digest = hashlib.sha256()
        for name, variable in self.canonical_variables().items():
            if name.startswith(prefix):
                digest.update(name.encode())
                digest.update(np.ascontiguousarray(variable.numpy(), np.float32).tobytes())
        return digest.hexdigest()

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs; the vocabulary travels along."""
        config = {**super().get_config(), "config": self.config.to_dict(), "tokenizer": None}
        config |= {"seed": self.seed, "frozen": layers.frozen(self)}
        if self.tokenizer is not None:
            data = base64.b64encode(self.tokenizer.to_bytes()).decode()
            config["tokenizer"] = {"kind": self.tokenizer.kind, "data": data}
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LitModel":
        """Rebuilds the model: frozen where it was, and started as the constructor does."""
        config = dict(config)
        names, seed = config.pop("frozen", None), layers.first_values(config.pop("seed", None))
        lit, tokenizer = LitConfig.from_dict(config.pop("config")), config.pop("tokenizer")
        if tokenizer is not None:
            data = base64.b64decode(tokenizer["data"])
            tokenizer = tokenizers.tokenizer_from_bytes(
                tokenizer["kind"], data, lit.token_length, bool(lit.lowercase), lit.preprocessing
            )
        model = cls(lit, tokenizer, seed, **config)
        if names is not None:
            layers.freeze(model, names)
        return model
