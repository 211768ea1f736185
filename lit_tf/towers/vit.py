"""The image tower: a Vision Transformer (arXiv:2010.11929).

It answers with its class token (LiT), or with what attention pooling makes of all patches (SigLIP).
NaFlex (arXiv:2502.14786, section 2.4.2) is the same tower on images that keep their shape: patches
come cut, with coordinates, and padding is masked.
"""

import keras
import numpy as np
import tensorflow as tf

from lit_tf.config import ViTConfig
from lit_tf.errors import ImageError
from lit_tf.towers import layers, ops

_OUTERMOST = 1.1  # of an image's values


class PatchEmbedding(layers.CanonicalLayer):
    """Maps every patch of an image linearly."""

    canonical_names = {"kernel": "kernel", "bias": "bias"}

    def __init__(self, patch_size, width, **kwargs):
        super().__init__(**kwargs)
        self.patch_size = patch_size
        self.kernel = self.parameter("kernel", (patch_size, patch_size, 3, width))
        self.bias = self.parameter("bias", (width,))

    def call(self, images):
        """Maps (batch, side, side, 3) to (batch, patches, width)."""
        kernel, bias = (tf.cast(v, images.dtype) for v in (self.kernel, self.bias))
        return layers.current_ops().embed_patches(images, kernel, bias)


class AttentionPooling(layers.CanonicalLayer):
    """Pools tokens by attention from a learned query (arXiv:2106.04560, section 3.2)."""

    canonical_names = {
        "probe": "probe",
        "attention": "MultiHeadDotProductAttention_0",
        "mlp_norm": "LayerNorm_0",
        "mlp": "MlpBlock_0",
    }

    def __init__(self, width, num_heads, mlp_dim, **kwargs):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.probe = self.parameter("probe", (1, 1, width))
        self.attention = layers.Attention(width, num_heads, dtype=policy, name="attention")
        self.mlp_norm = layers.LayerNorm(width, 1e-6, dtype=policy, name="mlp_norm")
        self.mlp = layers.Mlp(width, mlp_dim, dtype=policy, name="mlp")

    def call(self, x, padding=None):
        """Maps (batch, tokens, width) to (batch, 1, width); `padding` is as in Attention."""
        # The query is the same for all images, so it is projected once.
        y = layers.current_ops().attention_of_probe(self.attention, self.probe, x, padding)
        return self.complete(y)

    def complete(self, y):
        """Maps what was attended to, (batch, 1, width), to the same shape."""
        return y + self.mlp(self.mlp_norm(y))


def interpolated_positions(table, coordinates):
    """Returns positions float32 (batch, patches, width) of patches at (y, x), int32 (..., 2).

    The table (n, n, width) is resized bilinearly, with antialias, to each image's own rows and
    columns; unlike the original's table of 64 x 64 places, without a limit.
    """
    n, width = table.shape[0], table.shape[-1]
    places = tf.cast(coordinates, tf.float32)  # (batch, patches, 2)
    sides = tf.reduce_max(places, axis=1, keepdims=True) + 1  # (batch, 1, 2): rows, columns
    step = 1 / (sides / n)  # of the table, for one patch
    centres = (places + 0.5) * step - 0.5
    distances = tf.abs(centres[..., tf.newaxis] - tf.range(n, dtype=tf.float32))
    weights = tf.nn.relu(1 - distances / tf.maximum(step, 1)[..., tf.newaxis])
    weights /= tf.reduce_sum(weights, axis=-1, keepdims=True)  # (batch, patches, 2, n)
    # One product with the whole table: as rows, then columns, the sums would be n times as large.
    pairs = weights[:, :, 0, :, tf.newaxis] * weights[:, :, 1, tf.newaxis, :]
    pairs = tf.reshape(pairs, (-1, *ops.inner_sizes(pairs)[:1], n * n))
    return tf.matmul(pairs, tf.cast(tf.reshape(table, (n * n, width)), tf.float32))


