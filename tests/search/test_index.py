"""Indexing: only what is new or changed is embedded, nothing is lost, faults have a name."""

import dataclasses
import os
import shutil

import numpy as np
import PIL.ExifTags
import PIL.Image
import pytest

from lit_tf.errors import DataError
from lit_tf.search import index, store
from lit_tf.search.store import Store, writing

from .conftest import stored, write_pictures


def test_rows_hold_the_models_embeddings_and_small_thumbnails(run, workspace, model):
    report = run()
    assert (report.found, report.new, report.embedded, report.rows) == (10, 10, 10, 10)
    rows = stored(workspace, "size", "embedding", "thumbnail")
    paths = sorted(rows)
    assert paths == [str(workspace / "pictures" / f"{i:03d}.png") for i in range(10)]
    found = np.array([rows[path]["embedding"] for path in paths], np.float32)
    np.testing.assert_allclose(found, model.encode_image(paths), atol=1e-6)
    assert rows[paths[3]]["size"] == os.path.getsize(paths[3])
    assert rows[paths[3]]["thumbnail"].startswith(b"\xff\xd8")


def test_again_embeds_only_what_is_new_or_changed(run, workspace, one_model):
    run()
    loads = len(one_model)
    report = run()
    assert (report.found, report.new, report.changed, report.embedded) == (10, 0, 0, 0)
    assert len(one_model) == loads, "the model was loaded for nothing"
    write_pictures(workspace / "pictures" / "more", range(20, 23))
    before = stored(workspace, "embedding")
    changed = workspace / "pictures" / "004.png"
    shutil.copy(workspace / "pictures" / "more" / "020.png", changed)
    report = run()
    assert (report.new, report.changed, report.embedded, report.rows) == (3, 1, 4, 13)
    after = stored(workspace, "embedding")
    different = {path for path in before if before[path] != after[path]}
    assert different == {str(changed)}


def test_times_that_the_table_cannot_hold_do_not_stop_a_run(run, workspace):
    far = workspace / "pictures" / "000.png"
    os.utime(far, ns=(10**19, 10**19))  # in the year 2286
    if os.stat(far).st_mtime_ns < 2**63:
        pytest.skip("this file system has no such times")
    assert run().embedded == 10
    assert run().embedded == 0


def test_what_is_not_a_picture_is_counted_and_named_and_tried_again(run, workspace):
    broken = workspace / "pictures" / "003.png"
    broken.write_bytes(b"\x89PNG broken")
    (workspace / "pictures" / "empty.jpg").touch()
    (workspace / "pictures" / "notes.txt").touch()
    report = run()
    assert [os.path.basename(path) for path, _ in report.failures] == ["003.png", "empty.jpg"]
    assert f"{broken} cannot be decoded" in report.failures[0][1]
    assert (report.embedded, report.rows, report.passed_over) == (9, 9, {".txt": 1})
    write_pictures(workspace / "pictures", [3])
    assert run().embedded == 1
    # What is known and becomes unreadable is found no more.
    (workspace / "pictures" / "005.png").write_bytes(b"\x89PNG broken")
    report = run()
    assert (report.changed, report.rows, len(report.failures)) == (1, 9, 2)
    assert str(workspace / "pictures" / "005.png") not in stored(workspace)


def test_pictures_with_more_pixels_than_allowed_are_named(workspace, settings):
    PIL.Image.new("RGB", (40, 40)).save(workspace / "pictures" / "large.png")
    small = dataclasses.replace(settings, max_pixels=32 * 24)
    report = index.update(workspace / "db", [workspace / "pictures"], small)
    assert report.rows == 10 and "40 x 40" in report.failures[0][1]


def test_a_folder_that_changes_while_it_is_indexed(run, workspace, settings):
    def embed(settings, model, todo, report):
        os.unlink(todo[1])
        write_pictures(workspace / "pictures", [30])
        yield from index.embed_here(settings, model, todo, report)

    report = run(embed=embed)
    assert [path for path, _ in report.failures] == [str(workspace / "pictures" / "001.png")]
    assert "No such file" in report.failures[0][1] and report.rows == 9
    report = run()
    assert (report.embedded, report.rows) == (1, 10)


