"""Webdataset tars as img2dataset writes them: members KEY.jpg, KEY.txt, KEY.json side by side.

`tarfile` reads single headers, and the scanner is here: `tarfile.open` believes every size and
recurses over extended headers, so a damaged shard can take all memory or hang, and it takes ten
times as long, where all headers of all shards are read at the start.
"""

import dataclasses
import json
import os
import tarfile

from lit_tf.images.formats import is_systems

from . import shards
from .shards import Damaged, Shard

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_BUFFER = 1 << 20
# Longest extended header to read: a path of 4,096 bytes and some attributes.
_MAX_EXTENDED = 64 << 10
# POSIX says that no data follows headers of these types, even if the size field is not 0.
_LINKS = {b"1": "a hard link", b"2": "a symbolic link"}
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")
# Headers that describe the next member (PAX, GNU's long names), or all that follow (g).
_OF_NEXT = (b"x", b"X", b"g", b"L", b"K")


@dataclasses.dataclass(frozen=True)
class Member:
    """A member of a tar."""

    name: bytes
    size: int
    offset: int
    kind: str = "file"  # or why it is not used: "a hard link", "cut off", ...


@dataclasses.dataclass
class Sample:
    """Successive members with the same key."""

    key: bytes  # what precedes the first dot of the members' names, folder included
    members: list[str] = dataclasses.field(default_factory=list)  # extensions, and why not used
    # Empty if an extension comes twice: it is then unknown what belongs together.
    data: dict[str, bytes] = dataclasses.field(default_factory=dict)
    cut: bool = False  # whether the shard breaks off inside this sample
    _repeated: bool = False
    _seen: set[str] = dataclasses.field(default_factory=set)

    def add(self, extension: str, member: Member, data: bytes | None, limit: int) -> None:
        """Adds a member, and its data if it was read."""
        note = member.kind if member.kind != "file" else ""
        if member.kind == "file" and member.size > limit:
            note = f"{member.size:,} bytes, over data.max_example_bytes"
        if member.kind == "cut off":
            self.cut = True
        if extension in self._seen:
            self._repeated, note = True, "a second time"
        self._seen.add(extension)
        self.members.append(f"{extension} ({note})" if note else extension)
        if self._repeated:
            self.data = {}
        elif data is not None:
            self.data[extension] = data


def is_clutter(path: str) -> bool:
    """Whether a system adds a file of this name to folders and archives by itself."""
    *folders, name = path.split("/")
    return name.startswith("._") or name == ".DS_Store" or any(map(is_systems, folders))


def scan(path: str, limit: int) -> Shard:
    """Scans a tar from header to header."""
    size, count = shards.size_of(path), 0
    with shards.open_shard(path) as file:
        try:
            for _ in _samples(file, size, limit):
                count += 1
        except Damaged as e:
            return Shard(path, count, str(e), e.offset / max(size, 1))
    return Shard(path, count)


def samples(path: str, skip: int = 0, *, wanted, limit: int):
    """Yields the samples of a tar from number `skip` on; a damaged tar ends at the damage."""
    try:
        size = shards.size_of(path)
        with shards.open_shard(path, _BUFFER) as file:
            for number, sample in _samples(file, size, limit, frozenset(wanted), skip):
                if number >= skip:
                    yield sample
    except (Damaged, *shards.READ_ERRORS):
        return


def describe(path: str, index: int, limit: int, text_names=()) -> str:
    """Returns what one sample has, in words, or "" if there is no such sample."""
    wanted = extensions(text_names)
    for sample in samples(path, index, wanted=wanted, limit=limit):
        key = sample.key.decode("utf-8", "backslashreplace")
        _, problem = sample_captions(sample.data, text_names)
        about = f"{os.path.basename(key)}: {', '.join(sample.members)}"
        return f"{about}; {problem}" if problem else about
    return ""


def sample_captions(data: dict[str, bytes], names) -> tuple[list[bytes], str]:
    """Returns (captions in UTF-8, ""), or ([], the reason in words) if a sample has none.

    `data` is {extension: bytes}. The first of `names` that the sample has counts: an extension,
    whose member is one caption, or "json/NAME" for a field of the JSON member: a string, or a list
    of strings, which are several captions of one image.
    """
    for name in names:
        extension, _, key = name.partition("/")
        if extension not in data:
            continue
        if extension != "json":
            return [data[extension]], ""
        try:
            value = json.loads(data[extension])
        except (ValueError, RecursionError):
            return [], f"{extension} cannot be read as JSON"
        for part in key.split("/") if key else ():
            if not isinstance(value, dict) or part not in value:
                return [], f"{name} is missing"
            value = value[part]
        texts = value if isinstance(value, list) else [value]
        if not texts or not all(isinstance(text, str) for text in texts):
            return [], f"{name} is {json.dumps(value):.40}; expected a text or a list of texts"
        return [text.encode("utf-8", "replace") for text in texts], ""
    return [], ""


def extensions(names) -> set[str]:
    """Returns the extensions of the members that hold these names: "json" for "json/NAME"."""
    return {name.partition("/")[0] for name in names}


