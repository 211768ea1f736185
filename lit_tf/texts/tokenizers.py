"""Strings to token ids: the same code eagerly, inside `tf.data` and inside a SavedModel.

Both tokenizers are callables from (N,) strings to (N, length) int32, as the published text towers
were trained: `bert` puts [CLS] in front, adds no [SEP] and pads with 0; `sentencepiece` appends the
end of the text and pads as the model file says (see `SentencePieceTokenizer`).

For ids without TensorFlow see `lit_tf.texts.wordpiece`.
"""

import functools
import os
import re
import uuid
import weakref
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_text as tf_text
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from lit_tf.errors import TokenizerError
from lit_tf.files import read_bytes
from lit_tf.sequences import to_list
from lit_tf.texts import cleaning
from lit_tf.texts.wordpiece import check_length, check_vocabulary, read_vocabulary


def check_texts(texts: Any) -> tf.Tensor:
    """Returns texts as a string tensor, refusing by its index what is not a text."""
    if tf.is_tensor(texts) or isinstance(texts, tf.Variable):
        if isinstance(texts, (tf.RaggedTensor, tf.SparseTensor)) or texts.dtype != tf.string:
            raise TokenizerError(
                f"The texts are a {type(texts).__name__} of {texts.dtype.name}; expected a string "
                "tensor of shape (N,). For ids that are tokens already, use `encode_tokens`."
            )
        if texts.shape.rank not in (0, 1):
            raise TokenizerError(f"The texts have shape {texts.shape}; expected (N,) or ().")
        return texts
    if isinstance(texts, (str, bytes)):
        return tf.constant(_utf8(texts, "The text"))
    try:
        texts = to_list(texts)
    except TypeError as e:
        raise TokenizerError(
            f"The texts are {type(texts).__name__}, which {e}; expected a list of strings."
        ) from None
    return tf.constant([_utf8(x, f"Text {i}") for i, x in enumerate(texts)], tf.string)


def _utf8(text, what):
    """Returns the bytes of a text in UTF-8; `what` is how errors call it."""
    if isinstance(text, tf.Tensor) and text.dtype == tf.string and text.shape.rank == 0:
        text = text.numpy()
    if not isinstance(text, (str, bytes)):
        raise TokenizerError(f"{what} is {type(text).__name__} ({text!a:.40}); expected a string.")
    try:
        data = text.encode() if isinstance(text, str) else bytes(text)
        data.decode()
    except UnicodeError as e:
        raise TokenizerError(f"{what} ({text!a:.40}) is not valid Unicode: {e}.") from None
    return data


_CALLS_BEFORE_TRACING = 10


class _Tokenizer(tf.Module):
    """What the two share; a `tf.Module`, so that a SavedModel takes the vocabulary along."""

    kind: str
    lowercase = True
    preprocessing = "big_vision"

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = check_length(length)
        self._eager_calls, self._graph = 0, None

    def __call__(self, texts: Any) -> tf.Tensor:
        """Returns the ids of texts (N,) as int32 (N, length), or of one text as (length,)."""
        texts = check_texts(texts)
        batch = texts[tf.newaxis] if texts.shape.rank == 0 else texts
        ids = self._encode_eagerly(batch) if tf.executing_eagerly() else self._encode(batch)
        ids.set_shape([batch.shape[0], self.length])
        return ids[0] if texts.shape.rank == 0 else ids

    def _encode_eagerly(self, texts):
        """As `_encode`. After ten calls, one graph replaces a hundred small operations.

        A short text then takes 0.4 ms, not 9. Tracing takes as long as 40 calls.
        """
        self._eager_calls += 1
        if self._eager_calls < _CALLS_BEFORE_TRACING:
            return self._encode(texts)
        if self._graph is None:
            # A bound method would keep this object alive until the garbage collector runs.
            encode, spec = weakref.WeakMethod(self._encode), tf.TensorSpec([None], tf.string)
            function = tf.function(lambda x: encode()(x), input_signature=[spec], autograph=False)
            # The lambda hides the function, which a SavedModel would save as an attribute.
            self._graph = lambda texts: function(texts)
        return self._graph(texts)

    def to_bytes(self) -> bytes:
        """Returns the vocabulary's file; `tokenizer_from_bytes` makes the tokenizer again."""
        return self._data

    def _own_file(self, name):
        """Returns a file of the vocabulary in TensorFlow's memory; it goes with the tokenizer.

        A SavedModel copies its assets when it is saved, and by then the file that the caller read
        may be gone, or there never was one. Memory is not shared with a forked process.
        """
        path = f"ram://lit_tf/{uuid.uuid4().hex}/{name}"
        with tf.io.gfile.GFile(path, "wb") as file:
            file.write(self._data)
        weakref.finalize(self, tf.io.gfile.remove, path).atexit = False
        return path

    def __reduce__(self):
        # Beam and multiprocessing pickle tokenizers, but tables and resources cannot be pickled.
        how = (self.length, self.lowercase, self.preprocessing)
        return tokenizer_from_bytes, (self.kind, self.to_bytes(), *how)

    def with_length(self, length: int) -> Any:
        """Returns the same tokenizer for another number of tokens."""
        make, (kind, data, _, *how) = self.__reduce__()
        return make(kind, data, length, *how)


