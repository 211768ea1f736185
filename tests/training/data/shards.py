"""Small shards in the formats that people have: img2dataset's tars and TFRecords."""

import io
import json
import tarfile

import numpy as np
import tensorflow as tf
from PIL import Image


def picture(number, height=20, width=24):
    """Returns a uint8 picture (height, width, 3) that tells its number: red is 2 * number."""
    y, x = np.mgrid[:height, :width]
    red = np.full((height, width), 2 * number)
    return np.stack([red, 5 * y + 40, 7 * x + 20], -1).astype(np.uint8)


def encode(pixels, kind="PNG"):
    """Returns an image file's bytes."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def pairs(count, bad_images=(), empty_captions=(), first=0):
    """Returns (key, image bytes, caption) of pictures numbered from `first` on."""
    return [
        (
            f"{i:09d}",
            b"no image" if i in bad_images else encode(picture(i)),
            " \n" if i in empty_captions else f"caption {i}",
        )
        for i in range(first, first + count)
    ]


def write_tar(path, rows, extension="jpg", stats=None):
    """Writes a webdataset tar, members KEY.jpg, KEY.txt, KEY.json."""
    with tarfile.open(path, "w") as archive:
        for key, image, caption in rows:
            meta = json.dumps({"caption": caption, "status": "success", "exif": {}})
            for suffix, data in ((extension, image), ("txt", caption), ("json", meta)):
                data = data if isinstance(data, bytes) else data.encode()
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    _stats(path, stats)


def write_tfrecord(path, rows, stats=None):
    """Writes a TFRecord with the fields that img2dataset writes."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for key, image, caption in rows:
            fields = {"key": key.encode(), "jpg": image, "txt": caption.encode()}
            feature = {
                k: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v]))
                for k, v in fields.items()
            }
            feature["width"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[24]))
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())
    _stats(path, stats)


def _stats(path, successes):
    if successes is not None:
        path.with_name(path.stem + "_stats.json").write_text(json.dumps({"successes": successes}))


def tokenize(texts):
    """A tokenizer that keeps the number in "caption NUMBER": int32 (N, 16)."""
    numbers = tf.strings.to_number(tf.strings.regex_replace(texts, r"\D*(\d+)\D*", r"\1"), tf.int32)
    return numbers[:, None] + tf.zeros([1, 16], tf.int32)


def numbers(batch):
    """Returns the numbers of a batch's pictures and of its captions."""
    red = np.round(np.array(batch["image"])[:, 0, 0, 0] / 2).astype(int)
    return red.tolist(), np.array(batch["tokens"])[:, 0].tolist()
