"""Captions for pairs of digits, the phrasings held out for measuring, and the vocabulary.

A caption is a phrasing filled with a pair's fields:

| field | for 3, 7 in red ink on yellow paper |
| --- | --- |
| `{a}`, `{b}` | "a three", "a seven" |
| `{l}`, `{r}` | "three", "seven" |
| `{x}`, `{y}` | "3", "7" |
| `{n}` | "37" |
| `{w}` | "thirty-seven" |
| `{ink}`, `{paper}` | "red", "yellow" |
| `{aink}`, `{apaper}` | "a red", "a yellow" |

The twenty pairs of `UNSEEN_PAIRS` never appear in any caption that a model is trained on.
"""

import functools
import itertools

from .render import INKS, PAPERS

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
_TENS = ("", "", *"twenty thirty forty fifty sixty seventy eighty ninety".split())

# Every digit is twice on the left and twice on the right; chosen before anything was trained.
UNSEEN_PAIRS = tuple(sorted((d, (d + k) % 10) for d in range(10) for k in (4, 9)))
ALL_PAIRS = tuple(itertools.product(range(10), repeat=2))
SEEN_PAIRS = tuple(pair for pair in ALL_PAIRS if pair not in UNSEEN_PAIRS)

# The longest caption: 16 tokens, of which the first is [CLS].
MAX_TOKENS = 16

# --- Phrasings to train on -------------------------------------------------------------------

# Who, what and how, from which openings are made.
_WRITERS = ("somebody", "someone", "a child", "a person", "my friend", "a student")
_CARRIERS = ("card", "sheet", "page", "note", "sign", "label", "ticket", "piece of paper")
_PICTURES = ("picture", "photo", "image", "drawing", "scan", "sketch", "snapshot")
# May stand before "three" in "a three".
_MANNERS = (
    "messy neat small large big bold thin thick round nice old clear funny simple handwritten"
).split()
# May stand before or after anything, and mean nothing.
_ASIDES = "just here clearly simply again now indeed maybe perhaps look today".split()

