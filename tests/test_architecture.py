"""The house: three storeys, and wings in two of them, whose imports go one way."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = {"lit_tf": "lit_tf", "export": "lit_tf.export", "training": "lit_tf.training"}

# A wing imports itself and those above it.
LIBRARY = (
    ("errors", "files", "lazy", "sequences", "serialized"),
    ("config",),
    ("towers",),
    ("images",),
    ("texts",),
    ("checkpoints",),
    ("zero_shot", "few_shot", "retrieval", "plots"),
    ("contrastive",),
    ("model",),
    ("loading",),
    ("search",),
    ("commands", "cli"),
)
TRAINING = (
    ("distribution", "names"),
    ("data",),
    ("config", "configs", "known_towers", "towers"),
    ("precompute",),
    ("evaluation",),
    ("host_call", "checkpoints", "workdir", "loop", "train", "cli"),
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


def wing(name, package, wings):
    """Returns the number of the wing of a package that a module belongs to, or None."""
    first = name.removeprefix(package).strip(".").split(".")[0]
    return next((i for i, names in enumerate(wings) if first in names), None)


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("lit_tf", ("lit_tf.export", "lit_tf.training", "recipes")),
        ("export", ("lit_tf.training", "recipes")),
        ("training", ("recipes",)),
    ],
)
def test_a_storey_imports_nothing_from_above(folder, forbidden):
    upward = [
        f"{name} imports {imported}"
        for name, path in modules(folder)
        for imported in imports(name, path)
        if f"{imported}.".startswith(tuple(f"{f}." for f in forbidden))
    ]
    assert not upward


@pytest.mark.parametrize(("folder", "wings"), [("lit_tf", LIBRARY), ("training", TRAINING)])
def test_a_wing_imports_only_those_above_it(folder, wings):
    package = PACKAGES[folder]
    own = [(name, path) for name, path in modules(folder) if name != package]
    assert not [name for name, _ in own if wing(name, package, wings) is None], "belongs to no wing"
    upward = [
        f"{name} imports {imported}"
        for name, path in own
        for imported in imports(name, path)
        # What `lit_tf` itself offers, such as its version, belongs to no wing.
        if imported.startswith(f"{package}.")
        and (wing(imported, package, wings) or 0) > wing(name, package, wings)
    ]
    assert not upward


def test_docstrings_sections_are_indented_by_four_spaces():
    section = re.compile(r"^( *)(Args|Returns|Raises|Yields|Attributes|Examples):\n\1 {2}\S", re.M)
    wrong = [
        str(path.relative_to(ROOT))
        for folder in (*PACKAGES, "recipes", "benchmarks", "examples")
        for path in (ROOT / folder).rglob("*.py")
        if section.search(path.read_text(encoding="utf-8"))
    ]
    assert not wrong
