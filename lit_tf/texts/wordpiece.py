r"""WordPiece without dependencies: the ids of tensorflow-text's BertTokenizer, in plain Python.

For machines that run a TFLite graph and have no TensorFlow, and as the description from which to
port the tokenizer to another language. LiT's BERT towers were trained on what
`tensorflow_text.BertTokenizer(lower_case=True)` returns, so this is what "right" means here; tests
compare every code point of Unicode and random texts with it.

The algorithm, from a text to `length` ids:

1. **Fold** every code point by itself, and join the results:

   - Default_Ignorable_Code_Point (soft hyphen, zero-width space, variation selectors, ...: see
     `_IGNORABLE`): nothing.
   - Anything else: NFKC, full case folding, NFKC, full case folding, NFKC, then NFD. This is
     Unicode's NFKC_Casefold, decomposed. It is more than lower case: `ß` becomes `ss`, the
     ligature `ﬁ` becomes `fi`, `ς` becomes `σ`, `İ` becomes `i` and a dot above, fullwidth
     `Ａ` becomes `a`, no-break and ideographic spaces become a space, Hangul syllables become
     their jamo. It depends on no locale.

2. **Order** each run of combining marks (code points whose canonical combining class is not 0) by
   class; the sort is stable. Only the few spacing marks that have a class can survive step 3 to
   show the difference.
3. **Sort** each code point of the result into one of four kinds, by its general category:

   - Mn: dropped. These are the accents.
   - Cc and Cf, and the ASCII space: separates words.
   - P*, or any ASCII punctuation or symbol, or a CJK ideograph (`_IDEOGRAPHS`): a word of its own.
   - Everything else (line and paragraph separators, too): part of a word.

4. **Split every word into pieces**, each time the longest prefix of what is left that is in the
   vocabulary; every piece but the first is looked up with `##` in front. A word that cannot be
   split to its end is one [UNK], and so is a word of more than 100 bytes in UTF-8.
5. **[CLS]** in front, no [SEP], cut to `length`, filled up with 0.

Which Unicode? tensorflow-text 2.20 folds by Unicode 16 (its ICU) and takes categories from Unicode
15 (its RE2). Python knows 13 (3.10) to 15.1 (3.13). What Unicode promises never to change makes the
rules above agree for everything in Unicode 13; `_NEWER_*` spell out what came later, so the ids do
not depend on the Python in use, and need not on the Unicode library of a port.
"""

import functools
import itertools
import unicodedata

from lit_tf.errors import TokenizerError

MAX_WORD_BYTES = 100


def _ranges(text):
    """Returns the set of code points that a list of hexadecimal ranges stands for."""
    points = set()
    for item in text.split():
        first, _, last = item.partition("-")
        points.update(range(int(first, 16), int(last or first, 16) + 1))
    return frozenset(points)


def _folds(text):
    """Returns {code point: its folding} of items FIRST[-LAST]=HEX[+HEX...].

    In a range, the folding is one code point and counts up with the folded one.
    """
    folds = {}
    for item in text.split():
        span, _, target = item.partition("=")
        first, *last = (int(x, 16) for x in span.split("-"))
        out = [int(x, 16) for x in target.split("+")]
        for point in range(first, (last[0] if last else first) + 1):
            folds[point] = "".join(chr(x + point - first) for x in out)
    return folds


# Default_Ignorable_Code_Point; the unassigned among them are reserved for it, so the list is final.
_IGNORABLE = _ranges(
    "AD 34F 61C 115F-1160 17B4-17B5 180B-180F 200B-200F 202A-202E 2060-206F 3164 FE00-FE0F FEFF "
    "FFA0 FFF0-FFF8 1BCA0-1BCA3 1D173-1D17A E0000-E0FFF"
)

# The blocks that BERT splits into single characters (CJK ideographs up to extension E, and the
# compatibility ideographs).
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)

