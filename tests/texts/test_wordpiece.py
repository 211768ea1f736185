"""The dependency-free WordPiece equals tensorflow-text's BertTokenizer on all of Unicode."""

import itertools
import shutil
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lit_tf.errors import TokenizerError
from lit_tf.texts import wordpiece
from lit_tf.texts.wordpiece import WordPiece, read_vocabulary, split_words

from ..conftest import REFERENCE

VOCAB = read_vocabulary((REFERENCE / "vocab.txt").read_bytes())
# What Python's Unicode assigns; Unicode 14 changed the category of U+1734, which Python 3.10 lacks.
POINTS = [
    c for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs") and c != 0x1734
]

# Code points that rules treat specially; a text drawn from all of Unicode hardly ever meets two.
MARKS = [c for c in POINTS if unicodedata.combining(chr(c))]
SPECIAL = sorted(
    {
        *MARKS,
        *(0xAD, 0x34F, 0x61C, 0x115F, 0x17B4, 0x3164, 0xFEFF, 0xFFA0, 0x1BCA0, 0x1D173),
        *range(0x250),  # ASCII, controls, Latin letters
        *range(0x370, 0x400),  # Greek
        *range(0x1100, 0x1200),  # Hangul jamo
        *range(0x1F00, 0x2070),  # Greek with accents; spaces, punctuation
        *range(0x3000, 0x3040),
        *range(0xAC00, 0xAC40),  # Hangul syllables
        *range(0xFB00, 0xFB50),  # ligatures
        *range(0xFE00, 0x10000),  # variation selectors, fullwidth
        *range(0x4E00, 0x4E10),
        *range(0x1D15E, 0x1D1C1),  # musical symbols, among them spacing marks with a class
        *range(0x1D400, 0x1D440),
        *range(0xE0000, 0xE0080),
    }
    & set(POINTS)
)
TEXT = st.one_of(
    st.lists(st.sampled_from(POINTS)).map(lambda x: "".join(map(chr, x))),
    st.lists(st.sampled_from(SPECIAL), max_size=30).map(lambda x: "".join(map(chr, x))),
    st.lists(st.sampled_from(MARKS), max_size=12).map(lambda x: "a" + "".join(map(chr, x))),
    st.lists(st.sampled_from([v.removeprefix("##") for v in VOCAB[100:]]), max_size=30).map(
        "".join
    ),
)


@pytest.fixture(scope="module")
def theirs():
    """tensorflow-text's tokenizer."""
    import tensorflow as tf
    import tensorflow_text

    return tensorflow_text.BertTokenizer(
        str(REFERENCE / "vocab.txt"), token_out_type=tf.int32, lower_case=True
    )


def their_words(theirs, texts):
    return [[w.decode() for w in row] for row in theirs._basic_tokenizer.tokenize(texts).to_list()]


def test_ids_equal_the_reference(fixture_module, reference):
    encode = WordPiece(VOCAB).encode
    ids = [encode(text) for text in fixture_module.TEXTS]
    np.testing.assert_array_equal(ids, reference("towers")["bert_tokens"])


@pytest.fixture(scope="module")
def texts():
    """Texts in which every code point of Unicode stands once, between two letters.

    So it shows whether a code point separates words, stands alone or vanishes.
    """
    return [
        " ".join(f"a{chr(point)}b" for point in POINTS[start : start + 512])
        for start in range(0, len(POINTS), 512)
    ]


def test_every_code_point_is_treated_as_tensorflow_text_does(theirs, texts):
    for text, expected in zip(texts, their_words(theirs, texts), strict=True):
        assert list(split_words(text)) == expected


