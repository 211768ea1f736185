"""The command line itself: errors, exit codes, help, outputs."""

import importlib
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

import pytest

import lit_tf
from lit_tf import cli
from lit_tf.checkpoints import registry
from lit_tf.commands import printing
from lit_tf.errors import ConfigError, LitError


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


IMAGE = "PHOTOS/0.png"


ERRORS = {
    "unknown name": (["info", "LiT-B16"], "LiT-B16: no such file.*LiT-B16B"),
    "not a checkpoint": (["info", IMAGE], "0.png"),
    "no images": (["embed", "CKPT", "--images", "no*.jpg", "-o", "OUT"], r"no\*.jpg"),
    "no texts file": (["embed", "CKPT", "--texts", "none.txt", "-o", "OUT"], "none.txt"),
    "empty texts": (["embed", "CKPT", "--texts", "EMPTY", "-o", "OUT"], "no texts"),
    "no image file": (["classify", "CKPT", "EMPTY", "--classes", "a"], "Image 0 .*0 bytes"),
    "no folder": (["embed", "CKPT", "--texts", "EMPTY", "-o", "no/x"], "no folder no"),
    "out is folder": (["embed", "CKPT", "--texts", "EMPTY", "-o", "PHOTOS"], "is a folder"),
    "no classes": (["classify", "CKPT", IMAGE, "--classes", " , "], "names no class"),
    "no classes file": (["classify", "CKPT", IMAGE, "--classes", "pets.txt"], "pets.txt.*No such"),
    "no classes table": (["classify", "CKPT", IMAGE, "--classes", "a.csv"], "a.csv.*No such"),
    "no such path": (["classify", "CKPT", IMAGE, "--classes", "no/pets"], "no/pets.*No such"),
    "templates": (["classify", "CKPT", IMAGE, "--classes", "a", "--templates", "x"], "templates"),
    "top": (
        ["classify", "CKPT", IMAGE, "--classes", "a", "--top", "0"],
        "--top must be a positive",
    ),
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
    root = pathlib.Path(__file__).parents[2]
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


def test_texts_that_are_not_utf8_are_refused_by_name(run, checkpoint, photos, tmp_path):
    odd = os.fsdecode(b"x\xff")
    message = run("classify", checkpoint, photos / "0.png", "--classes", f"{odd},b", code=2)
    assert "x\\udcff" in message and "not valid Unicode" in message
    message = run("export", checkpoint, tmp_path / odd, "--saved-model", code=2)
    assert "x\\xff" in message and "is not UTF-8 text" in message


def test_json_of_columns_with_nan_is_json(capsys):
    printing.print_json({"found": [{"x": float("nan"), "y": (1.5, -float("inf"))}]})
    out = capsys.readouterr().out
    assert json.loads(out, parse_constant=pytest.fail) == {"found": [{"x": None, "y": [1.5, None]}]}


def test_a_line_end_in_a_name_breaks_no_table(capsys):
    printing.print_table([("image", "1."), ("a\nb\x1b[31m\udcff.png", "é")])
    assert capsys.readouterr().out.splitlines()[1] == "a\\nb\\x1b[31m\\xff.png  é"


def test_an_unknown_option_is_met_with_the_usage_of_its_command(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["search", "pictures.lance", "a cat", "--limit", "7"])
    err = capsys.readouterr().err
    assert err.startswith("usage: lit-tf search") and "--top" in err
    assert err.splitlines()[-1] == "lit-tf search: error: unrecognized arguments: --limit 7"


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        (["info", "LiT-digits"], "no output was written"),
        (["index", "LiT-digits", "--db", "db", "photos"], "in the index; the same command goes on"),
        (["search", "db", "a cat", "--copy-to", "x"], "copies that were finished are kept"),
    ],
)
def test_an_interrupted_command_says_what_is_kept(command, kept, monkeypatch, capsys):
    def interrupt(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"lit_tf.commands.{command[0]}.run", interrupt)
    assert cli.main(command) == 130
    message = capsys.readouterr().err
    assert message.startswith("lit-tf: interrupted: ") and kept in message
    assert message.count("\n") == 1


def test_every_command_that_keeps_something_exists():
    assert set(cli.KEPT) <= set(cli.COMMANDS)


def test_errors_say_nothing_of_tensorflows_graph(monkeypatch, capsys):
    noise = (
        "{{function_node __wrapped__DecodePng_device_/job:localhost/replica:0/task:0/device:CPU:0}}"
        " Unsupported bit depth\n\t [[{{node DecodePng}}]] [Op:DecodePng] name: "
    )

    def fail(args):
        raise LitError(noise)

    monkeypatch.setattr("lit_tf.commands.info.run", fail)
    assert cli.main(["info", "LiT-digits"]) == 2
    assert capsys.readouterr().err == "lit-tf: error: Unsupported bit depth\n"


def test_modules_are_imported_when_asked_for(monkeypatch):
    for name in ("errors", "config", "zero_shot", "retrieval", "plots", "export", "training"):
        monkeypatch.delattr(lit_tf, name, raising=False)
        assert getattr(lit_tf, name) is sys.modules[f"lit_tf.{name}"]
    wings = {"images": "naflex", "texts": "prompts", "towers": "vit", "checkpoints": "registry"}
    wings |= {"contrastive": "config", "search": "paths", "export": "names", "training": "names"}
    for wing, name in wings.items():
        package = getattr(lit_tf, wing)
        importlib.import_module(f"lit_tf.{wing}.{name}")
        monkeypatch.delattr(package, name)
        assert getattr(package, name) is sys.modules[f"lit_tf.{wing}.{name}"]
        assert name in dir(package) and not hasattr(package, "nonsense")
    assert {"export", "images", "texts", "training"} <= set(dir(lit_tf))
    assert not hasattr(lit_tf, "nonsense") and not hasattr(lit_tf, "_nonsense")
