"""Shards that are lost, damaged or hostile: named at the start, counted, read in bounded time."""

import gzip
import io
import json
import os
import struct
import tarfile
import time

import pytest
import tensorflow as tf

from lit_tf.errors import DataError
from lit_tf.training.config import DataConfig
from lit_tf.training.data import Counters, make_validation_dataset, tar, tfrecord
from lit_tf.training.data.sources import open_source

from . import shards

LIMIT = 1 << 20
SCAN = {"tar": tar.scan, "tfrecord": tfrecord.scan}
WRITE = {"tar": shards.write_tar, "tfrecord": shards.write_tfrecord}
HTML = b"<!DOCTYPE html>\n<html><body>404</body></html>" + b" " * 600


@pytest.fixture(params=["tar", "tfrecord"])
def form(request):
    return request.param


def config(folder, form, **kwargs):
    return DataConfig(source=f"{folder}/*.{form}", shuffle_buffer=8, **kwargs)


def header(name="x.jpg", size=b"00000000005\0", kind=b"0"):
    """A header block with a right checksum, whatever it declares."""
    name = name if isinstance(name, bytes) else name.encode()
    block = bytearray(512)
    block[: len(name)], block[124:136], block[156:157] = name, size.ljust(12, b"\0"), kind
    block[257:265], block[148:156] = b"ustar\x0000", b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data):
    return data + bytes(-len(data) % 512)


def pax(*records, kind=b"x"):
    data = b"".join(records)
    return header("pax", b"%011o\0" % len(data), kind) + padded(data)


def record(key, value):
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length += 1
    return str(length).encode() + rest


def read(path, limit=LIMIT):
    return list(tar.samples(str(path), wanted=("jpg", "txt"), limit=limit))


def damages(data):
    """What becomes of the bytes of a shard, and what is said of it."""
    return {
        "empty": b"",
        "ends inside": data[: len(data) * 6 // 10 // 512 * 512 + 100],
        "gzip-compressed; unpack it": gzip.compress(data),
        "an HTML page": HTML,
        "an XML document": b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>",
        "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "another kind of file": os.urandom(50) + b"x" * 2000,
    }


def test_a_shard_that_is_not_whole_is_named_and_counts_by_what_it_should_hold(
    tmp_path, form, capsys
):
    for i in range(3):
        WRITE[form](tmp_path / f"{i}.{form}", shards.pairs(20, first=20 * i))
    path = tmp_path / f"1.{form}"
    data = path.read_bytes()
    for message, bad in damages(data).items():
        path.write_bytes(bad)
        with pytest.raises(DataError, match=f"of 60 examples are lost.*{message}") as error:
            open_source(config(tmp_path, form))
        assert f"1.{form}" in str(error.value) and "an estimate, from other shards" in str(error)
        source = open_source(config(tmp_path, form, max_bad_share=0.5))
        assert source.lengths[::2] == [20, 20] and source.lost == 20 - source.lengths[1]
        assert f"1.{form}" in capsys.readouterr().err


def test_a_damaged_shards_statistics_say_what_it_should_hold(tmp_path, form, capsys):
    WRITE[form](tmp_path / f"0.{form}", shards.pairs(20))
    WRITE[form](tmp_path / f"1.{form}", shards.pairs(7, first=20), stats=7)
    (tmp_path / f"1.{form}").write_bytes(HTML)
    source = open_source(config(tmp_path, form, max_bad_share=0.3))
    assert source.lengths == [20, 0] and source.lost == 7
    assert "0 of 7 examples can be read (its _stats.json)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "stats",
    [5, 500, -5, 0, "1e400", "9" * 23, "9" * 5000, "[" * 10_000, "null", "true", '"12"', "{"],
)
def test_statistics_are_not_believed(tmp_path, form, stats, capsys):
    WRITE[form](tmp_path / f"0.{form}", shards.pairs(12))
    text = stats if isinstance(stats, str) and stats[0] == "{" else f'{{"successes": {stats}}}'
    (tmp_path / "0_stats.json").write_text(text)
    source = open_source(config(tmp_path, form))
    assert source.lengths == [12] and source.lost == 0
    said = capsys.readouterr().err
    assert ("its _stats.json says" in said) == (stats in (5, 500, 0))


def test_every_pair_of_concatenated_tars_is_read(tmp_path):
    for i in range(2):
        shards.write_tar(tmp_path / f"{i}.tar", shards.pairs(9, first=9 * i))
    whole = b"".join((tmp_path / f"{i}.tar").read_bytes() for i in range(2))
    (tmp_path / "both.tar").write_bytes(whole)
    assert tar.scan(str(tmp_path / "both.tar"), LIMIT).examples == 18
    assert [s.key for s in read(tmp_path / "both.tar")] == [b"%09d" % i for i in range(18)]
    (tmp_path / "tail.tar").write_bytes(whole + b"tail" * 200)
    found = tar.scan(str(tmp_path / "tail.tar"), LIMIT)
    assert found.examples == 18 and "has other data behind its end" in found.problem


