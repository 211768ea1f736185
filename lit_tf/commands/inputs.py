"""What commands read: files and patterns, lines of text, names of classes."""

import glob
import os
import pathlib
import re
import sys

from lit_tf.checkpoints import registry
from lit_tf.errors import DataError, ImageError
from lit_tf.texts import vocabularies


def matching_files(patterns):
    """Returns the files that match patterns, sorted within each pattern."""
    paths = []
    for pattern in patterns:
        if os.path.exists(pattern):
            found = [pattern]  # also where its name holds a bracket
        elif "://" in pattern:
            import tensorflow as tf

            try:
                found = sorted(tf.io.gfile.glob(pattern))
            except tf.errors.OpError as e:
                raise ImageError(f"{pattern}: {e.message}") from None
        else:
            found = sorted(glob.glob(os.path.expanduser(pattern), recursive=True))
        if not found:
            raise ImageError(f"{pattern}: no file has this name or matches it as a pattern")
        paths.extend(found)
    return paths


def read_texts(path):
    """Returns the lines of a UTF-8 file; `-` is standard input."""
    from lit_tf.texts.files import read_lines

    if path == "-":
        try:
            text = sys.stdin.read().removeprefix("\ufeff")
        except UnicodeDecodeError as e:
            raise DataError(f"standard input is not UTF-8 text: {e}") from None
        texts = [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")] if text else []
    else:
        texts = read_lines(path)
    if not texts:
        raise DataError(f"{path}: no texts in this file; expected one per line")
    return texts


def texts(items):
    """Returns texts as given, with `@FILE` replaced by the lines of the file."""
    out = []
    for item in items:
        out += read_texts(item[1:]) if item.startswith("@") else [item]
    return out


def classes_or_classifier(value):
    """Returns (class names, None), or (its names, a `few_shot.Classifier`) of a NAME.npz."""
    if not value.endswith(".npz"):
        return class_names(value), None
    from lit_tf import few_shot

    classifier = few_shot.load(value)
    return list(classifier.names), classifier


def class_names(value):
    """Returns class names, given either separated by commas or as a file with one per line."""
    # A single class is useless, so one value that looks like a file's name is taken for a file.
    is_path = "," not in value and (os.sep in value or re.search(r"\.[A-Za-z]{2,5}$", value))
    if is_path or os.path.isfile(value):
        from lit_tf.texts.files import read_list

        names = read_list(value, "class name")
        if len(names) == 1 and "," in names[0]:  # of which only the first name would count
            what = f"--classes {value!r} holds one line, {names[0]!r:.60}"
            raise DataError(f"{what}; expected one class per line")
    else:
        names = [name for name in map(str.strip, value.split(",")) if name]
    if not names:
        raise DataError(f"--classes {value!r} names no class; expected A,B,C or a file")
    return names


def text_files(*arguments):
    """Returns the files that arguments name for `check_output_files`: `@FILE`, FILE, `-`."""
    return [0 if a == "-" else a.removeprefix("@") for a in arguments if a is not None]


def checkpoint_files(checkpoint, vocab=None):
    """Returns the local files that loading a checkpoint may read, for `check_output_files`."""
    from lit_tf.checkpoints.download import cache_dir

    model = registry.find_published(checkpoint) or registry.find_upstream(checkpoint)
    places = [registry.embedded_models().get(checkpoint)]
    places += [cache_dir() / f"{model.name}.npz"] if model else []
    places += [checkpoint] if "://" not in os.fspath(checkpoint) else []
    found = [vocab]
    for path in (pathlib.Path(place).expanduser() for place in places if place):
        beside = (*vocabularies.names(path.stem), f"{path.stem}.json")
        found += [path, *(path.parent / name for name in beside)]
        found += path.iterdir() if path.is_dir() else ()
    return found
