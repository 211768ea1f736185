"""Datasets of images with labels, from tfds or from one folder per class."""

import dataclasses
import os
import pathlib
import re

from lit_tf.errors import DataError, extra
from lit_tf.images.formats import IMAGE_SUFFIXES, MORE_FORMATS, OPTIONAL_SUFFIXES, is_systems
from lit_tf.texts import prompts
from lit_tf.texts.files import read_class_names
from lit_tf.zero_shot import list_class_names

from ..data.sources import leaves
from .images import PUBLISHED, Decoding, FileImages, Images, TfdsImages, check_count
from .notes import counted, some
from .recipes import Prompts, open_recipe

with extra("train"):
    import tensorflow_datasets as tfds


@dataclasses.dataclass
class Classification:
    """Images with labels."""

    images: Images
    labels: list[list[int]]
    class_names: list[str]
    prompts: Prompts | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    standard: bool = False
    folders: list[str] | None = None


def open_classification(
    argument: str,
    *,
    data_dir: str | None = None,
    download: bool = True,
    class_names: str | None = None,
    class_order: str | None = None,
    decoding: Decoding = PUBLISHED,
) -> Classification:
    """Opens a dataset of images with labels."""
    given = None
    if class_names == "imagenet":
        given = list(prompts.imagenet_names())
    elif class_names is not None:
        given = read_class_names(class_names)
    if os.path.isdir(argument):
        data = _class_folders(argument, given, class_order)
    else:
        data = _classification_of_tfds(argument, given, data_dir, download)
    data.images.decoding = decoding
    return data


def _classification_of_tfds(argument, given, data_dir, download):
    name, builder, recipe, split, standard = open_recipe(argument, data_dir, download)
    images = TfdsImages(builder, split)
    feature = _label_feature(builder, recipe.label)
    count = feature.num_classes
    own = None
    if isinstance(given, dict):
        raise DataError(
            f"{name} has no class folders: expected one class name per line, in the order of the "
            "labels, found FOLDER<tab>NAME"
        )
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


def _label_feature(builder, key):
    known = leaves(builder.info.features)
    if not isinstance(known.get(key), tfds.features.ClassLabel):
        labels = tfds.features.ClassLabel
        found = [k for k, f in known.items() if isinstance(f, labels) and "/" not in k]
        raise DataError(
            f"{builder.name} has no class label {key!r}"
            + (f", only {', '.join(found)}" if found else "; is it a dataset for retrieval?")
        )
    return known[key]


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


def _natural(name):
    """Returns the key that sorts "class2" before "class10"."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _NUMBER.split(name)]


_NUMBER = re.compile(r"([0-9]+)")


def _names_of_folders(root, folders, given, order):
    """Returns the class name of each of the folders, which are sorted alphabetically.

    Folders 0 to N - 1 are their own index into a list of names. Lists exist in natural and in
    alphabetical order: where these differ, the caller says which it is.
    """
    if isinstance(given, dict):
        if given.keys() != set(folders):
            differing = sorted(given.keys() ^ set(folders))
            raise DataError(
                f"{root}: the class names are given by folder, but these are only in one of the "
                f"two: {some(differing)}"
            )
        return [given[name] for name in folders]
    if given is None or sorted(given) == folders:  # the list holds the folders' own names
        return folders
    if len(given) != len(folders):
        there_are = f"{len(folders)} class folders, but there are {len(given)} class names"
        raise DataError(f"{root} has {there_are}")
    numbers = [int(name) for name in folders if _NUMBER.fullmatch(name)]
    natural = sorted(folders, key=_natural)
    counted_up = sorted(numbers) == list(range(len(folders)))
    if order is None and natural != folders and not counted_up:
        raise DataError(
            f"{root}: the class names are in an unknown order: folders begin with "
            f"{some(folders)} alphabetically, but with {some(natural)} in natural order. Give "
            "lines FOLDER<tab>NAME, or say --class-order alphabetical or natural"
        )
    in_order = folders if order == "alphabetical" else natural
    name_of = dict(zip(in_order, given, strict=True))
    return [name_of[name] for name in folders]


def _class_folders(folder, given, order):
    root = pathlib.Path(folder)
    folders = sorted(p for p in root.iterdir() if p.is_dir())
    folders = [p for p in folders if not (p.name.startswith(".") or is_systems(p.name))]
    if not folders:
        raise DataError(f"{folder}: expected one folder of images per class, found no folder")
    own = [p.name for p in folders]
    names = _names_of_folders(folder, own, given, order)
    paths, labels, others = [], [], []
    for label, class_folder in enumerate(folders):
        for path in sorted(class_folder.rglob("*")):
            parts = path.relative_to(class_folder).parts
            if any(part.startswith(".") or is_systems(part) for part in parts):
                continue
            if path.suffix.lower() in IMAGE_SUFFIXES:
                paths.append(str(path))
                labels.append([label])
            elif path.is_file():
                others.append(str(path))
    images = FileImages(root.resolve().name, paths)
    notes = []
    if others:
        optional = any(other.lower().endswith(tuple(OPTIONAL_SUFFIXES)) for other in others)
        hint = f" that this installation reads ({MORE_FORMATS})" if optional else ""
        notes.append(
            f"not read, because they are not images{hint}: {counted(len(others), 'file')}: "
            + some(others)
        )
    if names == own:
        own = None
    else:
        pairs = [f"{name} is {cls}" for name, cls in zip(own, names, strict=True)]
        notes.append(f"class names by folder: {some(pairs)}")
    return _checked(Classification(images, labels, names, notes=notes, folders=own))


def _checked(data):
    data.class_names = list_class_names(data.class_names)
    check_count(data.images, len(data.labels), "labels")
    return data
