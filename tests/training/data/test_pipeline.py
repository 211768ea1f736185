"""Training batches: a pure function of seed and step, from every source, whatever is damaged."""

import dataclasses
import io
import itertools

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from lit_tf.errors import ConfigError, DataError
from lit_tf.images import preprocessing
from lit_tf.training.config import DataConfig
from lit_tf.training.data import Counters, make_train_dataset, make_validation_dataset, open_source
from lit_tf.training.data.counters import CORRUPT_IMAGE, EMPTY_CAPTION, GOOD, MISSING

from . import shards

COUNT = 100  # in five shards of 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    for i in range(5):
        rows = shards.pairs(20, first=20 * i)
        shards.write_tar(folder / f"{i:05d}.tar", rows)
        shards.write_tfrecord(folder / f"{i:05d}.tfrecord", rows)
    return folder


@pytest.fixture(scope="module")
def config(folder):
    return DataConfig(source=f"{folder}/*.tfrecord", shuffle_buffer=8)


def batches(config, start=0, count=1, size=8, seed=1, image_size=16, **kwargs):
    dataset = make_train_dataset(
        open_source(config),
        shards.tokenize,
        global_batch_size=size,
        image_size=image_size,
        seed=seed,
        start_step=start,
        **kwargs,
    )
    return [{k: v.numpy() for k, v in batch.items()} for batch in dataset.take(count)]


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def context(replicas, host=0, hosts=1):
    return tf.distribute.InputContext(hosts, host, replicas)


def test_shapes_are_static_and_images_uint8(config):
    dataset = make_train_dataset(
        open_source(config), shards.tokenize, global_batch_size=8, image_size=16, seed=0
    )
    assert dataset.element_spec == {
        # A quarter of float32's bytes from host to device, where the step normalizes.
        "image": tf.TensorSpec((8, 16, 16, 3), tf.uint8),
        "tokens": tf.TensorSpec((8, 16), tf.int32),
    }


