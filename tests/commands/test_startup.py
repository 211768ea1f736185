"""How programs start: quickly, with all modules at hand, and with the right backend of Keras."""

import importlib.util
import os
import subprocess
import sys

import pytest

from lit_tf import serialized

KERAS = """
class saving:
    get_custom_objects = dict

try:
    import colorsys
except ModuleNotFoundError:
    colorsys = None
"""


def test_a_package_is_hidden_from_keras_and_from_no_one_else(tmp_path, monkeypatch):
    (tmp_path / "keras.py").write_text(KERAS)
    monkeypatch.syspath_prepend(tmp_path)
    finders = [f for f in sys.meta_path if not type(f).__module__.startswith("lit_tf")]
    finder = serialized._AroundKeras()
    finder.hidden = ("colorsys",)
    monkeypatch.setattr(sys, "meta_path", [finder, *finders])
    for name in ("colorsys", "keras"):
        monkeypatch.setitem(sys.modules, name, None)  # so that it is as before in the end
        del sys.modules[name]
    assert importlib.util.find_spec("keras").origin == str(tmp_path / "keras.py")  # as TensorFlow
    import keras

    assert keras.colorsys is None
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
        *(
            "training",
            "loading.load",
            "LitModel",
            "images.naflex",
            "texts.tokenizers.BertTokenizer",
        ),
        *("towers.vit.ViT", "checkpoints.registry.list_models", "contrastive.config.LossConfig"),
        *("search.index.update", "search.Settings", "export.to_tflite", "training.train"),
        *("training.evaluation.encoders", "images.preprocessing.to_uint8"),
    ],
)
def test_every_path_works_after_a_bare_import(path):
    done = python(f"import lit_tf; lit_tf.{path}")
    assert done.returncode == 0, done.stderr[-2000:]


def test_another_backend_of_keras_is_refused_in_our_words():
    ways = ["lit_tf.load", "lit_tf.search.open", "lit_tf.export.saved_model"]
    ways += ["from lit_tf.model import LitModel", "from lit_tf.towers import vit", "import keras"]
    lines = ["import sys", "sys.modules['openvino'] = None", "import lit_tf"]
    for way in ways:
        lines += ["try:", f"    {way}", "except lit_tf.ConfigError as e:", "    print(e)"]
    done = python("\n".join(lines), KERAS_BACKEND="openvino")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("Keras runs on openvino") == len(ways)
    assert done.stdout.count("KERAS_BACKEND=tensorflow") == len(ways)


@pytest.mark.full
def test_the_command_line_does_not_care_about_other_backends():
    code = "from lit_tf.cli import main; assert main(['info', 'LiT-digits']) == 0"
    assert python(code, KERAS_BACKEND="jax").returncode == 0
    done = python("import lit_tf; lit_tf.load", KERAS_BACKEND="numpy")
    assert "ConfigError: Keras runs on numpy" in done.stderr
