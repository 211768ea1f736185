"""The text tower of most published models: BERT (arXiv:1810.04805) that answers with [CLS]."""

import keras
import tensorflow as tf

from lit_tf.config import BertConfig
from lit_tf.towers import layers, ops


class Table(layers.CanonicalLayer):
    """An embedding table."""

    canonical_names = {"table": "embedding"}

    def __init__(self, rows, width, **kwargs):
        super().__init__(**kwargs)
        # Not cast as a whole under mixed precision: only the rows that are looked up are.
        self.table = self.parameter("embedding", (rows, width), autocast=False)

    def call(self, ids):
        """Maps int32 (batch, tokens) to (batch, tokens, width)."""
        rows = layers.current_ops().lookup(tf.convert_to_tensor(self.table), tf.cast(ids, tf.int32))
        return tf.cast(rows, self.compute_dtype)


@keras.saving.register_keras_serializable("lit_tf")
class Bert(layers.TextTower):
    """BERT encoder with an optional linear head on [CLS]; tokens equal to 0 are padding.

    Examples:
        >>> sizes = {"width": 768, "depth": 12, "num_heads": 12, "mlp_dim": 3072}
        >>> tower = Bert(BertConfig(vocab_size=30522, **sizes))
        >>> z = tower(tokens)  # int32 (batch, 16) -> (batch, 768)

    Without a seed, variables stay at zero, to be filled.
    """

    canonical_names = {
        "tokens": "BertEncoder_0/embedder/embedders_token_ids",
        "positions": "BertEncoder_0/embedder/embedders_position_ids",
        "segments": "BertEncoder_0/embedder/embedders_segment_ids",
        "embedding_norm": "BertEncoder_0/layer_norm",
        "head": "head",
    }
    block_prefix = "BertEncoder_0/encoder_block/layer_sequence/layers_"
    config_class = BertConfig

    def __init__(self, config: BertConfig, seed: int | None = 0, **kwargs):
        super().__init__(config, seed, **kwargs)
        c, policy = config, self.dtype_policy
        self.tokens = Table(c.vocab_size, c.width, dtype=policy, name="tokens")
        self.positions = Table(c.max_length, c.width, dtype=policy, name="positions")
        self.segments = Table(c.segments, c.width, dtype=policy, name="segments")
        self.embedding_norm = layers.LayerNorm(c.width, 1e-12, dtype=policy, name="embedding_norm")
        self.add_blocks(layers.PostNormBlock, c.dropout_rate)
        self.finish()

    def without_padding(self, tokens):
        """Returns tokens without the columns that are padding in every row: it is masked anyway."""
        if layers.compiled_by_xla():  # which wants one static length
            return tokens
        full = tokens.shape[1]
        is_token = tf.not_equal(tokens, 0)
        ends = tf.reduce_max(tf.where(is_token, tf.range(1, full + 1), 0), axis=1)  # (batch,)
        # A row without any token attends to all of its padding, so it needs the full length.
        ends = tf.where(tf.equal(ends, 0), full, ends)
        return tokens[:, : tf.maximum(tf.reduce_max(ends), 1)]  # an empty batch has no maximum

    def representation(self, tokens, training=False, dropout_seed=None):
        """Returns (batch, width): what the head, if there is one, is applied to."""
        length = tokens.shape[1]
        if length is None:  # a batch that was cut
            length = tf.shape(tokens)[1]
        x = self.tokens(tokens)  # (batch, length, width)
        x += tf.cast(self.positions.table[tf.newaxis, :length], x.dtype)
        x += tf.cast(self.segments.table[0], x.dtype)
        x = self.embedding_norm(x)
        seeds, rate = None, self.config.dropout_rate
        if training and rate:
            if dropout_seed is None:
                dropout_seed = tf.random.uniform((2,), maxval=2**31 - 1, dtype=tf.int32)
            seeds = tf.random.split(dropout_seed, 1 + 3 * self.depth)  # one a mask
            x = ops.dropout(x, rate, seeds[0])
        padding = tf.cast(tf.equal(tokens, 0), tf.float32) * layers.MASKED
        padding = padding[:, None, None, :]  # (batch, 1, 1, length)
        for i, block in enumerate(self.blocks):
            x = block(
                x,
                padding=padding,
                position=0 if i == self.depth - 1 else None,
                dropout_seeds=None if seeds is None else seeds[1 + 3 * i : 4 + 3 * i],
            )
        return tf.reshape(x, (-1, self.config.width))
