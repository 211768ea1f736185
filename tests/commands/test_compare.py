"""`lit-tf compare` and its heat map."""

import numpy as np
import PIL.Image
import pytest

import lit_tf
from lit_tf import cli
from lit_tf.commands import printing
from lit_tf.texts.tokenizers import tokenizer_from_bytes


def test_compare_equals_the_reference_and_draws(
    run, checkpoint, photos, fixture_module, reference, tmp_path
):
    texts = fixture_module.TEXTS[:3]
    (tmp_path / "texts").write_text("\n".join(texts[1:]))
    plot = tmp_path / "plot.png"
    command = ["compare", checkpoint, "--images", photos / "*.png"]
    command += ["--texts", texts[0], f"@{tmp_path / 'texts'}", "--plot", plot]
    found = run(*command, "--json")
    assert found["texts"] == texts
    expected = reference("towers")["lit_bert_tiny/logits"][:, :3]
    logits = np.array(found["similarities"]) * found["temperature"]
    np.testing.assert_allclose(logits, expected, atol=2e-5, rtol=0)
    odds = np.exp(expected)
    np.testing.assert_allclose(found["probabilities"], odds / odds.sum(1, keepdims=True), atol=1e-5)
    with PIL.Image.open(plot) as image:
        image.load()
        assert image.format == "PNG" and min(image.size) > 200
        assert len(np.unique(np.asarray(image.convert("L")))) > 100  # thumbnails are in it
    table = run(*command).splitlines()
    for t, text in enumerate(texts):
        assert table[1 + t].startswith(text)
        assert table[1 + t].count("*") == np.sum(expected.argmax(1) == t)


@pytest.mark.parametrize("name", ["lit_bert_tiny", "lit_tt_tiny", "siglip2_tiny"])
def test_texts_that_are_cut_are_said_to_be_cut(fixtures, photos, name, capsys):
    model, path = lit_tf.load(fixtures / f"{name}.npz"), str(fixtures / f"{name}.npz")
    own = model.tokenizer
    longer = tokenizer_from_bytes(own.kind, own.to_bytes(), 199, own.lowercase)
    texts = [" ".join(["a"] * count) for count in range(150)]
    by_tokens = {}
    for text, ids in zip(texts, longer(texts).numpy().tolist(), strict=True):
        tokens = ids.index(own.eos) + 1 if own.kind == "sentencepiece" else ids.index(0)
        by_tokens[tokens] = text
    fits, cut = by_tokens[own.length], by_tokens[own.length + 1]
    for texts, said in (([fits, "b"], ""), (["b", cut], "cut: of 1 of 2 texts")):
        printing.report_cut(model, texts)
        err = capsys.readouterr().err
        assert said in err and bool(said) == bool(err)
    if name == "lit_bert_tiny":
        compare = ["compare", path, "--images", str(photos / "0.png"), "--texts", "b", cut]
        for command in (
            compare,
            ["classify", path, str(photos / "0.png"), "--classes", f"b,{cut}"],
        ):
            assert cli.main(command) == 0
            assert "tokens only, such as" in capsys.readouterr().err


def test_heat_map_draws_every_shape_of_image_and_text(tmp_path):
    from lit_tf.plots import heat_map

    images = [np.zeros((h, w, 3), np.uint8) for h, w in ((1, 1), (3, 300), (300, 3), (700, 900))]
    texts = ["", "中国の猫 🐱", "$x_1$ \\alpha $", "tab\tand\nnewline", "long " * 50, "x" * 200]
    similarities = np.random.default_rng(0).uniform(-1, 1, (4, 6))
    for suffix in ("png", "pdf", "svg"):
        path = tmp_path / f"x.{suffix}"
        heat_map(path, similarities, images, texts, title="$ a title")
        assert path.stat().st_size > 1000
    heat_map(tmp_path / "one.png", [[0.5]], images[:1], ["a"])
    with pytest.raises(lit_tf.LitError, match="at most 400"):
        heat_map(tmp_path / "x.png", np.zeros((100, 100)), images, texts)
    with pytest.raises(lit_tf.LitError, match="cannot be written"):
        heat_map(tmp_path / "x.nonsense", similarities, images, texts)


def test_a_heat_map_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    from matplotlib import figure

    from lit_tf.plots import heat_map

    def half(drawing, file, **_):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(figure.Figure, "savefig", half)
    (tmp_path / "x.png").write_bytes(b"old")
    with pytest.raises(lit_tf.LitError, match="no space left"):
        heat_map(tmp_path / "x.png", [[0.5]], [np.zeros((9, 9, 3), np.uint8)], ["a"])
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]
