"""`lit-tf models`."""

import lit_tf
from lit_tf.checkpoints import registry


def test_models_lists_every_name_that_load_takes(run, tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_TF_CACHE", str(tmp_path))
    (tmp_path / "LiT-L16L.npz").touch()
    rows = {row["name"]: row for row in run("models", "--json")}
    assert list(rows) == lit_tf.list_models()
    assert rows["LiT-B16B_2"]["figures"]["imagenet2012"] == 73.9
    assert rows["LiT-L16L"]["path"] == str(tmp_path / "LiT-L16L.npz")
    assert rows["LiT-B16B"]["path"] is None
    table = run("models")
    for name in registry.MODELS:
        assert name in table
    assert "73.9" in table and "in the cache" in table
