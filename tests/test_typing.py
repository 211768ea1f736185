"""Annotations of the public API are complete; `make lint` has mypy check them."""

import ast
import dataclasses
import importlib
import inspect
import pathlib

import pytest
import tomllib

import lit_tf
import lit_tf.export

ROOT = pathlib.Path(__file__).parents[1]
MODULES = (
    *("checkpoints.registry", "images.preprocessing", "images.stream", "retrieval"),
    *("texts.batching", "texts.files", "texts.tokenizers", "zero_shot"),
)


def public_functions():
    """Yields (name, function) of every public function and method of the public API."""
    items = {f"lit_tf.{name}": getattr(lit_tf, name) for name in lit_tf.__all__}
    items |= {f"lit_tf.export.{n}": getattr(lit_tf.export, n) for n in lit_tf.export.__all__}
    for module in map(importlib.import_module, (f"lit_tf.{name}" for name in MODULES)):
        for name, item in vars(module).items():
            if not name.startswith("_") and getattr(item, "__module__", "") == module.__name__:
                items[f"{module.__name__}.{name}"] = item
    for name, item in items.items():
        if inspect.isfunction(item):
            yield name, item
        elif inspect.isclass(item) and item.__module__.startswith("lit_tf"):
            for key, member in vars(item).items():
                if isinstance(member, property):
                    member = member.fget
                member = getattr(member, "__func__", member)  # of class methods
                shown = not key.startswith("_") or key in ("__init__", "__call__")
                generated = dataclasses.is_dataclass(item) and key == "__init__"
                if inspect.isfunction(member) and shown and not generated:
                    yield f"{name}.{key}", member


FUNCTIONS = dict(public_functions())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_and_result_is_annotated(name):
    signature = inspect.signature(FUNCTIONS[name])
    missing = [
        p.name
        for i, p in enumerate(signature.parameters.values())
        if p.annotation is p.empty and not (i == 0 and p.name in ("self", "cls"))
    ]
    if signature.return_annotation is signature.empty:
        missing.append("return")
    assert not missing


@pytest.mark.parametrize("package", [lit_tf, lit_tf.export])
def test_type_checkers_see_the_names_that_are_loaded_lazily(package):
    tree = ast.parse(pathlib.Path(package.__file__).read_text(encoding="utf-8"))
    (block,) = [n for n in tree.body if isinstance(n, ast.If)]
    seen = {
        alias.name: node.module.removeprefix("lit_tf.")
        for node in block.body
        for alias in node.names
        if alias.name in package._HOMES
    }
    assert seen == package._HOMES


def test_all_of_the_library_and_the_exporter_is_checked():
    with open(ROOT / "pyproject.toml", "rb") as file:
        settings = tomllib.load(file)["tool"]["mypy"]
    assert settings["files"] == ["lit_tf", "export"]
    assert not {"overrides", "exclude", "ignore_errors"} & set(settings)
    assert (ROOT / "lit_tf" / "py.typed").exists()
