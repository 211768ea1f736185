"""Paths of pictures: which pictures a folder holds, and how a path is stored.

A path is stored as text. File names on Unix are bytes and need not be UTF-8. A byte that is not
UTF-8 is stored as NUL and two hexadecimal digits. No file name can contain NUL, so the path can be
restored exactly. All other paths are stored unchanged.
"""

import collections
import dataclasses
import fnmatch
import functools
import glob
import os
import re
from collections.abc import Iterable, Iterator

from lit_tf.errors import DataError
from lit_tf.files import printable
from lit_tf.images.formats import IMAGE_SUFFIXES, is_systems


def listed(value) -> list:
    """Returns one string or path, or several, as a list."""
    return [value] if isinstance(value, str | os.PathLike) else list(value)


def to_stored(path: str) -> str:
    """Returns the text that the table stores for a path."""
    return "".join(
        f"\0{ord(c) - 0xDC00:02x}" if 0xDC80 <= ord(c) <= 0xDCFF else c
        for c in os.fsencode(path).decode("utf-8", "surrogateescape")
    )


def from_stored(text: str) -> str:
    """Returns the path that `to_stored` was given."""
    data = re.sub("\0([0-9a-f]{2})", lambda m: chr(0xDC00 + int(m[1], 16)), text)
    return os.fsdecode(data.encode("utf-8", "surrogateescape"))


@dataclasses.dataclass(frozen=True)
class Source:
    """What a user names: a folder, a file, or a pattern of either, whether it exists or not."""

    name: str  # as the user wrote it
    root: str  # the absolute path, of a pattern up to its first wildcard
    pattern: tuple[str, ...] = ()  # the parts of the pattern below the root

    @classmethod
    def of(cls, name: str | os.PathLike) -> "Source":
        """Returns what a name stands for; what exists is not taken for a pattern."""
        name = os.fspath(name)
        path = os.path.abspath(os.path.expanduser(name))
        if os.path.lexists(path) or not glob.has_magic(path):
            return cls(name, path)
        parts = path.split(os.sep)
        first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        return cls(name, os.sep.join(parts[:first]) or os.sep, tuple(parts[first:]))

    def existing(self) -> list[str]:
        """Returns the paths that exist of this source, sorted."""
        pattern = os.path.join(glob.escape(self.root), *self.pattern)
        return sorted(glob.glob(pattern, recursive=True))

    def covers(self, path: str) -> bool:
        """Whether a path is the source, in it, or would be if it existed."""
        whole = os.path.join(self.root, *self.pattern)  # a folder that is gone may have brackets
        if path == whole or path.startswith(os.path.join(whole, "")):
            return True
        inside = path.startswith(os.path.join(self.root, ""))
        return inside and _fits(os.path.relpath(path, self.root).split(os.sep), self.pattern)


def _fits(parts, pattern):
    """Whether the parts of a path, or of a folder that holds it, fit those of a pattern."""
    if not pattern or (pattern[0] != "**" and not parts):
        return not pattern
    if pattern[0] == "**":
        return any(_fits(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
    return fnmatch.fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


class Walk:
    """A walk over folders, except what fits patterns of names, or with a slash of whole paths."""

    def __init__(self, exclude: Iterable[str] = ()):
        # By ending, the number of files that are not pictures by it.
        self.passed_over: collections.Counter[str] = collections.Counter()
        self.problems: list[tuple[str, str]] = []  # (path, reason) of folders that were not entered
        self._entered: set[tuple[int, int]] = set()
        self._exclude = [_whole(pattern.rstrip(os.sep)) for pattern in exclude]

    def excludes(self, path: str, root: str) -> bool:
        """Whether a path is passed over where it, or a folder of it below `root`, is excluded."""
        if self._is_excluded(path):
            return True
        while len(path := os.path.dirname(path)) > len(root):
            if self._is_excluded(path) or is_systems(os.path.basename(path)):
                return True
        return False

    def _is_excluded(self, path):
        name = os.path.basename(path)
        return any(fnmatch.fnmatchcase(path if os.sep in p else name, p) for p in self._exclude)

    def pictures(
        self, sources: Iterable[str | os.PathLike | Source], known: Iterable[str] = ()
    ) -> Iterator[str]:
        """Yields the absolute paths of pictures in folders, and of files, each once.

        Files and folders whose name begins with a dot are left out, and the system's folders. A
        link to a folder is followed after all real folders of its source. Each folder is entered
        once, so loops end. A source that names a file, itself or as a pattern, may name a file of
        any ending. One that does not exist is refused, unless it is about `known` paths.
        """
        seen, real = set(), functools.cache(os.path.realpath)
        for source in sources:
            source = source if isinstance(source, Source) else Source.of(source)
            paths = source.existing()
            if not paths and not any(map(source.covers, known)):
                what = "no file or folder has this name or matches it as a pattern"
                raise DataError(f"{printable(source.name)}: {what}")
            for path in paths:
                for file in () if self.excludes(path, source.root) else self._named(path):
                    folder, name = os.path.split(file)
                    if (key := (real(folder), name)) not in seen:
                        seen.add(key)
                        yield file

    def _named(self, path):
        """Returns the pictures that a path of a source stands for."""
        if os.path.isdir(path):
            return self._folder(path)
        if not (is_file := os.path.isfile(path)):  # reading a pipe or a device might never end
            self.problems.append((path, "neither a file nor a folder"))
        return [path] * is_file

    def _folder(self, root):
        """Yields the pictures below a folder; links to folders come last."""
        waiting, links = [root], []
        while waiting or links:
            is_link = not waiting
            folder = links.pop() if is_link else waiting.pop()
            try:
                status = os.stat(folder)
                identity = status.st_dev, status.st_ino
                if identity in self._entered:
                    if is_link:
                        self.problems.append((folder, "a link to a folder that was entered before"))
                    continue
                with os.scandir(folder) as entries:
                    entries = sorted(entries, key=lambda entry: entry.name)
            except OSError as e:
                self.problems.append((folder, e.strerror or str(e)))
                continue
            self._entered.add(identity)
            inner = []
            for entry in entries:
                if entry.name.startswith(".") or self._is_excluded(entry.path):
                    continue
                if _is(entry.is_dir):
                    if not is_systems(entry.name):
                        (links if entry.is_symlink() else inner).append(entry.path)
                elif not entry.name.lower().endswith(IMAGE_SUFFIXES):
                    self.passed_over[os.path.splitext(entry.name)[1].lower()] += 1
                elif _is(entry.is_file):
                    yield entry.path
                else:
                    self.problems.append((entry.path, "a broken link, or not a file"))
            waiting.extend(reversed(inner))


def _whole(pattern):
    """Returns a pattern of names as it is, and of paths as an absolute one, or one of any start."""
    if os.sep not in pattern or pattern.startswith("*"):
        return pattern
    return os.path.abspath(os.path.expanduser(pattern))


def _is(question):
    try:
        return question()
    except OSError:  # such as a link that points to itself
        return False
