"""Supervised pre-training of LiT-digits' image tower: the part that LiT then locks.

Four linear heads on the tower's representation learn to classify the left digit, the right digit,
the ink and the paper. The result is an AugReg-style ViT checkpoint, so tuning starts from it
exactly as from a published one.

    python -m recipes.digits.pretrain --out runs/digits/vit.npz
"""

import argparse
import pathlib
import sys

import numpy as np
import tensorflow as tf
import tqdm

from lit_tf.checkpoints import layouts, npz
from lit_tf.config import ViTConfig
from lit_tf.contrastive.collectives import Collectives
from lit_tf.contrastive.config import ADAM, OptimizerConfig
from lit_tf.contrastive.optimizers import Optimizer, clip_by_global_norm
from lit_tf.images import preprocessing
from lit_tf.towers.vit import ViT
from lit_tf.training.digits import captions, render

from .measure import load_examples

TOWER = ViTConfig(patch_size=8, image_size=48, width=96, depth=5, num_heads=3, mlp_dim=384)

STEPS, BATCH_SIZE = 3500, 128

# How many classes each head has, in the order of the heads' columns.
TASKS = {
    "left": len(captions.DIGITS),
    "right": len(captions.DIGITS),
    "ink": len(render.INKS),
    "paper": len(render.PAPERS),
}


def pretrain(
    examples,
    *,
    config=TOWER,
    steps=STEPS,
    batch_size=BATCH_SIZE,
    learning_rate=1.5e-3,
    weight_decay=1e-3,
    warmup=200,
    seed=0,
    progress=True,
):
    """Trains a ViT on labelled pairs.

    Args:
        examples: {"image": uint8 (N, 32, 64, 3), and int (N,) for each of `TASKS`}.
        config: sizes of the tower, without a head.
        steps: optimizer steps; the learning rate follows a cosine.
        batch_size: images a step.
        learning_rate: Adam's, at the schedule's top.
        weight_decay: share of every kernel taken off at each step at the schedule's top.
        warmup: steps of warmup.
        seed: of the starting values and of the order of examples.
        progress: whether to show a progress bar.

    Returns:
        (the trained `ViT`, its heads as {"head/kernel": (width, 34), "head/bias": (34,)}).
    """
    tower = ViT(config, seed=seed)
    sizes = list(TASKS.values())
    # Zeros, as is usual for fine-tuning a ViT: the first steps then train only the heads.
    kernel = tf.Variable(tf.zeros((config.width, sum(sizes))), name="head_kernel")
    bias = tf.Variable(tf.zeros(sum(sizes)), name="head_bias")
    parameters = {
        name: variable.value
        for name, variable in tower.canonical_variables().items()
        if variable.trainable
    }
    parameters |= {"head/kernel": kernel, "head/bias": bias}
    settings = OptimizerConfig(ADAM, learning_rate, weight_decay, clip=1.0, warmup=warmup)
    optimizer, collectives = Optimizer(parameters, settings, steps), Collectives()

    @tf.function(reduce_retracing=True, autograph=False)
    def step(pixels, labels):
        pixels = preprocessing.preprocess(pixels, config.image_size)
        with tf.GradientTape() as tape:
            logits = tf.split(tower(pixels) @ kernel + bias, sizes, axis=-1)
            losses = [
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels[:, i], task)
                for i, task in enumerate(logits)
            ]
            loss = tf.reduce_mean(tf.add_n(losses))
        gradients = tape.gradient(loss, parameters)
        # The update runs in replica context, as it does in the trainer.
        strategy = tf.distribute.get_strategy()
        clipped, _ = clip_by_global_norm(gradients, settings.clip)
        strategy.run(lambda: optimizer.update(clipped, collectives))
        return loss

    labels = np.stack([examples[task] for task in TASKS], axis=1).astype(np.int32)
    bar = tqdm.trange(
        steps, desc="pre-training", unit="step", disable=not progress, file=sys.stderr
    )
    for number, batch in zip(bar, _batches(len(labels), batch_size, seed), strict=False):
        loss = step(tf.constant(examples["image"][batch]), tf.constant(labels[batch]))
        if number % 50 == 49:
            bar.set_postfix(loss=f"{float(loss):.3f}")
    return tower, {"head/kernel": kernel.numpy(), "head/bias": bias.numpy()}


def _batches(count, batch_size, seed):
    """Yields index arrays, epoch after epoch, each in a new order."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(count)
        for start in range(0, count - batch_size + 1, batch_size):
            yield order[start : start + batch_size]


def accuracy(tower, heads, examples):
    """Returns the share of right answers for each task, and for both digits together ("pair")."""
    side = tower.config.image_size
    embed = tf.function(lambda x: tower(preprocessing.preprocess(x, side)))
    chunks = range(0, len(examples["image"]), 250)
    z = np.concatenate([embed(examples["image"][i : i + 250]).numpy() for i in chunks])
    logits = z @ heads["head/kernel"] + heads["head/bias"]
    ends = np.cumsum(list(TASKS.values()))
    hits = {
        task: part.argmax(axis=1) == examples[task]
        for task, part in zip(TASKS, np.split(logits, ends[:-1], axis=1), strict=True)
    }
    hits["pair"] = hits["left"] & hits["right"]
    return {task: float(hit.mean()) for task, hit in hits.items()}


def save(tower, heads, path):
    """Writes the tower and its heads in AugReg's layout: the image tower's arrays at top level."""
    # AugReg's own has no attention pooling; big_vision's ViTs of today stand at top level, too.
    layout = "vit_jax" if tower.config.pool == "cls" else "big_vision"
    arrays = {
        f"img/{name}": (lambda v=variable: v.numpy())
        for name, variable in tower.canonical_variables().items()
    }
    arrays = [
        (key.removeprefix("img/"), np.asarray(read(), np.float32))
        for key, read in layouts.to_layout(arrays, layout, bare=True)
    ]
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    npz.write_npz(path, [*arrays, *heads.items()])


def build(path, steps=STEPS, data_dir=None, config=TOWER):
    """Pre-trains on the dataset, writes the tower and prints its accuracy on validation digits."""
    examples = load_examples("pretrain", data_dir=data_dir)
    tower, heads = pretrain(examples, config=config, steps=steps)
    save(tower, heads, path)
    figures = accuracy(tower, heads, load_examples("validation", data_dir=data_dir))
    print("validation:", ", ".join(f"{task} {share:.1%}" for task, share in figures.items()))


def main(argv=None):
    """Pre-trains, prints the accuracy on validation digits and writes the tower."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="where the ViT goes (.npz)")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--data-dir", help="where tfds keeps its data")
    args = parser.parse_args(argv)
    build(args.out, args.steps, args.data_dir)


if __name__ == "__main__":
    main()
