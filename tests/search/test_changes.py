"""What is gone, moved, passed over or named twice: nothing is lost, and nothing is there twice."""

import errno
import os
import shutil

import pytest

from lit_tf import search
from lit_tf.errors import DataError
from lit_tf.search import index, query
from lit_tf.search.paths import Source, Walk
from lit_tf.search.store import Outdated, Store

from .conftest import stored, write_pictures


def bytes_on_disk(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_pruned_pictures_leave_the_index_with_their_bytes(run, workspace):
    elsewhere = write_pictures(workspace / "elsewhere", [40])
    run(workspace / "pictures", workspace / "elsewhere")
    gone = str(workspace / "pictures" / "002.png")
    thumbnail = stored(workspace, "thumbnail")[gone]["thumbnail"]
    os.unlink(gone)
    os.unlink(elsewhere[0])
    report = run()
    assert (report.gone, report.deleted, report.rows) == ([gone], 0, 11)
    report = run(prune=True)
    assert (report.gone, report.deleted, report.rows) == ([gone], 1, 10)
    assert elsewhere[0] in stored(workspace) and gone not in stored(workspace)
    for file in (workspace / "db").rglob("*"):
        assert not file.is_file() or thumbnail not in file.read_bytes()
    assert run(prune=True).gone == []


def test_patterns_and_files_named_one_by_one_are_pruned(run, workspace):
    folder = workspace / "pictures"
    write_pictures(folder / "2019" / "a", [20, 21])
    write_pictures(folder / "2020", [22])
    pattern = str(folder / "20*" / "**" / "*.png")
    names = [folder / f"{i:03d}.png" for i in range(3)]
    assert run(pattern, *names).rows == 6
    os.unlink(folder / "2019" / "a" / "020.png")
    os.unlink(names[1])
    assert run(folder / "0*.png", prune=True).deleted == 1
    report = run(pattern, prune=True)
    assert report.gone == [str(folder / "2019" / "a" / "020.png")] and report.deleted == 1
    os.unlink(names[0])
    assert run(*names[::2], prune=True).deleted == 1
    os.unlink(names[2])
    names[2].mkdir()  # a folder now
    assert run(names[2], prune=True).deleted == 1
    left = {os.path.basename(path) for path in stored(workspace)}
    assert {"000.png", "001.png", "002.png", "020.png"}.isdisjoint(left) and "021.png" in left


@pytest.mark.parametrize("way", ["removed", "unmounted", "inside"])
def test_a_place_in_which_nothing_is_left_is_not_pruned_unless_all_is(run, workspace, way):
    outer = workspace / "pictures"
    place = outer / "drive" if way == "inside" else workspace / "drive"
    source = outer if way == "inside" else place
    write_pictures(place / "sub", [20, 21])
    run(outer, source)
    shutil.rmtree(place)
    if way != "removed":
        place.mkdir()
    report = run(source, prune=True)
    assert (report.doubtful, report.gone, report.deleted) == ({str(place): 2}, [], 0)
    assert report.rows == 12
    report = run(source, prune_all=True)
    assert (report.deleted, report.rows) == (2, 10)
    if way == "removed":
        with pytest.raises(DataError, match="no file or folder"):
            run(source)


def test_moved_pictures_keep_their_embedding(run, workspace):
    folder, other = workspace / "pictures", workspace / "renamed"
    run()
    before = stored(workspace, "embedding")
    os.rename(folder, other)
    os.rename(other / "000.png", os.fsencode(other) + b"/caf\xe9'.png")
    shutil.copy(other / "002.png", other / "001.png")  # same path, another picture
    report = run(other, prune=True)
    assert (report.new, report.moved, report.embedded, report.rows) == (10, 9, 1, 11)
    after = stored(workspace, "embedding")
    for path in (other / "002.png", other / "009.png"):
        assert after[str(path)] | {"path": ""} == before[str(folder / path.name)] | {"path": ""}
    assert run(folder, prune_all=True).deleted == 1 and len(stored(workspace)) == 10
    assert run(other).embedded == 0


def test_another_picture_of_the_same_size_and_time_is_not_a_moved_one(run, workspace):
    folder = workspace / "pictures"
    old, new = folder / "000.bmp", folder / "001.bmp"
    header = b"BM" + (54 + 12).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    header += (40).to_bytes(4, "little") + (2).to_bytes(4, "little") * 2
    header += (1).to_bytes(2, "little") + (24).to_bytes(2, "little") + bytes(24)
    old.write_bytes(header.ljust(54, b"\0") + bytes(16))
    os.utime(old, ns=(1, 10**18))
    run()
    os.unlink(old)
    new.write_bytes(header.ljust(54, b"\0") + bytes(12) + b"\xff\xff\xff\0")
    os.utime(new, ns=(1, 10**18))
    report = run(prune=True)
    assert (report.moved, report.embedded, report.deleted) == (0, 1, 1)


def test_folders_named_twice_give_one_row_a_picture_and_no_message(run, workspace):
    folder, link = workspace / "pictures", workspace / "link"
    write_pictures(folder / "sub", [30])
    link.symlink_to(folder)
    for sources in (
        *([link], [folder / "sub", folder], [link, folder], [folder, folder / "sub"]),
        *([link / "*.png", folder], [folder, link / "000.png"], [link / "0*.png", link / "sub"]),
        *([folder / "sub" / "*.png", folder, link / "sub" / "030.png"], [link, folder]),
    ):
        report = run(*sources, prune=True)
        assert (report.rows, report.problems, report.deleted) == (11, [], 0), sources
        stored(workspace)
        assert all("/link/" not in path for path in stored(workspace)) or sources[0] != folder
    assert report.embedded == 0


def test_what_systems_keep_and_what_is_excluded_is_passed_over(run, workspace, settings, command):
    folder = workspace / "pictures"
    write_pictures(folder / "raw" / "more", [20])
    run()
    for name in ("@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "__MACOSX"):
        write_pictures(folder / name / "x", [30])
    write_pictures(folder / "lost+found", [30])
    report = run(exclude=["raw", "00[1-3].png", f"{folder}/004*"])
    assert (report.found, len(report.gone), report.doubtful) == (6, 5, {})
    assert run(exclude=["raw"], prune=True).deleted == 1
    assert run(folder / "*" / "x" / "*.png", folder / "@eaDir").found == 1  # named itself
    for name in ("a.heic2", "b.HEIC2", "c.heic2", "c.xmp", "d.xmp", "LICENSE"):
        (folder / name).touch()
    report = run()
    assert report.passed_over == {".heic2": 3, ".xmp": 2, "": 1}
    arguments = ["index", settings.checkpoint, folder, "--db", workspace / "db"]
    command(*arguments)
    assert "3 .heic2, 2 .xmp, 1 without an ending" in command.err
    assert command(*arguments, "--json")["passed_over"] == {".heic2": 3, ".xmp": 2, "": 1}


def test_one_source_and_one_exclusion_may_be_plain_strings_and_the_index_in_the_folder(
    workspace, settings
):
    folder = workspace / "pictures"
    for _ in range(2):
        report = index.update(folder / "d[b]", str(folder), settings, exclude="00[1-3].png")
        assert (report.found, report.rows, report.passed_over) == (7, 7, {})


def test_an_index_does_not_grow_when_the_same_pictures_are_indexed_again(run, workspace):
    run()
    reader = search.open(workspace / "db")
    question = stored(workspace, "embedding")[str(workspace / "pictures" / "000.png")]["embedding"]
    sizes = []
    for i in range(3):
        for file in (workspace / "pictures").iterdir():
            os.utime(file, (i, i))
        assert run().embedded == 10
        sizes.append(bytes_on_disk(workspace / "db"))
        assert len(reader.answer(question)) == 10
    assert max(sizes) < 1.2 * sizes[0]


def test_a_question_is_asked_again_when_its_version_has_been_removed(run, workspace, monkeypatch):
    run()
    searcher, asked = search.open(workspace / "db"), []
    nearest = Store.nearest

    def outdated(self, *args, **options):
        asked.append(args)
        if len(asked) == 1:
            for file in (workspace / "pictures").iterdir():
                os.utime(file, (1, 1))
            run()  # removes the version that is read
        return nearest(self, *args, **options)

    monkeypatch.setattr(query.Store, "nearest", outdated)
    vector = stored(workspace, "embedding")[str(workspace / "pictures" / "001.png")]["embedding"]
    assert len(searcher.answer(vector)) == 10 and len(asked) >= 2
    assert issubclass(Outdated, DataError)


def test_pictures_in_a_folder_that_cannot_be_read_are_not_taken_for_gone(
    run, workspace, monkeypatch
):
    closed = os.path.join(workspace, "pictures", "more")
    write_pictures(workspace / "pictures" / "more", [30])
    assert run().rows == 11

    def denied(function):
        def call(path, *args, **kwargs):
            if str(path).startswith(closed):
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return function(path, *args, **kwargs)

        return call

    monkeypatch.setattr(os, "lstat", denied(os.lstat))
    monkeypatch.setattr(os, "scandir", denied(os.scandir))
    report = run(prune_all=True)
    assert (report.gone, report.rows) == ([], 11)
    assert report.problems == [(closed, "Permission denied")]


def test_the_innermost_folder_that_is_named_is_asked_whether_its_drive_is_there(run, workspace):
    outer = workspace / "pictures"
    drive = outer / "drive"
    write_pictures(drive, [20, 21])
    run(outer, drive)
    shutil.rmtree(drive)
    report = run(outer, drive, prune=True)
    assert (report.doubtful, report.deleted, report.rows) == ({str(drive): 2}, 0, 12)
    assert run(outer, prune=True).deleted == 2


def test_a_file_named_alone_is_kept_where_its_folder_is_gone_too(run, workspace):
    usb = workspace / "media" / "usb"
    (lone, other), rest = write_pictures(usb, [20, 21]), workspace / "pictures"
    run(rest, lone, other)
    os.unlink(other)
    assert run(lone, other, prune=True).deleted == 1
    shutil.rmtree(usb)
    (workspace / "media" / "another").touch()
    report = run(rest, lone, prune=True)
    assert (report.doubtful, report.deleted, report.rows) == ({lone: 1}, 0, 11)
    assert run(lone, prune_all=True).deleted == 1


def test_a_picture_that_may_no_longer_be_read_is_found_no_more(run, workspace, monkeypatch):
    closed, access, read = str(workspace / "pictures" / "003.png"), os.access, open
    run()

    def denied(path, *args, **kwargs):
        if path == closed:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return read(path, *args, **kwargs)

    monkeypatch.setattr(os, "access", lambda path, mode: path != closed and access(path, mode))
    monkeypatch.setattr("builtins.open", denied)
    report = run()
    assert [path for path, _ in report.failures] == [closed] and report.rows == 9


def test_folders_after_an_exclusion_are_not_taken_for_one(workspace, settings, command):
    folder = workspace / "pictures"
    write_pictures(folder / "raw", [20])
    write_pictures(workspace / "more" / "raw", [21])
    start = ["index", settings.checkpoint, "--db", workspace / "db", "--json"]
    for where in ([folder], []):
        error = command(*start, *where, "--exclude", "raw", workspace / "more", code=2)
        assert f"--exclude took {workspace / 'more'}" in error and "before --exclude" in error
    given = [folder, workspace / "more", "--exclude", "raw", "00?.png"]
    assert command(*start, *given)["found"] == 0
    given = [folder, workspace / "more", "--exclude", "00?.png", "--exclude", folder / "raw"]
    assert command(*start, *given)["found"] == 1


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("/a/*.jpg", "/a/b.jpg", True),
        ("/a/*.jpg", "/a/b/c.jpg", False),
        ("/a/**/*.jpg", "/a/c.jpg", True),
        ("/a/**/*.jpg", "/a/b/d/c.jpg", True),
        ("/a/20*", "/a/2020/b/c.jpg", True),
        ("/a/20*", "/a/1920/c.jpg", False),
        ("/a/x[1]", "/a/x[1]/c.jpg", True),
        ("/a/x[1]", "/a/x1/c.jpg", True),
        ("/a/b", "/a/bc.jpg", False),
        ("/", "/a/bc.jpg", True),
    ],
)
def test_a_source_covers_paths_that_do_not_exist(pattern, path, fits):
    assert Source.of(pattern).covers(path) is fits


def test_exclusions_are_of_names_and_of_whole_paths(tmp_path):
    walk = Walk(["raw", "/a/b*/x.jpg", "IMG*", "*/thumbs/*", "**/deep/old"])
    for path, root, expected in [
        ("/a/thumbs/x.jpg", "/a", True),
        ("/a/b/thumbs/c/x.jpg", "/a", True),
        ("/a/thumbs.jpg", "/a", False),
        ("/c/deep/old/x.jpg", "/c", True),
        ("/c/deep/older/x.jpg", "/c", False),
        ("/a/raw/x.jpg", "/a", True),
        ("/raw/x.jpg", "/raw", False),
        ("/a/bc/x.jpg", "/a", True),
        ("/IMG/a/x.jpg", "/IMG", False),
        ("/IMG/a/IMG1.jpg", "/IMG", True),
        ("/a/@eaDir/x.jpg", "/a", True),
        ("/a/@eaDir/x.jpg", "/a/@eaDir", False),
    ]:
        assert walk.excludes(path, root) is expected, path
