"""Damage to files, the same for the same seed."""

import numpy as np

# Values that length fields are wrong by.
_ODD = (b"\0", b"\xff", b"\x80", b"\x7f", b"\xff" * 8, b"\0" * 8, b"9" * 12, b"\n", b'"', b"{")


def generator(name: str, case: int):
    """Returns the random numbers of one case of one fuzzer."""
    return np.random.default_rng([case, *name.encode()])


def damaged(data: bytes, rng) -> bytes:
    """Returns a file's bytes after one to four accidents: bytes changed, lost, doubled, moved."""
    for _ in range(rng.integers(1, 5)):
        data = _ACCIDENTS[rng.integers(len(_ACCIDENTS))](data, rng)
    return data


def _place(data, rng):
    # Half of the accidents hit the ends, where headers and tables of contents are.
    span = max(len(data), 1)
    if rng.random() < 0.5:
        return int(rng.integers(span))
    near = int(rng.integers(min(span, 600)))
    return near if rng.random() < 0.5 else span - 1 - near


def _flip(data, rng):
    if not data:
        return data
    i = _place(data, rng)
    return data[:i] + bytes([data[i] ^ (1 << int(rng.integers(8)))]) + data[i + 1 :]


def _overwrite(data, rng):
    i, odd = _place(data, rng), _ODD[rng.integers(len(_ODD))]
    return data[:i] + odd + data[i + len(odd) :]


def _insert(data, rng):
    i = _place(data, rng)
    return data[:i] + rng.bytes(int(rng.integers(1, 40))) + data[i:]


def _lose(data, rng):
    i = _place(data, rng)
    return data[:i] + data[i + int(rng.integers(1, 2000)) :]


def _truncate(data, rng):
    return data[: _place(data, rng)]


def _double(data, rng):
    i = _place(data, rng)
    return data[:i] + data[i : i + int(rng.integers(1, 3000))] + data[i:]


_ACCIDENTS = (_flip, _flip, _overwrite, _insert, _lose, _truncate, _double)
