"""What has changed between an index of pictures and the folders that it is about."""

import collections
import dataclasses
import functools
import os
from collections.abc import Iterable

from lit_tf.errors import extra
from lit_tf.files import sha256
from lit_tf.search.paths import Source, Walk, from_stored, to_stored
from lit_tf.search.store import Store

with extra("search"):
    import pyarrow as pa


@dataclasses.dataclass
class Changes:
    """What there is to do."""

    found: int  # how many pictures the sources hold
    todo: list[str]  # paths of pictures to embed
    changed: set[str]  # those that the index knows, with another size or time of modification
    moved: dict[str, str]  # {path: the path under which the index knows this picture}
    gone: list[str]  # paths that the index knows and the sources no longer hold
    doubtful: dict[str, list[str]]  # likewise, {place: paths}, where nothing is left in the place


def compare(store: Store | None, sources: Iterable, walk: Walk) -> Changes:
    """Walks over the sources and compares what is there with what the index knows."""
    known = {} if store is None else _known(store)
    sources = [Source.of(source) for source in sources]
    seen = {}
    for path in walk.pictures(sources, known):
        try:
            seen[path] = state(os.stat(path))
        except FileNotFoundError:  # deleted since the walk saw it
            continue
        except OSError as e:
            walk.problems.append((path, str(e.strerror)))
    todo = [p for p, found in seen.items() if known.get(p) != found or not os.access(p, os.R_OK)]
    unseen = {path: found for path, found in known.items() if path not in seen}
    moved = _moved(store, {path: seen[path] for path in todo if path not in known}, unseen)
    for old in moved.values():
        del unseen[old]
    gone, doubtful = _gone(seen, unseen, sources, walk)
    todo = [path for path in todo if path not in moved]
    return Changes(len(seen), todo, set(known).intersection(todo), moved, gone, doubtful)


def state(status: os.stat_result) -> tuple[int, int]:
    """Returns a file's size and time of modification as the table holds it, up to 2262."""
    return status.st_size, min(status.st_mtime_ns, 2**63 - 1)


def _known(store):
    """Returns {path: (size, time of modification)} of the rows."""
    table = store.columns(["path", "size", "mtime"])
    times = table["mtime"].cast(pa.int64()).to_pylist()
    states = zip(table["size"].to_pylist(), times, strict=True)
    return dict(zip(map(from_stored, table["path"].to_pylist()), states, strict=True))


def _moved(store, new, unseen):
    """Returns {new path: old one} of pictures that moved, or now have another name by a link."""
    by_state = collections.defaultdict(list)
    for path, found in unseen.items():
        by_state[found].append(path)
    candidates = {path: by_state[found] for path, found in new.items() if found in by_state}
    if not candidates:
        return {}
    table = store.columns(["path", "sha256"])
    digests = dict(zip(table["path"].to_pylist(), table["sha256"].to_pylist(), strict=True))
    moved, taken = {}, set()
    for path, olds in candidates.items():
        fits = (p for p in olds if p not in taken and _is_moved(path, p, digests[to_stored(p)]))
        if (old := next(fits, None)) is not None:
            taken.add(old)
            moved[path] = old
    return moved


def _is_moved(path, old, digest):
    if not _is_gone(old):
        return os.path.realpath(path) == os.path.realpath(old)
    try:
        return sha256(path) == digest
    except OSError:
        return False


def _gone(seen, unseen, sources, walk):
    """Returns the paths that are gone, and {place: paths} of those where nothing is left."""
    by_root = collections.defaultdict(list)
    for source in sources:
        by_root[source.root].append(source)
    alive = {source for path in seen for source in _covering(path, by_root)}
    emptied = functools.cache(_emptied)
    gone, doubtful = [], collections.defaultdict(list)
    for path in unseen:
        covering = list(_covering(path, by_root))
        if not covering:
            continue
        if all(walk.excludes(path, source.root) for source in covering):
            gone.append(path)
        elif _is_gone(path):
            place, source = emptied(os.path.dirname(path)), covering[0]
            # A file that was named alone has nothing else that could be left of its source.
            alone = source.root == path and os.path.isdir(os.path.dirname(path))
            inner = {other for other in covering if other.root == source.root}
            if place is None and not alone and alive.isdisjoint(inner):
                place = source.name
            (gone if place is None else doubtful[place]).append(path)
    return gone, dict(doubtful)


def _covering(path, by_root):
    """Yields the sources that cover a path, the innermost first."""
    root, inner = path, None
    while root != inner:
        yield from (source for source in by_root.get(root, ()) if source.covers(path))
        root, inner = os.path.dirname(root), root


def _emptied(folder):
    """Returns the nearest folder that exists if it is empty, as without its drive, else None."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    try:
        with os.scandir(folder) as entries:
            return folder if next(entries, None) is None else None
    except OSError:
        return folder


def _is_gone(path):
    """Whether a path certainly does not exist; an unreadable folder may still hold it."""
    try:
        os.lstat(path)
    except OSError as e:
        return isinstance(e, FileNotFoundError | NotADirectoryError)
    return os.path.isdir(path)