# Foldings that Unicode 14 to 16 added.
_NEWER_FOLDS = _folds("""
    1C89=1C8A 2C2F=2C5F A7C0=A7C1 A7CB=264 A7CC=A7CD A7D0=A7D1 A7D6=A7D7 A7D8=A7D9 A7DA=A7DB
    A7DC=19B A7F2=63 A7F3=66 A7F4=71 10570-1057A=10597 1057C-1058A=105A3 1058C-10592=105B3
    10594-10595=105BB 105C9=105D2+307 105E4=105DA+307 10781-10782=2D0 10783=E6 10784=299
    10785=253 10787=2A3 10788=AB66 10789=2A5 1078A=2A4 1078B-1078C=256 1078D=1D91 1078E=258
    1078F=25E 10790=2A9 10791=264 10792=262 10793=260 10794=29B 10795=127 10796=29C 10797=267
    10798=284 10799-1079A=2AA 1079B=26C 1079C=1DF04 1079D=A78E 1079E=26E 1079F=1DF05 107A0=28E
    107A1=1DF06 107A2=F8 107A3-107A4=276 107A5=71 107A6=27A 107A7=1DF08 107A8-107A9=27D
    107AA=280 107AB=2A8 107AC=2A6 107AD=AB67 107AE=2A7 107AF=288 107B0=2C71 107B2=28F
    107B3-107B4=2A1 107B5=298 107B6-107B8=1C0 107B9=1DF0A 107BA=1DF1E 10D50-10D65=10D70
    11383=11382+113C9 11385=11384+113BB 1138E=1138B+113C2 11391=11390+113C9 113C5=113C2+113C2
    113C7=113C2+113B8 113C8=113C2+113C9 16121=1611E+1611E 16122=1611E+16129 16123=1611E+1611F
    16124=16129+1611F 16125=1611E+16120 16126=1611E+1611E+1611F 16127=1611E+16129+1611F
    16128=1611E+1611E+16120 16D68=16D67+16D67 16D69=16D63+16D67 16D6A=16D63+16D67+16D67
    1CCD6-1CCEF=61 1CCF0-1CCF9=30 1E030-1E038=430 1E039-1E03B=43A 1E03C-1E046=43E 1E047=44B
    1E048-1E049=44D 1E04A=A689 1E04B=4D9 1E04C=456 1E04D=458 1E04E=4E9 1E04F=4AF 1E050=4CF
    1E051-1E059=430 1E05A-1E05B=43A 1E05C-1E05D=43E 1E05E=441 1E05F-1E064=443 1E065-1E066=44A
    1E067=491 1E068=456 1E069=455 1E06A=45F 1E06B=4AB 1E06C=A651 1E06D=4B1
""")

# Canonical combining classes that Unicode 14 to 16 added.
_NEWER_CLASSES = {
    point: number
    for number, ranges in {
        7: "C3C",
        9: "1715 11070 113CE-113D0 11F41-11F42 1612F",
        218: "1DFA",
        220: "899-89B 8CF-8D2 1AC3-1AC4 1ACA 10EFD-10EFF 10F83 10F85 1E4EE 1E5EF",
        230: "897-898 89C-89F 8CA-8CE 1AC1-1AC2 1AC5-1AC9 1ACB-1ACE 10D69-10D6D 10F82 10F84 "
        "1E08F 1E2AE 1E4EF 1E5EE",
        232: "1E4EC-1E4ED",
    }.items()
    for point in _ranges(ranges)
}

_DROP, _SPACE, _ALONE, _LETTER = range(4)

# Kinds that follow from categories which Unicode 14 and 15 added, or changed (U+1734).
_NEWER_KINDS = {
    point: kind
    for kind, ranges in {
        _DROP: "898-89F 8CA-8D2 C3C ECE 1AC1-1ACE 1DFA 10EFD-10EFF 10F82-10F85 11070 11073-11074 "
        "110C2 11241 11F00-11F01 11F36-11F3A 11F40 11F42 13440 13447-13455 1CF00-1CF2D 1CF30-1CF46 "
        "1E08F 1E2AE 1E4EC-1E4EF",
        _SPACE: "890-891 13439-1343F",
        _ALONE: "61D 1B7D-1B7E 2E53-2E5D 10F86-10F89 116B9 11B00-11B09 11F43-11F4F 12FF1-12FF2",
        _LETTER: "1734",
    }.items()
    for point in _ranges(ranges)
}