@pytest.mark.parametrize("form", ["tfrecord", "tar"])
def test_an_epoch_holds_every_pair_once_and_pixels_are_the_librarys(folder, form):
    config = DataConfig(source=f"{folder}/*.{form}", shuffle_buffer=8)
    seen = []
    for batch in batches(config, count=COUNT // 4, size=4):
        pictures, captions = shards.numbers(batch)
        assert pictures == captions
        seen += captions
        expected = preprocessing.resize_uint8(shards.picture(captions[0]), 16)
        np.testing.assert_array_equal(batch["image"][0], expected)
    assert sorted(seen) == list(range(COUNT))
    assert seen != sorted(seen)


def test_epochs_and_seeds_have_orders_of_their_own(config):
    first, second = (
        list(itertools.chain(*(shards.numbers(b)[1] for b in batches(config, s, 5, size=20))))
        for s in (0, 5)
    )
    other = list(
        itertools.chain(*(shards.numbers(b)[1] for b in batches(config, 0, 5, size=20, seed=2)))
    )
    assert sorted(first) == sorted(second) == sorted(other) == list(range(COUNT))
    assert first != second and first != other


@pytest.mark.parametrize(
    ("form", "buffer", "starts"),
    [
        ("tfrecord", 8, (4,)),
        pytest.param("tar", 1000, (1, 4, 11), marks=pytest.mark.full),
        pytest.param("tfrecord", 1000, (1, 4, 11), marks=pytest.mark.full),
        pytest.param("tar", 8, (1, 4, 11), marks=pytest.mark.full),
        pytest.param("tfrecord", 8, (1, 11), marks=pytest.mark.full),
    ],
)
def test_resumed_batches_are_bit_for_bit_those_of_an_uninterrupted_run(
    folder, form, buffer, starts
):
    # A batch of 24 divides neither an epoch nor a segment.
    config = DataConfig(
        source=f"{folder}/*.{form}", shuffle_buffer=buffer, augment="flip_lr|randaug(2,10)"
    )
    whole = batches(config, 0, 12, size=24)
    for start in starts:
        tf.random.set_seed(start)  # nobody's business here
        resumed = batches(config, start, 12 - start, size=24)
        assert all(equal(a, b) for a, b in zip(resumed, whole[start:], strict=True)), start


@pytest.mark.full
def test_the_global_seed_and_other_random_ops_change_nothing(config):
    config = dataclasses.replace(config, augment="flip_lr|randaug(2,10)")
    tf.random.set_seed(1)
    first = batches(config, 3)
    tf.random.set_seed(2)
    tf.random.uniform([3])
    assert equal(first[0], batches(config, 3)[0])
    assert not equal(first[0], batches(config, 3, seed=2)[0])


def test_replicas_share_a_global_batch(config):
    whole = batches(config, 2, 1, size=8)[0]
    parts = batches(config, 2, 2, size=8, input_context=context(2))
    assert equal(whole, {k: np.concatenate([p[k] for p in parts]) for k in whole})


def test_hosts_read_disjoint_equal_shares(config):
    shares = [
        list(
            itertools.chain(
                *(
                    shards.numbers(b)[1]
                    for b in batches(config, 0, 11, size=9, input_context=context(3, h, 3))
                )
            )
        )
        for h in range(3)
    ]
    # 100 examples over 3 hosts: 33 each, one is left out.
    assert [len(set(share)) for share in shares] == [33, 33, 33]
    assert len(set().union(*shares)) == 99


def test_captions_are_drawn_among_those_that_are_not_blank(tmp_path):
    def feature(*values):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    image = shards.encode(shards.picture(0))
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        fields = {"jpg": feature(image), "txt": feature(b"1", b"  ", b"2", b"", b"3")}
        example = tf.train.Example(features=tf.train.Features(feature=fields))
        writer.write(example.SerializeToString())
    config = DataConfig(source=str(tmp_path / "a.tfrecord"), shuffle_buffer=8)
    drawn = np.concatenate([b["tokens"][:, 0] for b in batches(config, count=30)])
    counts = np.bincount(drawn, minlength=4)
    assert counts[0] == 0 and counts[1:].min() > 50 and counts.sum() == 240


class Recording(Counters):
    """Keeps what it was given to count, batch by batch."""

    def __init__(self):
        super().__init__()
        self.statuses = []

    def add(self, statuses, name, max_bad_share):
        self.statuses.append(statuses.copy())
        super().add(statuses, name, max_bad_share)


@pytest.mark.parametrize(
    ("form", "starts"),
    [
        ("tar", (7, 8)),  # an epoch has 8 batches
        pytest.param("tar", range(1, 16), marks=pytest.mark.full),
        pytest.param("tfrecord", range(1, 16), marks=pytest.mark.full),
    ],
)
def test_bad_examples_are_replaced_counted_and_named(tmp_path, form, starts):
    rows = shards.pairs(64, bad_images=(3, 40), empty_captions=(9,))
    write = shards.write_tar if form == "tar" else shards.write_tfrecord
    write(tmp_path / f"0.{form}", rows)
    config = DataConfig(source=f"{tmp_path}/0.{form}", shuffle_buffer=8, max_bad_share=0.1)
    counters = Counters()
    # One pass and no more: the endless batches are prefetched, and counted before they are taken.
    list(
        make_validation_dataset(
            open_source(config),
            shards.tokenize,
            global_batch_size=8,
            image_size=16,
            counters=counters,
        )
    )
    assert counters.scalars() == {
        "data/examples": 64,
        "data/corrupt_images": 2,
        "data/empty_captions": 1,
        "data/missing_records": 0,
        "data/bad_share": 3 / 64,
    }
    counters = Recording()
    whole = batches(config, 0, 16, size=8, counters=counters)  # two epochs
    counted = np.bincount(np.concatenate(counters.statuses[:16]), minlength=4)
    assert dict(enumerate(counted)) == {GOOD: 122, CORRUPT_IMAGE: 4, EMPTY_CAPTION: 2, MISSING: 0}
    assert f"corrupt image in 0.{form} #3" in counters.report()
    assert f"empty caption in 0.{form} #9" in counters.report()
    for batch in whole:
        pictures, captions = shards.numbers(batch)
        assert pictures == captions and not {3, 9, 40} & set(captions)
    # Help comes from the batch before, so nobody meets himself but where an epoch begins anew.
    assert all(len(set(shards.numbers(batch)[1])) == 8 for batch in (*whole[1:8], *whole[9:]))
    for start in starts:
        assert equal(batches(config, start, 1, size=8)[0], whole[start]), start


def test_too_many_bad_examples_stop_the_run_by_name(tmp_path):
    shards.write_tfrecord(tmp_path / "0.tfrecord", shards.pairs(64, bad_images=range(0, 64, 4)))
    config = DataConfig(source=f"{tmp_path}/0.tfrecord", shuffle_buffer=8)
    counters = Counters()
    with (
        pytest.raises(DataError, match=r"max_bad_share=0.01.*corrupt image in 0.tfrecord #\d+"),
        counters.raising(),
    ):
        batches(config, 0, 100, size=8, counters=counters)
    # As soon as they are more than a hundredth of the first thousand: in that batch.
    assert 11 <= counters.bad <= 18


@pytest.mark.parametrize("form", ["tfrecord", "tar"])
def test_of_a_truncated_shard_what_is_left_is_read(tmp_path, form):
    write = shards.write_tar if form == "tar" else shards.write_tfrecord
    for i in range(4):
        write(tmp_path / f"{i}.{form}", shards.pairs(16, first=16 * i))
    path = tmp_path / f"2.{form}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 7])
    config = DataConfig(source=f"{tmp_path}/*.{form}", shuffle_buffer=64, max_bad_share=0.5)
    counters = Counters()
    whole = batches(config, 0, 8, size=8, counters=counters)
    assert (
        counters.count[MISSING] == 0 and "of 64 are lost with damaged shards" in counters.report()
    )
    seen = set(itertools.chain(*(shards.numbers(b)[1] for b in whole)))
    assert set(range(64)) - seen < set(range(32, 48))
    assert equal(batches(config, 5, 1, size=8)[0], whole[5])


@pytest.mark.parametrize("form", ["tfrecord", "tar"])
def test_a_shard_that_shrinks_during_a_run_costs_its_examples_and_shifts_no_others(tmp_path, form):
    write = shards.write_tar if form == "tar" else shards.write_tfrecord
    for i in range(4):
        write(tmp_path / f"{i}.{form}", shards.pairs(16, first=16 * i))
    config = DataConfig(source=f"{tmp_path}/*.{form}", shuffle_buffer=64, max_bad_share=0.5)
    counters = Counters()
    dataset = make_train_dataset(
        open_source(config),
        shards.tokenize,
        global_batch_size=8,
        image_size=16,
        seed=1,
        counters=counters,
    )
    path = tmp_path / f"2.{form}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 7])
    seen = {n for batch in dataset.take(8) for n in shards.numbers(batch)[1]}
    passes = -(-counters.examples // 64)  # the pipeline may have read ahead into the next one
    assert 4 <= counters.count[MISSING] <= 12 * passes
    assert f"unreadable record in 2.{form} #" in counters.report()
    assert set(range(64)) - seen <= set(range(32, 48))


def test_a_corrupt_record_costs_the_rest_of_its_shard_only(tmp_path):
    for i in range(2):
        shards.write_tfrecord(tmp_path / f"{i}.tfrecord", shards.pairs(16, first=16 * i))
    path = tmp_path / "0.tfrecord"
    data = bytearray(path.read_bytes())
    data[len(data) // 2 + 40] ^= 255  # in the middle of a record
    path.write_bytes(data)
    config = DataConfig(source=f"{tmp_path}/*.tfrecord", shuffle_buffer=64, max_bad_share=0.5)
    counters = Counters()
    seen = {n for b in batches(config, 0, 4, counters=counters) for n in shards.numbers(b)[1]}
    passes = -(-counters.examples // 32)  # the pipeline may have read ahead into the next one
    assert set(range(16, 32)) <= seen and 1 <= counters.count[MISSING] <= 15 * passes


def test_validation_is_one_ordered_pass_of_full_batches(config):
    counters = Counters()
    dataset = make_validation_dataset(
        open_source(config), shards.tokenize, global_batch_size=16, image_size=16, counters=counters
    )
    found = [shards.numbers(batch)[1] for batch in dataset]
    assert list(itertools.chain(*found)) == list(range(96))
    assert dataset.element_spec["image"].shape == (16, 16, 16, 3)


def test_errors_name_what_is_wrong(config, folder, tmp_path):
    def replaced(**kwargs):
        return batches(dataclasses.replace(config, **kwargs))

    with pytest.raises(DataError, match="no tfrecord shards"):
        replaced(source=f"{tmp_path}/*.tfrecord")
    with pytest.raises(DataError, match="2 of 3 shards|5 of 6 shards"):
        replaced(source=f"{folder}/{{00000..00005}}.tar")
    with pytest.raises(DataError, match="cannot tell the format"):
        replaced(source=f"{tmp_path}/*")
    with pytest.raises(DataError, match="expected auto, tfds"):
        replaced(format="lmdb")
    with pytest.raises(ConfigError, match="unknown augmentation 'blur'"):
        replaced(augment="flip_lr|blur")
    with pytest.raises(DataError, match="too few for 200 hosts"):
        batches(config, size=200, input_context=context(200, 0, 200))


def test_photos_are_turned_and_large_ones_left_out_only_as_the_config_says(tmp_path):
    tags = PIL.Image.Exif()
    tags[0x0112] = 6
    picture = PIL.Image.fromarray(np.arange(600, dtype=np.uint8).reshape(10, 20, 3))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", exif=tags)
    shards.write_tfrecord(tmp_path / "a.tfrecord", [("key", buffer.getvalue(), "1")] * 4)
    config = DataConfig(source=str(tmp_path / "a.tfrecord"), shuffle_buffer=1, max_bad_share=0.5)

    def first_image(config):
        return batches(config, size=2)[0]["image"][0]

    as_stored = preprocessing.resize_uint8(np.asarray(picture), 16)
    np.testing.assert_array_equal(first_image(config), as_stored)
    turned = preprocessing.resize_uint8(preprocessing.to_uint8(buffer.getvalue()), 16)
    exif = dataclasses.replace(config, exif=True)
    np.testing.assert_array_equal(first_image(exif), turned)
    with pytest.raises(tf.errors.OpError):
        first_image(dataclasses.replace(config, max_pixels=199))
