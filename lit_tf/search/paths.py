"""Paths of pictures: which pictures a folder holds, and how a path is stored.

A path is stored as text. File names on Unix are bytes and need not be UTF-8. A byte that is not
UTF-8 is stored as NUL and two hexadecimal digits. No file name can contain NUL, so the path can be
restored exactly. All other paths are stored unchanged.
"""

import dataclasses
import glob
import os
import re
from collections.abc import Iterable, Iterator

from lit_tf.errors import DataError
from lit_tf.files import printable
from lit_tf.images.formats import IMAGE_SUFFIXES


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


@dataclasses.dataclass
class Walk:
    """A walk over folders, and what it found besides pictures.

    Attributes:
        roots: the absolute paths of the folders that were asked for.
        others: how many files have an ending that is not a picture's.
        problems: (path, reason) of folders that were not entered.
    """

    roots: list[str] = dataclasses.field(default_factory=list)
    others: int = 0
    problems: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    _entered: set = dataclasses.field(default_factory=set)

    def pictures(self, sources: Iterable[str]) -> Iterator[str]:
        """Yields the absolute paths of the pictures in folders, and of files, each once.

        Files and folders whose name begins with a dot are left out. A link to a folder is followed
        after all real folders of its source. Each folder is entered once, so loops end. A source
        that names a file, itself or as a pattern, may name a file of any ending.

        Args:
            sources: folders, files, and patterns of either.

        Raises:
            DataError: a source does not exist.
        """
        seen = set()
        for path in _existing(sources):
            if os.path.isdir(path):
                self.roots.append(path)
                found = self._folder(path)
            elif os.path.isfile(path):
                found = [path]
            else:  # reading a pipe or a device might never end
                self.problems.append((path, "neither a file nor a folder"))
                continue
            for file in found:
                if file not in seen:
                    seen.add(file)
                    yield file

    def _folder(self, root):
        """Yields the pictures below a folder; links to folders come last."""
        waiting, links = [root], []
        while waiting or links:
            folder = waiting.pop() if waiting else links.pop()
            try:
                status = os.stat(folder)
                identity = status.st_dev, status.st_ino
                if identity in self._entered:
                    if folder != root:
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
                if entry.name.startswith("."):
                    continue
                if _is(entry.is_dir):
                    (links if entry.is_symlink() else inner).append(entry.path)
                elif not entry.name.lower().endswith(IMAGE_SUFFIXES):
                    self.others += 1
                elif _is(entry.is_file):
                    yield entry.path
                else:
                    self.problems.append((entry.path, "a broken link, or not a file"))
            waiting.extend(reversed(inner))


def _is(question):
    try:
        return question()
    except OSError:  # such as a link that points to itself
        return False


def _existing(sources):
    """Yields the absolute paths that sources name; those of a pattern are sorted."""
    for source in sources:
        source = os.path.expanduser(os.fspath(source))
        found = [source] if os.path.lexists(source) else sorted(glob.glob(source, recursive=True))
        if not found:
            raise DataError(
                f"{printable(source)}: no file or folder has this name or matches it as a pattern"
            )
        yield from map(os.path.abspath, found)
