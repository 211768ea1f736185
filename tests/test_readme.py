"""The README's code runs as it stands, and its table is the registry's."""

import glob
import importlib
import pathlib
import re
import shlex

import pytest

from lit_tf import cli
from lit_tf.checkpoints import registry

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# (language, text) of every fenced block.
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder to work in, with the repository's examples."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# The quick tests of tests/export make what the other blocks are about.
@pytest.mark.parametrize("exports", [False, pytest.param(True, marks=pytest.mark.full)])
def test_every_python_block_runs_in_order(elsewhere, capsys, exports):
    blocks = [text for language, text in BLOCKS if language == "python"]
    if not exports:
        blocks = [text for text in blocks if not re.search("export|serving|device/", text)]
    assert len(blocks) >= (5 if exports else 2)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    out = capsys.readouterr().out
    if exports:
        assert (elsewhere / "device" / "image_encoder.tflite").is_file() and "(1, 96)" in out


def commands():
    """Every `lit-tf` command in the README's blocks, as a list of words."""
    for language, text in BLOCKS:
        lines = text.splitlines() if not language else []
        yield from (shlex.split(x, comments=True)[1:] for x in lines if x.startswith("lit-tf "))


def is_quick(words):
    """Whether a command needs no network, no data and no minutes."""
    return words == ["models"] or words[1] == "LiT-digits" and words[0] != "index"


@pytest.mark.parametrize("words", filter(is_quick, commands()), ids=" ".join)
def test_commands_on_the_embedded_model_run(words, elsewhere, capsys):
    expanded = [w for word in words for w in (sorted(glob.glob(word)) or [word])]  # as a shell does
    assert cli.main(expanded) == 0
    out, err = capsys.readouterr()
    assert "error" not in err
    if words[0] == "models":
        assert "LiT-digits" in out
    else:
        assert out.count(".png") >= 3
    if "--plot" in words:
        assert (elsewhere / words[words.index("--plot") + 1]).read_bytes().startswith(b"\x89PNG")


def test_an_index_is_made_and_searched(elsewhere, capsys):
    steps = [words for words in commands() if words[0] in ("index", "search")]
    assert [words[0] for words in steps] == ["index", "search"]
    assert [cli.main(words) for words in steps] == [0, 0]
    assert "examples/images/37.png" in capsys.readouterr().out
    assert (elsewhere / "found.html").read_text(encoding="utf-8").count("data:image") == 3


OTHERS = [w for w in commands() if not is_quick(w) and w[0] not in ("index", "search")]


@pytest.mark.parametrize("words", OTHERS, ids=" ".join)
def test_other_commands_name_options_configs_and_models_that_there_are(words):
    args = cli.build_parser(words[0]).parse_args(words)
    config = getattr(args, "config", None)
    if config:
        assert importlib.import_module("lit_tf.training.config").load_config(config)
    elif words[0] != "browse":  # it takes an index
        assert words[1] in registry.MODELS


def test_commands_are_found():
    found = [words[0] for words in commands()]
    assert {"models", "classify", "compare", "train", "eval"} <= set(found)
    assert sum(map(is_quick, commands())) >= 3


def test_make_targets_that_are_named_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)`", README)) | {"demo", "test"} <= targets


def test_the_tables_of_published_models_are_the_registrys():
    def rows(text):
        lines = [line for line in text.splitlines() if re.match(r"\| (LiT|coco|SigLIP)", line)]
        return {
            cells[0]: cells[3:]
            for cells in ([c.strip() for c in x.split("|")[1:-1]] for x in lines)
        }

    keys = ("imagenet2012", "coco_captions/i2t", "coco_captions/t2i")
    published = {
        model.name: [str(model.figures.get(key, "-")) for key in keys]
        for model in registry.MODELS.values()
    }
    assert rows((ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")) == published
    shown = rows(README)
    assert len(shown) >= 3 and shown.items() <= published.items()


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http)([^)#\s]+)", README))))
def test_every_link_leads_somewhere(link):
    assert (ROOT / link).exists(), link