class BertTokenizer(_Tokenizer):
    """BERT's lower-casing WordPiece: [CLS], the text's pieces, zeros.

    Examples:
        >>> tokenizer = BertTokenizer("LiT-B16B_2.txt")
        >>> tokenizer(["a photo of a cat"])  # int32 (1, 16)
    """

    kind = "bert"

    def __init__(self, vocab: str | os.PathLike | bytes | Sequence[str], length: int = 16) -> None:
        """Reads a text file with one piece a line, given by path or bytes, or a list of pieces."""
        super().__init__(length)
        if isinstance(vocab, (bytes, bytearray)):
            pieces = read_vocabulary(bytes(vocab))
        elif isinstance(vocab, Sequence) and not isinstance(vocab, str):
            pieces = check_vocabulary(vocab)
        else:
            pieces = read_vocabulary(_read(vocab), vocab)
        self._data = "".join(f"{piece}\n" for piece in pieces).encode()
        self.vocab_size = len(pieces)
        self._cls = pieces.index("[CLS]")
        with tf.init_scope():
            self._tokenizer = tf_text.BertTokenizer(
                self._own_file("vocab.txt"), token_out_type=tf.int32, lower_case=True
            )

    def _encode(self, texts):
        ids = self._tokenizer.tokenize(texts).merge_dims(-2, -1)  # (N, pieces), ragged
        cls = tf.fill([tf.shape(texts)[0], 1], tf.constant(self._cls, tf.int32))
        ids = tf.concat([cls, ids[:, : self.length - 1]], axis=1)
        return ids.to_tensor(default_value=0, shape=[None, self.length])  # (N, length)


class SentencePieceTokenizer(_Tokenizer):
    """A sentencepiece model's ids, cut to `length - 1`, then the end of the text, then padding.

    The model file says which of the two published conventions holds. A BPE model with byte
    fallback is Gemma's kind: SigLIP 2 lower-cases, ends a text with `<eos>` and pads with `<pad>`.
    Any other is T5's kind: LiT and SigLIP end a text with `</s>` and pad with `</s>` too. Of these
    two only SigLIP lower-cases, which no file says.

    Examples:
        >>> tokenizer = SentencePieceTokenizer("LiT-L16Ti.model")
        >>> tokenizer(["a photo of a cat"])  # int32 (1, 16)
    """

    kind = "sentencepiece"

    def __init__(
        self,
        model: str | os.PathLike | bytes,
        length: int = 16,
        lowercase: bool = False,
        preprocessing: str = "big_vision",
    ) -> None:
        """Reads a serialized sentencepiece model, given by path or bytes.

        `lowercase` says whether ASCII letters are lower-cased first; with byte fallback always.
        With `preprocessing` `huggingface` or `open_clip`, texts are cleaned as that library does.
        """
        super().__init__(length)
        self.preprocessing = preprocessing
        if isinstance(model, (bytes, bytearray)):
            self._data, source = bytes(model), "the model"
        else:
            self._data, source = _read(model), os.fspath(model)
        if not self._data:
            raise TokenizerError(f"{source} is empty; expected a sentencepiece model.")
        with tf.init_scope():
            try:
                self._tokenizer = tf_text.SentencepieceTokenizer(self._data, out_type=tf.int32)
            except tf.errors.OpError:
                raise TokenizerError(
                    f"{source} is not a sentencepiece model, or not a whole one "
                    f"({len(self._data)} bytes). A list of WordPieces needs kind='bert' and is "
                    "usually called NAME.txt."
                ) from None
            proto = sentencepiece_message().FromString(self._data)
            trainer, pieces = proto.trainer, len(proto.pieces)
            self.byte_fallback = trainer.byte_fallback and trainer.model_type == BPE
            self.lowercase = lowercase or self.byte_fallback
            self.vocab_size = self._without_sentinels(pieces)
            if preprocessing == "huggingface":
                pieces += 1
                data = _spelling(proto, self.byte_fallback)
                self._tokenizer = tf_text.SentencepieceTokenizer(data, out_type=tf.int32)
            self.has_sentinels = self.vocab_size < pieces
            self.unk = int(self._tokenizer.string_to_id("\0"))  # no piece, so the unknown one's
            self.eos = self.pad = self._id(trainer.eos_piece, "ends", source)
            if self.byte_fallback:
                self.pad = self._id(trainer.pad_piece, "pads", source)
            # For people who open a SavedModel: the operation embeds its own copy of the model.
            self._asset = tf.saved_model.Asset(self._own_file("vocab.model"))

    def _id(self, piece, does, source):
        """Returns the id of a control piece, which `does` something to texts."""
        found = int(self._tokenizer.string_to_id(piece))
        if self._tokenizer.id_to_string(found) != piece.encode():
            raise TokenizerError(f"{source} has no piece {piece}, which {does} a text.")
        return found

    def _without_sentinels(self, size):
        """Returns the number of pieces, of `size`, without T5's sentinels at the end.

        mC4's vocabulary of 250,000 pieces is published with 100 more, `<extra_id_0>` and so on,
        for which SigLIP's token table has no rows.
        """
        while size and _SENTINEL.fullmatch(self._tokenizer.id_to_string(size - 1).numpy()):
            size -= 1
        return size

    def __call__(self, texts: Any) -> tf.Tensor:
        """Returns the ids of texts (N,) as int32 (N, length), or of one text as (length,)."""
        if self.preprocessing == "open_clip":
            texts = cleaning.open_clip(check_texts(texts))
        return super().__call__(texts)

    def _encode(self, texts):
        first = 0  # which piece the text begins with
        if self.preprocessing != "huggingface":
            # Without an encoding, so ASCII letters only.
            texts = tf.strings.lower(texts) if self.lowercase else texts
        elif not self.byte_fallback:
            texts, first = cleaning.huggingface(texts), 1
        ids = self._tokenizer.tokenize(texts)[:, first : first + self.length - 1]
        if self.has_sentinels:  # no table has rows for them
            flat = ids.flat_values
            ids = ids.with_flat_values(tf.where(flat < self.vocab_size, flat, self.unk))
        eos = tf.fill([tf.shape(texts)[0], 1], tf.constant(self.eos, tf.int32))
        ids = tf.concat([ids, eos], axis=1)
        return ids.to_tensor(default_value=self.pad, shape=[None, self.length])  # (N, length)


