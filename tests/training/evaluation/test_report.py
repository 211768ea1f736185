"""The report is one file, and what it says is right."""

import html.parser

import numpy as np
import pytest

from lit_tf.training.evaluation import encoders, protocol, report
from lit_tf.training.evaluation.captioned import open_captioned
from lit_tf.training.evaluation.classification import open_classification

from . import tiny_datasets


@pytest.fixture(scope="module")
def results(model, tmp_path_factory):
    """Two classes that are never told apart for certain, and captions with marks of HTML."""
    root = tmp_path_factory.mktemp("report") / "photos"
    rows = ["image,caption"]
    for i in range(24):
        folder = root / f"<kind> & {'abc'[i % 3]}"
        folder.mkdir(parents=True, exist_ok=True)
        size = (200, 300) if i % 2 else (20, 30)
        tiny_datasets.save(folder / f"{i}.png", tiny_datasets.picture(i, *size))
        rows.append(f'"{folder / str(i)}.png","<b>caption</b> {i}"')
    (root / "pairs.csv").write_text("\n".join(rows))
    (root / "<kind> & a" / "bad.png").write_bytes(b"bad")
    encoder = encoders.KerasEncoder(model, batch_size=8)
    zero_shot = protocol.zero_shot(encoder, open_classification(str(root)), "clip_best")
    found = protocol.retrieval(encoder, open_captioned(str(root / "pairs.csv")))
    return [zero_shot, found]


class Reader(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "data")]

    def handle_data(self, data):
        self.text.append(data)


def test_report_is_one_self_contained_file(results, tmp_path):
    path = tmp_path / "new" / "report.html"
    report.write_report(path, "LiT <test>", [["a", "b", "c", "d"], ["x", "y", "z", "1.0"]], results)
    page = path.read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(page)
    assert reader.links and all(link.startswith("data:image/") for link in reader.links)
    assert "script" not in reader.tags and "url(" not in page and "http" not in page
    assert "svg" in reader.tags  # the calibration curve
    text = "".join(reader.text)
    assert "LiT <test>" in text and "<kind> & a" in text and "<b>caption</b>" in text
    assert "b" in reader.tags and "left out: 1 unreadable image" in text
    for head in (
        "Accuracy per class",
        "Most confused pairs",
        "Calibration",
        "Images found by a caption",
        "Captions found by an image",
    ):
        assert head in text
    assert list(path.parent.iterdir()) == [path]


def test_confused_pairs_are_the_most_frequent_mistakes(results):
    result = results[0]
    pairs = report.confused_pairs(result, 100)
    expected = {}
    for [label], predicted in zip(result.labels, result.predictions, strict=True):
        if label != predicted:
            expected[label, predicted] = expected.get((label, predicted), 0) + 1
    assert {(a, b): len(members) for a, b, members in pairs} == expected
    counts = [len(members) for _, _, members in pairs]
    assert counts == sorted(counts, reverse=True)
    assert len(report.confused_pairs(result, 1)) == 1


def test_accuracy_per_class_equals_numpy(results):
    result = results[0]
    labels = np.array([label for [label] in result.labels])
    for label, (accuracy, count) in result.per_class().items():
        here = labels == label
        assert count == here.sum()
        assert accuracy == (result.predictions[here] == label).mean()


def test_confidences_are_the_models_probabilities(results, model):
    result = results[0]
    paths = [result.data.images.locate(i) for i in result.rows]
    names = [n.replace("<", "").replace(">", "") for n in result.data.class_names]
    probabilities = model.classify(paths, names, "clip_best")
    np.testing.assert_allclose(result.confidences, probabilities.max(axis=1), atol=1e-5)


def test_calibration_of_a_known_case():
    confidences = np.repeat([0.95, 0.55], [10, 20])
    right = np.array([True] * 10 + [True] * 5 + [False] * 15)
    curve, error = report.calibration(confidences, right, bins=10)
    np.testing.assert_allclose(curve, [(0.55, 0.25, 20), (0.95, 1.0, 10)])
    assert error == pytest.approx((20 * 0.30 + 10 * 0.05) / 30)
    assert report.calibration([1.0], [True], bins=10)[1] == 0


def test_thumbnails_are_small_and_of_the_right_images(results):
    import base64

    import tensorflow as tf

    images = results[0].data.images
    found = report.thumbnails(images, [2, 1, 2])
    assert sorted(found) == [1, 2]
    for number, uri in found.items():
        kind, code = uri.split(";base64,")
        small = tf.io.decode_image(base64.b64decode(code)).numpy()
        assert max(small.shape[:2]) <= report.THUMBNAIL
        full = tf.io.decode_image(tf.io.read_file(images.locate(number))).numpy()
        assert abs(small.mean() - full.mean()) < 4
        assert small.shape[1] / small.shape[0] == pytest.approx(1.5, abs=0.05)
