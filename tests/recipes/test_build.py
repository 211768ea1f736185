"""How LiT-digits is made: its image tower is what tuning starts from, and bars are bars."""

import numpy as np
import pytest

import lit_tf
from lit_tf.config import BertConfig, ViTConfig
from lit_tf.training.digits import render
from recipes.digits import build, pretrain


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(0)
    pairs = rng.integers(10, size=(64, 2))
    left, right = (render.choose_digits(pairs[:, side], "train", rng) for side in (0, 1))
    colours = {"ink": rng.integers(8, size=64), "paper": rng.integers(6, size=64)}
    image = render.draw(left, right, colours["ink"], colours["paper"], rng)
    examples = {"image": image, "left": pairs[:, 0], "right": pairs[:, 1], **colours}
    tower = ViTConfig(patch_size=8, image_size=16, width=24, depth=1, num_heads=2, mlp_dim=48)
    before = pretrain.accuracy(*untrained(tower), examples)
    tower, heads = pretrain.pretrain(
        examples, config=tower, steps=60, batch_size=32, warmup=5, progress=False
    )
    return tower, heads, examples, before


def untrained(config):
    heads = {"head/kernel": np.zeros((config.width, 34)), "head/bias": np.zeros(34)}
    return pretrain.ViT(config, seed=0), heads


def test_pretraining_learns(trained):
    tower, heads, examples, before = trained
    after = pretrain.accuracy(tower, heads, examples)
    assert after["paper"] > before["paper"] + 0.2
    assert set(after) == {*pretrain.TASKS, "pair"}


def test_tuning_starts_from_the_tower_as_it_was_written(trained, tmp_path):
    tower, heads, _, _ = trained
    pretrain.save(tower, heads, tmp_path / "vit.npz")
    text = BertConfig(vocab_size=50, width=64, depth=1, num_heads=1, mlp_dim=64, max_length=16)
    model = lit_tf.from_upstream(image=tmp_path / "vit.npz", text=text, resolution=16)
    found = model.image_tower.canonical_variables()
    for name, variable in tower.canonical_variables().items():
        np.testing.assert_array_equal(variable.numpy(), found[name].numpy(), err_msg=name)
    assert model.image_tower.head is None


def test_a_figure_below_its_bar_is_named():
    good = dict.fromkeys(build.BARS, 1.0)
    assert build.unmet(good) == []
    assert "ink is 98.0%" in build.unmet({**good, "ink": 0.98})[0]


def test_the_card_is_replaced_between_its_marks_only(tmp_path):
    card = tmp_path / "card.md"
    card.write_text("a\n<!-- figures -->\nold\n<!-- /figures -->\nb\n")
    build.write_card(dict.fromkeys(build.ROWS, 0.5), card)
    text = card.read_text()
    assert text.startswith("a\n") and text.endswith("b\n") and "old" not in text
    assert text.count("50.0%") == len(build.ROWS)
    with pytest.raises(ValueError, match="study"):
        build.replace_part(card, "study", "x")