# What may stand before a phrasing that begins with a noun phrase, if anything does.
_OPENINGS = (
    *(f"a {picture} of" for picture in _PICTURES),
    *(f"the {picture} shows" for picture in _PICTURES),
    *(f"a {carrier} with" for carrier in _CARRIERS),
    *(f"this {carrier} says" for carrier in _CARRIERS),
    *(f"{writer} wrote" for writer in _WRITERS),
    *(f"{writer} has drawn" for writer in _WRITERS),
    *(f"{writer} has noted" for writer in _WRITERS),
    "this is",
    "this shows",
    "here is",
    "you can see",
    "i can see",
    "we see",
    "there is",
    "handwriting:",
    "a sign that reads",
    "a label that shows",
)
# Both digits. The left one is named first unless the phrasing says otherwise.
_PAIRS = (
    # words with an article
    "{a} next to {b}",
    "{a} and {b}",
    "{a} then {b}",
    "{a} to the left of {b}",
    "{b} to the right of {a}",
    "{a} followed by {b}",
    "{a} before {b}",
    "{b} after {a}",
    "{a} on the left and {b} on the right",
    "{b} on the right and {a} on the left",
    "a handwritten {l} next to a handwritten {r}",
    "on the left is {a}, on the right is {b}",
    "to the left {a}, to the right {b}",
    "{a}, then {b}",
    "{a} with {b} to its right",
    "{b} with {a} on its left",
    # words
    "{l} then {r}",
    "{l} {r}",
    "{l}, {r}",
    "{l} and {r}",
    "the digits {l} and {r}",
    "handwritten {l} then {r}",
    "the left digit is {l}, the right digit is {r}",
    "the first digit is {l} and the second is {r}",
    "{l} comes before {r}",
    "{l} beside {r}",
    "digit {l} next to digit {r}",
    "first comes {l}, then comes {r}",
    "left {l}, right {r}",
    "the symbols {l} and {r}",
    "the pair {l} and {r}",
    "the left one is {l} and the right one is {r}",
    "two symbols, {l} then {r}",
    "{l} and after that {r}",
    "{l} and then {r}",
    "{l}, after that {r}",
    "{l}, then after it {r}",
    "{r} comes after {l}",
    "the digits {l} {r}",
    "the figures {l}, {r}",
    "two digits: {l} and {r}",
    # numerals
    "{x} {y}",
    "{x} then {y}",
    "{x} and {y}",
    "{x}, {y}",
    "{x} next to {y}",
    "a {x} next to a {y}",
    "a {x} followed by a {y}",
    "the digits {x} and {y}",
    "handwritten {x} then {y}",
    "{x} to the left of {y}",
    "{y} to the right of {x}",
    "left: {x}, right: {y}",
    "the first digit is {x}, the second is {y}",
    "the {x} is beside the {y}",
    "{x} first, {y} second",
    "{x} on the left, {y} on the right",
    "{x} with {y} to its right",
    "figure {x} next to figure {y}",
    "{x} comes before {y}",
    "first a {x}, second a {y}",
    "{x} & {y}",
    "the digits {x} {y}",
    "the numbers {x} {y}",
    "the figures {x} {y}",
    "two symbols: {x} {y}",
    "{x} and after that {y}",
    "{y} comes after {x}",
    "{x} - {y}",
    "the pair {x} {y}",
    "the two figures are {x} and {y}",
    # the number
    "{n}",
    "number {n}",
    "the number {n}",
    "a handwritten {n}",
    "the handwritten number {n}",
    "{n} in handwriting",
    "a card that says {n}",
    "somebody wrote the number {n}",
    "a sheet of paper with the number {n}",
    "the numeral {n}",
    "number: {n}",
    "a room number: {n}",
    "{n} by hand",
    "a sign with {n} on it",
    "the written figure is {n}",
    # the number in words
    "{w}",
    "the number {w}",
    "number {w}",
    "a handwritten {w}",
    "{w} in handwriting",
    "a card that says {w}",
    "the numeral {w}",
    "{w} by hand",
    "a sign with {w} on it",
)
# What may follow a phrasing of a pair or of one digit; "" as often as all others together.
_COLOURS_AFTER = (
    "in {ink} ink",
    "in {ink}",
    "written in {ink} ink",
    "on {paper} paper",
    "in {ink} on {paper}",
    "in {ink} ink on {paper} paper",
)
# Phrasings that carry the colours inside.
_COLOURED_PAIRS = (
    "{aink} {l} next to {aink} {r}",
    "{aink} {l} and {aink} {r} on {paper} paper",
    "{aink} {x} and {aink} {y}",
    "{ink} {n} on {paper} paper",
    "{aink} {n}",
    "the number {n} in {ink} ink",
    "the number {n} in {ink} ink on {paper} paper",
    "{paper} paper, {ink} ink: {x} {y}",
    "the {ink} digits {l} and {r}",
)
_SINGLES = (
    "{a} on the left",
    "{b} on the right",
    "the left digit is {a}",
    "the right digit is {b}",
    "the first digit is {l}",
    "the second digit is {r}",
    "the left digit is {x}",
    "the right digit is {y}",
    "the first digit is {x}",
    "the second digit is {y}",
    "left: {x}",
    "right: {y}",
    "left: {l}",
    "right: {r}",
    "it starts with {x}",
    "it ends with {y}",
    "it starts with {a}",
    "it ends with {b}",
    "a number that starts with {x}",
    "a number that ends with {y}",
    "the first digit is a handwritten {l}",
    "the second digit is a handwritten {r}",
    "on the left there is {a}",
    "on the right there is {b}",
    "the symbol on the left is {l}",
    "the symbol on the right is {r}",
    "{x} comes first",
    "{y} comes second",
    "{a} comes first",
    "{b} comes last",
    "the first figure is {x}",
    "the second figure is {y}",
    "the one on the left is {x}",
    "the one on the right is {y}",
)
_COLOURS = (
    "{ink} ink",
    "{ink}",
    "{ink} digits",
    "{ink} handwriting",
    "two {ink} digits",
    "a number in {ink} ink",
    "a number in {ink}",
    "digits in {ink} ink",
    "two digits in {ink}",
    "written in {ink} ink",
    "{ink} ink on {paper} paper",
    "{ink} on {paper}",
    "{paper} paper",
    "a sheet of {paper} paper",
    "two digits on {paper} paper",
    "a card with {ink} ink on {paper} paper",
    "handwriting in {ink} on {paper} paper",
    "the digits are {ink}",
    "both digits are {ink}",
    "the colour of the ink is {ink}",
    "drawn with {ink} ink",
    "a {paper} background",
    "the colour of the paper is {paper}",
    "a {paper} sheet",
    "a {paper} page",
)

