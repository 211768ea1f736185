"""What bad data does to a figure: it is named and counted, or refused."""

import pathlib

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from lit_tf.errors import DataError
from lit_tf.texts import prompts
from lit_tf.training.evaluation import encoders, protocol
from lit_tf.training.evaluation.captioned import open_captioned
from lit_tf.training.evaluation.classification import open_classification
from lit_tf.training.evaluation.images import PUBLISHED, Decoding

from . import tiny_datasets

TRUNCATED = tiny_datasets.encode(tiny_datasets.picture(0, 64, 64), "JPEG").getvalue()[:300]


@pytest.fixture(scope="module")
def encoder(model):
    return encoders.KerasEncoder(model, batch_size=4)


def class_folder(root, count=10):
    for i in range(count):
        folder = root / ("cat" if i % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        tiny_datasets.save(folder / f"{i}.png", tiny_datasets.picture(i))
    return root


def test_unreadable_images_are_named_and_left_out(encoder, model, tmp_path):
    root = class_folder(tmp_path / "photos")
    (root / "cat" / "3.png").write_bytes(TRUNCATED)
    (root / "dog" / "4.png").write_bytes(b"")
    (root / "dog" / "z.png").write_text("no image at all")
    data = open_classification(str(root))
    result = protocol.zero_shot(encoder, data, "class_name_only")
    assert result.images == 8
    [note] = result.notes
    assert note.startswith("left out: 3 unreadable images: ")
    for name in ("cat/3.png", "dog/4.png", "dog/z.png"):
        assert name in note
    # The others are what they are without the broken ones, each at its own place.
    paths = [data.images.locate(i) for i in result.rows]
    zimg = model.encode_image(paths)
    classes = model.encode_text(["cat", "dog"])
    np.testing.assert_array_equal(result.predictions, (zimg @ classes.T).argmax(axis=1))
    assert result.labels == [[int("dog" in p)] for p in paths]


def test_a_corrupt_image_in_tfds_is_named(encoder, tmp_path):
    tfds.disable_progress_bar()
    rows = [
        {
            "image": tiny_datasets.encode(tiny_datasets.picture(i), "JPEG"),
            "label": i,
            "file_name": f"val_{i}.JPEG",
        }
        for i in range(9)
    ]
    rows[5]["image"] = tiny_datasets.raw(TRUNCATED)
    tiny_datasets.write("imagenet2012", {"validation": rows}, str(tmp_path))
    data = open_classification("imagenet2012", data_dir=str(tmp_path))
    result = protocol.zero_shot(encoder, data, "class_name_only")
    assert result.images == 8
    assert "left out: 1 unreadable image:" in result.notes[0] and "val_5.JPEG" in result.notes[0]
    assert sorted(label for [label] in result.labels) == [0, 1, 2, 3, 4, 6, 7, 8]


def test_several_labels_count_each_and_none_is_left_out(encoder, model, tmp_path):
    files = [tiny_datasets.encode(tiny_datasets.picture(i), "JPEG") for i in range(10)]
    zimg = model.encode_image([f.getvalue() for f in files])
    names = [n.lower().replace("-", "").replace("'", "") for n in prompts.imagenet_names()]
    names = ["".join(c for c in n if c not in "()/.").replace("  ", " ") for n in names]
    predictions = (zimg @ model.encode_text(names).T).argmax(axis=1).tolist()
    rows = []
    for i, (file, p) in enumerate(zip(files, predictions, strict=True)):
        other = [(p + k) % 1000 for k in (1, 2)]
        real = ([p], [other[0], p], other, [])[i % 4]
        rows.append(
            {"image": file, "original_label": 0, "real_label": real, "file_name": f"{i}.JPEG"}
        )
    tiny_datasets.write("imagenet2012_real", {"validation": rows}, str(tmp_path))
    data = open_classification("imagenet2012_real", data_dir=str(tmp_path))
    result = protocol.zero_shot(encoder, data, "class_name_only")
    # i % 4: 0 and 1 are right (6 images), 2 is wrong (2), 3 has no label (2).
    assert (result.images, result.metrics["accuracy"]) == (8, 6 / 8)
    assert "left out: 2 images without any label" in result.notes


def test_imagenet_a_is_classified_among_its_200_classes(encoder, tmp_path):
    kept = prompts.imagenet_subset("imagenet_a")
    rows = [
        {
            "image": tiny_datasets.encode(tiny_datasets.picture(i), "JPEG"),
            "label": kept[7 * i],
            "file_name": f"{i}.JPEG",
        }
        for i in range(8)
    ]
    tiny_datasets.write("imagenet_a", {"test": rows}, str(tmp_path))
    data = open_classification("imagenet_a", data_dir=str(tmp_path))
    assert len(data.class_names) == 200
    assert sorted(label for [label] in data.labels) == [7 * i for i in range(8)]
    names = prompts.imagenet_names()
    assert [data.class_names[7 * i] for i in range(8)] == [names[kept[7 * i]] for i in range(8)]
    result = protocol.zero_shot(encoder, data, "class_name_only")
    assert result.texts == 200
    assert any("without any image: 192 of 200 classes" in note for note in result.notes)


def test_a_label_outside_of_the_subset_is_refused(tmp_path):
    kept = prompts.imagenet_subset("imagenet_r")
    outside = next(i for i in range(1000) if i not in kept)
    row = {
        "image": tiny_datasets.encode(tiny_datasets.picture(0), "JPEG"),
        "label": outside,
        "file_name": "n0/stray.JPEG",
    }
    tiny_datasets.write("imagenet_r", {"test": [row]}, str(tmp_path))
    with pytest.raises(DataError, match=f"stray.JPEG.* has label {outside}"):
        open_classification("imagenet_r", data_dir=str(tmp_path))


def test_a_class_without_images_is_named(encoder, tmp_path):
    root = class_folder(tmp_path / "photos")
    (root / "zebra").mkdir()
    result = protocol.zero_shot(encoder, open_classification(str(root)), "clip_best")
    assert result.notes == ["without any image: 1 of 3 classes: zebra"]
    assert sorted(result.per_class()) == [0, 1]


def test_classes_whose_names_become_the_same_tokens_are_noted(encoder, tmp_path):
    root = class_folder(tmp_path / "photos")
    for name in ("🦊", "🐶"):
        (root / name).mkdir()
    with pytest.warns(UserWarning, match="the same tokens"):
        result = protocol.zero_shot(encoder, open_classification(str(root)), "clip_best")
    assert any("🐶 and 🦊" in note for note in result.notes)


def captioned(tmp_path, rows):
    for i in range(6):
        tiny_datasets.save(tmp_path / f"{i}.png", tiny_datasets.picture(i))
    lines = ["image,caption"] + [f'{i}.png,"{text}"' for i, text in rows]
    (tmp_path / "pairs.csv").write_text("\n".join(lines), encoding="utf-8")
    return open_captioned(str(tmp_path / "pairs.csv"))


def test_empty_captions_and_silent_images_are_named_and_left_out(encoder, tmp_path):
    rows = [(0, "a cat"), (0, "  "), (1, ""), (2, "a dog"), (3, "two"), (3, "three")]
    result = protocol.retrieval(encoder, captioned(tmp_path, rows))
    assert (result.images, result.texts) == (3, 4)
    assert result.captions == ["a cat", "a dog", "two", "three"]
    assert result.correspondence.tolist() == [0, 1, 2, 2]
    assert any("left out: 2 empty captions, of " in n and "1.png" in n for n in result.notes)
    assert any("left out: 1 image without a caption" in n and "1.png" in n for n in result.notes)


def test_captions_of_an_unreadable_image_are_no_queries(encoder, tmp_path):
    data = captioned(tmp_path, [(i, f"number {i}") for i in range(6)])
    (tmp_path / "2.png").write_bytes(TRUNCATED)
    (tmp_path / "4.png").unlink()
    result = protocol.retrieval(encoder, data)
    assert (result.images, result.texts) == (4, 4)
    assert result.captions == [f"number {i}" for i in (0, 1, 3, 5)]
    assert "2.png" in result.notes[0] and "4.png" in result.notes[0]


def test_nothing_readable_is_refused(encoder, tmp_path):
    data = captioned(tmp_path, [(0, "a"), (1, "b")])
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(TRUNCATED)
    with pytest.raises(DataError, match="none could be read"):
        protocol.retrieval(encoder, data)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("picture,caption\na.png,b", "expected a column image .*, found picture, caption"),
        ("", "found nothing"),
        ("image,caption\na.png", "a row without image or caption"),
        ("image,caption\n", "pairs.csv holds no examples"),
        ("image,caption\na.png,\n", "has no captions"),
    ],
)
def test_unusable_caption_files_are_refused(tmp_path, content, message):
    path = tmp_path / "pairs.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        open_captioned(str(path))


