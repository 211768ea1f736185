"""Evaluators in the training loop measure the model as it is now."""

import dataclasses

import numpy as np
import pytest

import lit_tf
from lit_tf.errors import ConfigError, DataError
from lit_tf.training.evaluation import evaluators, protocol
from lit_tf.training.evaluation.encoders import KerasEncoder

from . import tiny_datasets


@dataclasses.dataclass
class Config:
    data_dir: str
    zero_shot: tuple = ("cifar100",)
    retrieval: tuple = ("coco_captions",)
    templates: str = "class_name_only"
    batch_size: int = 8


@pytest.fixture
def own_model(fixtures):
    return lit_tf.load(fixtures / "lit_bert_tiny.npz")


def test_figures_follow_the_text_tower_and_images_are_embedded_once(own_model, tiny, monkeypatch):
    found = evaluators.make_evaluators(own_model, Config(tiny.data_dir))
    embedded = []
    original = KerasEncoder.embed_images
    monkeypatch.setattr(
        KerasEncoder,
        "embed_images",
        lambda self, images, progress=False: (
            embedded.append(images.name) or original(self, images, progress)
        ),
    )
    first = {k: v for e in found for k, v in e.run().items()}
    assert {k: first[f"retrieval/coco_captions/{k}"] for k in tiny.recalls} == tiny.recalls
    assert "zero_shot/cifar100/accuracy" in first
    again = {k: v for e in found for k, v in e.run().items()}
    assert again == first
    assert embedded == ["cifar100", "coco_captions"]

    # Another text tower: other figures, from the same image embeddings.
    rng = np.random.default_rng(0)
    for name, variable in own_model.canonical_variables().items():
        if name == "txt/head/kernel":
            variable.assign(rng.standard_normal(variable.shape))
    changed = {k: v for e in found for k, v in e.run().items()}
    assert changed != first
    assert embedded == ["cifar100", "coco_captions"]

    # Another image tower: its images are embedded again.
    bias = own_model.canonical_variables()["img/embedding/bias"]
    bias.assign(bias + 0.5)
    found[0].run()
    assert embedded == ["cifar100", "coco_captions", "cifar100"]


def test_missing_data_shows_before_the_run_starts(own_model, tmp_path):
    with pytest.raises(DataError, match="ILSVRC2012_img_val.tar"):
        evaluators.make_evaluators(
            own_model, Config(str(tmp_path), zero_shot=("imagenet2012",), retrieval=())
        )


def test_nothing_to_evaluate_is_nothing(own_model):
    assert evaluators.make_evaluators(own_model, Config("", zero_shot=(), retrieval=())) == []


def class_folder(root, first):
    for i in range(first, first + 4):
        path = root / ("cat" if i % 2 else "dog") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        tiny_datasets.save(path, tiny_datasets.picture(i))
    return str(root)


def test_folders_of_one_name_keep_their_images_and_their_figures_apart(own_model, tmp_path):
    folders = (class_folder(tmp_path / "a/photos", 0), class_folder(tmp_path / "b/photos", 4))
    found = evaluators.make_evaluators(own_model, Config(None, zero_shot=folders, retrieval=()))
    figures = [e.run() for e in found]
    assert [set(f) for f in figures] == [{f"zero_shot/{f}/accuracy"} for f in folders]
    cache, encoder = protocol.ImageCache(), KerasEncoder(own_model, batch_size=8)
    z = [cache.get(encoder, e.data.images, False).z for e in found]
    np.testing.assert_array_equal(z[1], encoder.embed_images(found[1].data.images).z)
    assert not np.allclose(z[0], z[1])


def test_splits_of_one_dataset_have_names_of_their_own(own_model, tiny):
    splits = ("cifar100:test[:5]", "cifar100:test[5:10]")
    config = Config(tiny.data_dir, zero_shot=splits, retrieval=())
    found = evaluators.make_evaluators(own_model, config)
    assert [e.prefix for e in found] == [f"zero_shot/{split}" for split in splits]
    images = [e.data.images.identity() for e in found]
    assert images[0] != images[1]


def test_a_dataset_named_twice_is_refused(own_model):
    with pytest.raises(ConfigError, match="'cifar100, cifar100'.*twice"):
        evaluators.make_evaluators(own_model, Config(None, zero_shot=("cifar100",) * 2))
