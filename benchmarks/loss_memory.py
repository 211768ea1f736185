"""Peak memory of the chunked losses and their gradients at a global batch of 16,384.

All rows at once would be 16,384^2 logits of four bytes, 1 GiB, several times over. What counts here
is the peak above what the process holds before: inputs, TensorFlow and its threads.
"""

import pathlib
import subprocess
import sys

BATCH, WIDTH, CHUNK = 16_384, 768, 256
BOUND = 1e9  # bytes

# Peak memory has to be asked of a fresh process; Linux lets its mark be reset.
PROGRAM = """
import os, pathlib, sys
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import tensorflow as tf
from lit_tf.contrastive.collectives import Collectives
from lit_tf.contrastive.losses import LOSS_FUNCTIONS

name, batch, width, chunk = sys.argv[1], *map(int, sys.argv[2:])

def embeddings(batch, seed):
    return tf.math.l2_normalize(tf.random.stateless_normal([batch, width], [seed, 0]), -1)

def memory(field):
    text = pathlib.Path("/proc/self/status").read_text()
    return int(text.split(field + ":")[1].split()[0]) * 1024

@tf.function
def loss_and_gradients(zimg, ztxt):
    sources = [zimg, ztxt, tf.constant([2.3]), tf.constant([-2.7])]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        loss = LOSS_FUNCTIONS[name](*sources, collectives=Collectives(), chunk=chunk)
    return loss, tape.gradient(loss, sources, unconnected_gradients="zero")

# A small batch first: what TensorFlow takes to run anything at all is not the loss's.
loss_and_gradients(embeddings(2 * chunk, 0), embeddings(2 * chunk, 1))
zimg, ztxt = embeddings(batch, 0), embeddings(batch, 1)
pathlib.Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
loss, _ = loss_and_gradients(zimg, ztxt)
loss.numpy()
print(memory("VmHWM") - before)
"""


def peak(name):
    """Returns how many bytes a loss takes at its peak, in a process of its own."""
    arguments = [name, str(BATCH), str(WIDTH), str(CHUNK)]
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main():
    """Prints the peaks; returns whether they are below the bound."""
    if not pathlib.Path("/proc/self/clear_refs").exists():
        sys.exit("peak memory is read from /proc, which this system has not")
    print(f"  batch {BATCH:,}, width {WIDTH}, {CHUNK} rows of logits at a time, with gradients")
    held = True
    for name in ("softmax", "sigmoid"):
        size = peak(name)
        held &= size < BOUND
        print(
            f"  {name:58s} {size / 1e6:6.0f} MB   held to < 1 GB: {'yes' if size < BOUND else 'NO'}"
        )
    return held


if __name__ == "__main__":
    sys.exit(not main())
