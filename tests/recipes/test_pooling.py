"""The study of attention pooling: four runs that differ in nothing else, and a tower that loads."""

import numpy as np

import lit_tf
from lit_tf.config import ViTConfig
from lit_tf.towers.vit import ViT
from recipes.digits import build, measure, pooling, pretrain


def test_a_pooled_tower_is_saved_as_an_image_tower_that_loads(tmp_path):
    config = ViTConfig(
        patch_size=8, image_size=16, width=8, depth=1, num_heads=2, mlp_dim=8, pool="attention"
    )
    heads = {"head/kernel": np.zeros((8, 34), np.float32), "head/bias": np.zeros(34, np.float32)}
    tower = ViT(config, seed=0)
    pretrain.save(tower, heads, tmp_path / "vit.npz")
    model = lit_tf.load(tmp_path / "vit.npz")
    assert model.config.image == config and model.text_tower is None
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
    found = model.image_tower(image / np.float32(127.5) - 1)
    np.testing.assert_allclose(found, tower(image / np.float32(127.5) - 1), atol=1e-6)


def test_towers_and_losses_are_compared_at_equal_steps(tmp_path, monkeypatch):
    runs = []

    def tune(folder, vit, vocab, data_dir, **arguments):
        runs.append((vit.stem, arguments))
        return build.DATA / "LiT-digits.npz"

    def pretrained(path, steps, data_dir, config):
        assert (steps, config) == (pretrain.STEPS, pooling.TOWER)

    figures = dict.fromkeys(measure.SHOWN, 0.5)
    monkeypatch.setattr(build, "tune", tune)
    monkeypatch.setattr(pretrain, "build", pretrained)
    monkeypatch.setattr(measure, "measure_model", lambda *_, **__: figures)
    (tmp_path / "card.md").write_text("<!-- pooling -->\nold\n<!-- /pooling -->\n")
    pooling.main(["--workdir", str(tmp_path), "--card", str(tmp_path / "card.md")])
    assert runs == [
        (stem, {"loss": loss, "steps": build.STEPS})
        for stem in ("LiT-digits", "vit_attention")
        for loss in ("softmax", "sigmoid")
    ]
    assert "| attention | sigmoid | 50.0% |" in (tmp_path / "card.md").read_text()
