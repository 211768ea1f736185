"""`lit-tf embed`."""

import errno
import io
import itertools
import json
import os
import pathlib
import sys

import numpy as np
import pytest

import lit_tf
from lit_tf import cli


def texts_of(arrays, name="text"):
    """Returns the texts or paths of a file, as docs/cli.md reads them."""
    data, at = arrays[f"{name}_bytes"].tobytes(), arrays[f"{name}_offsets"]
    return [os.fsdecode(data[a:b]) for a, b in itertools.pairwise(at)]


def test_a_long_text_makes_no_other_text_wide(run, checkpoint, tmp_path):
    out, texts = tmp_path / "out.npz", ["a cat"] * 20 + ["é" * 100_000, ""]
    (tmp_path / "texts").write_text("\n".join(texts) + "\n", encoding="utf-8")
    found = run("embed", checkpoint, "--texts", tmp_path / "texts", "-o", out, "--json")
    assert found["arrays"] == ["embeddings", "text_bytes", "text_offsets"]
    assert out.stat().st_size < 300_000
    with np.load(out) as arrays:
        assert texts_of(arrays) == texts


def test_embed_writes_the_references_embeddings(
    run, checkpoint, photos, fixture_module, reference, tmp_path
):
    out = tmp_path / "out.npz"
    found = run("embed", checkpoint, "--images", photos / "*.png", "-o", out, "--json")
    arrays = ["embeddings", "path_bytes", "path_offsets"]
    assert found == {"path": str(out), "count": 5, "width": 48, "arrays": arrays, "left_out": []}
    with np.load(out) as arrays:
        expected = reference("towers")["lit_bert_tiny/zimg"]
        np.testing.assert_allclose(arrays["embeddings"], expected, atol=1e-6, rtol=0)
        assert texts_of(arrays, "path") == [str(photos / f"{i}.png") for i in range(5)]
    # One text a line: those that hold a line end cannot stand in a file.
    rows = [i for i, t in enumerate(fixture_module.TEXTS) if "\n" not in t and "\0" not in t]
    texts = [fixture_module.TEXTS[i] for i in rows]
    (tmp_path / "texts").write_text("\n".join(texts) + "\n", encoding="utf-8")
    run("embed", checkpoint, "--texts", tmp_path / "texts", "-o", out)
    with np.load(out) as arrays:
        expected = reference("towers")["lit_bert_tiny/ztxt"][rows]
        np.testing.assert_allclose(arrays["embeddings"], expected, atol=1e-6, rtol=0)
        assert texts_of(arrays) == texts
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.npz", "texts"]


def test_embed_writes_the_folders_that_clip_retrieval_reads(run, checkpoint, photos, tmp_path):
    pandas = pytest.importorskip("pandas")
    model = lit_tf.load(checkpoint)
    as_folder = ["--format", "clip-retrieval", "-o"]
    run("embed", checkpoint, "--images", photos / "*.png", *as_folder, tmp_path / "images")
    # As that project's back end does it: row i of the one is row i of the other.
    found = np.load(tmp_path / "images" / "img_emb" / "img_emb_0.npy")
    table = pandas.read_parquet(tmp_path / "images" / "metadata" / "metadata_0.parquet")
    assert found.dtype == np.float32 and list(table.columns) == ["image_path"]
    np.testing.assert_allclose(found, model.encode_image(list(table["image_path"])), atol=1e-6)
    (tmp_path / "texts.txt").write_text("a cat\na dog\n")
    run("embed", checkpoint, "--texts", tmp_path / "texts.txt", *as_folder, tmp_path / "texts")
    found = np.load(tmp_path / "texts" / "text_emb" / "text_emb_0.npy")
    table = pandas.read_parquet(tmp_path / "texts" / "metadata" / "metadata_0.parquet")
    assert table["caption"].tolist() == ["a cat", "a dog"]
    np.testing.assert_allclose(found, model.encode_text(["a cat", "a dog"]), atol=1e-6)
    again = run("embed", checkpoint, "--images", photos, *as_folder, tmp_path / "texts", code=2)
    assert "is not empty" in again


