"""What `model.image` and `model.text` may name, and what a run's towers start from."""

import dataclasses
import pathlib
import re
import shutil

import numpy as np
import pytest

from lit_tf.checkpoints import download, registry
from lit_tf.config import BertConfig, TextTransformerConfig, ViTConfig
from lit_tf.errors import ConfigError, DownloadError
from lit_tf.loading import load, save_npz
from lit_tf.training.config import LossConfig, ModelConfig, TrainConfig, load_config
from lit_tf.training.towers import build_model, image_config, text_config, tower_sizes

VOCAB = str(pathlib.Path(__file__).parents[1] / "reference" / "vocab.txt")  # 1,000 tokens


@pytest.mark.parametrize(
    ("name", "kind", "width", "depth"),
    [
        ("B/16", ViTConfig, 768, 12),
        ("L/16", ViTConfig, 1024, 24),
        ("patch_size=8,width=96,depth=5,num_heads=3,mlp_dim=384", ViTConfig, 96, 5),
        ("bert_large", BertConfig, 1024, 24),
        ("bert:width=128,depth=3,num_heads=2,mlp_dim=512", BertConfig, 128, 3),
        ("transformer:width=64,depth=2,num_heads=2,mlp_dim=256", TextTransformerConfig, 64, 2),
    ],
)
def test_a_name_says_kind_and_sizes_without_any_file(name, kind, width, depth):
    found, sizes = tower_sizes(name)
    assert (found, sizes["width"], sizes["depth"]) == (kind, width, depth)


def test_the_token_table_has_a_row_for_every_token_and_more_if_asked():
    assert text_config("bert_base", VOCAB, 16).vocab_size == 1000
    assert text_config("bert_base", VOCAB, 16).max_length == 512
    sizes = "bert:width=64,depth=1,num_heads=1,mlp_dim=64"
    assert text_config(sizes, VOCAB, 24).max_length == 24
    assert text_config(f"{sizes},vocab_size=1024", VOCAB, 24).vocab_size == 1024


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tower_sizes("B16"), "no tower 'B16'"),
        (lambda: tower_sizes("bert:witdh=64"), "tower size 'witdh=64'"),
        (lambda: image_config("bert_base", 224), "is a text tower"),
        (lambda: image_config("patch_size=8,width=96", 224), "is incomplete"),
        (lambda: text_config("B/16", VOCAB, 16), "is an image tower"),
        (lambda: text_config("bert_base", None, 16), "needs model.vocab"),
        (
            lambda: text_config(
                "bert:width=64,depth=1,num_heads=1,mlp_dim=64,vocab_size=9", VOCAB, 16
            ),
            "fewer rows than",
        ),
    ],
)
def test_what_is_no_tower_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_published_towers_are_named_without_any_file():
    image = image_config("SigLIP2-So400m14-384", 384)
    assert (image.width, image.depth, image.mlp_dim, image.pool) == (1152, 27, 4304, "attention")
    assert image_config("SigLIP2 g-opt/16 256", 256).num_heads == 16
    assert image_config("LiT-L16L", 224).pool == "cls"
    text = text_config("SigLIP2-B16-256", None, 64)
    assert (text.kind, text.vocab_size, text.max_length) == ("text_transformer", 256_000, 64)
    assert text_config("SigLIP-So400m14-224", None, 16).max_length == 16
    assert text_config("LiT-L16L", None, 16).kind == "bert"
    assert text_config("LiT-L16Ti", None, 16).num_heads == 3


def test_local_checkpoints_name_towers(fixtures):
    image = image_config(str(fixtures / "siglip_tiny.npz"), 48)
    assert (image.pool, image.image_size, image.width) == ("attention", 48, 48)
    assert text_config(str(fixtures / "siglip2_tiny.npz"), None, 64).vocab_size == 512
    with pytest.raises(ConfigError, match="has no text tower"):
        text_config(str(fixtures / "vit_upstream_tiny.npz"), None, 16)


