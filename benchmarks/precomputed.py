"""Steps a second of training on precomputed embeddings, beside those through a locked B/16 tower.

As `lit_coco:txt=bert_base,img=B/16` trains: with BERT base, at the 256 examples that its batch of
4,096 leaves to each of 16 chips, from photographs decoded and augmented as it says there, and from
stored embeddings here. Weights are random, which costs the same.

BERT base trains either way and takes a fifth of all FLOPs, so that hardly more than five times is
possible where arithmetic is what takes the time.
"""

import json
import pathlib
import sys
import tempfile

import numpy as np
import tensorflow as tf
from input_pipeline import write_shards
from timing import best_times, verdict

import lit_tf
from lit_tf.config import BertConfig, ViTConfig
from lit_tf.training.config import DataConfig, ModelConfig, TrainConfig
from lit_tf.training.data import make_train_dataset, open_source
from lit_tf.training.precompute.shards import to_example
from lit_tf.training.preflight import flops
from lit_tf.training.towers import build_step

_BATCH = 256
_IMAGE = ViTConfig(16, 224, 768, 12, 12, 3072)
_BERT = BertConfig(30522, 768, 12, 12, 3072, 512, out_dim=768)
_AUGMENT = "flip_lr|randaug(2,10)"  # of lit_coco


def _write_embeddings(folder):
    name = "embeddings-00000-of-00001.tfrecord"
    embeddings = np.random.default_rng(0).normal(size=(256, 1, 768)).astype(np.float32)
    with tf.io.TFRecordWriter(str(folder / name)) as writer:
        for embedding in embeddings:
            writer.write(to_example(embedding, [b"a photograph"]))
    manifest = {
        **{"views": 1, "width": 768, "resolution": 224, "image_tower": ""},
        "settings": {"checkpoint": ""},
        "shards": [{"name": name, "examples": 256}],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _stepper(step, source, augment=""):
    dataset = make_train_dataset(
        open_source(DataConfig(source=str(source), augment=augment, shuffle_buffer=256)),
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


def main():
    """Prints the rates and their ratio; returns whether it reaches what it is held to."""
    model = lit_tf.from_upstream(image=_IMAGE, text=_BERT)
    config = TrainConfig(model=ModelConfig(locking="LU"), dtype="float32", batch_size=_BATCH)
    step = build_step(config, model)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_shards(folder / "photographs.tfrecord")
        _write_embeddings(folder)
        times = best_times(
            {
                "through the tower": _stepper(step, folder / "photographs.tfrecord", _AUGMENT),
                "precomputed": _stepper(step, folder),
            },
            rounds=2,
        )
    for how, seconds in times.items():
        print(f"  {f'BERT base, {how}':58s} {1 / seconds:6.3f} steps/s at batch {_BATCH}")
    whole, text_only = (
        flops.train_step(model.config, _BATCH, lock_image=True, precomputed_images=stored)
        for stored in (False, True)
    )
    print(f"  {'the same ratio in FLOPs':58s} {whole / text_only:6.2f}")
    ratio = times["through the tower"] / times["precomputed"]
    return verdict("precomputed / through a locked B/16, BERT base", ratio, 5)


if __name__ == "__main__":
    sys.exit(not main())
