"""A wheel built from this repository works in an environment of its own, away from the sources."""

import os
import pathlib
import shutil
import site
import subprocess
import sys
import sysconfig
import venv
import zipfile

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]

PROGRAM = """
import importlib, pathlib, sys
import numpy as np
import lit_tf, lit_tf.export, lit_tf.training
for module in (lit_tf, lit_tf.export, lit_tf.training):
    assert pathlib.Path(module.__file__).is_relative_to(sys.prefix), module.__file__
for name in ("export", "training", "tests"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        pass
    else:
        raise SystemExit(f"a bare {name} can be imported")
model = lit_tf.load("lit_bert_tiny.npz")
assert lit_tf.load("LiT-digits").encode_text(["the number 37"]).shape == (1, 96)
np.savez("found.npz", zimg=model.encode_image(sorted(pathlib.Path().glob("*.png"))),
         ztxt=model.encode_text(["a photo of a cat"]))
"""


def run(*command, cwd):
    """Runs a command without anything that leads back to the sources."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of what git tracks or would track, as it stands now."""
    folder = tmp_path_factory.mktemp("wheel")
    files = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in files.split("\0"):
        if name and not name.startswith("tests/") and (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "source" / name)
    run(
        *(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"),
        *("--no-index", "--quiet", "--wheel-dir", folder, folder / "source"),
        cwd=folder,
    )
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture
def elsewhere(tmp_path, fixtures, fixture_module):
    """A folder that holds a checkpoint, its vocabulary and images, and nothing else."""
    import PIL.Image

    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for suffix in (".npz", ".txt"):
        shutil.copy(fixtures / f"lit_bert_tiny{suffix}", folder)
    for i, image in enumerate(fixture_module.images()):
        PIL.Image.fromarray(image).save(folder / f"{i}.png")
    return folder


def check(python, folder, reference):
    """Uses the installed package from `folder`, as a program and as a command."""
    run(python, "-c", PROGRAM, cwd=folder)
    expected = reference("towers")
    with np.load(folder / "found.npz") as found:
        for key, rows in (("zimg", slice(None)), ("ztxt", slice(1))):
            want = expected[f"lit_bert_tiny/{key}"][rows]
            np.testing.assert_allclose(found[key], want, atol=1e-6, rtol=0)
    assert "LiT-B16B_2" in run(python.parent / "lit-tf", "models", cwd=folder)


def test_wheel_holds_the_three_packages_and_their_data_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {n for n in archive.namelist() if ".dist-info/" not in n}
    assert {n.split("/")[0] for n in names} == {"lit_tf"}
    tracked = run("git", "ls-files", "lit_tf", "export", "training", cwd=ROOT).split()
    for name in tracked:
        installed = name if name.startswith("lit_tf/") else f"lit_tf/{name}"
        if name.endswith(".py") or name.startswith("lit_tf/data/"):
            assert installed in names, f"{name} is not in the wheel"
    for name in tracked:
        if name.endswith(".py") and (ROOT / name).parent != ROOT / "lit_tf":
            assert (ROOT / name).parent.joinpath("__init__.py").exists(), f"{name}: no package"


def test_wheel_works_from_another_folder(wheel, elsewhere, reference, tmp_path):
    """Installs the wheel alone; its dependencies are those of the environment that runs the test.

    To install TensorFlow once more would take minutes. A .pth file lends this environment's
    site-packages to the new one; the editable install in it is shadowed by the wheel, which stands
    first on the path, and the program checks that the wheel is what it imports. What the wheel
    itself asks for is tested with an empty environment in `make test-full`.
    """
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    packages = pathlib.Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "venv")}))
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"),
        *("--no-index", wheel),
        cwd=tmp_path,
    )
    assert {p.name.split("-")[0] for p in packages.iterdir()} == {"lit_tf"}
    # A path in a .pth file is only added; the .pth files in it, the editable install's among them,
    # are not read.
    lent = {*site.getsitepackages(), sysconfig.get_path("platlib")}
    (packages / "lent.pth").write_text("\n".join(sorted(lent)))
    check(python, elsewhere, reference)


@pytest.mark.full
def test_wheel_works_in_an_empty_environment(wheel, elsewhere, reference, tmp_path):
    """Installs the wheel with what it asks for, and nothing else."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
    check(python, elsewhere, reference)
    listed = run(python, "-m", "pip", "list", "--format=freeze", cwd=tmp_path).lower()
    for extra in ("matplotlib", "scikit-learn", "tf-models-official", "tensorflow-datasets"):
        assert extra not in listed, f"the base install pulls in {extra}"
