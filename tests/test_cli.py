"""The command line, in this process, on the small fixtures."""

import errno
import io
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import types

import numpy as np
import PIL.Image
import pytest

import lit_tf
from lit_tf import cli, files, registry
from lit_tf.checkpoints.npz import open_npz
from lit_tf.commands import common
from lit_tf.errors import ConfigError


@pytest.fixture(scope="module")
def checkpoint(fixtures):
    return str(fixtures / "lit_bert_tiny.npz")


@pytest.fixture(scope="module")
def photos(fixture_module, tmp_path_factory):
    """Paths of the reference's images, in its order."""
    folder = tmp_path_factory.mktemp("photos")
    for i, image in enumerate(fixture_module.images()):
        PIL.Image.fromarray(image).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def run(capsys):
    """Runs a command; returns its output, after checking its exit code."""

    def call(*argv, code=0):
        assert cli.main([str(a) for a in argv]) == code
        out, err = capsys.readouterr()
        if code == 0:
            return json.loads(out) if "--json" in argv else out
        assert out == ""
        assert err.count("\n") == 1 and err.startswith("lit-tf: error: "), err
        return err

    return call


def test_help_and_models_import_no_tensorflow():
    code = (
        "import sys; from lit_tf.cli import main\n"
        "assert main(['models']) == 0\n"
        f"for words in {[[], *([c] for c in cli.COMMANDS)]}:\n"
        "    try: main([*words, '--help'])\n"
        "    except SystemExit as e: assert e.code == 0\n"
        "print([m for m in ('tensorflow', 'keras', 'matplotlib') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.endswith("[]\n")
    for command in cli.COMMANDS:
        assert f"    {command}" in out.stdout


def test_models_lists_every_name_that_load_takes(run, tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_TF_CACHE", str(tmp_path))
    (tmp_path / "LiT-L16L.npz").touch()
    rows = {row["name"]: row for row in run("models", "--json")}
    assert list(rows) == lit_tf.list_models()
    assert rows["LiT-B16B_2"]["figures"]["imagenet2012"] == 73.9
    assert rows["LiT-L16L"]["path"] == str(tmp_path / "LiT-L16L.npz")
    assert rows["LiT-B16B"]["path"] is None
    table = run("models")
    for name in registry.MODELS:
        assert name in table
    assert "73.9" in table and "in the cache" in table


def test_info_describes_every_layout(run, fixtures):
    expected = {
        "lit_bert_tiny.npz": ("vit_jax", ["float32"], "bert"),
        "lit_tt_tiny.npz": ("vit_jax", ["float32"], "sentencepiece"),
        "bv_checkpoint_tiny.npz": ("big_vision", ["bfloat16", "float32"], "bert"),
        "bv_scan_tiny.npz": ("big_vision", ["float32"], "bert"),
        "bv_old_tiny.npz": ("big_vision", ["float32"], "sentencepiece"),
        "vit_upstream_tiny.npz": ("augreg", ["float32"], None),
        "bert_tiny": ("tf1_bert", ["float32"], "bert"),
    }
    for name, (layout, dtypes, tokenizer) in expected.items():
        found = run("info", fixtures / name, "--json")
        assert (found["layout"], found["dtypes"], found["tokenizer"]) == (layout, dtypes, tokenizer)
        assert run("info", fixtures / name).startswith("file ")
    found = run("info", fixtures / "bv_checkpoint_tiny.npz", "--json")
    assert found["temperature"] == pytest.approx(10) and found["bias"] == pytest.approx(-2.71)
    assert found["config"]["image"]["patch_size"] == 8 and found["missing"] == []


def test_info_refuses_the_temperature_that_load_refuses(run, fixtures, tmp_path):
    with np.load(fixtures / "lit_bert_tiny.npz") as arrays:
        np.savez(tmp_path / "x.npz", **{**arrays, "t": np.array([200.0], np.float32)})
    assert "'t' is 200" in run("info", tmp_path / "x.npz", "--json", code=2)


def test_info_counts_the_parameters_of_the_file(run, fixtures):
    for name in ("lit_bert_tiny", "bv_scan_tiny", "lit_tt_tiny"):
        file = open_npz(fixtures / f"{name}.npz")
        count = sum(int(np.prod(file.shape(k))) for k in file.keys() if not k.startswith("opt/"))
        assert run("info", fixtures / f"{name}.npz", "--json")["parameters"] == count


def test_info_says_what_is_missing(run, fixtures, tmp_path):
    alone = tmp_path / "alone.npz"
    alone.write_bytes((fixtures / "lit_bert_tiny.npz").read_bytes())
    assert "vocabulary (alone.txt" in run("info", alone, "--json")["missing"][0]
    vocab = fixtures / "lit_bert_tiny.txt"
    assert run("info", alone, "--vocab", vocab, "--json")["vocabulary"] == 1000
    assert "text tower" in run("info", fixtures / "vit_upstream_tiny.npz", "--json")["missing"][0]
    assert "image tower" in run("info", fixtures / "bert_tiny", "--json")["missing"][0]


def test_embed_writes_the_references_embeddings(
    run, checkpoint, photos, fixture_module, reference, tmp_path
):
    out = tmp_path / "out.npz"
    found = run("embed", checkpoint, "--images", photos / "*.png", "-o", out, "--json")
    arrays = ["embeddings", "paths"]
    assert found == {"path": str(out), "count": 5, "width": 48, "arrays": arrays, "left_out": []}
    with np.load(out) as arrays:
        expected = reference("towers")["lit_bert_tiny/zimg"]
        np.testing.assert_allclose(arrays["embeddings"], expected, atol=1e-6, rtol=0)
        assert arrays["paths"].tolist() == [str(photos / f"{i}.png") for i in range(5)]
    # One text a line: those that hold a line end cannot stand in a file.
    rows = [i for i, t in enumerate(fixture_module.TEXTS) if "\n" not in t and "\0" not in t]
    texts = [fixture_module.TEXTS[i] for i in rows]
    (tmp_path / "texts").write_text("\n".join(texts) + "\n", encoding="utf-8")
    run("embed", checkpoint, "--texts", tmp_path / "texts", "-o", out)
    with np.load(out) as arrays:
        expected = reference("towers")["lit_bert_tiny/ztxt"][rows]
        np.testing.assert_allclose(arrays["embeddings"], expected, atol=1e-6, rtol=0)
        assert arrays["texts"].tolist() == texts
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
        read = arrays["paths"].tolist()
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


@pytest.fixture
def user_files(fixtures, photos, tmp_path, monkeypatch):
    """A folder with one of each file that commands read; the working folder."""
    monkeypatch.chdir(tmp_path)
    for end in (".npz", ".txt"):
        shutil.copy(fixtures / f"lit_bert_tiny{end}", f"a{end}")
    shutil.copy(photos / "0.png", "p.png")
    for name in ("cap.txt", "names.txt", "templates.txt"):
        pathlib.Path(name).write_text("a {}\n")
    pathlib.Path("pairs.csv").write_text("image,caption\np.png,a cat\n")
    os.link("p.png", "hard.png")
    pathlib.Path("link.npz").symlink_to("a.npz")
    (tmp_path / "db").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "run").mkdir()
    shutil.copy("a.npz", "run/final.npz")
    for name in ("lit_manifest.json", "names.txt"):
        pathlib.Path("out", name).write_text("{}")


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
        "index a.npz --table pairs.csv --db pairs.csv",
        "export a.npz out --saved-model --classes out/names.txt",
        "export a.npz a.npz --saved-model",
        "eval a.npz --retrieval pairs.csv --json pairs.csv",
        "eval a.npz --zero-shot . --report p.png",
        "eval a.npz --zero-shot . --class-names names.txt --report names.txt",
        "eval a.npz --zero-shot . --json new --report ./new",
        "eval --saved-model out --zero-shot . --json out/lit_manifest.json",
        "precompute a.npz a.npz --source x",
        "train --config digits --set model.init=run/final.npz --workdir run",
        "precompute a.npz p.png --source p.png",
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


def test_embed_reads_standard_input_and_batches(run, checkpoint, photos, tmp_path, monkeypatch):
    out = tmp_path / "out.npz"
    monkeypatch.setattr("sys.stdin", io.StringIO("a cat\n\na dog"))
    run("embed", checkpoint, "--texts", "-", "-o", out)
    with np.load(out) as arrays:
        assert arrays["texts"].tolist() == ["a cat", "", "a dog"]
    run("embed", checkpoint, "--images", photos / "*.png", "-o", out, "--batch-size", 2)
    with np.load(out) as arrays:
        expected = lit_tf.load(checkpoint).encode_image(sorted(photos.glob("*.png")))
        np.testing.assert_allclose(arrays["embeddings"], expected, atol=1e-6)


def test_classify_answers_as_the_library_does(run, checkpoint, photos, tmp_path):
    names = ["cat", "dog", "red bicycle"]
    (tmp_path / "names").write_text("cat\n\n dog\nred bicycle\n")
    paths = [str(photos / "0.png"), str(photos / "3.png")]
    model = lit_tf.load(checkpoint)
    for classes, templates in (
        ("cat, dog,red bicycle", "clip"),
        (tmp_path / "names", "clip_paper"),
    ):
        found = run(
            *("classify", checkpoint, *paths, "--classes", classes),
            *("--templates", templates, "--json"),
        )
        expected = model.classify(paths, names, templates)
        assert found["classes"] == names
        assert [r["image"] for r in found["results"]] == paths
        probabilities = [r["probabilities"] for r in found["results"]]
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)
        assert [r["best"] for r in found["results"]] == [names[i] for i in expected.argmax(1)]
    table = run("classify", checkpoint, *paths, "--classes", "cat,dog,red bicycle", "--top", 1)
    lines = table.splitlines()
    expected = model.classify(paths, names)
    for path, line, row in zip(paths, lines[1:], expected, strict=True):
        assert line.startswith(path)
        assert line.endswith(f"{names[row.argmax()]} {100 * row.max():.1f} %")