@functools.lru_cache(maxsize=1 << 16)
def _fold(char):
    """Returns the folding of one code point: step 1."""
    point = ord(char)
    if point in _NEWER_FOLDS:
        return _NEWER_FOLDS[point]
    if point in _IGNORABLE:
        return ""
    # Twice, since a compatibility form may hide a capital, and a folded one a compatibility form.
    for _ in range(2):
        char = unicodedata.normalize("NFKC", char).casefold()
    return unicodedata.normalize("NFD", unicodedata.normalize("NFKC", char))


@functools.lru_cache(maxsize=1 << 16)
def _combining(char):
    """Returns the canonical combining class of a code point."""
    return _NEWER_CLASSES.get(ord(char)) or unicodedata.combining(char)


@functools.lru_cache(maxsize=1 << 16)
def _kind(char):
    """Returns which of the four kinds of step 3 a folded code point is."""
    point = ord(char)
    if point in _NEWER_KINDS:
        return _NEWER_KINDS[point]
    category = unicodedata.category(char)
    if category == "Mn":
        return _DROP
    if category in ("Cc", "Cf") or char == " ":
        return _SPACE
    if category[0] == "P" or (category[0] == "S" and point < 128):
        return _ALONE
    if any(first <= point <= last for first, last in _IDEOGRAPHS):
        return _ALONE
    return _LETTER


def _ordered(chars):
    """Yields code points with every run of combining marks in canonical order: step 2."""
    run = []
    for char in chars:
        if _combining(char):
            run.append(char)
            continue
        if run:
            yield from sorted(run, key=_combining)
            run.clear()
        yield char
    yield from sorted(run, key=_combining)


def split_words(text):
    """Yields the words of a text, folded, as BERT's basic tokenizer cuts them (steps 1 to 3).

    Args:
        text: a string of any length.

    Yields:
        Strings that are never empty and hold no ASCII space.
    """
    word = []
    for char in _ordered(itertools.chain.from_iterable(map(_fold, text))):
        kind = _kind(char)
        if kind == _LETTER:
            word.append(char)
        elif kind != _DROP:
            if word:
                yield "".join(word)
                word.clear()
            if kind == _ALONE:
                yield char
    if word:
        yield "".join(word)


