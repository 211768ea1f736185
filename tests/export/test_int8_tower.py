"""The quantized image tower: made once a model, kept in the cache, close to the float tower."""

import json

import numpy as np
import pytest

import lit_tf
from lit_tf import cli, export
from lit_tf.export import int8_tower, to_tflite


def test_it_is_made_once_and_agrees_with_the_float_tower(tmp_path, monkeypatch, capsys):
    pytest.importorskip("ai_edge_quantizer")
    monkeypatch.setenv("LIT_TF_CACHE", str(tmp_path / "cache"))
    model = lit_tf.load("LiT-digits")
    size = model.config.image.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (10, size, size, 3), np.uint8)
    embed = export.int8_images(model)
    batches = [embed(pixels[:7]), embed(pixels[7:])]  # both on their way
    found, want = np.concatenate([*map(np.asarray, batches)]), model.encode_image(pixels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert (found * want).sum(1).mean() > 0.995 and not np.array_equal(found, want)

    monkeypatch.setattr(to_tflite, "write_image_graph", None)
    int8_tower.int8_images.cache_clear()
    np.testing.assert_array_equal(np.asarray(export.int8_images(model)(pixels[:7])), found[:7])
    assert len(list((tmp_path / "cache").rglob("*.tflite"))) == 1

    import PIL.Image

    for i in range(3):
        PIL.Image.fromarray(pixels[i]).save(tmp_path / f"{i}.png")
    arguments = ["--images", str(tmp_path / "*.png"), "-o", str(tmp_path / "z.npz")]
    assert cli.main(["embed", "LiT-digits", "--int8", *arguments]) == 0
    with np.load(tmp_path / "z.npz") as arrays:
        np.testing.assert_allclose(arrays["embeddings"], found[:3], atol=1e-5)
    index_it = ["index", "LiT-digits", str(tmp_path), "--db", str(tmp_path / "db"), "--int8"]
    capsys.readouterr()
    assert cli.main([*index_it, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["embedded"] == 3
    assert cli.main([*index_it[:-1], "--json"]) == 2