@keras.saving.register_keras_serializable("lit_tf")
class ViT(layers.Tower):
    """Vision Transformer: patches, pre-norm blocks, final norm, pooling, optional linear head.

    Examples:
        >>> tower = ViT(ViTConfig(patch_size=16, image_size=224, width=768, depth=12, num_heads=12,
        ...                       mlp_dim=3072))
        >>> z = tower(images)  # float (batch, 224, 224, 3) in [-1, 1] -> (batch, 768)

    Without a seed, variables stay at zero, to be filled.
    """

    canonical_names = {
        "cls": "cls",
        "cls_pos_embedding": "cls_pos_embedding",
        "pos_embedding": "pos_embedding",
        "embedding": "embedding",
        "encoder_norm": "Transformer/encoder_norm",
        "pooling": "MAPHead_0",
        "head": "head",
    }
    block_prefix = "Transformer/encoderblock_"
    config_class = ViTConfig

    def __init__(self, config: ViTConfig, seed: int | None = 0, **kwargs):
        super().__init__(config, seed, **kwargs)
        c, policy = config, self.dtype_policy
        self.cls = self.cls_pos_embedding = self.pooling = None
        if c.pool == "cls":
            self.cls = self.parameter("cls", (1, 1, c.width))
            # Some layouts add a row of their own to the class token. It only shifts `cls`, so
            # training leaves it alone; it is kept apart so that a checkpoint can be written back
            # unchanged.
            self.cls_pos_embedding = self.parameter(
                "cls_pos_embedding", (1, 1, c.width), trainable=False
            )
        if c.naflex:
            self.pos_embedding = self.parameter("pos_embedding", (c.grid, c.grid, c.width))
            pixels = (3 * c.patch_size**2,)
            self.embedding = layers.Dense(pixels, (c.width,), dtype=policy, name="embedding")
        else:
            self.pos_embedding = self.parameter("pos_embedding", (1, c.grid**2, c.width))
            self.embedding = PatchEmbedding(c.patch_size, c.width, dtype=policy, name="embedding")
        self.add_blocks(layers.PreNormBlock)
        self.encoder_norm = layers.LayerNorm(c.width, 1e-6, dtype=policy, name="encoder_norm")
        if c.pool == "attention":
            sizes = (c.width, c.num_heads, c.mlp_dim)
            self.pooling = AttentionPooling(*sizes, dtype=policy, name="pooling")
        self.finish()

    def check(self, images):
        """Raises ImageError for what is not float (batch, image_size, image_size, 3) in [-1, 1]."""
        if self.config.naflex:
            self._check_patches(images)
            return
        size = self.config.image_size
        wanted = f"the image tower takes floats in [-1, 1] of shape (N, {size}, {size}, 3), found"
        shape, dtype = layers.shape_and_dtype(images)
        if "float" not in dtype:
            raise ImageError(
                f"{wanted} {dtype}. lit_tf.images.preprocess makes them of pixels; "
                "model.encode_image takes pixels"
            )
        if shape is None or len(shape) != 4 or shape[1:] != (size, size, 3):
            hint = "" if shape is None or len(shape) == 4 else "; for one image, images[None]"
            raise ImageError(f"{wanted} {'an unknown shape' if shape is None else shape}{hint}")
        found = layers.limits(images)
        # What resizes by cubic curves ends a little outside.
        if found and not -_OUTERMOST <= found[0] <= found[1] <= _OUTERMOST:
            raise ImageError(
                f"{wanted} values from {found[0]:g} to {found[1]:g}. lit_tf.images.preprocess "
                "scales pixels as the tower was trained"
            )

    def _check_patches(self, images):
        """Raises ImageError for what is not `call`'s dictionary of NaFlex."""
        pixels = 3 * self.config.patch_size**2
        wanted = (
            f"this image tower (NaFlex) takes a dictionary: patches, floats (N, L, {pixels}) in "
            "[-1, 1]; coordinates, integers (N, L, 2) from 0; and, where there is padding, mask "
            "(N, L) of 0 and 1"
        )
        names = {"patches": (pixels,), "coordinates": (2,), "mask": ()}  # what follows (N, L)
        ranges = {"patches": (-_OUTERMOST, _OUTERMOST), "coordinates": (0, np.inf), "mask": (0, 1)}
        if not isinstance(images, dict) or {"mask", *images} != set(names):
            raise ImageError(f"{wanted}. model.encode_image takes images of any shape")
        whole = tf.TensorShape(layers.shape_and_dtype(images["patches"])[0])[:2]
        for name in names.keys() & images:
            shape, dtype = layers.shape_and_dtype(images[name])
            fits = shape and whole.concatenate(names[name]).is_compatible_with(shape)
            if not fits or ("float" in dtype) != (name == "patches"):
                raise ImageError(f"{wanted}; found {name} {dtype} {shape}, beside patches {whole}")
            found, (least, most) = layers.limits(images[name]), ranges[name]
            if found and not least <= found[0] <= found[1] <= most:
                raise ImageError(f"{wanted}; found {name} from {found[0]:g} to {found[1]:g}")

    def compute_output_shape(self, input_shape):
        if isinstance(input_shape, dict):
            input_shape = input_shape["patches"]
        return super().compute_output_shape(input_shape)

    def call(self, images):
        """Maps float (batch, image_size, image_size, 3) in [-1, 1] to (batch, embedding width).

        NaFlex takes {"patches": float (batch, L, 3 patch^2), "coordinates": int32 (batch, L, 2), y
        and x, "mask": int32 (batch, L), 0 for padding}; without padding it needs no mask.
        """
        x = self.representation(images)
        return x if self.head is None else self.head(x)

    def representation(self, images):
        """Returns (batch, width): what the head, if there is one, is applied to."""
        x, padding = self._sequence(images)
        for i, block in enumerate(self.blocks):
            # Of the last block only the class token is read, where there is one.
            only = 0 if i == self.depth - 1 and self.pooling is None else None
            x = block(x, padding, position=only)
        x = self.encoder_norm(x)
        x = x if self.pooling is None else self.pooling(x, padding)
        return tf.reshape(x, (-1, self.config.width))

    def _sequence(self, images):
        """Returns what the first block reads, (batch, tokens, width), and the padding of logits."""
        if self.config.naflex:
            x = self.embedding(images["patches"])  # (batch, L, width)
            with tf.name_scope("positions"):
                positions = interpolated_positions(self.pos_embedding, images["coordinates"])
            padding = images.get("mask")
            if padding is not None:
                padding = (1 - tf.cast(padding, tf.float32)) * layers.MASKED
                padding = padding[:, tf.newaxis, tf.newaxis]
            return x + tf.cast(positions, x.dtype), padding  # (batch, 1, 1, L)
        x = self.embedding(images)  # (batch, patches, width)
        if self.pooling is not None:
            return x + tf.cast(self.pos_embedding, x.dtype), None
        cls = tf.cast(self.cls, x.dtype) + tf.cast(self.cls_pos_embedding, x.dtype)
        table = tf.concat([cls, tf.cast(self.pos_embedding, x.dtype)], axis=1)
        # The class token is a row of zeros plus its row of the table.
        return layers.current_ops().zeros_first(x) + table, None  # (batch, 1 + patches, width)

    # --- looking inside ------------------------------------------------------------------------

    def tokens(self, images):
        """Returns (N, patches, width): what is said of every patch, row by row, before pooling."""
        x, padding = self._sequence(self._checked(images))
        for block in self.blocks:
            x = block(x, padding)
        return self.encoder_norm(x)[:, self._first :]

    @property
    def _first(self):
        """The number of the first patch among the tokens."""
        return 1 if self.pooling is None else 0

    def attention(self, images):
        """Returns (N, heads, patches): what the class token (and itself) or pooling attends to."""
        weights, _ = self._attended(self._checked(images))
        return weights[-1][:, :, 0, self._first :]

    def relevance(self, images, direction):
        """Returns (N, patches): how much each speaks for a direction (D,), as of a text.

        The attention of each layer, times the gradient of the cosine by it; what is positive,
        averaged over the heads, is followed back through the layers ("Generic Attention-model
        Explainability", arXiv:2103.15679, equations 5 and 6).
        """
        with tf.GradientTape() as tape:
            weights, z = self._attended(self._checked(images), tape)
            z = tf.cast(z if self.head is None else self.head(z), tf.float32)
            cosines = tf.linalg.matvec(tf.math.l2_normalize(z, axis=-1), direction)
        relevance = tf.eye(weights[0].shape[-1], batch_shape=[len(weights[0])])
        for w, gradient in zip(weights, tape.gradient(cosines, weights), strict=True):
            own = tf.reduce_mean(tf.nn.relu(tf.cast(w * gradient, tf.float32)), axis=1)
            below = tf.matmul(own, relevance)  # a pooling head has no row of its own to add to
            relevance = below if w.shape[2] == 1 else relevance + below
        return relevance[:, 0, self._first :]

    def _checked(self, images):
        self.check(images)
        if self.config.naflex:
            return {**images, "patches": tf.cast(images["patches"], self.compute_dtype)}
        return tf.cast(images, self.compute_dtype)

    def _attended(self, images, tape=None):
        """Returns every layer's attention (batch, heads, queries, keys), and the representation."""
        (x, padding), weights = self._sequence(images), []

        def see(found):
            weights.append(found)
            if tape is not None:
                tape.watch(found)
            return found

        def attend(layer, queries, keys):
            return ops.attention_by_projections(layer, queries, keys, padding, see=see)

        for block in self.blocks:
            y = block.attention_norm(x)
            x = block.complete(x + attend(block.attention, y, y))
        x = self.encoder_norm(x)
        if self.pooling is not None:
            probe = tf.repeat(tf.cast(self.pooling.probe, x.dtype), len(x), axis=0)
            x = self.pooling.complete(attend(self.pooling.attention, probe, x))
        return weights, x[:, 0]
