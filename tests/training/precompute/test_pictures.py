"""Pictures embedded by other processes end in the same index, whatever is killed on the way."""

import os

import PIL.Image
import pytest

from lit_tf.search import index
from lit_tf.search.store import Store
from lit_tf.training.precompute import beam, pictures


@pytest.fixture
def folder(tmp_path, fixture_module):
    """A folder of pictures, one of them broken and one with a name that is not UTF-8."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, image in enumerate(fixture_module.images()):
        PIL.Image.fromarray(image).save(folder / f"{i}.png")
    os.rename(folder / "0.png", os.fsencode(folder) + b"/\xff.png")
    (folder / "broken.png").write_bytes(b"broken")
    return folder


@pytest.fixture
def settings(fixtures):
    return index.Settings(str(fixtures / "lit_bert_tiny.npz"), batch_size=2)


def rows(db):
    """The table's rows, by path."""
    names = ["path", "size", "mtime", "embedding"]
    table = Store.open(db).columns(names).sort_by("path")
    return table.set_column(2, "mtime", table["mtime"].cast("int64")).to_pylist()


def same(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert a.pop("embedding") == pytest.approx(b.pop("embedding"), abs=1e-6)
        assert a == b


def test_workers_embed_what_one_process_embeds(folder, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "PICTURES_PER_FILE", 3)

    def run(items, make_worker, options):
        worker = make_worker()
        for item in items:
            assert all(path.encode() for path in item)  # Beam sends UTF-8
            worker(item)

    monkeypatch.setattr(beam, "run", run)
    there, here = tmp_path / "there", tmp_path / "here"
    report = index.update(there, [folder], settings, embed=pictures.engine(there, []))
    expected = index.update(here, [folder], settings)
    assert (report.embedded, report.rows, report.failures) == (5, 5, expected.failures)
    same(rows(there), rows(here))
    assert not (there / "beam").exists()


def test_work_that_beam_tries_again_is_in_the_index_once(folder, settings, tmp_path, monkeypatch):
    def run(items, make_worker, options):
        worker = make_worker()
        for item in items * 2:
            worker(item)

    monkeypatch.setattr(beam, "run", run)
    db = tmp_path / "db"
    report = index.update(db, [folder], settings, embed=pictures.engine(db, []))
    assert (report.embedded, report.rows, len(report.failures)) == (5, 5, 1)


def test_files_of_a_killed_run_are_taken_over(folder, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "PICTURES_PER_FILE", 2)
    sent = []

    def killed(items, make_worker, options):
        make_worker()(items[0])
        raise KeyboardInterrupt

    def run(items, make_worker, options):
        sent.extend(path for item in items for path in item)
        for item in items:
            make_worker()(item)

    db = tmp_path / "db"
    monkeypatch.setattr(beam, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        index.update(db, [folder], settings, embed=pictures.engine(db, []))
    monkeypatch.setattr(beam, "run", run)
    report = index.update(db, [folder], settings, embed=pictures.engine(db, []))
    assert len(sent) == 4 and (report.embedded, report.rows) == (5, 5)
    assert [os.path.basename(path) for path, _ in report.failures] == ["broken.png"]


def test_apache_beam_embeds_them_too(folder, settings, tmp_path):
    pytest.importorskip("apache_beam")
    there, here = tmp_path / "there", tmp_path / "here"
    index.update(there, [folder], settings, embed=pictures.engine(there, []))
    index.update(here, [folder], settings)
    same(rows(there), rows(here))