def test_a_tar_cut_between_two_members_is_not_whole(tmp_path):
    shards.write_tar(tmp_path / "0.tar", shards.pairs(3))
    data = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "0.tar").write_bytes(data.rstrip(b"\0") + bytes(-len(data.rstrip(b"\0")) % 512))
    found = tar.scan(str(tmp_path / "0.tar"), LIMIT)
    assert found.examples == 3 and "without a tar's end mark" in found.problem


def test_what_is_lost_and_what_is_bad_count_together(tmp_path, form):
    for i in range(4):
        WRITE[form](tmp_path / f"{i}.{form}", shards.pairs(20, first=20 * i, bad_images=(3, 5, 9)))
    (tmp_path / f"3.{form}").write_bytes(HTML)

    def run(share):
        counters = Counters()
        with counters.raising():
            list(
                make_validation_dataset(
                    open_source(config(tmp_path, form, max_bad_share=share)),
                    shards.tokenize,
                    global_batch_size=20,
                    image_size=16,
                    counters=counters,
                )
            )
        return counters

    assert "20 of 80 are lost with damaged shards" in run(0.26).report()
    # A quarter is lost; 3 bad images in the first thousand are more than the rest allows.
    with pytest.raises(DataError, match="more bad examples.*20 of 80 are lost"):
        run(0.2501)


def write_members(path, *members, tail=bytes(1024)):
    """Writes a tar of (name, bytes) members."""
    blocks = [header(n, b"%011o\0" % len(d)) + padded(d) for n, d in members]
    path.write_bytes(b"".join(blocks) + tail)


def test_repeated_keys_never_pair_across(tmp_path):
    path = tmp_path / "0.tar"
    write_members(path, ("a.jpg", b"1"), ("a.txt", b"one"), ("a.jpg", b"2"), ("b.jpg", b"3"))
    first, second = read(path)
    assert first.data == {} and second.data == {"jpg": b"3"}
    assert tar.describe(str(path), 0, LIMIT) == "a: jpg, txt, jpg (a second time)"
    write_members(path, ("a.jpg", b"1"), ("b.jpg", b"2"), ("a.txt", b"one"), ("b.txt", b"two"))
    assert [s.data for s in read(path)] == [
        {"jpg": b"1"},
        {"jpg": b"2"},
        {"txt": b"one"},
        {"txt": b"two"},
    ]


