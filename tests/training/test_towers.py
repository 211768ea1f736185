"""What `model.image` and `model.text` may name, and what a run's towers start from."""

import pathlib

import pytest

from lit_tf.config import BertConfig, TextTransformerConfig, ViTConfig
from lit_tf.errors import ConfigError
from lit_tf.training.towers import image_config, text_config, tower_sizes

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
