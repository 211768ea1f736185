"""What is evaluated on: images with labels, images with captions, wherever they come from.

Every dataset is a numbered list of encoded images, and its labels or captions in the same order.
Decoding is left to whoever embeds; a dataset only says which bytes stand at which number, so that
any share of it can be read by any host, and so that what cannot be decoded has a name.
"""

import csv
import dataclasses
import os
import pathlib
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable

import absl.logging
import tensorflow as tf

from lit_tf import prompts, zero_shot
from lit_tf.errors import DataError, extra, nearest

with extra("train"):
    import tensorflow_datasets as tfds

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


# --- Images ---------------------------------------------------------------------------------------


class Images:
    """A numbered list of encoded images.

    Attributes:
        name: what the dataset is called in tables.
        split: which part of it, or "".
    """

    name: str
    split: str

    def __len__(self) -> int:
        raise NotImplementedError

    def identity(self) -> tuple:
        """Returns what is equal for the same images in the same order, and for no others."""
        raise NotImplementedError

    def encoded(self, start: int, stop: int) -> tf.data.Dataset:
        """Returns the images number start to stop - 1, in order, as encoded bytes (scalars)."""
        raise NotImplementedError

    def describe(self, i: int) -> str:
        """Returns how a person finds image number i."""
        return f"number {i} of {self.name}:{self.split}"


class FileImages(Images):
    """Images in files.

    Args:
        name: what the dataset is called in tables.
        paths: one file per image; files that are missing count as unreadable images.
    """

    split = ""

    def __init__(self, name: str, paths: list[str]):
        self.name, self._paths = name, paths

    def __len__(self):
        return len(self._paths)

    def identity(self):
        """Returns the files' paths; see `Images.identity`."""
        return ("files", *self._paths)

    def encoded(self, start, stop):
        """Returns the files' contents; see `Images.encoded`."""
        files = tf.data.Dataset.from_tensor_slices(tf.constant(self._paths[start:stop], tf.string))
        return files.map(tf.io.read_file, num_parallel_calls=tf.data.AUTOTUNE)

    def describe(self, i):
        """Returns the file's path."""
        return self._paths[i]


