"""Inference speed of both towers beside plain matrix products and beside KerasHub.

    python benchmarks/towers.py [--rounds 7]

The yardstick is what the machine can do: the products that the tower computes, one `tf.matmul`
each, with nothing between them. Only one token of the last block is ever used, so a tower computes
its queries, projection and MLP for that token alone, and no more is counted here. (The block's keys
and values count for all tokens, as usual, though our towers work around them.) KerasHub's computes
the last block in full; its GFLOP/s are of the same count, so they compare times.
"""

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from timing import best_times, verdict

from lit_tf.config import BertConfig, LitConfig, ViTConfig
from lit_tf.model import LitModel

IMAGES, TEXTS, LENGTH = 8, 64, 16
VIT = ViTConfig(
    patch_size=16, image_size=224, width=768, depth=12, num_heads=12, mlp_dim=3072, out_dim=None
)
BERT = BertConfig(
    vocab_size=30522, width=768, depth=12, num_heads=12, mlp_dim=3072, max_length=512, out_dim=768
)


def products(config, batch, tokens):
    """Returns (times, shape of a, shape of b) of every matrix product that a tower computes.

    Args:
        config: ViTConfig or BertConfig.
        batch: images or texts.
        tokens: tokens of each, class token included.
    """
    width, heads = config.width, config.num_heads
    rows, head = batch * tokens, width // heads
    out = []
    if isinstance(config, ViTConfig):
        patch = 3 * config.patch_size**2
        out.append((1, (batch * config.grid**2, patch), (patch, width)))
    pooled = isinstance(config, ViTConfig) and config.pool == "attention"
    full = config.depth - (not pooled)  # the last block is for one token, unless all are pooled
    for times, queries in ((full, tokens), (config.depth - full, 1)):
        out += [
            (times, (batch * queries, width), (width, width)),  # query
            (2 * times, (rows, width), (width, width)),  # key and value
            (times, (batch, heads, queries, head), (batch, heads, head, tokens)),
            (times, (batch, heads, queries, tokens), (batch, heads, tokens, head)),
            (times, (batch * queries, width), (width, width)),  # output
            (times, (batch * queries, width), (width, config.mlp_dim)),
            (times, (batch * queries, config.mlp_dim), (config.mlp_dim, width)),
        ]
    if pooled:  # its query is the same for all images
        out += [
            (2, (rows, width), (width, width)),  # key and value
            (1, (batch, heads, 1, head), (batch, heads, head, tokens)),
            (1, (batch, heads, 1, tokens), (batch, heads, tokens, head)),
            (1, (batch, width), (width, width)),  # output
            (1, (batch, width), (width, config.mlp_dim)),
            (1, (batch, config.mlp_dim), (config.mlp_dim, width)),
        ]
    if config.out_dim:
        out.append((1, (batch, width), (width, config.out_dim)))
    return [p for p in out if p[0]]


def flops(products):
    """Returns the floating-point operations of a list of products."""
    return sum(n * 2 * np.prod(a, dtype=np.int64) * b[-1] for n, a, b in products)


def matmuls(products, dtype):
    """Returns a function that computes these products one after the other.

    Every product of a tower has a kernel of its own, so every call here has, too; the left sides
    are shared between products of one shape.
    """
    rng = np.random.default_rng(0)

    def tensor(shape):
        return tf.cast(rng.standard_normal(shape, dtype=np.float32), dtype)

    left = {a: tensor(a) for _, a, _ in products}
    calls = [(left[a], tensor(b)) for n, a, b in products for _ in range(n)]

    def run():
        for a, b in calls:
            y = tf.matmul(a, b)
        y.numpy()

    return run


def ours(config, inputs, dtype):
    """Returns a function that embeds the inputs with one of our towers."""
    image, text = (config, None) if isinstance(config, ViTConfig) else (None, config)
    model = LitModel(LitConfig(image=image, text=text), dtype=dtype)
    # Not as encode_text does it: that would cut the tokens to the longest text.
    function = tf.function(model.embed_images if image else model.embed_tokens, autograph=False)
    return lambda: function(inputs).numpy()


