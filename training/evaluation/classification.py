"""Datasets of images with labels, from tfds or from one folder per class."""

import dataclasses
import os
import pathlib

from lit_tf.errors import DataError, extra
from lit_tf.images.formats import IMAGE_SUFFIXES
from lit_tf.texts import prompts
from lit_tf.texts.files import read_list

from ..data.tar import is_clutter
from .images import PUBLISHED, Decoding, FileImages, Images, TfdsImages
from .notes import counted, some
from .recipes import Prompts, open_recipe

with extra("train"):
    import tensorflow_datasets as tfds


@dataclasses.dataclass
class Classification:
    """Images with labels.

    Attributes:
        images: the images.
        labels: the right classes of each image, in [0, len(class_names)); may be empty.
        class_names: the names of the classes in tables.
        prompts: the dataset's own prompts, or None if its names are put into templates.
        notes: what was left out, in words.
        standard: whether published figures are of this dataset and split.
    """

    images: Images
    labels: list[list[int]]
    class_names: list[str]
    prompts: Prompts | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    standard: bool = False


def open_classification(
    argument: str,
    *,
    data_dir: str | None = None,
    class_names: str | None = None,
    decoding: Decoding = PUBLISHED,
) -> Classification:
    """Opens a dataset of images with labels.

    Args:
        argument: NAME[:SPLIT] of tfds, or the path of a folder that holds one folder per class.
        data_dir: tfds's folder.
        class_names: a file with one name per line, in the order of the labels, or "imagenet"; by
            default the names in the dataset (in a folder, the sorted names of its folders).
        decoding: how the images are decoded.

    Raises:
        DataError: no such data, or labels and names that do not match.
    """
    given = _given_names(class_names)
    if os.path.isdir(argument):
        data = _class_folders(argument, given)
    else:
        data = _classification_of_tfds(argument, given, data_dir)
    data.images.decoding = decoding
    return data


def _classification_of_tfds(argument, given, data_dir):
    name, builder, recipe, split, standard = open_recipe(argument, data_dir)
    images = TfdsImages(builder, split)
    feature, count = _label_feature(builder, recipe.label)
    own = None
    if given is not None:
        names = given
    elif recipe.prompts:
        own = recipe.prompts(split)
        names = own.class_names
    elif recipe.imagenet_names:
        names = list(prompts.imagenet_names())
    else:
        names = feature.names
        if names == [str(i) for i in range(count)]:  # tfds's names for unnamed classes
            raise DataError(
                f"{name} does not name its {count} classes: give a file with their names "
                "(--class-names)"
            )
    if len(names) != count:
        raise DataError(
            f"{name} has {count} classes, but there are {len(names)} class names: expected one "
            "name per class, in the order of the labels"
        )
    values = [row[(recipe.label,)] for row in images.columns({recipe.label: True})]
    labels = [[v for v in (x if isinstance(x, list) else [x]) if v >= 0] for x in values]
    if recipe.subset:
        names, labels = _restrict(images, names, labels, recipe.subset)
    images.name = name
    standard = standard and given is None
    return _checked(Classification(images, labels, list(names), own, standard=standard))


def _given_names(class_names):
    if class_names is None:
        return None
    if class_names == "imagenet":
        return list(prompts.imagenet_names())
    return read_list(class_names, "class name")


def _label_feature(builder, key):
    features = builder.info.features
    feature = features[key] if key in features else None
    if isinstance(feature, tfds.features.Sequence):
        feature = feature.feature
    if not isinstance(feature, tfds.features.ClassLabel):
        found = [k for k, f in features.items() if isinstance(f, tfds.features.ClassLabel)]
        raise DataError(
            f"{builder.name} has no class label {key!r}"
            + (f", only {', '.join(found)}" if found else "; is it a dataset for retrieval?")
        )
    return feature, feature.num_classes


def _restrict(images, names, labels, subset):
    """Returns names and labels among a subset of ImageNet's classes."""
    kept = prompts.imagenet_subset(subset)
    position = {label: i for i, label in enumerate(kept)}
    for i, row in enumerate(labels):
        outside = [label for label in row if label not in position]
        if outside:
            raise DataError(
                f"{images.locate(i)} has label {outside[0]} ({names[outside[0]]}), which is not "
                f"among the {len(kept)} classes of {subset}"
            )
    return [names[k] for k in kept], [[position[label] for label in row] for row in labels]


def _class_folders(folder, given):
    root = pathlib.Path(folder)
    folders = sorted(
        p
        for p in root.iterdir()
        if p.is_dir() and not p.name.startswith(".") and p.name != "__MACOSX"
    )
    if not folders:
        raise DataError(f"{folder}: expected one folder of images per class, found no folder")
    names = given if given is not None else [p.name for p in folders]
    if len(names) != len(folders):
        raise DataError(
            f"{folder} has {len(folders)} class folders, but there are {len(names)} class names"
        )
    paths, labels, others = [], [], []
    for label, class_folder in enumerate(folders):
        for path in sorted(class_folder.rglob("*")):
            if is_clutter(path.relative_to(root).as_posix()):
                continue
            if path.suffix.lower() in IMAGE_SUFFIXES:
                paths.append(str(path))
                labels.append([label])
            elif path.is_file() and not path.name.startswith("."):
                others.append(str(path))
    images = FileImages(root.resolve().name, paths)
    notes = []
    if others:
        notes.append(
            f"not read, because they are not images: {counted(len(others), 'file')}: {some(others)}"
        )
    return _checked(Classification(images, labels, names, notes=notes))


def _checked(data):
    if not len(data.images):
        raise DataError(f"{data.images.name} has no images")
    if len(data.labels) != len(data.images):
        raise DataError(
            f"{data.images.name} has {len(data.images)} images, but {len(data.labels)} labels"
        )
    count = len(data.class_names)
    for i, row in enumerate(data.labels):
        if row and max(row) >= count:
            raise DataError(
                f"{data.images.locate(i)} has label {max(row)}, but there are only {count} "
                "class names"
            )
    return data
