"""The text tower of LiT-L16S, LiT-L16Ti and the SigLIP family: its last position answers."""

import keras
import tensorflow as tf

from lit_tf.config import TextTransformerConfig
from lit_tf.towers.bert import Table
from lit_tf.towers.layers import LayerNorm, PreNormBlock, TextTower


@keras.saving.register_keras_serializable("lit_tf")
class TextTransformer(TextTower):
    """Text transformer without any mask: not causal, and padding is attended to.

    Without a seed, variables stay at zero, to be filled.
    """

    canonical_names = {
        "tokens": "Embed_0",
        "pos_embedding": "pos_embedding",
        "encoder_norm": "Encoder_0/encoder_norm",
        "head": "head",
    }
    block_prefix = "Encoder_0/encoderblock_"
    config_class = TextTransformerConfig

    def __init__(self, config: TextTransformerConfig, seed: int | None = 0, **kwargs):
        super().__init__(config, seed, **kwargs)
        self.shortest = config.max_length  # the last position answers
        c, policy = config, self.dtype_policy
        self.tokens = Table(c.vocab_size, c.width, dtype=policy, name="tokens")
        self.pos_embedding = self.parameter("pos_embedding", (1, c.max_length, c.width))
        self.add_blocks(PreNormBlock)
        self.encoder_norm = LayerNorm(c.width, 1e-6, dtype=policy, name="encoder_norm")
        self.finish()

    def without_padding(self, tokens):
        """Returns tokens as they are: padding is attended to (see `Bert`)."""
        return tokens

    def representation(self, tokens, training=False, dropout_seed=None):
        """Returns (batch, width): what the head is applied to; there is no dropout."""
        last = self.config.max_length - 1
        x = self.tokens(tokens) + tf.cast(self.pos_embedding, self.compute_dtype)
        for i, block in enumerate(self.blocks):
            x = block(x, position=last if i == self.depth - 1 else None)
        return tf.reshape(self.encoder_norm(x), (-1, self.config.width))