def read_vocabulary(data, source="the vocabulary"):
    r"""Reads a WordPiece vocabulary file: UTF-8, one piece a line, its id the line counted from 0.

    `\r\n` ends a line, too, and a byte order mark is skipped.

    Args:
        data: the file's bytes.
        source: how errors call it, for example its path.

    Returns:
        A list of strings.

    Raises:
        TokenizerError: if that is not what the bytes are (see `check_vocabulary`).
    """
    if not data:
        raise TokenizerError(
            f"{source} is empty; a WordPiece vocabulary has one piece a line, among them [UNK] "
            "and [CLS]."
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise TokenizerError(
            f"{source} is not a WordPiece vocabulary: byte {e.start} is not UTF-8 text. A "
            "sentencepiece model needs kind='sentencepiece' and is usually called NAME.model."
        ) from None
    if "\0" in text:
        raise TokenizerError(
            f"{source} is not a WordPiece vocabulary: it holds NUL bytes, so it is a binary file."
        )
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if lines[-1] == "":
        lines.pop()
    return check_vocabulary(lines, source)


def check_vocabulary(lines, source="the vocabulary"):
    """Checks the pieces of a WordPiece vocabulary, and returns them as a list.

    Args:
        lines: strings; the place in the list is the id.
        source: how errors call it.

    Raises:
        TokenizerError: if a piece is not a string, empty, holds white space or stands there twice,
            or if [UNK] or [CLS] is missing.
    """
    lines = list(lines)
    first = {}
    for number, piece in enumerate(lines, 1):
        if not isinstance(piece, str):
            raise TokenizerError(
                f"{source}: line {number} is {type(piece).__name__}; expected a string."
            )
        if piece == "" or " " in piece or "\t" in piece or "\n" in piece:
            what = f"holds white space ({_shorten(piece)})" if piece else "is empty"
            raise TokenizerError(
                f"{source}: line {number} {what}; expected one piece a line and nothing else "
                "(scores or ids beside the pieces are another format)."
            )
        if first.setdefault(piece, number) != number:
            raise TokenizerError(
                f"{source}: {_shorten(piece)} stands on line {first[piece]} and again on line "
                f"{number}; every piece has one id."
            )
    missing = [piece for piece in ("[UNK]", "[CLS]") if piece not in first]
    if missing:
        raise TokenizerError(
            f"{source} ({len(lines)} lines) has no line {' and no line '.join(missing)}, which "
            "BERT's tokenizer needs; is it another model's file?"
        )
    return lines


def _shorten(text, limit=40):
    """Returns the representation of a text, cut to what fits in an error message."""
    return repr(text if len(text) <= limit else text[: limit - 3] + "...")


class WordPiece:
    """Texts to ids, equal to `lit_tf.texts.tokenizers.BertTokenizer` on every string.

    Example:
        >>> from lit_tf.texts.wordpiece import WordPiece, read_vocabulary
        >>> encode = WordPiece(read_vocabulary(open("LiT-B16B_2.txt", "rb").read())).encode
        >>> encode("a photo of a cat")  # 16 ids: [CLS], five words, zeros

    Attributes:
        length: how many ids a text becomes.
        vocab_size: the number of pieces.
    """

    def __init__(self, vocab_lines, length=16):
        """Takes the pieces of the vocabulary.

        Args:
            vocab_lines: strings; the place in the list is the id.
            length: how many ids a text becomes, [CLS] included; at least 1.

        Raises:
            TokenizerError: if the vocabulary is refused by `check_vocabulary`, or the length is.
        """
        self._ids = {piece: i for i, piece in enumerate(check_vocabulary(vocab_lines))}
        self.length = check_length(length)
        self._longest = max(map(len, self._ids))
        self._cls = self._ids["[CLS]"]
        self._unknown = [self._ids["[UNK]"]]

    @property
    def vocab_size(self):
        """The number of pieces."""
        return len(self._ids)

    def encode(self, text):
        """Returns the ids of a text.

        Args:
            text: a string.

        Returns:
            A list of `length` ints: [CLS], the text's pieces, zeros.

        Raises:
            TokenizerError: if `text` is not a string, or not one that UTF-8 can express.
        """
        if not isinstance(text, str):
            raise TokenizerError(f"A text is {type(text).__name__}; expected a string.")
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise TokenizerError(f"The text {_shorten(text)} holds half a surrogate pair.")
        ids = [self._cls]
        for word in split_words(text):
            if len(ids) >= self.length:
                break
            ids.extend(self._pieces(word))
        return (ids + [0] * self.length)[: self.length]

    def _pieces(self, word):
        """Returns the ids of a word: step 4."""
        if len(word.encode()) > MAX_WORD_BYTES:
            return self._unknown
        ids, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(min(len(word), start + self._longest), start, -1):
                piece = self._ids.get(prefix + word[start:end])
                if piece is not None:
                    break
            else:
                return self._unknown
            ids.append(piece)
            start = end
        return ids


def check_length(length):
    """Returns a token length, refusing what is not a whole number of at least 1.

    Raises:
        TokenizerError: if it is not.
    """
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise TokenizerError(f"length is {length!r}; expected a whole number of at least 1.")
    return length