def keras_hub_towers(pixels, tokens, dtype):
    """Returns the two functions of KerasHub's backbones of the same sizes, {} if not installed."""
    try:
        import keras_hub
    except ImportError:
        print("KerasHub is not installed (pip install -e '.[bench]'); its rows are left out")
        return {}
    vit = keras_hub.models.ViTBackbone(
        image_shape=(VIT.image_size, VIT.image_size, 3),
        patch_size=(VIT.patch_size, VIT.patch_size),
        num_layers=VIT.depth,
        num_heads=VIT.num_heads,
        hidden_dim=VIT.width,
        mlp_dim=VIT.mlp_dim,
        dtype=dtype,
    )
    bert = keras_hub.models.BertBackbone(
        vocabulary_size=BERT.vocab_size,
        num_layers=BERT.depth,
        num_heads=BERT.num_heads,
        hidden_dim=BERT.width,
        intermediate_dim=BERT.mlp_dim,
        max_sequence_length=BERT.max_length,
        dtype=dtype,
    )
    texts = {
        "token_ids": tokens,
        "segment_ids": tf.zeros_like(tokens),
        "padding_mask": tf.cast(tokens != 0, tf.int32),
    }
    image = tf.function(lambda x: vit(x, training=False)[:, 0])
    text = tf.function(lambda x: bert(x, training=False)["sequence_output"][:, 0])
    return {"image": lambda: image(pixels).numpy(), "text": lambda: text(texts).numpy()}


def measure(kind, config, inputs, dtypes, hub, rounds):
    """Times one tower in some dtypes; prints a table and returns {row: seconds}."""
    if kind == "image":
        batch, tokens = IMAGES, 1 + VIT.grid**2
    else:
        batch, tokens = TEXTS, LENGTH
    computed = products(config, batch, tokens)
    total = flops(computed)
    functions = {}
    for dtype in dtypes:
        functions[f"matmuls {dtype}"] = matmuls(computed, dtype)
        functions[f"lit_tf {dtype}"] = ours(config, inputs, dtype)
    if hub:
        functions["KerasHub float32"] = hub
    times = best_times(functions, rounds)
    print(f"\n{kind} tower, batch {batch} x {tokens} tokens, {total / 1e9:.0f} GFLOP")
    print(f"  {'':20s} {'ms':>8s} {'GFLOP/s':>9s} {'of the matmul rate':>20s}")
    for name, seconds in times.items():
        yardstick = times.get(f"matmuls {name.split()[-1]}")
        print(
            f"  {name:20s} {seconds * 1e3:8.1f} {total / seconds / 1e9:9.0f} "
            f"{yardstick / seconds:20.2f}"
        )
    return times


def main():
    """Runs the benchmark; returns whether every bound holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="timed calls of each function")
    rounds = parser.parse_args().rounds
    rng = np.random.default_rng(0)
    pixels = tf.constant(rng.uniform(-1, 1, (IMAGES, 224, 224, 3)).astype(np.float32))
    ids = rng.integers(1000, 30000, (TEXTS, LENGTH))
    ids[np.arange(LENGTH) >= rng.integers(4, LENGTH + 1, (TEXTS, 1))] = 0
    tokens = tf.constant(ids.astype(np.int32))
    keras.utils.set_random_seed(0)
    hub = keras_hub_towers(pixels, tokens, "float32")

    image = measure("image", VIT, pixels, ["float32", "bfloat16"], hub.get("image"), rounds)
    text = measure("text", BERT, tokens, ["float32", "bfloat16"], hub.get("text"), rounds)

    print("\nratios")
    held = [
        verdict(
            "image tower float32 / plain matmuls",
            image["matmuls float32"] / image["lit_tf float32"],
            0.84,
        ),
        verdict(
            "text tower float32 / plain matmuls",
            text["matmuls float32"] / text["lit_tf float32"],
            0.74,
        ),
    ]
    faster = image["lit_tf float32"] / image["lit_tf bfloat16"]
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        has_bfloat16 = not {"avx512_bf16", "amx_bf16"}.isdisjoint(f.read().split())
    if has_bfloat16:
        held.append(verdict("image tower bfloat16 / float32", faster, 1.6))
    else:
        print(f"  bfloat16 / float32 {faster:.2f} (this processor has no bfloat16 instructions)")
    for kind, times in (("image", image), ("text", text)):
        if "KerasHub float32" in times:
            ratio = times["KerasHub float32"] / times["lit_tf float32"]
            print(f"  {f'{kind} tower float32 / KerasHub':58s} {ratio:6.2f}")
    return all(held)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
