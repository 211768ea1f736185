"""`lit-tf eval --few-shot`: the published evaluator on a dataset."""

import json

import numpy as np
import PIL.Image
import tensorflow as tf

import lit_tf
from lit_tf import few_shot
from lit_tf.cli import main


def test_figures_are_those_of_features_cut_from_a_larger_picture(fixtures, tmp_path, capsys):
    rng, parts = np.random.default_rng(0), {}
    for part, count in (("train", 4), ("test", 6)):
        for label, colour in enumerate(((60, 60, 160), (60, 140, 60), (150, 70, 70))):
            folder = tmp_path / "data" / part / str("abc"[label])
            folder.mkdir(parents=True)
            for n in range(count):
                pixels = np.clip(colour + rng.normal(0, 90, (45, 60, 3)), 0, 255).astype(np.uint8)
                PIL.Image.fromarray(pixels).save(folder / f"{n}.png")
                parts.setdefault(part, []).append((pixels, label))
    checkpoint = str(fixtures / "lit_bert_head_tiny.npz")
    command = ["eval", checkpoint, "--few-shot", str(tmp_path / "data"), "--shots", "1,3"]
    report = tmp_path / "a.html"
    assert main([*command, "--json", str(tmp_path / "a.json"), "--report", str(report)]) == 0
    assert "3shot-seed-2" in capsys.readouterr().out and report.exists()
    (result,) = json.loads((tmp_path / "a.json").read_text())["results"]

    model = lit_tf.load(checkpoint)
    size = model.config.image.image_size
    whole = round(size * 256 / 224)
    start = (whole - size) // 2

    def features(pairs):
        images = np.stack([tf.image.resize(pixels, (whole, whole)) for pixels, _ in pairs])
        cut = images.astype(np.uint8)[:, start : start + size, start : start + size]
        z = model.image_tower.representation(cut.astype(np.float32) / 127.5 - 1)
        return z.numpy(), np.array([label for _, label in pairs])

    data = (*features(parts["train"]), *features(parts["test"]))
    assert data[0].shape[1] == model.config.image.width
    for shots in (1, 3):
        for seed in (0, 1, 2):
            expected = few_shot.accuracy(*data, shots=shots, seed=seed)
            assert result["metrics"][f"{shots}shot-seed-{seed}"] == expected
