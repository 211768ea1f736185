"""Writes texts and their ids, for ports of the tokenizers to other languages.

    python tests/reference/make_tokenizer_vectors.py

A port (Kotlin, Swift, JavaScript, ...) is right if it follows the algorithm in
`lit_tf/texts/wordpiece.py` and gives these ids with this vocabulary. The ids are those of
tensorflow-text. If lit_tf.texts.wordpiece gives other ids, nothing is written.

sentencepiece_vectors.json has the same for the two sentencepiece models in tests/reference.
"""

import json
import pathlib
import random

from lit_tf.files import write_text

PATH = pathlib.Path(__file__).parents[2] / "export" / "tokenizer_vectors.json"
SENTENCEPIECE = PATH.with_name("sentencepiece_vectors.json")
LENGTH = 16
TEXTS = [
    "",
    " ",
    "a photo of a cat",
    "A close-up photo of the DOG.",
    "unhappily photographed boats",
    "e-mail@example.com 12:30",
    "caf\u00e9 na\u00efve \u00c4rger \u00c7elik \u00f8re",
    "cafe\u0301 nai\u0308ve",
    "Stra\u00dfe STRASSE stra\u1e9ee",
    "\u0130stanbul Istanbul \u0131stanbul",
    "\u039f\u0394\u039f\u03a3 \u03bf\u03b4\u03cc\u03c2",
    "\ufb01sh \u2460 \u00bd \u2122",
    "\uff21\u3000\uff46\uff55\uff4c\uff4c\uff57\uff49\uff44\uff54\uff48 cat",
    "\u4e2d\u56fd\u306e\u732b",
    "\ud55c\uad6d\uc5b4 \uace0\uc591\uc774",
    "emoji \U0001f431 and \u2602\ufe0f",
    "soft\u00adhyphen zero\u200bwidth no\u00a0break",
    "tab\tand\nnewline\rreturn",
    "control\u0007char nul\u0000",
    "[CLS] a [SEP] [MASK]",
    "it\u2019s \u201csmart\u201d \u2014 quotes\u2026",
    "$5 + \u20ac3 = \u00a32 ^ ` | ~ <tag>",
    "x" * 100,
    "x" * 101,
    "a bad photo of the large red bicycle next to the small blue truck on the street near the city",
    "line\u2028separator ogham\u1680space",
    # A word is limited to 100 bytes, not characters.
    "\u00f8" * 50,
    "\u00f8" * 51,
    # Spacing marks (Mc) are letters; nonspacing ones (Mn) are dropped.
    "\u0915\u093e \u0915\u0941 \u0c15\u0c3e",
    # Ideographs stand alone beyond U+FFFF too, and code points there are one character.
    "\U00020000\U0002f800\u4e2d \U0001f431\U0001f600",
    # Marks are put in the order of their classes, also across code points.
    "a\u302e\U0001d165 a\U0001d165\u302e",
    "a\u0327\u302e\u0301\U0001d16d b",
]


def vectors() -> dict:
    """Returns the contents of the file.

    Raises:
        RuntimeError: the two tokenizers disagree.
    """
    from lit_tf.texts import tokenizers
    from lit_tf.texts import wordpiece

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = (
        "a an and the photo of cat dog boat ##s ##ed close up street red blue truck small large "
        "bad next to on near cafe naive arger celik fish cl tag it mail example com 12 30 happ "
        "un ##happ ##ily photograph emoji smart quote strasse istanbul nul char"
    ).split()
    marks = list(".,-:@[]'\"$+=^`|~<>\u2019\u201c\u201d\u2014\u2026") + ["\u4e2d", "\u732b"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *marks]
    vocabulary += [c for c in letters] + [f"##{c}" for c in letters]
    vocabulary += ["\u00f8", "##\u00f8", "\u0915", "##\u093e", "\u0c15", "\U00020000", "\u4e3d"]
    vocabulary += ["##\u302e", "##\U0001d165", "##\U0001d16d", "\U0001f431", "##\U0001f600"]
    vocabulary = list(dict.fromkeys(vocabulary))
    rng = random.Random(0)
    alphabet = "abc \u00e9\u0301\u00df\ufb03\u0130-.\u4e2d\u200b\u1100\uff21"
    texts = TEXTS + ["".join(rng.choices(alphabet, k=rng.randint(1, 12))) for _ in range(40)]
    ids = tokenizers.BertTokenizer(vocabulary, LENGTH)(texts).numpy().tolist()
    plain = wordpiece.WordPiece(vocabulary, LENGTH)
    for text, expected in zip(texts, ids, strict=True):
        if plain.encode(text) != expected:
            raise RuntimeError(f"{text!r}: {plain.encode(text)}, but tensorflow-text: {expected}")
    return {
        "about": "ids of tensorflow_text.BertTokenizer(lower_case=True) as LiT uses them; the "
        "algorithm is described in lit_tf/texts/wordpiece.py",
        "length": LENGTH,
        "vocabulary": vocabulary,
        "vectors": [{"text": t, "ids": i} for t, i in zip(texts, ids, strict=True)],
    }


def sentencepiece_vectors() -> dict:
    """Returns the contents of the second file."""
    from lit_tf.texts.tokenizers import SentencePieceTokenizer

    more = ["two  spaces  ", "\u00a0\u3000wide", "\u2581already", "</s> <s> <unk> <pad>", "\u732b" * 9]
    models = []
    for file, length, lowercase in (
        ("sentencepiece.model", 16, False),  # LiT's small text towers
        ("sentencepiece.model", 64, True),  # SigLIP
        ("bytes_bpe.model", 64, True),  # SigLIP 2
    ):
        data = (pathlib.Path(__file__).parent / file).read_bytes()
        tokenizer = SentencePieceTokenizer(data, length, lowercase)
        texts = TEXTS[:40] + more
        rows = tokenizer(texts).numpy().tolist()
        models.append({
            "file": file,
            "length": length,
            "lowercase": lowercase,
            "eos": tokenizer.eos,
            "pad": tokenizer.pad,
            "unk": tokenizer.unk,
            "size": tokenizer.vocab_size,
            "vectors": [{"text": t, "ids": i} for t, i in zip(texts, rows, strict=True)],
        })
    return {"about": "ids of the sentencepiece models in tests/reference", "models": models}


def to_json(value: dict) -> str:
    """Returns the file's text: ASCII, one vector a line."""
    rows = ",\n".join("  " + json.dumps(v) for v in value["vectors"])
    head = {k: v for k, v in value.items() if k != "vectors"}
    return json.dumps(head)[:-1] + ',\n "vectors": [\n' + rows + "\n ]}\n"


if __name__ == "__main__":
    write_text(PATH, to_json(vectors()))
    write_text(SENTENCEPIECE, json.dumps(sentencepiece_vectors()) + "\n")
    print(f"Wrote {PATH} and {SENTENCEPIECE}")