def test_classify_heeds_the_batch_size(run, checkpoint, photos, monkeypatch):
    sizes = []
    encode = lit_tf.LitModel.encode_image

    def noting(model, images, batch_size=32, **more):
        sizes.append(batch_size)
        return encode(model, images, batch_size, **more)

    monkeypatch.setattr(lit_tf.LitModel, "encode_image", noting)
    command = ["classify", checkpoint, photos / "*.png", "--classes", "a,b", "--batch-size"]
    run(*command, 2)
    assert sizes == [2]
    assert "batch_size" in run(*command, 0, code=2)


def test_classes_of_equal_names_are_warned_of(run, checkpoint, photos):
    command = ["classify", checkpoint, photos / "0.png", "--json", "--classes"]
    with pytest.warns(UserWarning, match="the same.*: red cat$"):
        found = run(*command, "red cat,dog,Red_cat")
    a, _, b = found["results"][0]["probabilities"]
    assert a == pytest.approx(b) and found["classes"] == ["red cat", "dog", "Red_cat"]


def test_a_file_of_classes_on_one_line_is_refused(run, checkpoint, photos, tmp_path):
    (tmp_path / "names").write_text("cat, dog, bird\n")  # only "cat" would count
    command = ["classify", checkpoint, photos / "0.png", "--classes", tmp_path / "names"]
    assert "one class per line" in run(*command, code=2)


