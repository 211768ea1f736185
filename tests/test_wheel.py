"""What is built from this repository works: a wheel, an sdist, an editable install."""

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
import importlib.util, pathlib, sys
import numpy as np
import lit_tf, lit_tf.export, lit_tf.training
for module in (lit_tf, lit_tf.export, lit_tf.training):
    assert pathlib.Path(module.__file__).is_relative_to(sys.prefix), module.__file__
for name in ("export", "training", "tests", "recipes"):  # other packages may bring such names
    spec = importlib.util.find_spec(name)
    places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
    if any(str(place).startswith(sys.prefix) for place in places):
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
def source(tmp_path_factory):
    """A copy of what git tracks or would track, as it stands now."""
    folder = tmp_path_factory.mktemp("source")
    files = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in files.split("\0"):
        if name and not name.startswith("tests/") and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def build_wheel(source, folder):
    """Builds a wheel from a folder or an sdist, with the setuptools that this process has."""
    run(
        *(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"),
        *("--no-index", "--quiet", "--wheel-dir", folder, source),
        cwd=folder,
    )
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    """A wheel built from the sources."""
    return build_wheel(source, tmp_path_factory.mktemp("wheel"))


def lend_packages(python):
    """Lets an environment import what this one has, behind what it has itself; returns where.

    A path in a .pth file is only added; the .pth files in it, the editable install's among them,
    are not read.
    """
    base = python.parents[1]
    packages = pathlib.Path(sysconfig.get_path("purelib", vars={"base": str(base)}))
    lent = {*site.getsitepackages(), sysconfig.get_path("platlib"), *lenders()}
    (packages / "lent.pth").write_text("\n".join(sorted(lent)))
    return packages


def lenders():
    """Returns the folders that hold this environment's packages, wherever they come from."""
    return {str(pathlib.Path(module.__file__).parents[1]) for module in (np, pytest)}


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
        assert installed in names, f"{name} is not in the wheel"
    for name in tracked:
        if name.endswith(".py") and (ROOT / name).parent != ROOT / "lit_tf":
            assert (ROOT / name).parent.joinpath("__init__.py").exists(), f"{name}: no package"


@pytest.mark.full
def test_wheel_works_from_another_folder(wheel, elsewhere, reference, tmp_path):
    """Installs the wheel alone; its dependencies are those of the environment that runs the test.

    To install TensorFlow once more would take minutes, so this environment's packages are lent to
    the new one. The wheel stands before them on the path, and the program checks that the wheel is
    what it imports. What the wheel itself asks for is tested with an empty environment in
    `make test-full`.
    """
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"),
        *("--no-index", wheel),
        cwd=tmp_path,
    )
    packages = lend_packages(python)
    assert {p.name.split("-")[0] for p in packages.iterdir()} == {"lit_tf", "lent.pth"}
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


def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {n: archive.read(n) for n in archive.namelist() if ".dist-info/" not in n}


@pytest.mark.full
def test_wheel_of_the_sdist_is_the_wheel_of_the_sources(source, wheel, tmp_path):
    run(
        *(sys.executable, "-m", "build", "--sdist", "--no-isolation"),
        *("--outdir", tmp_path, source),
        cwd=tmp_path,
    )
    (sdist,) = tmp_path.glob("*.tar.gz")
    assert contents(build_wheel(sdist, tmp_path)) == contents(wheel)


FIND_PACKAGES = """
import pathlib, sys
import lit_tf, lit_tf.export, lit_tf.training
for module in (lit_tf, lit_tf.export, lit_tf.training):
    assert pathlib.Path(module.__file__).is_relative_to(sys.argv[1]), module.__file__
"""


def check_found(python, folder, cwd):
    """All three packages are in a folder, and the command is there."""
    run(python, "-c", FIND_PACKAGES, folder, cwd=cwd)
    assert "precompute" in run(python.parent / "lit-tf", "--help", cwd=cwd)


def test_editable_install_finds_all_three_packages(source, tmp_path):
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    lend_packages(python)
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"),
        *("--no-index", "--no-build-isolation", "--editable", source),
        cwd=tmp_path,
    )
    check_found(python, source, tmp_path)


# 23.2 comes with Python 3.11; without a pyproject.toml it would run `setup.py develop`, which
# installs neither lit_tf.export nor lit_tf.training, and says nothing.
@pytest.mark.full
@pytest.mark.parametrize("pip", ["pip==23.2.1", "pip"])
@pytest.mark.parametrize("form", ["wheel", "sdist", "editable"])
def test_every_form_installs_with_an_old_and_a_new_pip(source, wheel, tmp_path, pip, form):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--upgrade", pip, cwd=tmp_path)
    if form == "sdist":
        run(sys.executable, "-m", "build", "--sdist", "--outdir", tmp_path, source, cwd=tmp_path)
        (wheel,) = tmp_path.glob("*.tar.gz")
    what = ("--editable", source) if form == "editable" else (wheel,)
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", *what, cwd=tmp_path)
    check_found(python, source if form == "editable" else tmp_path / "venv", tmp_path)
