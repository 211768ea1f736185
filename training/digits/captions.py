"""Captions for pairs of digits, the phrasings held out for measuring, and the vocabulary.

A caption is a phrasing filled with a pair's `fields`.

`phrasings.json` holds them all; a test holds the digest of what is drawn from it. The twenty pairs
of `UNSEEN_PAIRS` never appear in any caption that a model is trained on.
"""

import functools
import importlib.resources
import itertools
import json

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

# To train on: "pairs" name both digits, the left one first unless the phrasing says otherwise;
# "coloured_pairs" their colours, too; "singles" one digit; "colours" no digit. "openings" may stand
# before those that begin with a noun phrase, "manners" before "three" in "a three", "colours_after"
# after a pair or a single digit, "asides", which mean nothing, before or after anything.
# "held_out" was written before anything was trained.
PHRASINGS = json.loads(
    importlib.resources.files(__package__).joinpath("phrasings.json").read_text(encoding="utf-8")
)
# Shares of what a caption speaks of: both digits, one of them, colours only.
_SHARES = (0.75, 0.12, 0.13)


def held_out(kind, split):
    """Returns phrasings that no training caption uses: every third for validation, others to test.

    A kind is "pair", "words" (the number in words), "ink", "paper" or "full" (all three).
    """
    phrasings = PHRASINGS["held_out"][kind]
    validation = phrasings[::3]
    return tuple(p for p in phrasings if (p in validation) == (split == "validation"))


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
    """Returns what a phrasing may be filled with, by the name in its braces."""
    return {
        "a": _with_article(DIGITS[left]),  # "a three"
        "b": _with_article(DIGITS[right]),
        "l": DIGITS[left],
        "r": DIGITS[right],
        "x": str(left),
        "y": str(right),
        "n": f"{left}{right}",
        "w": in_words(left, right),  # "thirty-seven"
        "ink": ink,
        "paper": paper,
        "aink": _with_article(ink),  # "a red"
        "apaper": _with_article(paper),
    }


# Every mark is a token of its own.
_PUNCTUATION = "!\"#$%&'()*+,-./:;?@_"


def count_tokens(text):
    """Returns how many tokens a training caption has, [CLS] included."""
    words = "".join(f" {c} " if c in _PUNCTUATION else c for c in text).split()
    return 1 + sum(len(word) if word.isdigit() else 1 for word in words)


def training_caption(left, right, ink, paper, rng):
    """Draws one caption of at most 16 tokens for a pair of `SEEN_PAIRS` in these colours."""
    if (left, right) in UNSEEN_PAIRS:
        raise ValueError(f"({left}, {right}) is held out: no training caption may be made of it")
    filling = dict(fields(left, right, ink, paper))

    def pick(kind):
        return PHRASINGS[kind][int(rng.integers(len(PHRASINGS[kind])))]

    subject = rng.random()
    while True:
        for side, digit in (("a", left), ("b", right)):
            manner = f"{pick('manners')} " if rng.random() < 0.2 else ""
            filling[side] = _with_article(manner + DIGITS[digit])
        opening = f"{pick('openings')} " if rng.random() < 0.6 else ""
        if subject < _SHARES[0]:
            if rng.random() < 0.25:
                phrasing = opening + pick("coloured_pairs")
            else:
                phrasing = opening + pick("pairs")
                if rng.random() < 0.35:
                    phrasing = f"{phrasing} {pick('colours_after')}"
        elif subject < _SHARES[0] + _SHARES[1]:
            phrasing = pick("singles")
            if rng.random() < 0.2:
                phrasing = f"{phrasing} {pick('colours_after')}"
        else:
            phrasing = opening + pick("colours")
        if rng.random() < 0.1:
            aside = pick("asides")
            phrasing = f"{aside} {phrasing}" if rng.random() < 0.5 else f"{phrasing} {aside}"
        caption = phrasing.format(**filling)
        if count_tokens(caption) <= MAX_TOKENS:
            return caption


def held_out_captions(left, right, ink, paper, split):
    """Returns full captions (pair, ink, paper) in every held-out phrasing of a split."""
    filling = fields(left, right, ink, paper)
    return [phrasing.format(**filling) for phrasing in held_out("full", split)]


def vocabulary():
    """Returns a WordPiece vocabulary: every word of a training caption, and letters for the rest.

    Numerals are always spelled digit by digit ("37" is `3 ##7`), so a number that was never
    captioned is made of tokens that were. [PAD] is first, as 0 means padding in published models.
    """
    words = set()
    texts = [text for kind, group in PHRASINGS.items() if kind != "held_out" for text in group]
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
