"""The embedded dataset, whose classes come with phrasings instead of names."""

import pytest
import tensorflow_datasets as tfds

from lit_tf.training.digits import captions, measure
from lit_tf.training.evaluation import datasets, encoders, protocol


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    tfds.disable_progress_bar()
    return str(tmp_path_factory.mktemp("digits"))


def test_figures_equal_those_of_the_model_card(model, data_dir):
    expected = measure.measure_model(model, "test", "tiny", data_dir)
    data = datasets.open_classification("digit_pairs/tiny", data_dir=data_dir)
    result = protocol.zero_shot(encoders.KerasEncoder(model), data)
    assert result.metrics["accuracy/seen"] == expected["ensemble/seen"]
    assert result.metrics["accuracy/unseen"] == expected["ensemble/unseen"]
    assert result.images == 200 and result.texts == 100 * len(captions.held_out("pair", "test"))
    shares = {"seen": 160, "unseen": 40}
    assert {group: result.images_of(f"accuracy/{group}") for group in shares} == shares
    total = sum(n * result.metrics[f"accuracy/{group}"] for group, n in shares.items()) / 200
    assert result.metrics["accuracy"] == pytest.approx(total)
    assert len(data.prompts.groups["unseen"]) == 20


def test_digits_is_short_for_the_datasets_name():
    recipe = datasets.RECIPES["digits"]
    assert recipe.tfds_name == "digit_pairs"
    assert recipe.prompts("test").texts == datasets.RECIPES["digit_pairs"].prompts("test").texts
    assert recipe.prompts("validation[:9]").texts != recipe.prompts("test").texts
