"""Programs of ours start quickly: Keras does not get what it would import for nothing."""

import sys

import pytest

from lit_tf.commands import startup


def test_a_package_is_hidden_from_keras_and_from_no_one_else(monkeypatch):
    monkeypatch.setattr(startup, "UNUSED_BY_COMMANDS", ("colorsys",))
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    startup.lighten_keras()
    with pytest.raises(ModuleNotFoundError, match="hidden from Keras"):
        exec("import colorsys", {"__name__": "keras.src.wrappers"})
    exec("import colorsys", {"__name__": "somebody.else"})