def test_attention_pooling_from_scratch():
    sizes = "patch_size=8,width=96,depth=5,num_heads=3,mlp_dim=384"
    assert image_config(f"{sizes},pool=attention", 32).pool == "attention"
    with pytest.raises(ConfigError, match="pool must be one of"):
        image_config(f"{sizes},pool=mean", 32)


@pytest.mark.parametrize("text", ["siglip2_tiny.npz", "transformer"])
def test_siglip_towers_start_a_run_and_come_back_for_big_vision(fixtures, tmp_path, text):
    scratch = text == "transformer"
    sizes = "transformer:width=32,depth=1,num_heads=2,mlp_dim=32"
    model = build_model(
        TrainConfig(
            model=ModelConfig(
                image=str(fixtures / "siglip_tiny.npz"),
                image_init=str(fixtures / "siglip_tiny.npz"),
                text=sizes if scratch else str(fixtures / text),
                text_init=None if scratch else str(fixtures / text),
                vocab=str(fixtures / "siglip_tiny.model") if scratch else None,
                resolution=32,
                token_length=64,
                locking="Lu" if scratch else "LU",
                bias=-2.71,
            ),
            loss=LossConfig(name="sigmoid"),
        )
    )
    assert model.tokenizer.lowercase and model.tokenizer.length == 64
    assert model.config.text.out_dim == model.config.image.width == 48
    save_npz(model, tmp_path / "final.npz")
    with np.load(tmp_path / "final.npz") as file:
        assert file["params/img/MAPHead_0/probe"].shape == (1, 1, 48)
    again = load(tmp_path / "final.npz")
    given = again.canonical_variables()
    for name, variable in model.canonical_variables().items():
        np.testing.assert_array_equal(variable.numpy(), given[name].numpy())
    assert again.tokenizer.lowercase


def test_a_run_starts_from_a_folder_of_hugging_faces():
    folder = str(pathlib.Path(VOCAB).parent / "huggingface" / "hf_siglip2_tiny")
    assert image_config(folder, 32).pool == "attention"
    towers = {"image": folder, "image_init": folder, "text": folder, "text_init": folder}
    for start in (towers, {"init": folder, "image": folder, "text": folder}):
        config = ModelConfig(**start, resolution=32, token_length=64, locking="LU", bias=-2.71)
        model = build_model(TrainConfig(model=config, loss=LossConfig(name="sigmoid")))
        assert model.config.has_bias and model.tokenizer.length == 64


def test_a_checkpoint_that_lies_where_the_librarys_hint_says_is_found_by_the_trainer(
    fixtures, tmp_path, monkeypatch
):
    monkeypatch.setenv("LIT_TF_CACHE", str(tmp_path))
    monkeypatch.setattr(download, "fetch", in_place(download.fetch))
    config = load_config("lit_coco:txt=bert_large,img=B/16")
    with pytest.raises(DownloadError) as hint:
        build_model(config)
    name = registry.find_upstream("B/16").name
    assert re.search(rf"put \S*/augreg/{re.escape(name)}.npz into {tmp_path}$", str(hint.value))
    shutil.copy(fixtures / "vit_upstream_tiny.npz", tmp_path / f"{name}.npz")
    with pytest.raises(DownloadError) as hint:
        build_model(config)
    folder = tmp_path / "uncased_L-24_H-1024_A-16"
    # Nobody could look into the bucket, whose folder big_vision's code spells in another way.
    assert "/uncased_L-24_H-1024_A-16 or " in str(hint.value)
    assert f"/uncased_L-uncased_L-24_H-1024_A-16 into {folder}" in str(hint.value)
    shutil.copytree(fixtures / "bert_tiny", folder)
    small = dataclasses.replace(config.model, resolution=32)
    model = build_model(dataclasses.replace(config, model=small))
    want = load(fixtures / "vit_upstream_tiny.npz").image_tower.embedding.kernel
    np.testing.assert_array_equal(model.image_tower.embedding.kernel.numpy(), want.numpy())


def in_place(fetch):
    """Returns `fetch` without a network: it finds files, and gives its hint for all others."""

    def find(urls, path, where=""):
        if path.exists():
            return fetch(urls, path, where)
        raise DownloadError(f"no network. {where}")

    return find