def test_a_file_of_classes_may_begin_with_a_byte_order_mark(run, checkpoint, photos, tmp_path):
    (tmp_path / "names").write_text("cat\ndog\n\n", encoding="utf-8-sig")
    command = ["classify", checkpoint, photos / "0.png", "--json", "--classes", tmp_path / "names"]
    assert run(*command)["classes"] == ["cat", "dog"]


def test_compare_equals_the_reference_and_draws(
    run, checkpoint, photos, fixture_module, reference, tmp_path
):
    texts = fixture_module.TEXTS[:3]
    (tmp_path / "texts").write_text("\n".join(texts[1:]))
    plot = tmp_path / "plot.png"
    command = ["compare", checkpoint, "--images", photos / "*.png"]
    command += ["--texts", texts[0], f"@{tmp_path / 'texts'}", "--plot", plot]
    found = run(*command, "--json")
    assert found["texts"] == texts
    expected = reference("towers")["lit_bert_tiny/logits"][:, :3]
    logits = np.array(found["similarities"]) * found["temperature"]
    np.testing.assert_allclose(logits, expected, atol=2e-5, rtol=0)
    odds = np.exp(expected)
    np.testing.assert_allclose(found["probabilities"], odds / odds.sum(1, keepdims=True), atol=1e-5)
    with PIL.Image.open(plot) as image:
        image.load()
        assert image.format == "PNG" and min(image.size) > 200
        assert len(np.unique(np.asarray(image.convert("L")))) > 100  # thumbnails are in it
    table = run(*command).splitlines()
    for t, text in enumerate(texts):
        assert table[1 + t].startswith(text)
        assert table[1 + t].count("*") == np.sum(expected.argmax(1) == t)


