"""How many floating-point operations a model needs, counted by hand: the numerator of utilization.

Only matrix products count (a multiplication and an addition are two), and only those that the
result depends on: a tower returns one token, so its last block needs queries, projection and MLP
for that token alone. What is computed twice (gradient caching) counts once.
"""

from lit_tf.config import LitConfig


def blocks(tokens: int, width: int, depth: int, mlp_dim: int) -> int:
    """Forward FLOPs of `depth` transformer blocks, the last of them for one token.

    Per token and block: queries, keys, values and projection 4 * width^2, attention
    2 * tokens * width, MLP 2 * width * mlp_dim multiply-accumulates.
    """
    last = pooling(tokens, width, mlp_dim) + 2 * width**2  # and the token's own query
    return whole_blocks(tokens, width, depth - 1, mlp_dim) + last


def whole_blocks(tokens: int, width: int, depth: int, mlp_dim: int) -> int:
    """Forward FLOPs of `depth` transformer blocks for all tokens."""
    return 2 * depth * tokens * (4 * width**2 + 2 * tokens * width + 2 * width * mlp_dim)


def pooling(tokens: int, width: int, mlp_dim: int) -> int:
    """Forward FLOPs of attention from one given query to all tokens, projected, and an MLP."""
    return 2 * (2 * tokens * width**2 + 2 * tokens * width + width**2 + 2 * width * mlp_dim)


def image_tower(config: LitConfig) -> int:
    """Forward FLOPs of one image."""
    c = config.image
    patches = c.grid**2
    embedding = 2 * patches * 3 * c.patch_size**2 * c.width
    head = 2 * c.width * (c.out_dim or 0)
    if c.pool == "attention":
        body = whole_blocks(patches, c.width, c.depth, c.mlp_dim)
        return embedding + body + pooling(patches, c.width, c.mlp_dim) + head
    return embedding + blocks(patches + 1, c.width, c.depth, c.mlp_dim) + head


def text_tower(config: LitConfig) -> int:
    """Forward FLOPs of one text; looking up a row of a table costs none."""
    c = config.text
    head = 2 * c.width * (c.out_dim or 0)
    return blocks(config.token_length, c.width, c.depth, c.mlp_dim) + head


def train_step(
    config: LitConfig, batch_size: int, *, lock_image: bool, precomputed_images: bool = False
) -> int:
    """FLOPs of one training step over the global batch.

    A tower that trains costs three forward passes (backward is two), a locked one costs one.
    """
    image = 0 if precomputed_images else image_tower(config) * (1 if lock_image else 3)
    text = text_tower(config) * 3
    logits = 3 * 2 * 2 * batch_size * config.embedding_dim
    return batch_size * (image + text + logits)
