"""Training from a table of image paths and captions, and data sources that are none."""

import pathlib

import pytest

from lit_tf.errors import DataError
from lit_tf.training.config import DataConfig
from lit_tf.training.data import Counters, make_validation_dataset, tar
from lit_tf.training.data.counters import CORRUPT_IMAGE
from lit_tf.training.data.finding import find_shards, source_format
from lit_tf.training.data.sources import open_source
from lit_tf.training.data.tables import read_captions
from lit_tf.training.evaluation.captioned import open_captioned

from . import shards

ROWS = [("images/0.png", "caption 0"), ("images/1.png", "caption 1"), ("images/0.png", "caption 0")]


def write_table(path, rows=ROWS, columns=("image", "caption")):
    path = pathlib.Path(path)
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        values = zip(*rows, strict=True)
        table = {name: list(column) for name, column in zip(columns, values, strict=True)}
        pyarrow.parquet.write_table(pyarrow.table(table), path)
        return str(path)
    separator = "\t" if path.suffix == ".tsv" else ","
    lines = [separator.join(row) for row in (columns, *rows)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for i in range(4):
        (tmp_path / "images" / f"{i}.png").write_bytes(shards.encode(shards.picture(i)))
    return tmp_path


@pytest.mark.parametrize("form", ["csv", "tsv", "parquet"])
def test_training_and_evaluation_read_the_same_pairs(folder, form):
    path = write_table(folder / f"pairs.{form}")
    expected = {
        f"{folder}/images/0.png": ["caption 0"] * 2,
        f"{folder}/images/1.png": ["caption 1"],
    }
    assert read_captions(path) == expected
    assert open_captioned(path).captions == list(expected.values())
    (batch,) = make_validation_dataset(
        open_source(DataConfig(source=path)), shards.tokenize, global_batch_size=2, image_size=16
    )
    assert shards.numbers(batch) == ([0, 1], [0, 1])


def test_columns_have_the_names_that_people_use_or_the_ones_that_are_asked_for(folder):
    open_clip = write_table(folder / "a.tsv", columns=("filepath", "title"))
    assert open_source(DataConfig(source=open_clip)).lengths == [2]
    own = write_table(folder / "b.csv", columns=("file", "german"))
    config = DataConfig(source=own, image_key="file", text_key="german")
    assert open_source(config).lengths == [2]
    with pytest.raises(DataError, match=r"expected a column image \(or filepath.*found file, germ"):
        open_source(DataConfig(source=own))


def test_parquet_may_hold_lists_of_captions(folder):
    rows = [("images/0.png", ["caption 0", "caption 5"]), ("images/1.png", ["caption 1"])]
    path = write_table(folder / "pairs.parquet", rows)
    assert list(read_captions(path).values()) == [["caption 0", "caption 5"], ["caption 1"]]


def test_addresses_of_images_stay_as_they_are(tmp_path):
    (tmp_path / "a.csv").write_text("image,caption\ngs://bucket/x.png,x\n")
    assert read_captions(str(tmp_path / "a.csv")) == {"gs://bucket/x.png": ["x"]}


def test_files_that_are_missing_count_as_bad_and_are_named(folder):
    rows = [*ROWS, ("images/gone.png", "caption 2"), ("images", "caption 3")]
    path = write_table(folder / "pairs.csv", rows)
    counters = Counters()
    list(
        make_validation_dataset(
            open_source(DataConfig(source=path)),
            shards.tokenize,
            global_batch_size=4,
            image_size=16,
            counters=counters,
        )
    )
    assert counters.count[CORRUPT_IMAGE] == 2
    assert "images/gone.png (no such file)" in counters.report()
    assert "images (not a file)" in counters.report()


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.csv", b"", "expected a column image .*found nothing"),
        ("a.csv", b"image,caption\nx.png\n", "a.csv:2: a row without image or caption"),
        ("a.csv", b"image,caption\n,text\n", "a.csv:2: a row without image or caption"),
        (
            "a.jsonl",
            b'{"image": "x.png", "text": 1}\n',
            "a.jsonl:1: a row without image or caption",
        ),
        ("a.jsonl", b'{"image": "x.png"}\n', "a.jsonl:1: expected a column caption"),
        ("a.jsonl", b"[]\n", "a.jsonl:1 is damaged: expected a JSON object"),
        ("a.csv", b"image,caption\n\xff,text\n", "cannot be read as a CSV file in UTF-8"),
        ("a.csv", b"image,caption\n" + b"x" * 200_000 + b",text\n", "cannot be read as a CSV"),
        (
            "a.csv",
            b"image,caption\nx.png,cats, asleep\n",
            "a.csv:2: more fields than the 2 columns",
        ),
        ("a.csv", b'image,caption\nx.png,"a\ny.png,b\nz.png,"c"\n', "UTF-8, line 4: ',' expected"),
        ("a.csv", b'image,caption\nx.png,"a\ny.png,b\n', "UTF-8, line 3: unexpected end"),
        ("a.csv", b"image,caption\n", "holds no examples"),
        ("a.csv", None, "cannot be read as a CSV file"),
        ("a.parquet", b"PAR1" + b"x" * 100, "cannot be read as a Parquet file"),
        ("a.parquet", b"", "cannot be read as a Parquet file"),
        ("a.parquet", None, "no parquet shards at"),
        (
            "a.tar.gz",
            b"\x1f\x8b" + bytes(600),
            "is gzip-compressed; unpack it; training reads tars",
        ),
        ("cc3m.html", b"<!doctype html><html>", "is an HTML page; training reads tars"),
        ("a.zip", None, "no such file or folder: .*a.zip; training reads tars"),
        ("shrads", None, "no such file or folder: .*shrads; training reads tars"),
        ("a.tar", None, "no tar shards at"),
    ],
)
def test_a_source_that_cannot_be_read_is_explained(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_source(DataConfig(source=str(tmp_path / name)))


def test_a_folder_without_shards_is_explained(tmp_path):
    with pytest.raises(DataError, match=r"no shards in the folder .* \(it is empty\); training"):
        source_format(DataConfig(source=str(tmp_path)))
    (tmp_path / "cat.jpg").touch()
    with pytest.raises(DataError, match=r"\(it holds cat.jpg, ...\); training reads"):
        source_format(DataConfig(source=str(tmp_path)))
    with pytest.raises(DataError, match="no dataset 'coco_caption'.*did you mean 'coco_captions'"):
        open_source(DataConfig(source="coco_caption"))


def test_braces_are_expanded_all_and_within_bounds(tmp_path):
    for name in ("00", "01", "10", "11", "x"):
        (tmp_path / f"{name}.tar").touch()
    assert len(find_shards(f"{tmp_path}/{{0..1}}{{0..1}}.tar", "tar")) == 4
    assert len(find_shards(f"{tmp_path}/{{00..01}}.tar", "tar")) == 2
    assert len(find_shards(f"{tmp_path}/{{00,x}}.tar", "tar")) == 2
    with pytest.raises(DataError, match="2 of 3 shards found .* missing is .*02.tar"):
        find_shards(f"{tmp_path}/{{00..02}}.tar", "tar")
    for span in ("{0..99999999}", "{0..9999}{0..9999}", "{0..99999999999999999999999}"):
        with pytest.raises(DataError, match="stands for over 1,000,000 shards"):
            find_shards(f"{tmp_path}/{span}.tar", "tar")


def test_bad_samples_are_described_by_what_they_have(tmp_path):
    import tensorflow as tf

    shards.write_tar(tmp_path / "0.tar", shards.pairs(4), extension="gif2")
    config = DataConfig(source=f"{tmp_path}/0.tar")
    source = open_source(config)
    assert source.describe(0, 2) == "000000002: gif2, txt, json"
    with tf.io.TFRecordWriter(str(tmp_path / "0.tfrecord")) as writer:
        feature = {"picture": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"x"]))}
        feature["txt"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[1]))
        example = tf.train.Example(features=tf.train.Features(feature=feature))
        writer.write(example.SerializeToString())
        writer.write(b"\xff no example")
    source = open_source(DataConfig(source=f"{tmp_path}/0.tfrecord"))
    assert source.describe(0, 0) == "fields picture (bytes), txt (int64)"
    assert source.describe(0, 1) == "not a tf.train.Example"


