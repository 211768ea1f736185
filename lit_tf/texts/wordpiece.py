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
15 (its RE2); this file takes both from Python's, 13 (Python 3.10) to 15.1 (3.13). They agree on
every code point that Python's Unicode assigns, but for U+1734, whose category Unicode 14 changed.

This file works alone, too: copy it to where there is no lit_tf.
"""

import functools
import itertools
import unicodedata

try:
    from lit_tf.errors import TokenizerError
except ModuleNotFoundError:  # this file alone

    class TokenizerError(Exception):  # type: ignore[no-redef]
        """A vocabulary or a text cannot be used."""


MAX_WORD_BYTES = 100


# Default_Ignorable_Code_Point; the unassigned among them are reserved for it, so the list is final.
_IGNORABLE = (
    *((0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5)),
    *((0x180B, 0x180F), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164)),
    *((0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8)),
    *((0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
)

# The blocks that BERT splits into single characters (CJK ideographs up to extension E, and the
# compatibility ideographs).
_IDEOGRAPHS = (
    *((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F)),
    *((0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)),
)

_DROP, _SPACE, _ALONE, _LETTER = range(4)


def _within(char, blocks):
    """Whether a code point is in one of some (first, last) blocks."""
    return any(first <= ord(char) <= last for first, last in blocks)


@functools.lru_cache(maxsize=1 << 16)
def _fold(char):
    """Returns the folding of one code point: step 1."""
    if _within(char, _IGNORABLE):
        return ""
    # Twice, since a compatibility form may hide a capital, and a folded one a compatibility form.
    for _ in range(2):
        char = unicodedata.normalize("NFKC", char).casefold()
    return unicodedata.normalize("NFD", unicodedata.normalize("NFKC", char))


@functools.lru_cache(maxsize=1 << 16)
def _kind(char):
    """Returns which of the four kinds of step 3 a folded code point is."""
    category = unicodedata.category(char)
    if category == "Mn":
        return _DROP
    if category in ("Cc", "Cf") or char == " ":
        return _SPACE
    mark = category[0] == "P" or (category[0] == "S" and ord(char) < 128)
    return _ALONE if mark or _within(char, _IDEOGRAPHS) else _LETTER


def _ordered(chars):
    """Yields code points with every run of combining marks in canonical order: step 2."""
    for are_marks, run in itertools.groupby(chars, lambda char: unicodedata.combining(char) > 0):
        if are_marks:
            yield from sorted(run, key=unicodedata.combining)
        else:
            yield from run


def split_words(text):
    """Yields the words of a text, folded, as BERT's basic tokenizer cuts them (steps 1 to 3)."""
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
    r"""Returns the pieces of a WordPiece vocabulary file's bytes, checked by `check_vocabulary`.

    It is UTF-8 with one piece a line, whose id is the line counted from 0. `\r\n` ends a line, too,
    and a byte order mark is skipped. Errors call it `source`.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise TokenizerError(
            f"{source} is not a WordPiece vocabulary: byte {e.start} is not UTF-8 text. A "
            "sentencepiece model needs kind='sentencepiece' and is usually called NAME.model."
        ) from None
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if lines[-1] == "":
        lines.pop()
    return check_vocabulary(lines, source)


def check_vocabulary(lines, source="the vocabulary"):
    """Returns the pieces of a vocabulary as a list, or raises TokenizerError."""
    lines = list(lines)
    first = {}
    for number, piece in enumerate(lines, 1):
        if not isinstance(piece, str):
            raise TokenizerError(f"{source}: line {number} is {type(piece).__name__}, not a string")
        if not piece or set(piece) & set(" \t\n\0"):
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

    Examples:
        >>> from lit_tf.texts.wordpiece import WordPiece, read_vocabulary
        >>> encode = WordPiece(read_vocabulary(open("LiT-B16B_2.txt", "rb").read())).encode
        >>> encode("a photo of a cat")  # 16 ids: [CLS], five words, zeros
    """

    def __init__(self, vocab_lines, length=16):
        """Takes the pieces, whose places are their ids, and how many ids a text becomes."""
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
        """Returns the ids of a string, a list of `length` ints: [CLS], its pieces, zeros."""
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
    """Returns a token length, or raises TokenizerError."""
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise TokenizerError(f"length is {length!r}; expected a whole number of at least 1.")
    return length
