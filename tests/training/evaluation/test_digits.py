"""The embedded dataset, whose classes come with phrasings instead of names."""

import pytest
import tensorflow_datasets as tfds

from lit_tf.training.digits import captions
from lit_tf.training.evaluation import encoders, protocol
from lit_tf.training.evaluation.classification import open_classification
from lit_tf.training.evaluation.recipes import open_recipe
from recipes.digits import measure


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    tfds.disable_progress_bar()
    return str(tmp_path_factory.mktemp("digits"))


def test_figures_equal_those_of_the_model_card(model, data_dir):
    expected = measure.measure_model(model, "test", "tiny", data_dir)
    data = open_classification("digit_pairs/tiny", data_dir=data_dir)
    result = protocol.zero_shot(encoders.KerasEncoder(model), data)
    assert result.metrics["accuracy/seen"] == expected["ensemble/seen"]
    assert result.metrics["accuracy/unseen"] == expected["ensemble/unseen"]
    assert result.images == 200 and result.texts == 100 * len(captions.held_out("pair", "test"))
    shares = {"seen": 160, "unseen": 40}
    assert {group: result.images_of(f"accuracy/{group}") for group in shares} == shares
    total = sum(n * result.metrics[f"accuracy/{group}"] for group, n in shares.items()) / 200
    assert result.metrics["accuracy"] == pytest.approx(total)
    assert len(data.prompts.groups["unseen"]) == 20


def test_digits_is_short_for_the_datasets_name(data_dir):
    short, long = open_recipe("digits/tiny", data_dir), open_recipe("digit_pairs/tiny", data_dir)
    assert short.name == "digits/tiny" and short.builder.data_path == long.builder.data_path
    assert short.split == "test"


def test_validation_and_test_have_their_own_phrasings(data_dir):
    recipe = open_recipe("digit_pairs/tiny", data_dir).recipe
    assert recipe.prompts("validation[:9]").texts != recipe.prompts("test").texts
