"""Damaged shards and tables: what is left is read, or the file is refused by name, and soon."""

import io
import tarfile
import time

import pytest
import tensorflow as tf

from lit_tf.errors import DataError
from lit_tf.training.config import DataConfig
from lit_tf.training.data import tables, tar
from lit_tf.training.data.sources import open_source

from . import mutations

QUICK, FULL = range(20), range(20, 320)
LIMIT = 1 << 20
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def each(cases):
    return pytest.mark.parametrize(
        "cases", [QUICK, pytest.param(FULL, marks=pytest.mark.full)], ids=["quick", "full"]
    )(cases)


def tar_bytes(kind):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
        for i in range(8):
            long = "long" * (20 if kind == tarfile.USTAR_FORMAT else 40)
            folder = f"{long}/" if i % 3 == 0 else ""
            for extension, data in (("jpg", b"image %d" % i * 90), ("txt", b"text %d" % i)):
                member = tarfile.TarInfo(f"{folder}{i}.{extension}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def rechecked(data, rng):
    """Changes a field of a tar's header and mends the header's checksum."""
    data = bytearray(data)
    start = 512 * int(rng.integers(len(data) // 512))
    field = (0, 100, 124, 124, 124, 156, 156, 257, 345, 482)[rng.integers(10)]
    odd = rng.bytes(int(rng.integers(1, 13)))
    data[start + field : start + field + len(odd)] = odd
    data[start + 148 : start + 156] = b" " * 8
    data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    return bytes(data)


@each
def test_damaged_tars_end_soon_and_are_read_as_they_are_counted(tmp_path, cases):
    originals = {kind: tar_bytes(kind) for kind in FORMATS}
    path = tmp_path / "0.tar"
    for case in cases:
        rng = mutations.generator("tar", case)
        data, structured = originals[FORMATS[case % 3]], case % 2
        change = rechecked if structured else mutations.damaged
        path.write_bytes(change(data, rng))
        began = time.process_time()
        found = tar.scan(str(path), LIMIT)
        read = list(tar.samples(str(path), wanted=("jpg", "txt"), limit=LIMIT))
        assert time.process_time() - began < 5, case
        assert found.examples == len(read) <= 16, case
        for sample in read:
            image, text = sample.data.get("jpg", b""), sample.data.get("txt", b"")
            assert len(image) + len(text) <= path.stat().st_size, case
            numbers = {b"%d" % i for i in range(8) if b"image %d" % i * 90 == image}
            if numbers and not structured and text.startswith(b"text ") and len(text) == 6:
                assert text[5:] in numbers or text[5:] not in b"01234567", (case, sample.key)


@each
def test_damaged_tfrecords_end_soon_and_only_whole_records_are_read(tmp_path, cases):
    def feature(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    path = tmp_path / "0.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for i in range(8):
            fields = {"jpg": feature(b"image %d" % i * 90), "txt": feature(b"text %d" % i)}
            example = tf.train.Example(features=tf.train.Features(feature=fields))
            writer.write(example.SerializeToString())
    original = path.read_bytes()
    for case in cases:
        path.write_bytes(mutations.damaged(original, mutations.generator("tfrecord", case)))
        began = time.process_time()
        try:
            source = open_source(DataConfig(source=str(path), max_bad_share=1.0))
        except DataError as e:
            assert "0.tfrecord" in str(e) or str(tmp_path) in str(e), case
            continue
        length = source.lengths[0]
        records = tf.data.TFRecordDataset(str(path)).take(length).ignore_errors()
        records = list(records.as_numpy_iterator())
        assert len(records) <= length <= 16 and time.process_time() - began < 5, case
        assert all(record in original for record in records), case  # their checksums were right


@each
@pytest.mark.parametrize("form", ["csv", "tsv", "parquet"])
def test_damaged_tables_are_read_or_refused_by_name(tmp_path, form, cases):
    path = tmp_path / f"pairs.{form}"
    if form == "parquet":
        import pyarrow
        import pyarrow.parquet

        images, texts = [f"{i}.jpg" for i in range(40)], [f"text {i}" for i in range(40)]
        rows = {"image": images, "caption": texts}
        pyarrow.parquet.write_table(pyarrow.table(rows), path)
    else:
        mark = "," if form == "csv" else "\t"
        lines = [f"image{mark}caption", *(f'{i}.jpg{mark}"text\n{i}"' for i in range(40))]
        path.write_text("\n".join(lines))
    original = path.read_bytes()
    for case in cases:
        path.write_bytes(mutations.damaged(original, mutations.generator(form, case)))
        began = time.process_time()
        try:
            found = tables.read_captions(str(path))
        except DataError as e:
            assert str(path) in str(e), case
        else:
            assert all(isinstance(t, str) for texts in found.values() for t in texts), case
        assert time.process_time() - began < 5, case


@each
def test_damaged_shards_never_stop_a_look_with_another_error(tmp_path, cases):
    """Whatever the bytes, the source opens or says which shard is lost."""
    for case in cases:
        rng = mutations.generator("bytes", case)
        (tmp_path / "0.tar").write_bytes(rng.bytes(int(rng.integers(3000))))
        (tmp_path / "0_stats.json").write_bytes(mutations.damaged(b'{"successes": 12}', rng))
        with pytest.raises(DataError, match=r"0\.tar"):
            open_source(DataConfig(source=f"{tmp_path}/0.tar"))