def _spelling(model, byte_fallback):
    """Returns a sentencepiece model in which Hugging Face's special tokens can be spelt out.

    The piece `<unk>` comes a second time, as the last one. The space before a text is left out.
    """
    special = ("<pad>", "<eos>", "<bos>") if byte_fallback else ("</s>",)
    for piece in model.pieces:
        if piece.type == UNKNOWN:
            unknown, piece.piece = piece.piece, "<unknown>"
        elif piece.piece in special:
            piece.type = USER_DEFINED
    model.pieces.add(piece=unknown, type=USER_DEFINED)
    model.normalizer.add_dummy_prefix = False
    return model.SerializeToString()


_SENTINEL = re.compile("(▁)?<extra_id_[0-9]+>".encode())
UNIGRAM, BPE = 1, 2  # TrainerSpec.ModelType of sentencepiece_model.proto
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6  # SentencePiece.Type

# The part of sentencepiece_model.proto that is needed here; other fields are skipped.
_MESSAGES = {
    "Trainer": "model_type:3:INT32 byte_fallback:35:BOOL eos_piece:47:STRING pad_piece:48:STRING"
    " unk_piece:45:STRING",
    "Piece": "piece:1:STRING score:2:FLOAT type:3:INT32",
    "Normalizer": "name:1:STRING precompiled_charsmap:2:BYTES add_dummy_prefix:3:BOOL"
    " remove_extra_whitespaces:4:BOOL",
    "Model": "trainer:2:Trainer pieces:1:Piece normalizer:3:Normalizer",
}
_DEFAULTS = {"eos_piece": "</s>", "pad_piece": "<pad>"}


@functools.cache
def sentencepiece_message():
    """Returns the protobuf message class of a sentencepiece model.

    The package `sentencepiece` brings one, but nothing else here needs that package.
    """
    file = descriptor_pb2.FileDescriptorProto(name="lit_tf/sentencepiece.proto", package="lit_tf")
    for message, fields in _MESSAGES.items():
        listed = file.message_type.add(name=message).field
        for field in fields.split():
            name, number, kind = field.split(":")
            added = listed.add(name=name, number=int(number), default_value=_DEFAULTS.get(name))
            added.label = added.LABEL_REPEATED if name == "pieces" else added.LABEL_OPTIONAL
            if kind in _MESSAGES:
                added.type, added.type_name = added.TYPE_MESSAGE, f".lit_tf.{kind}"
            else:
                added.type = added.Type.Value(f"TYPE_{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("lit_tf.Model"))


def tokenizer_from_bytes(
    kind: str,
    data: str | os.PathLike | bytes,
    length: int = 16,
    lowercase: bool = False,
    preprocessing: str = "big_vision",
) -> BertTokenizer | SentencePieceTokenizer:
    """Makes a tokenizer of a vocabulary file's bytes, or of its path."""
    if kind == "bert":
        return BertTokenizer(data, length)
    return SentencePieceTokenizer(data, length, lowercase, preprocessing)


def _read(path):
    try:
        return read_bytes(path)
    except (OSError, TypeError) as e:
        raise TokenizerError(f"Cannot read the vocabulary {path}: {e}") from None
