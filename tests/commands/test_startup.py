"""Programs of ours start quickly: Keras does not get what it would import for nothing."""

import sys

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
    import keras

    assert keras.colorsys is None and sys.meta_path == finders
    import colorsys

    assert colorsys.rgb_to_hsv
