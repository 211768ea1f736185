"""The list of published models agrees with the published checkpoints' shapes."""

import json
import math
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest

import lit_tf
from lit_tf.checkpoints import layouts, registry
from lit_tf.checkpoints.shapes import canonical_shapes, config_from_shapes
from lit_tf.config import LitConfig

REFERENCE = pathlib.Path(__file__).parents[1] / "reference"


LIT = {name: model for name, model in registry.MODELS.items() if model.family == "LiT"}
# Of 4 of the 25 models of the SigLIP family the shapes are known.
SIGLIP_SHAPES = {
    "SigLIP-B16-224": "siglip_b16_224",
    "SigLIP2-B16-256": "siglip2_b16_256",
    "SigLIP2-B32-256": "siglip2_b32_256",
    "SigLIP-So400m14-224": "siglip_so400m14_224",
}


@pytest.mark.parametrize(("name", "file"), {**SIGLIP_SHAPES, **{n: n for n in LIT}}.items())
def test_towers_are_those_of_the_published_shapes(name, file):
    model = registry.MODELS[name]
    shapes = json.loads((REFERENCE / "shapes" / f"{file}.json").read_text(encoding="utf-8"))
    shapes = {k: s for k, s in shapes.items() if not k.startswith(("opt/", "chrono/"))}
    assert model.parameters == sum(map(math.prod, shapes.values()))
    archive = types.SimpleNamespace(
        path=file, keys=shapes.keys, shape=shapes.get, dtype=lambda key: np.dtype(np.float32)
    )
    archive.read = archive.blocks = archive.close = None
    checkpoint = layouts.read_canonical(archive)
    config = config_from_shapes(checkpoint.shapes, layout=checkpoint.layout, source=file)
    assert (config.image, config.text) == (model.image, model.text)
    assert (config.token_length, config.tokenizer_kind) == (model.token_length, model.tokenizer)


@pytest.mark.parametrize("model", registry.MODELS.values(), ids=lambda m: m.name)
def test_a_models_numbers_are_those_of_its_towers(model):
    bias = model.family != "LiT"
    config = LitConfig(model.image, model.text, bias, token_length=model.token_length)
    count = sum(map(math.prod, canonical_shapes(config).values()))
    if model.name == "coco_B16B":  # big_vision has no row of positions for the class token
        count -= model.image.width
    assert model.parameters == count
    words = model.name.removesuffix(f"-{model.resolution}")
    assert model.family == "LiT" or model.image_words[4:].split(",")[0].replace("/", "") in words


def test_the_siglip_family_is_whole_and_found_by_big_visions_names():
    families = [m.family for m in registry.MODELS.values()]
    assert (families.count("SigLIP"), families.count("SigLIP 2")) == (10, 17)
    for name, listed in (
        ("SigLIP2 B/16 256", "SigLIP2-B16-256"),
        ("SigLIP2 g-opt/16 384", "SigLIP2-g-opt16-384"),
        ("SigLIP B/16-i18n 256", "SigLIP-B16-i18n-256"),
        ("webli_en_so400m_384_58765454", "SigLIP-So400m14-384"),
        ("siglip2_so400m14_224", "SigLIP2-So400m14-224"),
    ):
        assert registry.find_published(name).name == listed
    model = registry.MODELS["SigLIP2-B16-256"]
    assert model.urls[1] == "gs://big_vision/siglip2/siglip2_b16_256.npz"
    assert model.vocab_url.endswith("/big_vision/gemma_tokenizer.model")
    assert model.figures == {
        "imagenet2012": 79.1,
        "coco_captions/t2i": 53.2,
        "coco_captions/i2t": 69.7,
    }
    assert registry.MODELS["SigLIP-So400m16-i18n-256"].text.out_dim is None


def test_every_address_is_of_the_published_bucket():
    for model in registry.MODELS.values():
        web, bucket = model.urls
        assert web == bucket.replace("gs://", "https://storage.googleapis.com/")
        where = "vit_models/lit/" if model.family == "LiT" else "big_vision/siglip"
        assert web.endswith(".npz")
        assert web.startswith(f"https://storage.googleapis.com/{where}")
        suffix = ".txt" if model.tokenizer == "bert" else ".model"
        assert model.vocab_url.endswith(suffix)
    assert registry.MODELS["LiT-L16S"].vocab_url.endswith("/lit/LiT-L16S.model")


def test_published_figures():
    figures = {n: m.figures for n, m in registry.MODELS.items()}
    assert [figures[n]["imagenet2012"] for n in ("LiT-B16B", "LiT-B16B_2", "LiT-L16L")] == [
        72.1,
        73.9,
        75.7,
    ]
    assert figures["coco_B16B"] == {
        "imagenet2012": 20.7,
        "coco_captions/i2t": 47.2,
        "coco_captions/t2i": 32.1,
    }
    assert figures["LiT-L16L"]["cifar100"] == 80.5
    assert figures["LiT-B16B_2"]["imagenet_v2"] == 65.1
    assert not figures["LiT-L16S"] and not figures["LiT-L16Ti"]


def test_models_are_found_by_name_and_alias():
    assert registry.find_published("LiT-B16B_2") is registry.find_published("mixed_B16B_2")
    assert registry.find_published("LiT-B17") is None
    assert registry.find_upstream("bert_large").urls[0].endswith("uncased_L-24_H-1024_A-16")
    assert registry.find_upstream("B/16").name.startswith("B_16-i21k")
    assert registry.find_upstream("B/17") is None


def test_embedded_models_are_the_checkpoints_in_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "DATA", tmp_path)
    (tmp_path / "LiT-digits.npz").touch()
    (tmp_path / "LiT-digits.txt").touch()
    assert registry.embedded_models() == {"LiT-digits": tmp_path / "LiT-digits.npz"}
    assert lit_tf.list_models() == ["LiT-digits", *registry.MODELS]


def test_the_list_needs_no_tensorflow():
    code = (
        "import sys, lit_tf; lit_tf.list_models(); "
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