def test_heat_map_draws_every_shape_of_image_and_text(tmp_path):
    from lit_tf.plots import heat_map

    images = [np.zeros((h, w, 3), np.uint8) for h, w in ((1, 1), (3, 300), (300, 3), (700, 900))]
    texts = ["", "中国の猫 🐱", "$x_1$ \\alpha $", "tab\tand\nnewline", "long " * 50, "x" * 200]
    similarities = np.random.default_rng(0).uniform(-1, 1, (4, 6))
    for suffix in ("png", "pdf", "svg"):
        path = tmp_path / f"x.{suffix}"
        heat_map(path, similarities, images, texts, title="$ a title")
        assert path.stat().st_size > 1000
    heat_map(tmp_path / "one.png", [[0.5]], images[:1], ["a"])
    with pytest.raises(lit_tf.LitError, match="at most 400"):
        heat_map(tmp_path / "x.png", np.zeros((100, 100)), images, texts)
    with pytest.raises(lit_tf.LitError, match="cannot be written"):
        heat_map(tmp_path / "x.nonsense", similarities, images, texts)


def test_a_heat_map_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    from matplotlib import figure

    from lit_tf.plots import heat_map

    def half(drawing, file, **_):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(figure.Figure, "savefig", half)
    (tmp_path / "x.png").write_bytes(b"old")
    with pytest.raises(lit_tf.LitError, match="no space left"):
        heat_map(tmp_path / "x.png", [[0.5]], [np.zeros((9, 9, 3), np.uint8)], ["a"])
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_convert_writes_both_layouts_and_the_vocabulary(run, fixtures, tmp_path):
    source = fixtures / "lit_bert_tiny.npz"
    there, back = tmp_path / "there.npz", tmp_path / "back.npz"
    run("convert", source, there, "--layout", "big_vision")
    assert run("info", there, "--json")["layout"] == "big_vision"
    found = run("convert", there, back, "--layout", "vit_jax", "--json")
    assert found["bytes"] == back.stat().st_size
    assert back.with_suffix(".txt").read_bytes() == source.with_suffix(".txt").read_bytes()
    with np.load(source) as a, np.load(back) as b:
        assert list(a) == list(b)
        # The class row went into img/cls, as big_vision has it; all else is equal bit for bit.
        moved = {"img/cls", "img/Transformer/posembed_input/pos_embedding"}
        for key in set(a) - moved:
            np.testing.assert_array_equal(a[key], b[key])
        texts = ["a cat", "two dogs"]
        ours, theirs = (lit_tf.load(p).encode_text(texts) for p in (source, back))
        np.testing.assert_array_equal(ours, theirs)
    half = tmp_path / "half.npz"
    run("convert", source, half, "--dtype", "float16", "--resolution", 48)
    found = run("info", half, "--json")
    assert (
        found["dtypes"] == ["float16", "float32"] and found["config"]["image"]["image_size"] == 48
    )


