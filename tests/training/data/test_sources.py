"""Sources: tfds with nested features, img2dataset's shards, and their faults by name."""

import numpy as np
import pytest

from lit_tf.errors import DataError
from lit_tf.training.config import DataConfig
from lit_tf.training.data import make_train_dataset, tar, tfrecord
from lit_tf.training.data.finding import find_shards
from lit_tf.training.data.sources import open_source

from . import shards


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return DataConfig(
        source="digit_pairs/tiny", data_dir=str(tmp_path_factory.mktemp("tfds")), shuffle_buffer=64
    )


def test_tfds_pairs_with_nested_captions_resume_exactly(digits):
    def batches(start, count):
        dataset = make_train_dataset(
            open_source(digits),
            shards_of_text,
            global_batch_size=32,
            image_size=32,
            seed=0,
            start_step=start,
        )
        return [{k: v.numpy() for k, v in b.items()} for b in dataset.take(count)]

    whole = batches(0, 12)  # 320 examples are 10 batches
    assert whole[0]["image"].shape == (32, 32, 32, 3)
    resumed = batches(11, 1)[0]
    assert all(np.array_equal(resumed[k], whole[11][k]) for k in resumed)


def shards_of_text(texts):
    import tensorflow as tf

    return tf.strings.to_hash_bucket_fast(texts, 1000)[:, None] + tf.zeros([1, 16], tf.int64)


def test_tfds_faults_are_named(digits):
    import dataclasses

    for changes, message in (
        ({"text_key": "captions/txt"}, "no feature 'captions/txt'; it has .*captions/text"),
        ({"image_key": "label"}, "'label' of digit_pairs/tiny is ClassLabel, not Image"),
        ({"split": "dev"}, "no split 'dev'; it has .*train"),
    ):
        with pytest.raises(DataError, match=message):
            open_source(dataclasses.replace(digits, **changes))


def test_a_slice_of_a_split_is_that_slice(digits):
    import dataclasses

    source = open_source(dataclasses.replace(digits, split="train[:10%]"))
    assert sum(source.lengths) == 32


def test_counting_and_patterns(tmp_path):
    rows = shards.pairs(7)
    shards.write_tar(tmp_path / "00000.tar", rows)
    shards.write_tfrecord(tmp_path / "00000.tfrecord", rows)
    assert tar.scan(str(tmp_path / "00000.tar"), 1 << 20).examples == 7
    assert tfrecord.scan(str(tmp_path / "00000.tfrecord"), 1 << 20).examples == 7
    assert find_shards(f"{tmp_path}/{{00000..00000}}.tar", "tar") == [str(tmp_path / "00000.tar")]
    assert find_shards(str(tmp_path), "tfrecord") == [str(tmp_path / "00000.tfrecord")]
