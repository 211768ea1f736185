"""How commands print: tables, JSON, progress, and what a model does not read of a text."""

import collections
import json
import sys

from lit_tf.files import printable
from lit_tf.images.formats import MORE_FORMATS, OPTIONAL_SUFFIXES


def progress(unit, items=None, **options):
    """Returns a progress bar over `items`; it shows on a terminal only."""
    from tqdm import tqdm

    return tqdm(items, unit=f" {unit}s", disable=None, leave=False, **options)


def print_json(value):
    """Prints a value as indented JSON: arrays as lists, times as their text, NaN as null."""
    listed = lambda value: value.tolist() if hasattr(value, "tolist") else str(value)  # noqa: E731
    value = json.loads(json.dumps(value, default=listed), parse_constant=lambda _: None)
    # Bytes of a file name that are not UTF-8 are surrogates, which the output escapes as JSON does.
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(json.dumps(value, indent=2, ensure_ascii=not encoding.lower().startswith("utf")))


def print_table(rows, right=(), *, ruled=False):
    """Prints rows of strings in columns, some of which are right-aligned."""
    rows = [[printable(cell) for cell in row] for row in rows]  # a path may hold line ends
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows = [*rows[:1], ["-" * width for width in widths], *rows[1:]] if ruled else rows
    for row in rows:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def report_walk(walk):
    """Says on standard error what a `Walk`, or a report with the same fields, has not taken."""
    counts = collections.Counter(walk.passed_over).most_common()
    endings = ", ".join(f"{n} {printable(ending) or 'without an ending'}" for ending, n in counts)
    if endings:
        hint = f" ({MORE_FORMATS})" if not OPTIONAL_SUFFIXES.isdisjoint(walk.passed_over) else ""
        print(f"passed over, not read by their ending: {endings}{hint}", file=sys.stderr)
    for path, reason in walk.problems:
        print(f"left out: {printable(path)}: {reason}", file=sys.stderr)


def report_cut(model, texts):
    """Says on standard error that texts are longer than what the model reads of them."""
    cut, own = [], model.tokenizer
    longer = own.with_length(own.length + 1)
    for start in range(0, len(texts), 1024):
        block = texts[start : start + 1024]
        ids, more = own(block).numpy(), longer(block).numpy()
        # One more token either shows at the end, or the end of the text moves to it.
        differ = (more[:, :-1] != ids).any(axis=1) | (more[:, -1] != getattr(own, "pad", 0))
        cut += [text for text, is_cut in zip(block, differ, strict=True) if is_cut]
    if cut:
        print(
            f"cut: of {len(cut)} of {len(texts)} texts the model reads the first {own.length} "
            f"tokens only, such as {cut[0]!r:.80}",
            file=sys.stderr,
        )