IMAGE = "PHOTOS/0.png"
ERRORS = {
    "unknown name": (["info", "LiT-B16"], "LiT-B16: no such file.*LiT-B16B"),
    "not a checkpoint": (["info", IMAGE], "0.png"),
    "no images": (["embed", "CKPT", "--images", "no*.jpg", "-o", "OUT"], r"no\*.jpg"),
    "no texts file": (["embed", "CKPT", "--texts", "none.txt", "-o", "OUT"], "none.txt"),
    "empty texts": (["embed", "CKPT", "--texts", "EMPTY", "-o", "OUT"], "no texts"),
    "no image file": (["classify", "CKPT", "EMPTY", "--classes", "a"], "Image 0 .*is empty"),
    "no folder": (["embed", "CKPT", "--texts", "EMPTY", "-o", "no/x"], "no folder no"),
    "out is folder": (["embed", "CKPT", "--texts", "EMPTY", "-o", "PHOTOS"], "is a folder"),
    "no classes": (["classify", "CKPT", IMAGE, "--classes", " , "], "names no class"),
    "no classes file": (["classify", "CKPT", IMAGE, "--classes", "pets.txt"], "pets.txt.*No such"),
    "no classes table": (["classify", "CKPT", IMAGE, "--classes", "a.csv"], "a.csv.*No such"),
    "no such path": (["classify", "CKPT", IMAGE, "--classes", "no/pets"], "no/pets.*No such"),
    "templates": (["classify", "CKPT", IMAGE, "--classes", "a", "--templates", "x"], "templates"),
    "top": (["classify", "CKPT", IMAGE, "--classes", "a", "--top", "0"], "--top is 0"),
    "batch size": (
        ["embed", "CKPT", "--images", IMAGE, "-o", "OUT", "--batch-size", "0"],
        "batch_size",
    ),
    "resolution": (["convert", "CKPT", "OUT", "--resolution", "33"], "33"),
    "one tower": (["compare", "VIT", "--images", IMAGE, "--texts", "a"], "no text tower"),
}


@pytest.mark.parametrize("fault", ERRORS)
def test_errors_are_one_line_and_exit_code_2(run, fault, checkpoint, photos, fixtures, tmp_path):
    argv, message = ERRORS[fault]
    (tmp_path / "empty").touch()
    names = {
        "CKPT": checkpoint,
        "OUT": str(tmp_path / "out.npz"),
        "EMPTY": str(tmp_path / "empty"),
        "VIT": str(fixtures / "vit_upstream_tiny.npz"),
        "PHOTOS": str(photos),
        IMAGE: str(photos / "0.png"),
    }
    err = run(*(names.get(a, a) for a in argv), code=2)
    assert re.search(message, err), err
    assert not list(tmp_path.glob("out*"))


