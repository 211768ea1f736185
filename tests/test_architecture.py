"""The house: three storeys, and wings in `training/`, whose imports go one way."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = {"lit_tf": "lit_tf", "export": "lit_tf.export", "training": "lit_tf.training"}

# A wing imports itself and those above it.
WINGS = (
    ("distribution", "names"),
    ("data",),
    ("losses", "optimizers", "gradient_cache", "step"),
    ("config", "configs", "known_towers", "towers"),
    ("precompute",),
    ("evaluation",),
    ("host_call", "workdir", "loop", "train", "cli"),
    ("preflight",),
    ("digits",),
)


def modules(folder):
    """Yields (dotted name, path) of every module below a folder of the repository."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT / folder).with_suffix("").parts
        yield ".".join([PACKAGES[folder], *parts]).removesuffix(".__init__"), path


# What names a module above it in a string, to import it only if it is asked for.
BY_NAME = {
    "lit_tf.cli": "the table of subcommands",
    "lit_tf.commands.index": "embedding pictures with Beam",
    "lit_tf.training.data.tfds_builders": "the builder of the embedded dataset",
}


def imports(name, path):
    """Returns the absolute names that a module imports, inside functions too, or has in strings."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            origin = ".".join([*(base if node.level else []), *filter(None, [node.module])])
            found |= {f"{origin}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and name not in BY_NAME:
            if re.fullmatch(r"lit_tf\.(export|training)(\.\w+)+", str(node.value)):
                found.add(node.value)
    return found


def wing(name):
    """Returns the number of the wing of training/ that a module belongs to, or None."""
    first = name.removeprefix("lit_tf.training").strip(".").split(".")[0]
    return next((i for i, names in enumerate(WINGS) if first in names), None)


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [("lit_tf", ("lit_tf.export", "lit_tf.training")), ("export", ("lit_tf.training",))],
)
def test_a_storey_imports_nothing_from_above(folder, forbidden):
    upward = [
        f"{name} imports {imported}"
        for name, path in modules(folder)
        for imported in imports(name, path)
        if f"{imported}.".startswith(tuple(f"{f}." for f in forbidden))
    ]
    assert not upward


def test_a_wing_of_training_imports_only_those_above_it():
    own = [(name, path) for name, path in modules("training") if name != "lit_tf.training"]
    assert not [name for name, _ in own if wing(name) is None], "belongs to no wing"
    upward = [
        f"{name} imports {imported}"
        for name, path in own
        for imported in imports(name, path)
        if imported.startswith("lit_tf.training.") and wing(imported) > wing(name)
    ]
    assert not upward


def test_docstrings_sections_are_indented_by_four_spaces():
    section = re.compile(r"^( *)(Args|Returns|Raises|Yields|Attributes|Example):\n\1 {2}\S", re.M)
    wrong = [
        str(path.relative_to(ROOT))
        for folder in (*PACKAGES, "benchmarks", "examples")
        for path in (ROOT / folder).rglob("*.py")
        if section.search(path.read_text(encoding="utf-8"))
    ]
    assert not wrong
