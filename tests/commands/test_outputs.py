"""No command writes over what it reads, or leaves half an output."""

import errno
import os
import pathlib
import re
import subprocess
import sys

import pytest

from lit_tf import files


@pytest.mark.parametrize(
    "command",
    [
        "embed a.npz --texts cap.txt -o cap.txt",
        "embed a.npz --images p.png -o hard.png",
        "embed link.npz --images p.png -o a.npz",
        "embed a.npz --images p.png -o a.txt",
        "compare a.npz --images p.png --texts x --plot p.png",
        "compare a.npz --images p.png --texts @cap.txt --plot ./cap.txt",
        "convert a.npz a.npz --dtype float16",
        "convert a.npz link.npz",
        "search db x --html names.txt --templates names.txt",
        "search db --like p.png --html hard.png",
        "index a.npz p.png --db p.png",
        "export a.npz out --saved-model --classes out/names.txt",
        "export a.npz a.npz --saved-model",
        "eval a.npz --retrieval pairs.csv --json pairs.csv",
        "eval a.npz --zero-shot . --report p.png",
        "eval a.npz --zero-shot . --class-names names.txt --report names.txt",
        "eval a.npz --zero-shot . --json new --report ./new",
        "eval --saved-model out --zero-shot . --json out/lit_manifest.json",
        "precompute a.npz --config digits --set model.image_init=a.npz",
        "train --config digits --set model.init=run/final.npz --workdir run",
        "precompute p.png --config digits --set data.source=p.png",
    ],
)
def test_no_command_writes_over_what_it_reads(run, user_files, command):
    def contents():
        paths = sorted(p for p in pathlib.Path().rglob("*") if p.is_file())
        return {str(p): (p.is_symlink(), p.stat().st_ino, p.read_bytes()) for p in paths}

    before = contents()
    message = run(*command.split(), code=2)
    assert re.search("which is read|in it is read|are one file", message)
    assert contents() == before


def test_an_output_on_a_full_disk_is_one_error():
    command = [sys.executable, "-c", "from lit_tf.cli import main; raise SystemExit(main())"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*command, "models"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


def test_an_error_of_tensorflow_about_a_full_disk_is_the_users(run, monkeypatch):
    tf = pytest.importorskip("tensorflow")

    def fail(args):
        raise tf.errors.ResourceExhaustedError(None, None, "/a/b; No space left on device")

    monkeypatch.setattr("lit_tf.commands.models.run", fail)
    assert "/a/b; No space left on device" in run("models", code=2)


@pytest.mark.parametrize(
    "command",
    [
        "embed a.npz --images p.png -o old.npz",
        "embed a.npz --texts cap.txt -o old.npz",
        "compare a.npz --images p.png --texts x --plot old.png",
        "convert a.npz old.npz",
    ],
)
def test_a_full_disk_leaves_the_old_output(run, user_files, command, monkeypatch):
    def fail(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr(files, "sync", fail)
    for name in ("old.npz", "old.png"):
        pathlib.Path(name).write_bytes(b"old")
    pathlib.Path("old.txt").write_bytes(pathlib.Path("a.txt").read_bytes())
    before = sorted(os.listdir())
    assert "No space left on device" in run(*command.split(), code=2)
    assert sorted(os.listdir()) == before
    assert pathlib.Path("old.npz").read_bytes() == pathlib.Path("old.png").read_bytes() == b"old"


def test_pages_and_figures_on_a_full_disk_leave_the_old_ones(tmp_path, monkeypatch):
    page = pytest.importorskip("lit_tf.search.page")
    pytest.importorskip("tensorflow_datasets")  # without it the report's import is our own error
    report = pytest.importorskip("lit_tf.training.evaluation.report")

    def fail(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    path = tmp_path / "old"
    path.write_text("old")
    writers = [
        lambda: page.write_page(path, "question", [], 0, "model"),
        lambda: report.write_report(path, os.fsdecode(b"\xff"), [["figure"]], []),
        lambda: files.write_text(path, "{}"),
    ]
    for write in writers:
        with monkeypatch.context() as full:
            full.setattr(files, "sync", fail)
            with pytest.raises(OSError, match="No space left"):
                write()
        assert path.read_text() == "old" and os.listdir(tmp_path) == ["old"]
    for write in writers:
        write()
        assert path.read_text() != "old"
