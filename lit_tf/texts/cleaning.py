"""What Hugging Face and open_clip do to a SigLIP's texts before the vocabulary."""

import html
import string

import tensorflow as tf

from lit_tf.errors import TokenizerError, extra

_SPACE = r"[\t-\r\x1c-\x1f\x{85}\p{Z}]"  # Python's \s
_PREFIX = "\u2581"  # sentencepiece's space
# Code points for private use stand for special tokens that a text spells out.
_SPELT = {"</s>": "\ue000", "<unk>": "\ue001"}
_MARKS = "".join(_SPELT.values())
# Pairs of a pattern and what replaces it, before and after letters are lower-cased.
_BEFORE = ((f"[{_MARKS}]", ""), (_PREFIX, " "), *_SPELT.items(), ("\u03a3", "\u03c3"))
_AFTER = (
    (r"[[:punct:]]", ""),
    (f"{_SPACE}+", " "),
    (f" ?([{_MARKS}]) ?", r"\1"),
    ("^ | $", ""),
    (f"^([^{_MARKS}])", rf"{_PREFIX}\1"),
    *((mark, token) for token, mark in _SPELT.items()),
    ("^", "<unk>"),  # else sentencepiece would remove the space
)
_NO_PUNCTUATION = str.maketrans("_", " ", string.punctuation.replace("_", ""))


def huggingface(texts: tf.Tensor) -> tf.Tensor:
    """Returns texts (N,) as transformers' SiglipTokenizer gives them to sentencepiece.

    Lower-cased letter by letter, without ASCII punctuation, white space folded. A token `<unk>`, to
    be dropped, comes first, and then the space before the first word, if that is a word.
    """
    for pattern, new in _BEFORE:
        texts = tf.strings.regex_replace(texts, pattern, new)
    texts = tf.strings.lower(texts, encoding="utf-8")
    for pattern, new in _AFTER:
        texts = tf.strings.regex_replace(texts, pattern, new)
    return texts


def open_clip(texts: tf.Tensor) -> tf.Tensor:
    """Returns eager texts as open_clip's `clean="canonicalize"` leaves them."""
    if not tf.executing_eagerly():
        raise TokenizerError(
            "open_clip cleans texts with the package ftfy, which cannot run in a graph; tokenize "
            "outside of it, with model.tokenize(texts), and pass the tokens"
        )
    with extra("huggingface"):
        import ftfy

    def clean(text):
        text = html.unescape(html.unescape(ftfy.fix_text(text.decode()))).strip()
        return " ".join(text.translate(_NO_PUNCTUATION).lower().split())

    flat = [clean(text) for text in tf.reshape(texts, [-1]).numpy()]
    return tf.reshape(tf.constant(flat, tf.string), tf.shape(texts))