def test_what_macos_adds_to_archives_is_skipped(tmp_path):
    rows = shards.pairs(3)
    clutter = [("._0", b"x", "y"), ("__MACOSX/0", b"x", "y"), ("a/__MACOSX/0", b"x", "y")]
    shards.write_tar(tmp_path / "0.tar", [*clutter, *rows, *clutter])
    assert open_source(DataConfig(source=f"{tmp_path}/0.tar")).lengths == [3]
    assert tar.is_clutter(".DS_Store") and tar.is_clutter("a/.DS_Store")
    assert tar.is_clutter("a/@eaDir/b.jpg")
    assert not tar.is_clutter("a/b.jpg") and not tar.is_clutter("MACOSX/_b.jpg")


def test_tables_sorted_by_class_are_shuffled_wholly_and_the_same_again(tmp_path):
    rows = [f"{i}.png,class {i // 100}" for i in range(5000)]
    (tmp_path / "sorted.csv").write_text("image,caption\n" + "\n".join(rows) + "\n")
    source = open_source(DataConfig(source=str(tmp_path / "sorted.csv")))

    def order(seed):
        shuffled = source.shuffled(seed)
        places = [(shard, i) for shard, n in enumerate(shuffled.lengths) for i in range(n)]
        return [int(shuffled.name(*place).rpartition("/")[2][:-4]) for place in places]

    assert sorted(order(1)) == list(range(5000)) and order(1) == order(1) != order(2)
    assert len({i // 100 for i in order(1)[:500]}) == 50
    assert source.name(0, 0).endswith("/0.png")