class TfdsImages(Images):
    """The images of one split of a prepared tfds dataset.

    Args:
        builder: a `tfds.core.DatasetBuilder` whose files are there.
        split: such as "test" or "validation[:1000]".

    Raises:
        DataError: no such split, or no image feature.
    """

    def __init__(self, builder, split: str):
        self.builder, self.split = builder, split
        self.name = builder.name
        if builder.builder_config and len(builder.BUILDER_CONFIGS) > 1:
            self.name += f"/{builder.builder_config.name}"
        try:
            parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(builder.info.splits)
        except (ValueError, KeyError, AssertionError) as e:
            raise DataError(
                f"{self.name} has no split {split!r}; it has {', '.join(builder.info.splits)}, "
                f"and parts of them such as {next(iter(builder.info.splits), 'test')}[:1000]"
            ) from e
        if len(parts) != 1:
            raise DataError(f"{self.name}:{split}: expected one split or a part of one")
        part = parts[0]
        total = builder.info.splits[part.splitname].num_examples
        self._split_name, self._from = part.splitname, part.from_ or 0
        self._to = total if part.to is None else part.to
        features = builder.info.features
        found = [k for k, f in features.items() if isinstance(f, tfds.features.Image)]
        if not found:
            raise DataError(f"{self.name} has no image feature, only {', '.join(features)}")
        self.image_key = "image" if "image" in found else found[0]

    def __len__(self):
        return self._to - self._from

    def identity(self):
        """Returns where the split is and which part of it; see `Images.identity`."""
        folder = str(self.builder.data_dir)
        return ("tfds", folder, self._split_name, self._from, self._to, self.image_key)

    def _read(self, decoders, start=0, stop=None):
        stop = len(self) if stop is None else stop
        return self.builder.as_dataset(
            split=tfds.core.ReadInstruction(
                self._split_name, from_=self._from + start, to=self._from + stop, unit="abs"
            ),
            decoders=decoders,
            shuffle_files=False,
            # File by file: then a part of a split is the same numbers of the whole.
            read_config=tfds.ReadConfig(
                interleave_cycle_length=1, try_autocache=False, skip_prefetch=True
            ),
        )

    def encoded(self, start, stop):
        """Returns the images as they are stored; see `Images.encoded`."""
        if start >= stop:  # a ReadInstruction of nothing is refused by tfds
            return tf.data.Dataset.from_tensor_slices(tf.zeros([0], tf.string))
        only = tfds.decode.PartialDecoding(
            {self.image_key: True}, decoders={self.image_key: tfds.decode.SkipDecoding()}
        )
        return self._read(only, start, stop).map(lambda example: example[self.image_key])

    def columns(self, features: dict) -> list[dict]:
        """Returns other features of every example, read without decoding any image.

        Args:
            features: as for `tfds.decode.PartialDecoding`, such as {"label": True}.

        Returns:
            One dict of Python numbers, bytes and lists per example.
        """
        rows = []
        dataset = self._read(tfds.decode.PartialDecoding(features)).ragged_batch(1024)
        for batch in dataset:
            flat = {
                path: value.to_list() if hasattr(value, "to_list") else value.numpy().tolist()
                for path, value in _leaves(batch)
            }
            rows += [
                {path: values[i] for path, values in flat.items()}
                for i in range(len(next(iter(flat.values()))))
            ]
        return rows

    def describe(self, i):
        """Returns the image's file name, if it is known, and its number."""
        features = self.builder.info.features
        key = next(
            (k for k in ("file_name", "filename", "image/filename", "id") if k in features), None
        )
        place = f"number {i} of {self.name}:{self.split}"
        if key is None:
            return place
        for example in self._read(tfds.decode.PartialDecoding({key: True}), i, i + 1):
            value = example[key].numpy()
            name = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
            return f"{name} ({place})"
        return place


def _leaves(tree, path=()):
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, (*path, key))
    else:
        yield path, tree


