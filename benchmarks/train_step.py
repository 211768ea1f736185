"""The locked train step, B/16 and BERT base: float32 and bfloat16, beside plain matmuls.

bfloat16 is what the shipped configs but `digits` compute in, since it is a TPU's own format. A
processor without bfloat16 instructions emulates them.
"""

import argparse
import sys

import numpy as np
import tensorflow as tf
from timing import best_times
from towers import matmuls, products

from lit_tf.config import BertConfig, LitConfig, ViTConfig
from lit_tf.model import LitModel
from lit_tf.training.config import ModelConfig, TrainConfig
from lit_tf.training.towers import build_step

BATCH, LENGTH = 16, 16
CONFIG = LitConfig(
    image=ViTConfig(16, 224, 768, 12, 12, 3072),
    text=BertConfig(30522, 768, 12, 12, 3072, 512, out_dim=768),
)


def stepper(dtype):
    """Returns a function that takes one train step with a locked image tower.

    Args:
        dtype: "float32" or "bfloat16", as a training config's `dtype`.
    """
    policy = "mixed_bfloat16" if dtype == "bfloat16" else dtype
    model = LitModel(CONFIG, dtype=policy)
    config = TrainConfig(model=ModelConfig(locking="LU"), dtype=dtype, batch_size=BATCH)
    one_step = tf.function(build_step(config, model), autograph=False)
    rng = np.random.default_rng(0)
    batch = {
        "image": tf.constant(rng.integers(0, 256, (BATCH, 224, 224, 3), np.uint8)),
        "tokens": tf.constant(rng.integers(1, 30000, (BATCH, LENGTH), np.int32)),
    }
    return lambda: one_step(batch)["loss"].numpy()


def step_products():
    """Returns the products of a step: the image tower once, the text tower's three times."""
    image = products(CONFIG.image, BATCH, 1 + CONFIG.image.grid**2)
    return image + [(3 * n, a, b) for n, a, b in products(CONFIG.text, BATCH, LENGTH)]


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each")
    args = parser.parse_args()
    functions = {"plain matmuls": matmuls(step_products(), "float32")}
    functions |= {dtype: stepper(dtype) for dtype in ("float32", "bfloat16")}
    times = best_times(functions, args.rounds)
    for name, seconds in times.items():
        ratio = times["plain matmuls"] / seconds
        print(f"  {name:15s} {seconds:7.3f} s {BATCH / seconds:8.1f} examples/s {ratio:6.2f}")
    print(f"  bfloat16 / float32 {times['float32'] / times['bfloat16']:.2f}")
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        native = not {"avx512_bf16", "amx_bf16"}.isdisjoint(file.read().split())
    print(f"  this processor has {'' if native else 'no '}bfloat16 instructions")
    return True


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
