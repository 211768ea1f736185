"""How to evaluate tfds datasets, if their features do not determine it."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from lit_tf.errors import DataError, extra

from ..data.tfds_builders import open_tfds

with extra("train"):
    import tensorflow_datasets as tfds


@dataclasses.dataclass(frozen=True)
class Prompts:
    """A dataset's own prompts, which replace names in templates."""

    texts: list[str]
    labels: list[int]
    class_names: list[str]
    groups: dict[str, list[int]]  # {name: classes} whose accuracy is also measured alone


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to evaluate a tfds dataset, if its features do not determine it."""

    split: str = "test"
    label: str = "label"
    imagenet_names: bool = False
    subset: str | None = None
    prompts: Callable | None = None


RECIPES = {
    "cifar10": Recipe(),
    "cifar100": Recipe(),
    "imagenet2012": Recipe("validation", imagenet_names=True),
    "imagenet2012_real": Recipe("validation", "real_label", imagenet_names=True),
    "imagenet_a": Recipe(imagenet_names=True, subset="imagenet_a"),
    "imagenet_r": Recipe(imagenet_names=True, subset="imagenet_r"),
    "imagenet_sketch": Recipe(imagenet_names=True),
    "imagenet_v2": Recipe(imagenet_names=True),
    "oxford_iiit_pet": Recipe(),
    # tfds has all 31,500 images in one split; the model card does not say which it was computed on.
    "resisc45": Recipe("train"),
    "coco_captions": Recipe(),
}


class Opened(NamedTuple):
    """A tfds dataset, opened to be evaluated."""

    name: str
    builder: tfds.core.DatasetBuilder
    recipe: Recipe
    split: str
    standard: bool


def open_recipe(argument: str, data_dir: str | None = None, download: bool = True) -> Opened:
    """Opens a tfds dataset and finds out how to evaluate it."""
    name, _, split = argument.partition(":")
    builder = open_tfds(name, data_dir, split or "test", download)
    # The builder of a dataset of this project has its recipe, `RECIPE`.
    recipe = RECIPES.get(name.split("/")[0]) or getattr(builder, "RECIPE", None)
    known = recipe is not None and "/" not in name
    recipe = recipe or Recipe("")
    standard = known and split in ("", recipe.split)
    return Opened(name, builder, recipe, split or recipe.split or _usual_split(builder), standard)


def _usual_split(builder):
    for split in ("test", "validation", "val"):
        if split in builder.info.splits:
            return split
    raise DataError(
        f"{builder.name} has no test or validation split, only {', '.join(builder.info.splits)}: "
        f"say which, as {builder.name}:SPLIT"
    )
