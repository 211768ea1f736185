"""Every script of benchmarks/ imports, uses names that exist, and runs where that costs little."""

import ast
import importlib
import inspect
import pathlib
import sys
import types

import pytest

from lit_tf.config import BertConfig, LitConfig, ViTConfig

FOLDER = pathlib.Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.fixture
def imported(monkeypatch):
    """A function that imports a script, and its neighbours, without leaving them imported."""
    monkeypatch.syspath_prepend(FOLDER)
    for name in SCRIPTS:
        monkeypatch.delitem(sys.modules, name, raising=False)

    def load(name):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name.partition(".")[0] in (*SCRIPTS, "lit_tf"):
                raise
            pytest.skip(f"needs {error.name}")  # of the extra `bench`

    yield load
    for name in SCRIPTS:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_a_benchmark_takes_from_modules_is_there_and_takes_its_arguments(name, imported):
    script = imported(name)

    def found(node):
        """The object that a name or MODULE.NAME of the script stands for, or None."""
        if isinstance(node, ast.Name):
            return vars(script).get(node.id)
        owner = vars(script).get(getattr(getattr(node, "value", None), "id", None))
        return getattr(owner, node.attr) if isinstance(owner, types.ModuleType) else None

    for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            found(node)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lit_tf"):
            exec(ast.unparse(node), {})  # perhaps one within a function
        elif isinstance(node, ast.Call) and inspect.isfunction(called := found(node.func)):
            if not any(isinstance(a, ast.Starred) for a in node.args):
                keywords = {k.arg: None for k in node.keywords if k.arg}
                inspect.signature(called).bind_partial(*node.args, **keywords)


@pytest.mark.parametrize("exports", [False, pytest.param(True, marks=pytest.mark.full)])
def test_the_quick_table_comes_with_towers_of_any_size(exports, imported, monkeypatch, capsys):
    quick = imported("quick")
    image = ViTConfig(112, 224, 16, 2, 1, 16)
    text = BertConfig(30522, 16, 1, 1, 16, 512, out_dim=16)
    monkeypatch.setattr(quick, "EXPORTED", image)
    monkeypatch.setattr(quick.short_texts, "BERT", text)
    monkeypatch.setattr(quick.train_step, "CONFIG", LitConfig(image, text))

    def once(functions, rounds):
        for function in functions.values():
            function()
        return dict.fromkeys(functions, 1.0)

    monkeypatch.setattr(quick, "best_times", once)
    if not exports:
        monkeypatch.setattr(quick, "exported", lambda *arguments: (dict, dict))  # no work
    quick.main()
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 7 and all(row.endswith("| 1.00 |") for row in rows[2:])
