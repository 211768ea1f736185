"""LiT-digits' recipe by `fit` and by `lit-tf train`: the same steps, and the accuracy of both.

Both tune a new text tower to the shipped image tower on the same batches in the same order. The
trainer's own pipeline shuffles otherwise, so its step runs here on these batches.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from lit_tf import zero_shot
from lit_tf.contrastive.optimizers import Optimizer
from lit_tf.contrastive.step import ReplicaStep, trainable_parameters
from lit_tf.training.config import load_config
from lit_tf.training.data.tfds_builders import open_tfds
from lit_tf.training.evaluation.classification import open_classification
from lit_tf.training.towers import build_model


def read_pairs(model, data_dir):
    """Returns {"image", "tokens"}: the training split, one caption of each picture."""
    size = model.config.image.image_size
    images, texts = [], []
    for example in open_tfds("digit_pairs", data_dir, "train").as_dataset(split="train"):
        images.append(tf.image.resize(example["image"], (size, size)).numpy().astype(np.uint8))
        texts.append(example["captions"]["text"][0].numpy().decode())
    return {"image": np.stack(images), "tokens": model.tokenize(texts)}


def batches(pairs, config):
    """Returns the dataset of all batches of a run."""
    order = np.random.default_rng(0).integers(
        len(pairs["tokens"]), size=(config.steps, config.batch_size)
    )
    rows = tf.data.Dataset.from_tensor_slices(order)
    arrays = {k: tf.constant(v) for k, v in pairs.items()}
    data = rows.map(lambda i: {k: tf.gather(v, i) for k, v in arrays.items()})
    return data.map(
        lambda b: {k: tf.ensure_shape(v, (config.batch_size, *v.shape[1:])) for k, v in b.items()}
    )


def accuracy(model, data, images):
    """Returns the zero-shot accuracy on the test split, of its own prompts."""
    texts = model.encode_text(data.prompts.texts)
    classes = zero_shot.average_embeddings(texts, np.array(data.prompts.labels), 100)
    labels = np.array([row[0] for row in data.labels])
    return zero_shot.accuracy(zero_shot.predict(images, classes), labels)


def by_fit(model, config, data):
    """Tunes a model by `fit`."""
    model.compile(config.optimizer, steps=config.steps, locking="LU", seed=config.seed)
    model.fit(data, verbose=0)


def by_trainer(model, config, data):
    """Tunes a model by the trainer's step."""
    parameters = trainable_parameters(model, "LU")
    step = ReplicaStep(
        model, Optimizer(parameters, config.optimizer, config.steps), config.loss, seed=config.seed
    )
    run = tf.function(step, autograph=False)
    for batch in data:
        run(batch)


def main():
    """Prints both accuracies and both times."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--data-dir")
    args = parser.parse_args()
    config = load_config(f"digits:steps={args.steps}")
    test = open_classification("digit_pairs:test", data_dir=args.data_dir)
    pairs = images = None
    for name, tune in (("fit", by_fit), ("train step", by_trainer)):
        model = build_model(config)
        if pairs is None:
            pairs = read_pairs(model, args.data_dir)
            pixels = [tf.io.decode_image(data) for data in test.images.encoded(0, len(test.images))]
            images = model.encode_image([p.numpy() for p in pixels])
        start = time.perf_counter()
        tune(model, config, batches(pairs, config))
        seconds = time.perf_counter() - start
        print(f"{name:12} accuracy {100 * accuracy(model, test, images):.1f} %, {seconds:.0f} s")


if __name__ == "__main__":
    main()
