"""A failing import says which extra brings it, and the extra does bring it."""

import ast
import importlib
import pathlib
import re
import runpy
import sys

import pytest
import setuptools

import lit_tf
from lit_tf import cli
from lit_tf.errors import extra

ROOT = pathlib.Path(__file__).parents[1]
# Import name -> distribution, where the two differ.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "absl": "tensorflow",  # which requires it, and the next
    "ml_dtypes": "tensorflow",
    "ai_edge_litert": "ai-edge-litert",
    "ai_edge_quantizer": "ai-edge-quantizer",
    "apache_beam": "apache-beam",
    "google": "tensorflow",  # google.protobuf
    "markupsafe": "jinja2",
    "official": "tf-models-official",
    "pillow_heif": "pillow-heif",
    "scipy": "scikit-learn",
    "sklearn": "scikit-learn",
    "tensorflow_datasets": "tensorflow-datasets",
    "tensorflow_text": "tensorflow-text",
}
# Scripts for processes of their own; what starts them has checked that all is installed.
SCRIPTS = {"export/verify.py", "training/preflight/libtpu_compile.py"}


@pytest.fixture(scope="module")
def packaging():
    """The arguments that setup.py hands to setuptools."""
    given = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", given.update)
        patch.chdir(ROOT)
        runpy.run_path(str(ROOT / "setup.py"))
    return given


def distributions(requirements):
    return {re.match(r"[\w.-]+", r)[0].lower() for r in requirements}


def imports(node, guard=None):
    """Yields (top-level package, extra that guards it, line) of every absolute import below."""
    if isinstance(node, ast.With):
        for item in node.items:
            call = item.context_expr
            if isinstance(call, ast.Call) and getattr(call.func, "id", None) == "extra":
                guard = call.args[0].value
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name.partition(".")[0], guard, node.lineno
    elif isinstance(node, ast.ImportFrom) and not node.level:
        yield node.module.partition(".")[0], guard, node.lineno
    for child in ast.iter_child_nodes(node):
        yield from imports(child, guard)


def test_every_import_beyond_the_base_install_names_the_extra_that_brings_it(packaging):
    base = distributions(packaging["install_requires"])
    extras = {k: distributions(v) for k, v in packaging["extras_require"].items()}
    known, wrong = sys.stdlib_module_names | {"lit_tf"}, []
    for path in sorted(
        p for d in ("lit_tf", "export", "training") for p in ROOT.glob(f"{d}/**/*.py")
    ):
        name = path.relative_to(ROOT).as_posix()
        if name in SCRIPTS:
            continue
        for package, guard, line in imports(ast.parse(path.read_text(encoding="utf-8"))):
            distribution = DISTRIBUTIONS.get(package, package)
            if package in known or distribution in base and guard is None:
                continue
            if distribution not in extras.get(guard, ()):
                wrong.append(f"{name}:{line}: {package} under extra {guard!r}")
    assert not wrong


def test_a_missing_package_is_told_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(lit_tf.MissingPackageError) as error, extra("search"):
        import lancedb  # noqa: F401
    assert "lancedb" in str(error.value) and "pip install 'lit_tf[search]'" in str(error.value)
    assert isinstance(error.value, ImportError)


@pytest.mark.parametrize(
    "missing,arguments,name",
    [
        ("tensorflow_datasets", ["eval", "LiT-digits", "--zero-shot", "digits"], "train"),
        ("matplotlib", ["compare", "LiT-digits", "--images", "{image}", "--texts", "a"], "demo"),
        ("ai_edge_litert", ["export", "LiT-digits", "{out}", "--tflite"], "lite"),
    ],
)
def test_a_command_without_its_extra_exits_with_2_and_names_it(
    monkeypatch, capsys, tmp_path, missing, arguments, name
):
    if missing == "tensorflow_datasets":  # imported at the top of modules
        monkeypatch.setattr(lit_tf, "training", importlib.import_module("lit_tf.training"))
        for module in [m for m in sys.modules if m.startswith("lit_tf.training")]:
            monkeypatch.delitem(sys.modules, module)
    for module in [m for m in sys.modules if m.partition(".")[0] == missing]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, missing, None)
    image = str(ROOT / "examples" / "images" / "37.png")
    arguments = [a.format(image=image, out=tmp_path / "out") for a in arguments]
    if missing == "matplotlib":
        arguments += ["--plot", str(tmp_path / "plot.png")]
    assert cli.main(arguments) == 2
    assert f"pip install 'lit_tf[{name}]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_version_tells_what_a_bug_report_needs(capsys):
    with pytest.raises(SystemExit) as done:
        cli.main(["--version"])
    assert done.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"lit_tf {lit_tf.__version__}"
    for package in ("tensorflow", "keras", "ai-edge-litert"):
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            assert f"{package} is not installed" in lines
        else:
            assert f"{package} {version}" in lines
