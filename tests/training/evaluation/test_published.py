"""Measured figures stand beside the published ones of the same thing, and of nothing else."""

import pytest

from lit_tf.commands.printing import print_table
from lit_tf.training.evaluation import published
from lit_tf.training.evaluation.protocol import RetrievalResult, ZeroShotResult

RECALLS = {"img2txt/Recall@1": 0.5, "img2txt/Recall@5": 0.6, "txt2img/Recall@1": 0.3}


def result(kind, dataset, metrics, standard=True):
    found = kind.__new__(kind)
    found.__dict__.update(
        dataset=dataset,
        split="test",
        metrics=metrics,
        images=5000,
        texts=1,
        notes=[],
        standard=standard,
        images_per_second=1234.5,
        groups={"accuracy/few": 7},
    )
    return found


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        ("LiT-B16B_2", "LiT-B16B_2"),
        ("mixed_B16B_2", "LiT-B16B_2"),
        ("/data/LiT-B16B.npz", "LiT-B16B"),
        ("gs://vit_models/lit/LiT-L16L.npz", "LiT-L16L"),
        ("runs/final.npz", None),
    ],
)
def test_published_names_are_recognized(argument, name):
    assert published.published_name(argument) == name


def test_difference_to_the_model_card(capsys):
    results = [
        result(ZeroShotResult, "imagenet2012", {"accuracy": 0.7412}),
        result(RetrievalResult, "coco_captions", RECALLS),
    ]
    rows = published.comparison("LiT-B16B_2", results)
    assert [row["published"] for row in rows] == [pytest.approx(0.739), 0.515, None, 0.318]
    assert rows[0]["difference"] == pytest.approx(0.0022)
    table = published.as_table(rows)
    assert table[1] == [
        "imagenet2012",
        "test",
        "accuracy",
        "5,000",
        "74.12",
        "73.9",
        "+0.22",
        "1,234.5",
    ]
    assert [row[6] for row in table[2:]] == ["-1.50", "-", "-1.80"]
    assert [row[7] for row in table[2:]] == ["1,234.5", "-", "-"]
    print_table(table, right=range(3, 8), ruled=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and lines[0].split() == published.HEADS
    assert lines[2].split() == table[1]
    assert {len(line) for line in lines} == {len(lines[0])}


def test_figures_of_groups_of_classes_say_how_many_images_they_are_of():
    found = result(ZeroShotResult, "digits", {"accuracy": 0.5, "accuracy/few": 0.25})
    assert [row["images"] for row in published.comparison(None, [found])] == [5000, 7]


@pytest.mark.parametrize(
    ("model", "dataset", "standard"),
    [
        (None, "imagenet2012", True),  # nobody knows what it should reach
        ("LiT-B16B_2", "imagenet2012", False),  # another split, or other templates
        ("LiT-B16B_2", "cifar10", True),  # never published
        ("LiT-L16Ti", "imagenet2012", True),
    ],
)
def test_no_figure_is_shown_beside_what_it_is_not_of(model, dataset, standard):
    found = result(ZeroShotResult, dataset, {"accuracy": 0.5}, standard)
    assert published.figure(model, found, "accuracy") is None


@pytest.mark.parametrize("source", ["SigLIP2-B16-384", "SigLIP2 B/16 384", "a/siglip2_b16_384.npz"])
def test_figures_hold_at_the_checkpoints_own_resolution(source):
    name = published.published_name(source)
    assert name == published.published_name(source, 384) == "SigLIP2-B16-384"
    assert published.published_name(source, 224) is None
    retrieval = result(RetrievalResult, "coco_captions", RECALLS)
    assert published.figure(name, retrieval, "txt2img/Recall@1") == pytest.approx(0.546)
    zero_shot = result(ZeroShotResult, "imagenet2012", {"accuracy": 0.8})
    assert published.figure(name, zero_shot, "accuracy") == pytest.approx(0.806)
