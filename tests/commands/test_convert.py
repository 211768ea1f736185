"""`lit-tf convert`."""

import numpy as np

import lit_tf


def test_convert_writes_both_layouts_and_the_vocabulary(run, fixtures, tmp_path):
    source = fixtures / "lit_bert_tiny.npz"
    there, back = tmp_path / "there.npz", tmp_path / "back.npz"
    run("convert", source, there, "--layout", "big_vision")
    assert run("info", there, "--json")["layout"] == "big_vision"
    found = run("convert", there, back, "--layout", "vit_jax", "--json")
    assert found["bytes"] == back.stat().st_size
    assert back.with_suffix(".txt").read_bytes() == source.with_suffix(".txt").read_bytes()
    with np.load(source) as a, np.load(back) as b:
        assert list(a) == list(b)
        # The class row went into img/cls, as big_vision has it; all else is equal bit for bit.
        moved = {"img/cls", "img/Transformer/posembed_input/pos_embedding"}
        for key in set(a) - moved:
            np.testing.assert_array_equal(a[key], b[key])
        texts = ["a cat", "two dogs"]
        ours, theirs = (lit_tf.load(p).encode_text(texts) for p in (source, back))
        np.testing.assert_array_equal(ours, theirs)
    half = tmp_path / "half.npz"
    run("convert", source, half, "--dtype", "float16", "--resolution", 48)
    found = run("info", half, "--json")
    assert (
        found["dtypes"] == ["float16", "float32"] and found["config"]["image"]["image_size"] == 48
    )