@settings(max_examples=200, deadline=None)
@given(TEXT)
@example("İstanbul ISPARTA ı")  # Turkish dotted capital and dotless small i
@example("ὈΔΥΣΣΕΎΣ Ὀδυσσεύς")  # final sigma
@example("ﬁre ﬀ ﬃ ŉ ǆ ß ẞ")  # ligatures and digraphs
@example("e\u0301 \u00e9 \u1e69 s\u0323\u0307 s\u0307\u0323")  # composed, decomposed, reordered
@example("\u0345\u302e \U0001d165\U0001d16d\U0001d165")  # marks whose order survives
@example("한국어 \u1112\u1161\u11ab")  # Hangul syllables and jamo
@example("中国 猫cat猫 \U00020000\U0002f800 \uf900")  # ideographs of every block
@example("a\u200bb a\u00adb a\u2060b \ufeffc")  # ignorable, though Cf
@example("a\x00b\x7fc\x85d\u2028e\u00a0f\u3000g\x0bh")  # controls and spaces
@example("$5 `x` ^_^ ~ €5 ＋ § ° «q» ¿")  # ASCII symbols stand alone, others do not
@example("x" * 100)
@example("x" * 101)
@example("é" * 100)  # the accents are gone before bytes are counted
@example("ж" * 50 + " " + "ж" * 51)
@example("[CLS] [UNK] ##s # ##")
def test_any_text_gives_the_same_words_and_ids(theirs, text):
    assert list(split_words(text)) == their_words(theirs, [text])[0]
    ids = theirs.tokenize([text]).merge_dims(-2, -1).to_list()[0]
    assert WordPiece(VOCAB, len(ids) + 2).encode(text) == [101, *ids, 0]


def test_longest_piece_wins_without_going_back():
    import tensorflow as tf
    import tensorflow_text

    pieces = "[UNK] [CLS] a ab ##c ##cd ##d ##ef abcde ## 猫 ##猫".split()
    table = tf.lookup.StaticVocabularyTable(
        tf.lookup.KeyValueTensorInitializer(pieces, tf.range(len(pieces), dtype=tf.int64)), 1
    )
    tokenizer = tensorflow_text.BertTokenizer(table, lower_case=True)
    encode = WordPiece(pieces, 12).encode
    texts = [
        "".join(letters) for n in (1, 4, 5) for letters in itertools.product("abcdef猫", repeat=n)
    ]
    theirs = tokenizer.tokenize(texts).merge_dims(-2, -1).to_list()
    for text, ids in zip(texts, theirs, strict=True):
        assert encode(text) == [1, *ids] + [0] * (11 - len(ids)), text


@pytest.mark.parametrize("length", [1, 2, 5, 16])
def test_length_is_cut_and_filled(length):
    long = WordPiece(VOCAB, 100).encode("a bad photo")
    assert WordPiece(VOCAB, length).encode("a bad photo") == (long + [0] * length)[:length]


def test_a_very_long_text_costs_no_more_than_its_folding():
    encode = WordPiece(VOCAB).encode
    assert encode("cat " * 100_000)[:4] == encode("cat cat cat")[:4]
    assert encode("x" * 100_000) == [101, 100] + [0] * 14


def test_what_is_not_a_text_is_refused():
    encode = WordPiece(VOCAB).encode
    for text in (None, 3, b"bytes", ["a"]):
        with pytest.raises(TokenizerError, match=f"A text is {type(text).__name__}"):
            encode(text)
    with pytest.raises(TokenizerError, match="surrogate"):
        encode("\ud83d")


def test_bad_vocabularies_are_refused():
    for pieces, message in [
        (["a"], r"no line \[UNK\]"),
        (["[UNK]", "[CLS]", "a", "a"], "line 3 and again on line 4"),
        (["[UNK]", "[CLS]", 3], "line 3 is int"),
        ([], r"\(0 lines\)"),
    ]:
        with pytest.raises(TokenizerError, match=message):
            WordPiece(pieces)
    with pytest.raises(TokenizerError, match="length is 0"):
        WordPiece(VOCAB, 0)


def test_it_works_alone_wherever_it_is_copied(tmp_path):
    shutil.copy(wordpiece.__file__, tmp_path)
    code = (
        "import sys; sys.modules['lit_tf'] = None; from wordpiece import TokenizerError, WordPiece;"
        "print(WordPiece(['[UNK]', '[CLS]', 'e'], 3).encode('é'));"
        "print([m for m in ('numpy', 'tensorflow', 'keras') if m in sys.modules])"
    )
    run = [sys.executable, "-c", code]
    out = subprocess.run(run, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert out.stdout.splitlines() == ["[1, 2, 0]", "[]"]