HUGE = b"\x80\0\0\0\x7f" + b"\xff" * 7
HOSTILE = {
    "base-256 size": (header(size=HUGE), "ends inside x.jpg"),
    "negative size": (header(size=b"\xff" * 12), "damaged|not a tar"),
    "size of words": (header(size=b"many\0"), "damaged|not a tar"),
    "huge long name": (header("long", HUGE, b"L"), "extended header of"),
    "huge PAX header": (header("pax", HUGE, b"x"), "extended header of"),
    "long name cut off": (header("long", b"%011o\0" % 900, b"L"), "inside an extended header"),
    "PAX size": (pax(record(b"size", b"9" * 18)) + header(), "ends inside x.jpg"),
    "PAX size of 30 digits": (pax(record(b"size", b"9" * 30)) + header(), "damaged PAX"),
    "PAX size of letters": (pax(record(b"size", b"abc")) + header(), "damaged PAX"),
    "PAX length 0": (pax(b"0 path=x\n") + header(), "damaged PAX"),
    "PAX length of letters": (pax(b"ab path=x\n") + header(), "damaged PAX"),
    "PAX length too long": (pax(b"999 path=x\n") + header(), "damaged PAX"),
    "PAX without =": (pax(b"8 pathx\n") + header(), "damaged PAX"),
    "PAX digits only": (pax(b"9" * 60_000) + header(), "damaged PAX"),
    "endless long names": (
        (header("l", b"00000000001\0", b"L") + padded(b"x")) * 3000,
        "damaged header",
    ),
    "endless PAX headers": (pax(record(b"path", b"x")) * 3000, "damaged header"),
    "sparse, as PAX has it": (
        pax(record(b"GNU.sparse.size", b"2000000000")) + header(),
        "sparse member",
    ),
    "sparse, as GNU tar has it": (header(kind=b"S"), "sparse member"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_end_a_tar_soon_and_by_name(tmp_path, name):
    start, message = HOSTILE[name]
    good = header("a.jpg") + padded(b"12345") + header("a.txt") + padded(b"12345")
    for front, count in ((b"", 0), (good, 1)):
        path = tmp_path / "0.tar"
        path.write_bytes(front + start + padded(b"12345"))
        began = time.process_time()
        found = tar.scan(str(path), LIMIT)
        assert time.process_time() - began < 2
        assert found.examples >= count and found.problem
        assert count == 0 or tf.strings.regex_full_match(found.problem, f".*({message}).*")
        assert len(read(path)) == found.examples


def test_linked_and_oversized_members_are_not_read_but_named(tmp_path):
    rows = (
        header("b.jpg", kind=b"1") + header("b.txt", kind=b"2"),
        header("c.jpg", b"%011o\0" % 3000) + padded(b"1" * 3000),
        header("folder/", kind=b"5") + header("e.jpg") + padded(b"12345"),
    )
    (tmp_path / "0.tar").write_bytes(b"".join(rows) + bytes(1024))
    assert tar.scan(str(tmp_path / "0.tar"), 1000).problem is None
    assert [s.data for s in read(tmp_path / "0.tar", 1000)] == [
        {},
        {},
        {"jpg": b"12345"},
    ]
    assert [tar.describe(str(tmp_path / "0.tar"), i, 1000) for i in range(3)] == [
        "b: jpg (a hard link), txt (a symbolic link)",
        "c: jpg (3,000 bytes, over data.max_example_bytes)",
        "e: jpg",
    ]


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_odd_names_are_read_as_tarfile_reads_them(tmp_path, kind):
    names = ["f/" * 40 + "x.jpg", "ä" * 30 + ".jpg", "a.b.JPG", "p" * 90 + "/" + "q" * 60 + ".txt"]
    if kind != tarfile.USTAR_FORMAT:
        names += ["p" * 300 + ".jpg", "\udcff\udcfe.jpg"]
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w", format=kind) as archive:
        for i, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size = i
            archive.addfile(member, io.BytesIO(b"x" * i))
    with tarfile.open(path) as archive:
        expected = [m.name.encode("utf-8", "surrogateescape") for m in archive]
    found = [s.key + b"." + e.encode() for s in read(path) for e in s.members]
    assert [f.lower() for f in found] == [e.lower() for e in expected]


def test_a_record_with_a_false_length_ends_a_tfrecord(tmp_path):
    shards.write_tfrecord(tmp_path / "0.tfrecord", shards.pairs(3))
    path = tmp_path / "0.tfrecord"
    data = path.read_bytes()
    for length, message in ((1 << 62, "over data.max_example_bytes"), (900_000, "ends inside")):
        head = struct.pack("<Q", length)
        path.write_bytes(data + head + struct.pack("<I", tfrecord.masked_crc(head)) + b"x" * 100)
        found = tfrecord.scan(str(path), LIMIT)
        assert found.examples == 3 and message in found.problem
    path.write_bytes(data + b"x" * 100)
    assert "damaged length of record #3" in tfrecord.scan(str(path), LIMIT).problem
    assert tfrecord.scan(str(path), 100).examples == 0


def test_folders_and_unreadable_shards_are_named(tmp_path, form, monkeypatch):
    WRITE[form](tmp_path / f"0.{form}", shards.pairs(4))
    (tmp_path / f"1.{form}").mkdir()
    with pytest.raises(DataError, match=rf"1\.{form} is a folder"):
        open_source(config(tmp_path, form))
    (tmp_path / f"1.{form}").rmdir()
    WRITE[form](tmp_path / f"1.{form}", shards.pairs(4))
    module = tar.shards

    def denied(path, buffering=0, real=module.open_shard):
        if path.endswith(f"1.{form}"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(module, "open_shard", denied)
    with pytest.raises(DataError, match=rf"1\.{form} cannot be read: .*Permission denied"):
        open_source(config(tmp_path, form))


def test_remote_shards_are_looked_through_too(form):
    folder = f"ram://shards-{form}"
    tf.io.gfile.makedirs(folder)
    local = tf.io.gfile.join(folder, f"0.{form}")
    import pathlib
    import tempfile

    with tempfile.TemporaryDirectory() as here:
        WRITE[form](pathlib.Path(here) / f"0.{form}", shards.pairs(5))
        tf.io.gfile.copy(f"{here}/0.{form}", local)
    assert open_source(config(folder, form)).lengths == [5]
    data = tf.io.gfile.GFile(local, "rb").read()
    tf.io.gfile.remove(local)
    with tf.io.gfile.GFile(local, "wb") as file:
        file.write(data[: len(data) // 2 + 7])
    with pytest.raises(DataError, match="ends inside|without a tar's end mark"):
        open_source(config(folder, form))


def test_stored_embeddings_are_held_to_their_manifest(tmp_path):
    def feature(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    fields = {"image_embedding": feature(bytes(8)), "texts": feature(b"caption 1")}
    example = tf.train.Example(features=tf.train.Features(feature=fields)).SerializeToString()
    with tf.io.TFRecordWriter(str(tmp_path / "e.tfrecord")) as writer:
        for _ in range(10):
            writer.write(example)
    manifest = {"views": 1, "width": 2, "resolution": 32, "image_tower": "", "settings": {}}
    manifest["settings"]["checkpoint"] = ""
    for examples, message in ((10, None), (12, "e.tfrecord holds 10 examples: 10 of 12")):
        manifest["shards"] = [{"name": "e.tfrecord", "examples": examples}]
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        if message is None:
            assert open_source(DataConfig(source=str(tmp_path))).lengths == [10]
        else:
            with pytest.raises(DataError, match=message):
                open_source(DataConfig(source=str(tmp_path)))