# Shares of what a caption speaks of: both digits, one of them, colours only.
_SHARES = (0.75, 0.12, 0.13)

# --- Phrasings held out ----------------------------------------------------------------------
# Written before anything was trained. Every third is for validation, the others for the test.

_HELD_OUT_PAIRS = (
    "on the left {a}, on the right {b}",
    "{a} with {b} on its right",
    "first {l}, second {r}",
    "an ink sketch of {l} and {r}",
    "two figures: {l}, {r}",
    "left is {l} and right is {r}",
    "someone has written {l} and after it {r}",
    "the pair {l} {r}",
    "{a} beside {b}",
    "a {x} beside a {y}",
    "{x} on the left side and {y} on the right side",
    "digit {x} and digit {y}",
    "the symbols {x} {y}",
    "a {x} with a {y} after it",
    "a note that reads {x} {y}",
    "{x} comes first and {y} comes second",
    "{x} / {y}",
    "a {x} and then a {y}",
    "a photo that shows {n}",
    "{n} written by hand",
    "the figure {n}",
    "a house number: {n}",
    "it says {n}",
    "a piece of paper with {n} on it",
)
_HELD_OUT_WORDS = (
    "a photo that shows {w}",
    "{w} written by hand",
    "the figure {w}",
    "a house number: {w}",
    "it says {w}",
    "a piece of paper with {w} on it",
)
_HELD_OUT_INKS = (
    "the ink is {ink}",
    "a number drawn with {aink} pen",
    "a photo of handwriting that is {ink}",
    "two {ink} figures",
    "a pair of digits, both {ink}",
    "someone has used {ink} ink",
    "a note in {ink}",
    "an ink sketch in {ink}",
    "the colour of the digits is {ink}",
)
_HELD_OUT_PAPERS = (
    "the paper is {paper}",
    "a note on {paper} paper",
    "a photo of a {paper} card",
    "a number on a {paper} background",
    "a piece of {paper} paper",
    "the sheet is {paper}",
)
_HELD_OUT_FULL = (
    "a photo with {a} and {b}, {ink} on {paper}",
    "{x} and then {y}, {ink} ink, {paper} paper",
    "{paper} paper with {n} on it in {ink}",
    "on {paper} paper {aink} {l} beside {aink} {r}",
    "the figure {n} written in {ink} on {paper}",
    "someone has written {x} {y} in {ink} ink on {paper} paper",
)


def held_out(kind, split):
    """Returns phrasings that no training caption uses.

    Args:
        kind: "pair", "words" (the number in words), "ink", "paper" or "full" (pair, ink and paper).
        split: "validation", for choosing settings, or "test", for what is reported.

    Returns:
        A tuple of phrasings; 8 and 16 of kind "pair".
    """
    phrasings = {
        "pair": _HELD_OUT_PAIRS,
        "words": _HELD_OUT_WORDS,
        "ink": _HELD_OUT_INKS,
        "paper": _HELD_OUT_PAPERS,
        "full": _HELD_OUT_FULL,
    }[kind]
    validation = phrasings[::3]
    return (
        validation if split == "validation" else tuple(p for p in phrasings if p not in validation)
    )


def _with_article(noun):
    return f"{'an' if noun[0] in 'aeiou' and not noun.startswith('one') else 'a'} {noun}"


def in_words(left, right):
    """Returns the two-digit number in words: "thirty-seven", "forty", "twelve", "zero-five"."""
    if left == 0:
        return f"zero-{DIGITS[right]}"
    if left == 1:
        return _TEENS[right]
    return _TENS[left] + (f"-{DIGITS[right]}" if right else "")


@functools.cache
def fields(left, right, ink="black", paper="white"):
    """Returns what a phrasing may be filled with, as in the table at the top of this module."""
    return {
        "a": _with_article(DIGITS[left]),
        "b": _with_article(DIGITS[right]),
        "l": DIGITS[left],
        "r": DIGITS[right],
        "x": str(left),
        "y": str(right),
        "n": f"{left}{right}",
        "w": in_words(left, right),
        "ink": ink,
        "paper": paper,
        "aink": _with_article(ink),
        "apaper": _with_article(paper),
    }