@pytest.fixture
def folder_with_bad_photos(photos, tmp_path):
    """A folder of two photos, one with a name that is not UTF-8, and two files that are none."""
    folder = tmp_path / "folder"
    folder.mkdir()
    data = [(photos / f"{i}.png").read_bytes() for i in range(2)]
    names = b"a.png", b"b\xff.png", b"c.png", b"d\xfe.png"
    for name, content in zip(names, (data[0], data[1], data[0][:90], b""), strict=True):
        pathlib.Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(content)
    return folder


def test_embed_leaves_out_names_and_counts_what_it_cannot_read(
    checkpoint, folder_with_bad_photos, tmp_path, capsys
):
    out, pattern = tmp_path / "out.npz", f"{folder_with_bad_photos}/*.png"
    command = ["embed", checkpoint, "--images", pattern, "-o", str(out)]
    assert cli.main(command) == 0
    told, left_out = capsys.readouterr()
    assert "2 embeddings" in told and "2 images could not be read" in told
    assert [line.startswith("left out: ") for line in left_out.splitlines()] == [True, True]
    assert "/c.png" in left_out and "/d\\xfe.png" in left_out
    with np.load(out) as arrays:
        read = texts_of(arrays, "path")
        assert [os.fsencode(path).split(b"/")[-1] for path in read] == [b"a.png", b"b\xff.png"]
        expected = lit_tf.load(checkpoint).encode_image(read)
        np.testing.assert_allclose(arrays["embeddings"], expected, atol=1e-6)
    assert cli.main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [os.fsencode(f["path"]).split(b"/")[-1] for f in found["left_out"]] == [
        b"c.png",
        b"d\xfe.png",
    ]


def test_embed_refuses_bad_photos_if_strict_or_if_there_are_no_others(
    run, checkpoint, folder_with_bad_photos, tmp_path
):
    out = tmp_path / "out.npz"
    embed = ["embed", checkpoint, "-o", out, "--images"]
    assert "c.png" in run(*embed, folder_with_bad_photos / "*.png", "--strict", code=2)
    message = run(*embed, folder_with_bad_photos / "[cd]*.png", code=2)
    assert "none of 2 images can be read" in message and "c.png" in message
    assert not out.exists()


def test_embed_reads_standard_input_and_batches(run, checkpoint, photos, tmp_path, monkeypatch):
    out = tmp_path / "out.npz"
    monkeypatch.setattr("sys.stdin", io.StringIO("a cat\n\na dog"))
    run("embed", checkpoint, "--texts", "-", "-o", out)
    with np.load(out) as arrays:
        assert texts_of(arrays) == ["a cat", "", "a dog"]
    run("embed", checkpoint, "--images", photos / "*.png", "-o", out, "--batch-size", 2)
    with np.load(out) as arrays:
        expected = lit_tf.load(checkpoint).encode_image(sorted(photos.glob("*.png")))
        np.testing.assert_allclose(arrays["embeddings"], expected, atol=1e-6)


def test_clip_retrievals_package_is_missed_before_any_work(
    run, checkpoint, photos, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr(lit_tf, "load", lambda *args, **kwargs: pytest.fail("work was begun"))
    command = ["embed", checkpoint, "--images", photos / "0.png", "--format", "clip-retrieval"]
    assert "lit_tf[search]" in run(*command, "-o", tmp_path / "out", code=2)


def test_folders_for_clip_retrieval_are_written_whole_or_not_at_all(
    run, checkpoint, tmp_path, monkeypatch
):
    pytest.importorskip("pyarrow")

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "texts").write_text("a cat\n")
    command = ["embed", checkpoint, "--texts", tmp_path / "texts", "--format", "clip-retrieval"]
    with monkeypatch.context() as full:
        full.setattr(np, "save", fail)
        assert "No space left" in run(*command, "-o", tmp_path / "a", code=2)
    assert os.listdir(tmp_path) == ["texts"]
    run(*command, "-o", tmp_path / "a")
    assert sorted(os.listdir(tmp_path / "a")) == ["metadata", "text_emb"]


def test_there_is_no_quantized_text_tower(run, checkpoint, tmp_path):
    command = ["embed", checkpoint, "--texts", "-", "-o", tmp_path / "a.npz", "--int8"]
    assert "--int8 is for --images" in run(*command, code=2)
