"""`lit-tf info`."""

import numpy as np
import pytest

from lit_tf.checkpoints.npz import open_npz


def test_info_describes_every_layout(run, fixtures):
    expected = {
        "lit_bert_tiny.npz": ("vit_jax", ["float32"], "bert"),
        "lit_tt_tiny.npz": ("vit_jax", ["float32"], "sentencepiece"),
        "bv_checkpoint_tiny.npz": ("big_vision", ["bfloat16", "float32"], "bert"),
        "bv_scan_tiny.npz": ("big_vision", ["float32"], "bert"),
        "bv_old_tiny.npz": ("big_vision", ["float32"], "sentencepiece"),
        "vit_upstream_tiny.npz": ("augreg", ["float32"], None),
        "bert_tiny": ("tf1_bert", ["float32"], "bert"),
    }
    for name, (layout, dtypes, tokenizer) in expected.items():
        found = run("info", fixtures / name, "--json")
        assert (found["layout"], found["dtypes"], found["tokenizer"]) == (layout, dtypes, tokenizer)
        assert run("info", fixtures / name).startswith("file ")
    found = run("info", fixtures / "bv_checkpoint_tiny.npz", "--json")
    assert found["temperature"] == pytest.approx(10) and found["bias"] == pytest.approx(-2.71)
    assert found["config"]["image"]["patch_size"] == 8 and found["missing"] == []


def test_info_refuses_the_temperature_that_load_refuses(run, fixtures, tmp_path):
    with np.load(fixtures / "lit_bert_tiny.npz") as arrays:
        np.savez(tmp_path / "x.npz", **{**arrays, "t": np.array([200.0], np.float32)})
    assert "'t' is 200" in run("info", tmp_path / "x.npz", "--json", code=2)


def test_info_counts_the_parameters_of_the_file(run, fixtures):
    for name in ("lit_bert_tiny", "bv_scan_tiny", "lit_tt_tiny"):
        file = open_npz(fixtures / f"{name}.npz")
        count = sum(int(np.prod(file.shape(k))) for k in file.keys() if not k.startswith("opt/"))
        assert run("info", fixtures / f"{name}.npz", "--json")["parameters"] == count


def test_info_says_what_is_missing(run, fixtures, tmp_path):
    alone = tmp_path / "alone.npz"
    alone.write_bytes((fixtures / "lit_bert_tiny.npz").read_bytes())
    assert "vocabulary (alone.txt" in run("info", alone, "--json")["missing"][0]
    vocab = fixtures / "lit_bert_tiny.txt"
    assert run("info", alone, "--vocab", vocab, "--json")["vocabulary"] == 1000
    assert "text tower" in run("info", fixtures / "vit_upstream_tiny.npz", "--json")["missing"][0]
    assert "image tower" in run("info", fixtures / "bert_tiny", "--json")["missing"][0]