def test_a_folder_without_class_folders_is_refused(tmp_path):
    with pytest.raises(DataError, match="one folder of images per class"):
        open_classification(str(tmp_path))


def test_what_macos_adds_to_class_folders_is_skipped(tmp_path):
    root = class_folder(tmp_path / "photos")
    whole = open_classification(str(root))
    first = pathlib.Path(whole.images.locate(0)).parent
    for clutter in ("__MACOSX", first.name + "/__MACOSX", ".Trashes"):
        (root / clutter).mkdir()
        (root / clutter / "a.png").write_bytes(b"a resource fork")
    for clutter in (".DS_Store", f"{first.name}/.DS_Store", f"{first.name}/._0.png"):
        (root / clutter).write_bytes(b"a resource fork")
    data = open_classification(str(root))
    assert data.images.identity() == whole.images.identity()
    assert (data.labels, data.class_names) == (whole.labels, whole.class_names)
    assert data.notes == whole.notes == []


def test_a_broken_model_has_no_figure(encoder, tmp_path, monkeypatch):
    root = class_folder(tmp_path / "photos")
    original = encoders.collect

    def broken(*args):
        embedded = original(*args)
        embedded.z[0] = np.nan
        return embedded

    monkeypatch.setattr(encoders, "collect", broken)
    with pytest.raises(DataError, match="NaN"):
        protocol.zero_shot(encoder, open_classification(str(root)), "clip_best")


def test_photos_are_turned_on_request_and_found_by_every_suffix(encoder, model, tmp_path):
    upright = PIL.Image.fromarray(tiny_datasets.picture(0, 20, 30))
    tags = PIL.Image.Exif()
    tags[0x0112] = 6
    for i, suffix in enumerate(("jfif", "webp", "PNG")):
        (tmp_path / f"class {i}").mkdir()
        form = {"jfif": "JPEG", "webp": "WEBP", "PNG": "PNG"}[suffix]
        upright.save(tmp_path / f"class {i}" / f"a.{suffix}", form, exif=tags)
    for decoding in (PUBLISHED, Decoding(exif=True), Decoding(max_pixels=599)):
        images = open_classification(str(tmp_path), decoding=decoding).images
        if decoding.max_pixels < 600:
            with pytest.raises(DataError, match="none could be read"):
                encoder.embed_images(images)
            continue
        shown = model.encode_image([images.locate(i) for i in range(3)])
        alike = np.abs(encoder.embed_images(images).z - shown).max(axis=1) < 1e-5
        assert alike.all() if decoding.exif else not alike.any()