def test_debug_shows_where_an_error_came_from(capsys):
    assert cli.main(["info", "none.npz", "--debug"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err and err.splitlines()[-1].startswith("lit-tf: error: none.npz")


def test_wrong_arguments_exit_with_code_2(capsys):
    for argv in ([], ["nonsense"], ["embed", "x"], ["convert", "x", "y", "--layout", "z"]):
        with pytest.raises(SystemExit) as e:
            cli.main(argv)
        assert e.value.code == 2
        assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_a_subcommands_module_is_imported_for_that_subcommand_only(command, monkeypatch, capsys):
    imported = []

    def run(args):
        if args.fail:
            raise ConfigError("two\nlines")
        print("ran", args.debug)
        return 7

    def add_arguments(parser):
        parser.add_argument("--fail", action="store_true")

    def import_module(name):
        imported.append(name)
        return types.SimpleNamespace(add_arguments=add_arguments, run=run)

    monkeypatch.setattr(cli.importlib, "import_module", import_module)
    assert cli.main([command, "--debug"]) == 7
    assert capsys.readouterr().out == "ran True\n"
    assert imported == [cli.COMMANDS[command][1]]
    assert cli.main([command, "--fail"]) == 2
    assert capsys.readouterr().err == "lit-tf: error: two lines\n"
    assert imported == 2 * [cli.COMMANDS[command][1]]


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_subcommand_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as e:
        cli.main([command, "--help"])
    assert e.value.code == 0
    assert f"usage: lit-tf {command}" in capsys.readouterr().out


def test_unexpected_errors_are_told_apart(monkeypatch, capsys):
    monkeypatch.setattr(registry, "MODELS", None)
    assert cli.main(["models"]) == 1
    assert "unexpected; --debug" in capsys.readouterr().err


def documented():
    """Every command line in the documents that is about the library's own subcommands."""
    root = pathlib.Path(__file__).parents[1]
    for path in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("lit-tf "):
                words = shlex.split(line, comments=True)[1:]
                if words and cli.COMMANDS[words[0]][1].startswith("lit_tf.commands"):
                    yield pytest.param(words, id=f"{path.name}: {line[:60]}")


@pytest.mark.parametrize("words", documented())
def test_documented_commands_parse(words):
    cli.build_parser(words[0]).parse_args(words)


def test_outputs_in_ascii_escape_what_they_cannot_print(monkeypatch, checkpoint, photos, tmp_path):
    odd = tmp_path / os.fsdecode("é\N{PILE OF POO}".encode() + b"\xff.png")
    shutil.copy(photos / "0.png", odd)
    for json_wanted in ([], ["--json"]):
        file = io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(file, encoding="ascii"))
        command = ["classify", checkpoint, str(odd), "--classes", "à,b", *json_wanted]
        assert cli.main(command) == 0
        text = file.getvalue().decode("ascii")
        assert "\\U0001f4a9" in text or json.loads(text)["results"][0]["image"] == str(odd)


def test_a_closed_standard_output_does_not_stop_a_command(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    assert cli.main(["models"]) == 0
    assert cli.main(["info", "nothing.npz"]) == 2


def test_an_output_on_a_full_disk_is_one_error():
    command = [sys.executable, "-c", "from lit_tf.cli import main; raise SystemExit(main())"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*command, "models"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


def test_texts_that_are_not_utf8_are_refused_by_name(run, checkpoint, photos, tmp_path):
    odd = os.fsdecode(b"x\xff")
    message = run("classify", checkpoint, photos / "0.png", "--classes", f"{odd},b", code=2)
    assert "x\\udcff" in message and "not valid Unicode" in message
    message = run("export", checkpoint, tmp_path / odd, "--saved-model", code=2)
    assert "x\\xff" in message and "is not UTF-8 text" in message


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

    monkeypatch.setattr(files, "_sync", fail)
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
        lambda: page.write_page(path, "question", [], pictures=0, model="model"),
        lambda: report.write_report(path, os.fsdecode(b"\xff"), [["figure"]], []),
        lambda: files.write_text(path, "{}"),
    ]
    for write in writers:
        with monkeypatch.context() as full:
            full.setattr(files, "_sync", fail)
            with pytest.raises(OSError, match="No space left"):
                write()
        assert path.read_text() == "old" and os.listdir(tmp_path) == ["old"]
    for write in writers:
        write()
        assert path.read_text() != "old"


def test_json_of_columns_with_nan_is_json(capsys):
    common.print_json({"found": [{"x": float("nan"), "y": (1.5, -float("inf"))}]})
    out = capsys.readouterr().out
    assert json.loads(out, parse_constant=pytest.fail) == {"found": [{"x": None, "y": [1.5, None]}]}


def test_clip_retrievals_package_is_missed_before_any_work(
    run, checkpoint, photos, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr(lit_tf, "load", lambda *args, **kwargs: pytest.fail("work was begun"))
    command = ["embed", checkpoint, "--images", photos / "0.png", "--format", "clip-retrieval"]
    assert "lit_tf[search]" in run(*command, "-o", tmp_path / "out", code=2)


def test_folders_for_clip_retrieval_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    from lit_tf import clip_retrieval

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full, pytest.raises(OSError):
        full.setattr(np, "save", fail)
        clip_retrieval.write(tmp_path / "a", "text", np.zeros((1, 4)), ["a cat"])
    assert not os.listdir(tmp_path)
    clip_retrieval.write(tmp_path / "a", "text", np.zeros((1, 4)), ["a cat"])
    assert sorted(os.listdir(tmp_path / "a")) == ["metadata", "text_emb"]


def test_an_unknown_option_is_met_with_the_usage_of_its_command(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["search", "pictures.lance", "a cat", "--limit", "7"])
    err = capsys.readouterr().err
    assert err.startswith("usage: lit-tf search") and "--top K" in err
    assert err.splitlines()[-1] == "lit-tf search: error: unrecognized arguments: --limit 7"
