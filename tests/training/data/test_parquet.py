"""Parquet with images in it, as Hugging Face writes it, for training and for evaluation."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from lit_tf.errors import DataError
from lit_tf.training.config import DataConfig
from lit_tf.training.data import Counters, make_train_dataset, make_validation_dataset
from lit_tf.training.data.shards import shard_sizes
from lit_tf.training.data.sources import open_source
from lit_tf.training.evaluation.captioned import open_captioned

from . import shards

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(path, numbers, kind="struct", texts=None, group=3):
    """Writes pictures of these numbers with captions, in row groups of a few rows."""
    images = [shards.encode(shards.picture(n)) for n in numbers]
    if kind == "struct":
        images = pa.array([{"bytes": b, "path": None} for b in images], STRUCT)
    elif kind == "path":  # beside the file
        for n, data in zip(numbers, images, strict=True):
            (path.parent / f"{n}.png").write_bytes(data)
        images = pa.array([{"bytes": None, "path": f"{n}.png"} for n in numbers], STRUCT)
    else:
        images = pa.array(images, getattr(pa, kind)())
    texts = texts or [f"caption {n}" for n in numbers]
    table = pa.table({"image": images, "id": list(numbers), "text": texts})
    pyarrow.parquet.write_table(table, path, row_group_size=group)


def test_img2datasets_own_parquet_is_read(tmp_path):
    data = shards.encode(shards.picture(3))
    columns = {"url": ["u", "v"], "caption": ["caption 3", "gone"], "jpg": [data, None]}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "00000.parquet")
    data = open_captioned(str(tmp_path / "00000.parquet"))
    assert data.captions == [["caption 3"], ["gone"]]
    assert list(data.images.encoded(0, 1).as_numpy_iterator()) == [columns["jpg"][0]]


@pytest.mark.parametrize("kind", ["struct", "path", "binary", "large_binary"])
def test_encoded_images_are_read_and_their_shards_in_order(tmp_path, kind):
    write(tmp_path / "train-00000-of-00002.parquet", range(7), kind)
    write(tmp_path / "train-00001-of-00002.parquet", range(7, 12), kind)
    for place in (f"{tmp_path}/*.parquet", str(tmp_path)):
        source = open_source(DataConfig(source=place))
        assert source.lengths == [3, 3, 1, 3, 2]
        assert len(shard_sizes(source)) == 2
    assert source.name(1, 2) == "train-00000-of-00002.parquet row 6"
    batches = make_validation_dataset(
        source, shards.tokenize, global_batch_size=4, image_size=16
    ).as_numpy_iterator()
    found = [shards.numbers(batch) for batch in batches]
    assert sum((images for images, _ in found), []) == list(range(12))
    assert all(images == texts for images, texts in found)


def test_evaluation_reads_the_same_and_tars_too(tmp_path):
    (tmp_path / "p").mkdir()
    write(tmp_path / "p" / "a.parquet", range(5), texts=[[f"x {n}", "y"] for n in range(5)])
    for i in range(2):
        rows = shards.pairs(3, first=3 * i, empty_captions=(4,))
        shards.write_tar(tmp_path / f"{i}.tar", rows, extension=("jpg", "tif")[i])
    data = open_captioned(str(tmp_path / "p" / "a.parquet"))
    assert data.captions[3] == ["x 3", "y"] and len(data.images) == 5
    assert data.images.locate(4) == "a.parquet row 5"
    data = open_captioned(f"{tmp_path}/*.tar")
    assert data.captions == [["caption 0"], ["caption 1"], ["caption 2"], ["caption 3"], []] + [
        ["caption 5"]
    ]
    encoded = list(data.images.encoded(2, 5).as_numpy_iterator())
    assert encoded == [image for _, image, _ in shards.pairs(3, first=2)]
    assert open_captioned(f"{tmp_path}/p").captions[0] == ["x 0", "y"]


def test_bad_rows_count_and_bad_files_are_named(tmp_path, capsys):
    write(tmp_path / "0.parquet", range(8))
    images = [None, {"bytes": b"no image", "path": None}, {"bytes": None, "path": "none.png"}]
    table = {"image": pa.array(images, STRUCT), "text": ["caption 8", None, "caption 9"]}
    pyarrow.parquet.write_table(pa.table(table), tmp_path / "1.parquet")
    counters = Counters()
    source = open_source(DataConfig(source=f"{tmp_path}/*.parquet", max_bad_share=0.5))
    dataset = make_train_dataset(
        source, shards.tokenize, global_batch_size=11, image_size=16, seed=0, counters=counters
    )
    (batch,) = dataset.take(1).as_numpy_iterator()
    assert set(shards.numbers(batch)[0]) <= set(range(8))
    assert "corrupt image in 1.parquet row 1" in " ".join(counters.named)
    (tmp_path / "1.parquet").write_bytes(b"<html>404</html>")
    with pytest.raises(DataError, match="1.parquet cannot be read as a Parquet file"):
        open_source(DataConfig(source=f"{tmp_path}/*.parquet"))
    # The first as well as any other, whatever the rows hold.
    for damaged, whole in (("1", "0"), ("0", "1"), ("0", "paths")):
        (tmp_path / f"{damaged}.parquet").write_bytes(b"<html>404</html>")
        if whole == "1":
            write(tmp_path / "1.parquet", range(8))
        elif whole == "paths":
            table = pa.table({"path": [f"{n}.png" for n in range(8)], "text": ["a caption"] * 8})
            pyarrow.parquet.write_table(table, tmp_path / "1.parquet")
        config = DataConfig(source=f"{tmp_path}/*.parquet", max_bad_share=0.6)
        capsys.readouterr()
        assert sum(open_source(config).lengths) == 8
        assert f"{damaged}.parquet cannot be read as a Parquet" in capsys.readouterr().err
        with pytest.raises(DataError, match="more than data.max_bad_share=0.01 allows"):
            open_source(DataConfig(source=config.source))


def test_file_name_is_a_column_of_paths_as_imagefolder_has_it(tmp_path):
    (tmp_path / "0.png").write_bytes(shards.encode(shards.picture(0)))
    (tmp_path / "metadata.csv").write_text("file_name,text\n0.png,caption 0\n")
    pyarrow.parquet.write_table(
        pa.table({"file_name": ["0.png"], "text": ["caption 0"]}), tmp_path / "metadata.parquet"
    )
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "0.png", "text": "caption 0"}\n\n')
    for name in ("metadata.csv", "metadata.parquet", "metadata.jsonl"):
        source = open_source(DataConfig(source=str(tmp_path / name)))
        (batch,) = make_validation_dataset(
            source, shards.tokenize, global_batch_size=1, image_size=16
        ).as_numpy_iterator()
        assert shards.numbers(batch) == ([0], [0])
        assert open_captioned(str(tmp_path / name)).captions == [["caption 0"]]


def test_every_row_comes_once_an_epoch(tmp_path):
    for i in range(3):
        write(tmp_path / f"{i}.parquet", range(10 * i, 10 * i + 10))
    source = open_source(DataConfig(source=str(tmp_path), shuffle_buffer=4))
    dataset = make_train_dataset(
        source, shards.tokenize, global_batch_size=10, image_size=16, seed=3
    )
    seen = np.concatenate([batch["tokens"][:, 0] for batch in dataset.take(3)])
    assert sorted(seen) == list(range(30))
