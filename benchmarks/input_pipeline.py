"""Images a second of the training input, and how much of decoding alone its augmentation leaves."""

import io
import pathlib
import tempfile
import time

import numpy as np
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_images

from lit_tf.images import preprocessing
from lit_tf.training.config import DataConfig
from lit_tf.training.data import make_train_dataset, open_source

_BATCH, _BATCHES = 32, 8


def write_shards(path):
    """Writes a TFRecord of 256 photographs of COCO's size, 640 x 427."""
    jpegs = []
    for picture in load_sample_images().images:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=90)
        jpegs.append(file.getvalue())
    with tf.io.TFRecordWriter(str(path)) as writer:
        for i in range(256):
            values = {"jpg": jpegs[i % len(jpegs)], "txt": b"a photograph"}
            feature = {
                k: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v]))
                for k, v in values.items()
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())
    return jpegs


def _rate(dataset):
    iterator = iter(dataset)
    next(iterator)
    start = time.perf_counter()
    for _ in range(_BATCHES):
        next(iterator)
    return _BATCH * _BATCHES / (time.perf_counter() - start)


def main():
    """Prints the rates and their ratios."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "photographs.tfrecord"
        jpegs = tf.constant(write_shards(path))
        plain = tf.data.Dataset.range(1 << 30).map(
            lambda i: tf.shape(preprocessing.decode_image(jpegs[i % 2])),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        datasets = {"decode alone": plain.batch(_BATCH).prefetch(2)}
        for name, augment in (
            ("decode, resize", ""),
            ("decode, resize, flip, RandAugment(2, 10)", "flip_lr|randaug(2,10)"),
        ):
            datasets[name] = make_train_dataset(
                open_source(DataConfig(source=str(path), augment=augment, shuffle_buffer=64)),
                lambda texts: tf.zeros([tf.shape(texts)[0], 16], tf.int32),
                global_batch_size=_BATCH,
                image_size=224,
                seed=0,
            )
        # In turn, so that each gets its share of the machine's moods; the best round counts.
        rates = {name: max(_rate(d) for _ in range(2)) for name, d in datasets.items()}
        for name, rate in rates.items():
            share = rate / rates["decode alone"]
            print(f"  {name:42s} {rate:7.0f} images/s   {share:5.2f} of decoding alone")
        augmented = rates["decode, resize, flip, RandAugment(2, 10)"]
        return {"augmented/decode": float(np.round(augmented / rates["decode alone"], 3))}


if __name__ == "__main__":
    main()
