"""The README's code runs as it stands, and its table is the registry's."""

import pathlib
import re

import pytest

from lit_tf import registry

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_python_block_runs_in_order(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 5
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert (tmp_path / "device" / "image_encoder.tflite").is_file()
    assert "(1, 96)" in capsys.readouterr().out


def test_the_table_of_published_models_is_the_registrys():
    for model in registry.MODELS.values():
        row = next(line for line in README.splitlines() if line.startswith(f"| {model.name} |"))
        cells = [cell.strip() for cell in row.strip("|").split("|")][3:]
        keys = ("imagenet2012", "coco_captions/i2t", "coco_captions/t2i")
        assert cells == [str(model.figures.get(key, "-")) for key in keys]


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http)([^)#\s]+)", README))))
def test_every_link_leads_somewhere(link):
    assert (ROOT / link).exists(), link