def _samples(file, size, limit, wanted=frozenset(), skip=0):
    """Yields (number, sample) in order; data of samples before `skip` is not read."""
    sample, number = None, -1
    try:
        for member in _members(file, size):
            key, extension = _split(member.name)
            if not extension or is_clutter(member.name.decode("utf-8", "replace")):
                continue
            if sample is None or key != sample.key:
                if sample is not None:
                    yield number, sample
                sample, number = Sample(key), number + 1
            usable = member.kind == "file" and member.size <= limit and extension in wanted
            data = _data(file, member) if usable and number >= skip else None
            sample.add(extension, member, data, limit)
    except Damaged:
        if sample is not None and not sample.cut:
            yield number, sample
        raise
    if sample is not None:
        yield number, sample


def _split(name):
    """Returns (key, extension) of a member's name, split at the first dot after the folders."""
    folder, slash, base = name.rpartition(b"/")
    stem, _, extension = base.partition(b".")
    return folder + slash + stem, extension.decode("ascii", "replace").lower()


def _data(file, member):
    file.seek(member.offset)
    data = file.read(member.size)
    if len(data) < member.size:
        raise Damaged(f"ends inside {_shown(member.name)}", member.offset)
    return data


def _members(file, size):
    """Yields the members that are files or links, also of several concatenated tars."""
    offset, ended, name, extended = 0, False, None, {}
    while True:
        file.seek(min(offset, size))
        header = file.read(_BLOCK)
        if header == _ZEROS[: len(header)] and (header or ended):
            ended, offset = True, _end_of_zeros(file, size, offset)
            if offset >= size:
                return
            continue
        if not header and offset:
            raise Damaged(f"ends at byte {size:,} without a tar's end mark", size)
        kind, member = _header(header, offset, ended)
        ended = False
        if kind in (b"x", b"X"):
            extended = _pax_records(_extended(file, member, size), offset)
        elif kind == b"L":
            name = _extended(file, member, size).rstrip(b"\0")
        if "size" in extended and kind not in _OF_NEXT:
            member = dataclasses.replace(member, size=extended["size"])
        length = 0 if kind in _WITHOUT_DATA else member.size
        offset = member.offset + -(-length // _BLOCK) * _BLOCK
        if kind not in _OF_NEXT:
            how = "cut off" if member.offset + length > size else _LINKS.get(kind, "file")
            known = kind in tarfile.REGULAR_TYPES or kind in _LINKS
            full = extended.get("path", name or member.name)
            if known and not full.endswith(b"/"):
                yield dataclasses.replace(member, name=full, kind=how)
            name, extended = None, {}
        if member.offset + length > size:
            raise Damaged(
                f"ends inside {_shown(member.name)}, which should have {length:,} bytes from byte "
                f"{member.offset:,} on, at byte {size:,}",
                min(member.offset, size),
            )


def _header(header, offset, ended):
    try:
        if len(header) < _BLOCK:
            raise tarfile.TruncatedHeaderError
        found = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        if found.size < 0:
            raise tarfile.InvalidHeaderError
    except tarfile.HeaderError as e:
        if not offset:
            raise Damaged(f"is not a tar: it is {shards.looks_like(header)}", 0) from e
        if len(header) < _BLOCK:
            raise Damaged(f"ends inside a header, at byte {offset + len(header):,}", offset) from e
        if ended:
            raise Damaged(f"has other data behind its end, from byte {offset:,} on", offset) from e
        raise Damaged(f"has a damaged header at byte {offset:,}", offset) from e
    if found.type == tarfile.GNUTYPE_SPARSE:
        raise _sparse(offset)
    name = found.name.encode("utf-8", "surrogateescape")
    return found.type, Member(name, found.size, offset + _BLOCK)


def _sparse(offset):
    return Damaged(f"has a sparse member at byte {offset:,}; pack it without --sparse", offset)


def _extended(file, member, size):
    if member.size > _MAX_EXTENDED:
        raise Damaged(
            f"has an extended header of {member.size:,} bytes at byte {member.offset:,}; at most "
            f"{_MAX_EXTENDED:,} are read",
            member.offset,
        )
    if member.offset + member.size > size:
        raise Damaged(f"ends inside an extended header, at byte {size:,}", member.offset)
    return _data(file, member)


def _pax_records(data, offset):
    """Returns "path" (bytes), "size" (int) of PAX records: "LENGTH KEY=VALUE" and a newline."""
    found, start = {}, 0
    while start < len(data):
        digits = data[start : start + 8].split(b" ", 1)[0]
        end = start + int(digits) if digits.isdigit() else 0
        key, equals, value = data[start + len(digits) + 1 : end].partition(b"=")
        odd = end <= start + len(digits) or end > len(data) or not value.endswith(b"\n")
        odd = odd or not equals or (key == b"size" and not value[:20].strip().isdigit())
        if odd or len(value) > 20 and key == b"size":
            raise Damaged(f"has a damaged PAX header at byte {offset:,}", offset)
        if key == b"path":
            found["path"] = value[:-1]
        elif key == b"size":
            found["size"] = int(value)
        elif key.startswith(b"GNU.sparse."):
            raise _sparse(offset)
        start = end
    return found


def _end_of_zeros(file, size, offset):
    file.seek(offset)
    while offset < size:
        chunk = file.read(_BUFFER)
        rest = chunk.lstrip(b"\0")
        if rest or not chunk:
            return offset + (len(chunk) - len(rest)) // _BLOCK * _BLOCK
        offset += len(chunk)
    return size


def _shown(name):
    return name.decode("utf-8", "backslashreplace")