def test_names_that_are_not_utf8_are_kept_to_the_byte(run, workspace):
    odd = os.fsencode(workspace / "pictures") + b"/caf\xe9 \xff\n'.png"
    os.rename(workspace / "pictures" / "000.png", odd)
    assert (run().rows, run().new) == (10, 0)
    os.unlink(odd)
    report = run(prune=True)
    assert (report.gone, report.rows) == ([os.fsdecode(odd)], 9)


def test_another_model_is_refused(run, workspace, fixtures, settings):
    run()
    other = index.Settings(str(fixtures / "lit_small_tiny.npz"))
    half = index.Settings(settings.checkpoint, dtype="bfloat16")
    for different, word in ((other, "weights_sha256"), (half, "dtype")):
        with pytest.raises(DataError, match=f"another model.*{word}"):
            index.update(workspace / "db", [workspace / "pictures"], different, index_from_rows=9)
        write_pictures(workspace / "pictures", [50])


def test_only_one_process_writes_at_a_time(run, workspace):
    run()
    with writing(workspace / "db"), pytest.raises(DataError, match="another process is indexing"):
        run()
    assert run().rows == 10


def test_a_folder_with_other_files_is_not_taken_for_an_index(workspace, settings):
    with pytest.raises(DataError, match="holds other files, such as 000.png"):
        index.update(workspace / "pictures", [workspace / "pictures"], settings)
    with pytest.raises(DataError, match="no file or folder"):
        index.update(workspace / "db", [workspace / "nowhere"], settings)
    assert not (workspace / "db").exists()
    with pytest.raises(DataError, match="is not an index of pictures"):
        Store.open(workspace / "pictures")


def test_what_an_interruption_leaves_is_whole_and_the_next_run_goes_on(run, workspace):
    def embed(settings, model, todo, report):
        for number, table in enumerate(index.embed_here(settings, model, todo, report)):
            if number == 1:
                raise KeyboardInterrupt
            yield table

    with pytest.raises(KeyboardInterrupt):
        run(embed=embed)
    assert len(stored(workspace)) == 4
    report = run()
    assert (report.embedded, report.rows) == (6, 10)


def test_rows_say_when_a_picture_was_taken_and_how_large_it_is_shown(run, workspace):
    folder = workspace / "pictures"
    dates = ["2020:05:01 09:30:00", "0000:00:00 00:00:00", "2020:05:01 09:30:00\0", "x", None]
    for i, date in enumerate(dates):
        exif = PIL.Image.Exif()
        exif[PIL.ExifTags.Base.Orientation] = 6
        exif[PIL.ExifTags.Base.DateTime] = "2024:01:01 00:00:00"  # when it was edited
        if date is not None:
            exif.get_ifd(PIL.ExifTags.IFD.Exif)[PIL.ExifTags.Base.DateTimeOriginal] = date
        PIL.Image.new("RGB", (40, 30)).save(folder / f"{i}.jpg", exif=exif)
    run()
    rows = stored(workspace, "taken", "width", "height")
    taken = [rows[str(folder / f"{i}.jpg")]["taken"] for i in range(len(dates))]
    assert taken == ["2020-05-01T09:30:00", None, "2020-05-01T09:30:00", None, None]
    first = rows[str(folder / "0.jpg")]
    assert (first["width"], first["height"]) == (30, 40)
    assert rows[str(folder / "000.png")]["taken"] is None


def test_an_index_of_another_format_is_one_clear_error(run, workspace, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(store, "_FORMAT", 1)
        run()
    message = r"not an index that this version .* wrote \(its format is 1, not 2\); choose another"
    with pytest.raises(DataError, match=message):
        run()
    with pytest.raises(DataError, match=message):
        Store.open(workspace / "db")
