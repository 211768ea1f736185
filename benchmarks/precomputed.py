"""Steps a second of training on precomputed embeddings, beside those through a locked B/16 tower.

Both read their input from files as in a run, photographs here and stored embeddings there. Weights
are random, which costs the same.

What can be saved depends on the text tower, which trains either way: with BERT base its own step is
a fifth of all FLOPs, so that hardly more than five times is possible where arithmetic is what takes
the time, and the benchmark holds the ratio to that of the FLOPs. With a small text tower, such as
LiT-L16S has, no such ceiling is near, and the ratio is held to five.
"""

import json
import pathlib
import sys
import tempfile

import numpy as np
import tensorflow as tf
from input_pipeline import _write
from lit_tf.training.config import DataConfig, ModelConfig, TrainConfig
from lit_tf.training.data import make_train_dataset
from lit_tf.training.precompute import _example
from lit_tf.training.preflight import flops
from lit_tf.training.train import build_step
from timing import best_times, verdict

import lit_tf
from lit_tf.config import BertConfig, TextTransformerConfig, ViTConfig

_BATCH = 64
_IMAGE = ViTConfig(16, 224, 768, 12, 12, 3072)
_BERT = BertConfig(30522, 768, 12, 12, 3072, 512, out_dim=768)
_SMALL = TextTransformerConfig(16000, 384, 12, 6, 1536, 16, out_dim=768)  # LiT-L16S's, but 768


def _write_embeddings(folder):
    name = "embeddings-00000-of-00001.tfrecord"
    embeddings = np.random.default_rng(0).normal(size=(256, 1, 768)).astype(np.float32)
    with tf.io.TFRecordWriter(str(folder / name)) as writer:
        for embedding in embeddings:
            writer.write(_example(embedding, [b"a photograph"]))
    manifest = {
        **{"views": 1, "width": 768, "resolution": 224, "image_tower": ""},
        "settings": {"checkpoint": ""},
        "shards": [{"name": name, "examples": 256}],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _stepper(step, source):
    dataset = make_train_dataset(
        DataConfig(source=str(source), shuffle_buffer=256),
        lambda texts: tf.fill([tf.shape(texts)[0], 16], 7),
        global_batch_size=_BATCH,
        image_size=224,
        seed=0,
    )
    iterator = iter(dataset)

    @tf.function
    def one_step(batch):
        return step(batch)

    def run():
        return tf.nest.map_structure(lambda t: t.numpy(), one_step(next(iterator)))

    return run


def _compare(name, text, folder):
    """Prints the rates with a text tower; returns (their ratio, the ratio of FLOPs)."""
    model = lit_tf.from_upstream(image=_IMAGE, text=text)
    config = TrainConfig(model=ModelConfig(locking="LU"), dtype="float32", batch_size=_BATCH)
    step = build_step(config, model)
    times = best_times(
        {
            "through the tower": _stepper(step, folder / "photographs.tfrecord"),
            "precomputed": _stepper(step, folder),
        },
        rounds=2,
    )
    for how, seconds in times.items():
        print(f"  {f'{name}, {how}':58s} {1 / seconds:6.3f} steps/s at batch {_BATCH}")
    whole, text_only = (
        flops.train_step(model.config, _BATCH, lock_image=True, precomputed_images=stored)
        for stored in (False, True)
    )
    return times["through the tower"] / times["precomputed"], whole / text_only


def main():
    """Prints the rates and their ratios; returns whether they reach what they are held to."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        _write(folder / "photographs.tfrecord")
        _write_embeddings(folder)
        bert, ceiling = _compare("BERT base", _BERT, folder)
        small, _ = _compare("text transformer S", _SMALL, folder)
    what = "precomputed / through a locked B/16"
    print(f"  {f'{what}, BERT base':58s} {bert:6.2f}   of FLOPs: {ceiling:.2f}")
    held = verdict("  share of the FLOPs' ratio that is reached", bert / ceiling, 0.85)
    return verdict(f"{what}, text transformer S", small, 5) and held


if __name__ == "__main__":
    sys.exit(not main())