def _pick(choices, rng):
    return choices[int(rng.integers(len(choices)))]


# Every mark is a token of its own.
_PUNCTUATION = "!\"#$%&'()*+,-./:;?@_"


def _length(text):
    """Returns how many tokens a training caption has, [CLS] included."""
    words = "".join(f" {c} " if c in _PUNCTUATION else c for c in text).split()
    return 1 + sum(len(word) if word.isdigit() else 1 for word in words)


def training_caption(left, right, ink, paper, rng):
    """Draws one caption of at most 16 tokens for a pair, out of a few thousand phrasings.

    Args:
        left: the digit on the left, 0 to 9; (left, right) must be one of `SEEN_PAIRS`.
        right: the digit on the right.
        ink: the name of the ink.
        paper: the name of the paper.
        rng: `np.random.Generator`.

    Returns:
        A string in lower case.

    Raises:
        ValueError: the pair is one of those that must not be captioned.
    """
    if (left, right) in UNSEEN_PAIRS:
        raise ValueError(f"({left}, {right}) is held out: no training caption may be made of it")
    filling = dict(fields(left, right, ink, paper))
    subject = rng.random()
    while True:
        for side, digit in (("a", left), ("b", right)):
            manner = f"{_pick(_MANNERS, rng)} " if rng.random() < 0.2 else ""
            filling[side] = _with_article(manner + DIGITS[digit])
        opening = f"{_pick(_OPENINGS, rng)} " if rng.random() < 0.6 else ""
        if subject < _SHARES[0]:
            if rng.random() < 0.25:
                phrasing = opening + _pick(_COLOURED_PAIRS, rng)
            else:
                phrasing = opening + _pick(_PAIRS, rng)
                if rng.random() < 0.35:
                    phrasing = f"{phrasing} {_pick(_COLOURS_AFTER, rng)}"
        elif subject < _SHARES[0] + _SHARES[1]:
            phrasing = _pick(_SINGLES, rng)
            if rng.random() < 0.2:
                phrasing = f"{phrasing} {_pick(_COLOURS_AFTER, rng)}"
        else:
            phrasing = opening + _pick(_COLOURS, rng)
        if rng.random() < 0.1:
            aside = _pick(_ASIDES, rng)
            phrasing = f"{aside} {phrasing}" if rng.random() < 0.5 else f"{phrasing} {aside}"
        caption = phrasing.format(**filling)
        if _length(caption) <= MAX_TOKENS:
            return caption


def held_out_captions(left, right, ink, paper, split):
    """Returns full captions (pair, ink, paper) in every held-out phrasing of a split."""
    filling = fields(left, right, ink, paper)
    return [phrasing.format(**filling) for phrasing in held_out("full", split)]


def vocabulary():
    """Returns the WordPiece vocabulary: every word of a training caption, and letters for the rest.

    Numerals are always spelled digit by digit ("37" is `3 ##7`), so a number that was never
    captioned is made of tokens that were.

    Returns:
        A list of tokens; [PAD] is first, as 0 means padding in the published models.
    """
    words = set()
    texts = [
        *_OPENINGS,
        *_MANNERS,
        *_ASIDES,
        *_PAIRS,
        *_COLOURS_AFTER,
        *_COLOURED_PAIRS,
        *_SINGLES,
        *_COLOURS,
    ]
    for pair in SEEN_PAIRS:
        # Colours do not depend on the pair: one pass over them is enough.
        for ink, paper in zip(INKS, itertools.cycle(PAPERS)):
            filling = fields(*pair, ink, paper)
            for text in texts:
                words.update(text.format(**filling).replace("-", " ").split())
    words = sorted({word.strip(_PUNCTUATION) for word in words})
    words = [word for word in words if len(word) > 1 and not word.isdigit()]
    letters = [*"0123456789abcdefghijklmnopqrstuvwxyz"]
    punctuation = [*_PUNCTUATION]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return [*special, *punctuation, *letters, *(f"##{c}" for c in letters), *words]
