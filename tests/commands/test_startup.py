"""How programs start: quickly, with all modules at hand, and with the right backend of Keras."""

import importlib.util
import os
import subprocess
import sys

import pytest

from lit_tf.commands import startup

KERAS = """
try:
    import colorsys
except ModuleNotFoundError:
    colorsys = None
"""


def test_a_package_is_hidden_from_keras_and_from_no_one_else(tmp_path, monkeypatch):
    (tmp_path / "keras.py").write_text(KERAS)
    monkeypatch.syspath_prepend(tmp_path)
    finders = [f for f in sys.meta_path if not type(f).__module__.startswith("lit_tf")]
    monkeypatch.setattr(sys, "meta_path", list(finders))
    monkeypatch.setattr(startup, "UNUSED_BY_KERAS", ("colorsys",))
    for name in ("colorsys", "keras"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    startup.lighten_keras()
    assert importlib.util.find_spec("keras").origin == str(tmp_path / "keras.py")  # as TensorFlow
    import keras

    assert keras.colorsys is None and sys.meta_path == finders
    import colorsys

    assert colorsys.rgb_to_hsv


def python(code, **env):
    command = [sys.executable, "-c", code]
    environment = {**os.environ, **env}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.full
@pytest.mark.parametrize(
    "path",
    [
        *("errors.LitError", "config.LitConfig", "zero_shot.class_embeddings", "retrieval.recalls"),
        *("plots.heat_map", "search.open", "export.tflite", "images.preprocess", "model.LitModel"),
        *("training", "texts", "towers", "checkpoints", "loading.load", "LitModel"),
    ],
)
def test_every_path_works_after_a_bare_import(path):
    done = python(f"import lit_tf; lit_tf.{path}")
    assert done.returncode == 0, done.stderr[-2000:]


def test_another_backend_of_keras_is_refused_in_our_words():
    code = "import sys; sys.modules['jax'] = None; import lit_tf; lit_tf.load"
    done = python(code, KERAS_BACKEND="jax")
    assert done.returncode == 1 and "ConfigError: Keras runs on jax" in done.stderr
    assert "KERAS_BACKEND=tensorflow" in done.stderr


@pytest.mark.full
def test_the_command_line_does_not_care_about_other_backends():
    code = "from lit_tf.cli import main; assert main(['info', 'LiT-digits']) == 0"
    assert python(code, KERAS_BACKEND="jax").returncode == 0
    done = python("import lit_tf; lit_tf.load", KERAS_BACKEND="numpy")
    assert "ConfigError: Keras runs on numpy" in done.stderr