# --- tfds -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Prompts:
    """The prompts of classes that are more than names to put into templates.

    Attributes:
        texts: the prompts, used as they are written.
        labels: the class of each.
        class_names: what the classes are called in tables.
        groups: {name: classes} whose accuracy is told apart (always among all classes).
    """

    texts: list[str]
    labels: list[int]
    class_names: list[str]
    groups: dict[str, list[int]]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a tfds dataset is evaluated where its features alone do not say so.

    Attributes:
        split: the split that published figures are of.
        label: the feature that holds the label, or several of them.
        imagenet_names: whether the labels are ImageNet's, to be called by CLIP's display names.
        subset: the name of the subset of ImageNet's classes that may be predicted.
        by_hand: (the file or folder, where it is from) that has to be downloaded by hand.
        tfds_name: its name in tfds, where that is another.
        prompts: a function from the split to the `Prompts` of a dataset that brings its own.
    """

    split: str = "test"
    label: str = "label"
    imagenet_names: bool = False
    subset: str | None = None
    by_hand: tuple[str, str] | None = None
    tfds_name: str | None = None
    prompts: Callable | None = None


_IMAGENET_BY_HAND = ("ILSVRC2012_img_val.tar", "https://image-net.org/download-images")


def _digits_prompts(split):
    """The 100 ordered pairs of digits, in phrasings that no training caption uses."""
    from ..digits import captions

    phrasings = captions.held_out("pair", "validation" if "validation" in split else "test")
    pairs = [(left, right) for left in range(10) for right in range(10)]
    return Prompts(
        texts=[p.format(**captions.fields(*pair)) for pair in pairs for p in phrasings],
        labels=[i for i in range(100) for _ in phrasings],
        class_names=[f"{left}{right}" for left, right in pairs],
        groups={
            "seen": [10 * left + right for left, right in captions.SEEN_PAIRS],
            "unseen": [10 * left + right for left, right in captions.UNSEEN_PAIRS],
        },
    )


RECIPES = {
    "cifar10": Recipe(),
    "cifar100": Recipe(),
    "digits": Recipe(tfds_name="digit_pairs", prompts=_digits_prompts),
    "imagenet2012": Recipe("validation", imagenet_names=True, by_hand=_IMAGENET_BY_HAND),
    "imagenet2012_real": Recipe(
        "validation", "real_label", imagenet_names=True, by_hand=_IMAGENET_BY_HAND
    ),
    "imagenet_a": Recipe(imagenet_names=True, subset="imagenet_a"),
    "imagenet_r": Recipe(imagenet_names=True, subset="imagenet_r"),
    "imagenet_sketch": Recipe(imagenet_names=True),
    "imagenet_v2": Recipe(imagenet_names=True),
    "oxford_iiit_pet": Recipe(),
    # tfds has all 31,500 images in one split; the model card does not say which it was computed on.
    "resisc45": Recipe(
        "train",
        by_hand=(
            "NWPU-RESISC45 (the unpacked folder)",
            "https://1drv.ms/u/s!AmgKYzARBl5ca3HNaHIlzp_IXjs",
        ),
    ),
    "coco_captions": Recipe(),
    "digit_pairs": Recipe(prompts=_digits_prompts),
}


def open_tfds(name: str, data_dir: str | None = None):
    """Returns a tfds builder whose files are there, preparing them if need be.

    Args:
        name: as for `tfds.builder`.
        data_dir: tfds's folder; by default its own (`TFDS_DATA_DIR` or ~/tensorflow_datasets).

    Raises:
        DataError: no such dataset, files that have to be downloaded by hand, or no network.
    """
    if name.split("/")[0] in ("digit_pairs",):
        from .. import datasets as _registers_digit_pairs  # noqa: F401
    # tfds warns about every dataset that is not prepared yet; what matters is raised below.
    absl.logging.set_verbosity(absl.logging.ERROR)
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as e:
        raise DataError(
            f"no dataset {name!r}: neither a folder, nor a file, nor known to tfds"
            f"{nearest(name, tfds.list_builders())}"
        ) from e
    except (ValueError, RuntimeError) as e:  # an unknown config or version
        raise DataError(f"tfds cannot open {name!r}: {str(e).strip().splitlines()[0]}") from e
    if builder.is_prepared():
        return builder
    # Where `data_dir` is after tfds's defaults. (pathlib would make gs:/ of gs://.)
    root = os.fspath(builder._data_dir_root)
    manual = os.path.join(root, "downloads", "manual")
    recipe = RECIPES.get(name.split("/")[0])
    if recipe and recipe.by_hand:
        what, source = recipe.by_hand
        if not tf.io.gfile.exists(os.path.join(manual, what.split(" ")[0])):
            raise DataError(
                f"{name} is not prepared below {root}, and has to be downloaded by hand: put "
                f"{what}, from {source}, into {manual} and run again; or point --data-dir to a "
                f"folder that holds {name} prepared by tfds"
            )
    reason = _unreachable(builder)
    if not reason:
        try:
            builder.download_and_prepare()
            return builder
        except Exception as e:  # whatever a builder raises: no space, a changed checksum, ...
            reason = next((line for line in str(e).splitlines() if line.strip()), repr(e)).strip()
    instructions = " ".join((builder.MANUAL_DOWNLOAD_INSTRUCTIONS or "").split())
    raise DataError(
        f"{name} is not prepared below {root} and could not be: {reason}. Prepare it where there "
        f"is a network (`tfds build {name} --data_dir DIR`), copy DIR/{builder.name} and point "
        "--data-dir to its parent."
        + (f" By hand, into {manual}: {instructions}" if instructions else "")
    )


def _unreachable(builder):
    """Returns why nothing can be downloaded, or None. tfds itself retries for minutes first."""
    hosts = {urllib.parse.urlsplit(url).hostname for url in builder.url_infos or ()}
    if not hosts or urllib.request.getproxies():
        return None
    for host in hosts:
        try:
            socket.create_connection((host, 443), timeout=5).close()
            return None
        except OSError as e:
            reason = f"{host} cannot be reached ({e})"
    return reason


def _split_argument(argument):
    """Returns (name, split or None) of NAME[:SPLIT]."""
    name, _, split = argument.partition(":")
    return name, split or None


def _recipe(name, builder, split):
    recipe = RECIPES.get(name) or RECIPES.get(name.split("/")[0]) or Recipe("")
    split = split or recipe.split
    if not split:  # a dataset that nothing is known about
        split = next((s for s in ("test", "validation", "val") if s in builder.info.splits), None)
        if split is None:
            raise DataError(
                f"{name} has no test or validation split, only {', '.join(builder.info.splits)}: "
                f"say which, as {name}:SPLIT"
            )
    return recipe, split


# --- Labels ---------------------------------------------------------------------------------------


@dataclasses.dataclass
class Classification:
    """Images with labels.

    Attributes:
        images: the images.
        labels: per image its right classes, in [0, len(class_names)); none where nobody said.
        class_names: what the classes are called in tables.
        prompts: the dataset's own prompts, or None where its names are put into templates.
        notes: what was left out, for people.
        standard: whether this is what a published figure would be of.
    """

    images: Images
    labels: list[list[int]]
    class_names: list[str]
    prompts: Prompts | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    standard: bool = False


def open_classification(
    argument: str, *, data_dir: str | None = None, class_names: str | None = None
) -> Classification:
    """Opens a dataset of images with labels.

    Args:
        argument: NAME[:SPLIT] of tfds, or the path of a folder that holds one folder per class.
        data_dir: tfds's folder.
        class_names: a file with one name per line, in the order of the labels, or "imagenet"; by
            default the names in the dataset (in a folder, the sorted names of its folders).

    Raises:
        DataError: no such data, or labels and names that do not fit each other.
    """
    given = _given_names(class_names)
    if os.path.isdir(argument):
        return _class_folders(argument, given)
    name, split = _split_argument(argument)
    known = RECIPES.get(name)
    builder = open_tfds((known and known.tfds_name) or name, data_dir)
    recipe, chosen = _recipe(name, builder, split)
    images = TfdsImages(builder, chosen)
    feature, count = _label_feature(builder, recipe.label)
    own = None
    if given is not None:
        names = given
    elif recipe.prompts:
        own = recipe.prompts(chosen)
        names = own.class_names
    elif recipe.imagenet_names:
        names = list(prompts.imagenet_names())
    else:
        names = feature.names
        if names == [str(i) for i in range(count)]:  # what tfds returns where nobody named them
            raise DataError(
                f"{name} does not name its {count} classes: give a file with their names"
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
    standard = split in (None, recipe.split) and given is None and name in RECIPES
    return _checked(Classification(images, labels, list(names), own, standard=standard))


def _given_names(class_names):
    if class_names is None:
        return None
    if class_names == "imagenet":
        return list(prompts.imagenet_names())
    return [line for line in zero_shot.read_lines(class_names) if line.strip()]


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
                f"{images.describe(i)} has label {outside[0]} ({names[outside[0]]}), which is not "
                f"among the {len(kept)} classes of {subset}"
            )
    return [names[k] for k in kept], [[position[label] for label in row] for row in labels]


def _class_folders(folder, given):
    root = pathlib.Path(folder)
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
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
            if path.suffix.lower() in IMAGE_SUFFIXES:
                paths.append(str(path))
                labels.append([label])
            elif path.is_file() and not path.name.startswith("."):
                others.append(str(path))
    images = FileImages(root.resolve().name, paths)
    notes = []
    if others:
        notes.append(f"not read, because no images: {counted(len(others), 'file')}: {some(others)}")
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
                f"{data.images.describe(i)} has label {max(row)}, but there are only {count} "
                "class names"
            )
    return data


# --- Captions -------------------------------------------------------------------------------------


@dataclasses.dataclass
class Captioned:
    """Images with captions.

    Attributes:
        images: the images.
        captions: per image its captions.
        notes: what was left out, for people.
        standard: whether this is what a published figure would be of.
    """

    images: Images
    captions: list[list[str]]
    notes: list[str] = dataclasses.field(default_factory=list)
    standard: bool = False


def open_captioned(argument: str, *, data_dir: str | None = None) -> Captioned:
    """Opens a dataset of images with captions.

    Args:
        argument: NAME[:SPLIT] of tfds, with a feature `captions/text` or `caption`; or the path of
            a CSV file with the columns `image` (a path, relative to the file's folder) and
            `caption`. Several rows with the same image are captions of one image.
        data_dir: tfds's folder.

    Raises:
        DataError: no such data, or no captions in it.
    """
    if argument.lower().endswith(".csv") or os.path.isfile(argument):
        return _caption_file(argument)
    name, split = _split_argument(argument)
    known = RECIPES.get(name)
    builder = open_tfds((known and known.tfds_name) or name, data_dir)
    recipe, chosen = _recipe(name, builder, split)
    images = TfdsImages(builder, chosen)
    wanted = _caption_feature(builder)
    path = _leaf(wanted)
    captions = []
    for row in images.columns(wanted):
        texts = row[path] if isinstance(row[path], list) else [row[path]]
        captions.append([t.decode("utf-8", "replace") for t in texts])
    images.name = name
    standard = split in (None, recipe.split) and name in RECIPES
    return _with_captions(Captioned(images, captions, standard=standard))


def _caption_feature(builder):
    features = builder.info.features
    for first in ("captions", "caption", "text"):
        if first not in features:
            continue
        inner = features[first]
        inner = getattr(inner, "feature", inner)
        if hasattr(inner, "keys"):
            if "text" in inner.keys():
                return {first: {"text": True}}
            continue
        return {first: True}
    raise DataError(
        f"{builder.name} has no captions (captions/text, caption or text), only "
        f"{', '.join(features)}"
    )


def _leaf(features):
    path = []
    while isinstance(features, dict):
        key = next(iter(features))
        path.append(key)
        features = features[key]
    return tuple(path)


def _caption_file(path):
    folder = pathlib.Path(path).parent
    captions = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = {"image", "caption"} - set(reader.fieldnames or ())
            if missing:
                raise DataError(
                    f"{path}: expected a first line with the columns image and caption, found "
                    f"{', '.join(reader.fieldnames or ['nothing'])}"
                )
            for row in reader:
                if not row["image"] or row["caption"] is None:
                    raise DataError(f"{path}:{reader.line_num}: a row without image or caption")
                captions.setdefault(str(folder / row["image"]), []).append(row["caption"])
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise DataError(f"{path}: cannot be read as a CSV file in UTF-8: {e}") from e
    images = FileImages(pathlib.Path(path).stem, list(captions))
    return _with_captions(Captioned(images, list(captions.values())))


def _with_captions(data):
    """Leaves out captions without a text, and says how many there were."""
    if not len(data.images):
        raise DataError(f"{data.images.name} has no images")
    if len(data.captions) != len(data.images):
        raise DataError(
            f"{data.images.name} has {len(data.images)} images, but captions of "
            f"{len(data.captions)}"
        )
    empty = [i for i, texts in enumerate(data.captions) for t in texts if not t.strip()]
    if empty:
        data.captions = [[t for t in texts if t.strip()] for texts in data.captions]
        data.notes.append(
            f"left out: {counted(len(empty), 'empty caption')}, of "
            + some([data.images.describe(i) for i in sorted(set(empty))[:3]], len(set(empty)))
        )
    if not any(data.captions):
        raise DataError(f"{data.images.name}:{data.images.split} has no captions")
    return data


def counted(number: int, word: str) -> str:
    """Returns "1 image" or "1,234 images"."""
    return f"{number:,} {word}" + ("s" if number != 1 else "")


def some(names: list[str], count: int | None = None) -> str:
    """Returns the first few of many names, and how many more there are."""
    count = len(names) if count is None else count
    return ", ".join(names[:3]) + (f" and {count - 3} more" if count > 3 else "")
