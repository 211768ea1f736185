"""FLOPs of the train step with a locked and with an unlocked image tower, in the compiled graph.

B/16 and BERT base, as in `lit_coco`. The step is compiled to XLA's HLO, in which every operation
still names the layer and gradient that it comes from (later stages forget some of them), and the
floating-point operations of its matrix products are added up. A locked tower should cost what one
forward pass costs, and nothing that is called from a gradient.
"""

import collections
import math
import os
import re
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

from lit_tf.config import BertConfig, LitConfig, ViTConfig
from lit_tf.model import LitModel
from lit_tf.training.config import ModelConfig, TrainConfig
from lit_tf.training.towers import build_step

BATCH = 8
CONFIG = LitConfig(
    image=ViTConfig(16, 224, 768, 12, 12, 3072),
    text=BertConfig(30522, 768, 12, 12, 3072, 512, out_dim=768),
)
INPUTS = (tf.TensorSpec([BATCH, 224, 224, 3]), tf.TensorSpec([BATCH, 16], tf.int32))


def flops(function, *inputs):
    """Returns {"image forward", "image backward", "text ...", "other": FLOPs} of a function.

    Args:
        function: of tensors.
        inputs: `tf.TensorSpec`s.
    """
    compiled = tf.function(function, jit_compile=True)
    return count(compiled.experimental_get_compiler_ir(*inputs)(stage="hlo"))


def count(hlo):
    """Adds up the matrix products that a program's result depends on, each of which runs once."""
    lines, shapes, root = {}, {}, None
    pattern = r"\s+(ROOT )?%([\w.\-]+) = (?:\w+\[([\d,]*)\]\S*|\(.*?\)) ([\w\-]+)\((.*)"
    for line in hlo[hlo.index("\nENTRY ") :].splitlines():
        if match := re.match(pattern, line):
            is_root, name, dims, opcode, rest = match.groups()
            if opcode in ("while", "call", "conditional"):
                raise ValueError(f"this may run more often than once: {line.strip()[:120]}")
            shapes[name] = [int(d) for d in (dims or "").split(",") if d]
            lines[name] = opcode, re.findall(r"%([\w.\-]+)", rest.split("metadata=")[0]), rest
            root = name if is_root else root
    found, waiting, seen = collections.Counter(), [root], set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in lines:
            continue
        seen.add(name)
        opcode, operands, rest = lines[name]
        waiting += operands
        if opcode == "dot":
            axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", rest)[1]
            contracted = math.prod(shapes[operands[0]][int(a)] for a in axes.split(",") if a)
        elif opcode == "convolution":  # the patches' embedding: all of a kernel but its features
            features = re.search(r"dim_labels=\w+_(\w+)->", rest)[1].index("o")
            contracted = math.prod(shapes[operands[1]]) // shapes[operands[1]][features]
        else:
            continue
        source = re.search(r'op_name="([^"]*)"', rest)
        found[_kind(source[1] if source else "")] += 2 * math.prod(shapes[name]) * contracted
    return found


def _kind(source):
    direction = "backward" if "gradient_tape" in source else "forward"
    for tower in ("image", "text"):
        if f"{tower}_tower" in source:
            return f"{tower} {direction}"
    return "other"


def step_flops(model, locking):
    """FLOPs of the train step of a run with this locking."""
    config = TrainConfig(model=ModelConfig(locking=locking), dtype="float32", batch_size=BATCH)
    step = build_step(config, model)
    return flops(lambda image, tokens: step({"image": image, "tokens": tokens}), *INPUTS)


def main():
    """Prints the counts; returns whether the locked step does what it should and no more."""
    model = LitModel(CONFIG, seed=None)
    forward = sum(flops(model.embed_images, INPUTS[0]).values())
    locked, unlocked = step_flops(model, "LU"), step_flops(model, "UU")
    print(f"  {'GFLOP at batch ' + str(BATCH):28s} {'locked':>10s} {'unlocked':>10s}")
    kinds = ("image forward", "image backward", "text forward", "text backward", "other")
    for kind in kinds:
        print(f"  {kind:28s} {locked[kind] / 1e9:10.2f} {unlocked[kind] / 1e9:10.2f}")
    totals = sum(locked.values()), sum(unlocked.values())
    print(f"  {'step':28s} {totals[0] / 1e9:10.2f} {totals[1] / 1e9:10.2f}")
    print(f"  locked / unlocked {totals[0] / totals[1]:.3f}")
    image = locked["image forward"] + locked["image backward"]
    held = {
        f"locked image tower / its forward pass {image / forward:.3f}, held to 1": (
            abs(image / forward - 1) < 0.001
        ),
        "no backward work in the locked image tower": not locked["image backward"],
        "backward work in the unlocked one (or nothing was measured)": (
            unlocked["image backward"] > 1.5 * forward
        ),
    }
    for what, yes in held.items():
        print(f"  {what}: {'yes' if yes else 'NO'}")
    return all(held.values())


if __name__ == "__main__":
    sys.exit(not main())
