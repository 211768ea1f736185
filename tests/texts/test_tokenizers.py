"""The tokenizers: the reference's ids, wherever they run, and clear errors for bad vocabularies."""

import copy
import gc
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import weakref

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.protobuf import saved_model_pb2

from lit_tf.errors import TokenizerError
from lit_tf.texts.tokenizers import (
    _CALLS_BEFORE_TRACING,
    BertTokenizer,
    SentencePieceTokenizer,
    tokenizer_from_bytes,
)

from ..conftest import REFERENCE
from ..vocabularies import spm_bytes

VOCAB = REFERENCE / "vocab.txt"
SPM = REFERENCE / "sentencepiece.model"
BPE = REFERENCE / "bytes_bpe.model"


@pytest.fixture(scope="module")
def bert():
    return BertTokenizer(VOCAB)


@pytest.fixture(scope="module")
def spm():
    return SentencePieceTokenizer(SPM)


@pytest.fixture(scope="module", params=["bert", "sentencepiece", "siglip", "siglip2"])
def case(request, bert, spm, fixture_module, reference):
    """(tokenizer, texts, expected ids) of each kind and convention."""
    if request.param == "bert":
        return bert, fixture_module.TEXTS, reference("towers")["bert_tokens"]
    if request.param == "sentencepiece":
        return spm, fixture_module.sp_texts(), reference("towers")["sp_tokens"]
    texts = fixture_module.siglip_texts()
    if request.param == "siglip":
        tokenizer = SentencePieceTokenizer(SPM, 64, lowercase=True)
    else:  # the file alone says that it is of Gemma's kind
        tokenizer = SentencePieceTokenizer(BPE, 64)
    return tokenizer, texts, reference("siglip")[f"{request.param}_tiny/tokens"]


def test_ids_equal_the_reference(case):
    tokenizer, texts, expected = case
    ids = tokenizer(texts)
    assert ids.dtype == tf.int32
    np.testing.assert_array_equal(ids, expected)


def test_ids_are_the_same_in_tf_data_and_statically_shaped(case):
    tokenizer, texts, expected = case
    dataset = tf.data.Dataset.from_tensor_slices(texts)
    batched = dataset.batch(len(texts), drop_remainder=True).map(tokenizer)
    assert batched.element_spec.shape == (len(texts), tokenizer.length)
    np.testing.assert_array_equal(next(iter(batched)), expected)
    single = dataset.map(tokenizer)
    assert single.element_spec.shape == (tokenizer.length,)
    np.testing.assert_array_equal(list(single.as_numpy_iterator()), expected)


def test_saved_model_carries_its_vocabulary(case, tmp_path):
    tokenizer, texts, expected = case

    class Server(tf.Module):
        def __init__(self):
            super().__init__()
            # A tokenizer of its own, whose files are gone before the SavedModel is loaded.
            self.tokenizer = copy.deepcopy(tokenizer)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
        def tokens(self, text):
            return {"tokens": self.tokenizer(text)}

    server = Server()
    tf.saved_model.save(server, tmp_path / "a", signatures=server.tokens)
    del server
    shutil.move(tmp_path / "a", tmp_path / "b")
    if tokenizer.kind == "bert":
        assets = list((tmp_path / "b" / "assets").iterdir())
        assert [a.read_bytes() for a in assets] == [tokenizer.to_bytes()]
    signature = tf.saved_model.load(tmp_path / "b").signatures["serving_default"]
    assert signature.structured_outputs["tokens"].shape.as_list() == [
        None,
        tokenizer.length,
    ]
    np.testing.assert_array_equal(signature(text=tf.constant(texts))["tokens"], expected)


def test_a_model_made_of_bytes_pickled_or_copied_is_the_same(case):
    tokenizer, texts, expected = case
    for again in (
        tokenizer_from_bytes(
            tokenizer.kind, tokenizer.to_bytes(), tokenizer.length, tokenizer.lowercase
        ),
        pickle.loads(pickle.dumps(tokenizer)),
        copy.deepcopy(tokenizer),
    ):
        assert (again.kind, again.vocab_size, again.length) == (
            tokenizer.kind,
            tokenizer.vocab_size,
            tokenizer.length,
        )
        np.testing.assert_array_equal(again(texts), expected)


def test_length_is_cut_and_filled(bert, spm):
    text = ["a bad photo of the large red bicycle"]
    for length in (1, 2, 7, 40):
        short = BertTokenizer(VOCAB, length)(text)[0].numpy()
        assert short.shape == (length,)
        common = min(length, 16)
        np.testing.assert_array_equal(short[:common], bert(text)[0, :common])
        pieces = SentencePieceTokenizer(SPM, length)(text)[0].numpy()
        assert pieces.shape == (length,) and pieces[-1] == 1
        common = min(length, 16) - 1
        np.testing.assert_array_equal(pieces[:common], spm(text)[0, :common])
    for length in (0, -1, 1.5, None, True):
        with pytest.raises(TokenizerError, match="length"):
            BertTokenizer(VOCAB, length)


def test_bpe_with_byte_fallback_ends_with_eos_and_pads_with_pad():
    tokenizer = SentencePieceTokenizer(BPE, 6)
    assert (tokenizer.eos, tokenizer.pad) == (1, 0)
    np.testing.assert_array_equal(tokenizer("")[:2], [1, 0])
    assert tokenizer("word " * 80)[-1] == 1  # cut: the end of the text stands last
    np.testing.assert_array_equal(tokenizer("A CAT"), tokenizer("a cat"))


def test_only_ascii_is_lower_cased():
    tokenizer = SentencePieceTokenizer(BPE, 16)
    np.testing.assert_array_equal(tokenizer("ÄB"), tokenizer("Äb"))
    assert (tokenizer("Ä").numpy() != tokenizer("ä").numpy()).any()
    cased, lower = SentencePieceTokenizer(SPM), SentencePieceTokenizer(SPM, lowercase=True)
    assert (cased("The").numpy() != cased("the").numpy()).any()
    np.testing.assert_array_equal(lower("The"), cased("the"))


def test_sentinels_that_the_published_table_has_no_rows_for_do_not_count(spm):
    data = spm_bytes(SPM.read_bytes(), [f"\u2581<extra_id_{i}>" for i in reversed(range(3))])
    tokenizer = tokenizer_from_bytes("sentencepiece", data)
    assert tokenizer.vocab_size == spm.vocab_size
    ids = tokenizer(["a <extra_id_1> cat", "a cat"]).numpy()  # eagerly, and in a graph
    traced = tf.function(tokenizer)(tf.constant(["a <extra_id_1> cat", "a cat"])).numpy()
    np.testing.assert_array_equal(ids, traced)
    assert tokenizer.unk in ids[0] and ids.max() < spm.vocab_size
    np.testing.assert_array_equal(ids[1:], spm(["a cat"]))


def test_unigram_with_byte_fallback_is_padded_as_t5_does():
    data = spm_bytes(BPE.read_bytes(), model_type=1)
    tokenizer = tokenizer_from_bytes("sentencepiece", data, 4)
    assert not tokenizer.lowercase and tokenizer("").numpy().tolist() == [1, 1, 1, 1]


def test_cls_is_found_wherever_it_stands():
    pieces = ["[PAD]", "cat", "##s", "[UNK]", "[CLS]"]
    assert BertTokenizer(pieces, 5)("cats dogs").numpy().tolist() == [4, 1, 2, 3, 0]


def test_every_form_of_texts_gives_the_same_ids(case):
    tokenizer, texts, _ = case
    texts = [t for t in texts if "\0" not in t]  # NumPy drops trailing NULs by itself
    expected = tokenizer(texts).numpy()
    for form in (
        tuple(texts),
        np.array(texts),
        np.array(texts, object),
        [t.encode() for t in texts],
        [np.str_(t) for t in texts],
        tf.constant(texts),
        (t for t in texts),
    ):
        np.testing.assert_array_equal(tokenizer(form), expected)
    np.testing.assert_array_equal(tokenizer(texts[0]), expected[0])
    np.testing.assert_array_equal(tokenizer(texts[0].encode()), expected[0])
    assert tokenizer([]).shape == (0, tokenizer.length)


@pytest.mark.parametrize(
    "texts, message",
    [
        (["a", None], r"Text 1 is NoneType \(None\)"),
        (["a", "b", 3], r"Text 2 is int \(3\)"),
        ([float("nan")], "Text 0 is float"),
        (["ok", ["nested"]], "Text 1 is list"),
        (["ok", "half \ud83d"], "Text 1 .* not valid Unicode"),
        (["ok", b"\xff\xfe"], "Text 1 .* not valid Unicode"),
        (7, "The texts are int"),
        (None, "The texts are NoneType"),
        (np.zeros((2, 16), np.int32), "Text 0 is ndarray"),
        (tf.zeros((2, 16), tf.int32), "int32.*encode_tokens"),
        (tf.constant([["a"]]), r"shape \(1, 1\)"),
    ],
)
def test_what_is_not_a_text_is_named(bert, spm, texts, message):
    for tokenizer in (bert, spm):
        with pytest.raises(TokenizerError, match=message):
            tokenizer(texts)


def test_very_long_texts(case):
    tokenizer, _, _ = case
    for text in ("cat " * 300_000, "x" * 1_000_000, "\n" * 1_000_000 + "cat", "猫" * 200_000):
        ids = tokenizer([text, "cat"])
        assert ids.shape == (2, tokenizer.length)
        np.testing.assert_array_equal(ids[1], tokenizer("cat"))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(), max_size=4))
def test_any_texts_give_ids_in_range_whatever_stands_beside_them(bert, spm, texts):
    for tokenizer in (bert, spm):
        ids = tokenizer(texts).numpy()
        assert ids.shape == (len(texts), 16)
        assert ids.min(initial=0) >= 0 and ids.max(initial=0) < tokenizer.vocab_size
        for text, row in zip(texts, ids, strict=True):
            np.testing.assert_array_equal(tokenizer(text), row)


GOOD = b"[PAD]\n[UNK]\n[CLS]\na\n##b\n"


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", r"no line \[UNK\]"),
        (b"[PAD]\n[UNK]\na\n", r"no line \[CLS\]"),
        (b"[PAD]\n[CLS]\na\n", r"no line \[UNK\]"),
        (b"a\nb\n", r"no line \[UNK\] and no line \[CLS\]"),
        (GOOD + b"a\n", "'a' stands on line 4 and again on line 6"),
        (GOOD + b"\nc\n", "line 6 is empty"),
        (GOOD + b"c\t-3.5\n", "line 6 holds white space"),
        (b"\xff" + GOOD, "not UTF-8"),
        (GOOD + b"a\0b", "line 6 holds white space"),
        (b'{"version": "1.0",\n "model": {}}', "white space"),
    ],
)
def test_bad_bert_vocabularies_are_refused(tmp_path, data, message):
    path = tmp_path / "vocab.txt"
    path.write_bytes(data)
    with pytest.raises(TokenizerError, match=message) as e:
        BertTokenizer(path)
    assert str(path) in str(e.value)
    with pytest.raises(TokenizerError, match=message):
        tokenizer_from_bytes("bert", data)


@pytest.mark.parametrize("data", [b"", b"\n", GOOD, SPM.read_bytes()[:-1], bytes(100)])
def test_bad_sentencepiece_models_are_refused(tmp_path, data):
    path = tmp_path / "x.model"
    path.write_bytes(data)
    with pytest.raises(TokenizerError, match="sentencepiece model"):
        SentencePieceTokenizer(path)


def test_the_other_kinds_file_is_refused_with_a_hint():
    with pytest.raises(TokenizerError, match="kind='sentencepiece'"):
        BertTokenizer(SPM)
    with pytest.raises(TokenizerError, match="kind='bert'"):
        SentencePieceTokenizer(VOCAB)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(TokenizerError, match="none.txt"):
        BertTokenizer(tmp_path / "none.txt")
    with pytest.raises(TokenizerError, match="Is a directory"):
        BertTokenizer(tmp_path)
    with pytest.raises(TokenizerError, match="vocabulary 5: expected str"):
        BertTokenizer(5)


def test_windows_line_ends_and_byte_order_mark_change_nothing():
    data = b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n")
    tokenizer = BertTokenizer(data, 4)
    assert tokenizer.to_bytes() == GOOD
    assert tokenizer("ab zz").numpy().tolist() == [2, 3, 4, 1]


def memory():
    """Returns the vocabularies that tokenizers hold in TensorFlow's memory."""
    return set(tf.io.gfile.glob("ram://lit_tf/*/*"))


def test_a_tokenizer_leaves_no_file(case, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = memory()
    tokenizer = copy.deepcopy(case[0])
    assert len(memory() - before) == 1 and not list(tmp_path.iterdir())
    del tokenizer
    assert memory() <= before


FORK = """
import os, sys
import tensorflow as tf
from lit_tf.texts.tokenizers import BertTokenizer

tokenizer = BertTokenizer(sys.argv[1])
child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
    tf.saved_model.save(tokenizer, sys.argv[2])
"""


@pytest.mark.full
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_that_ends_takes_nothing_from_its_parent(tmp_path):
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", FORK, VOCAB, tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr[-2000:]
    assert (tmp_path / "out/assets/vocab.txt").read_bytes() == VOCAB.read_bytes()


def test_many_calls_answer_as_the_first_and_leave_nothing_in_a_saved_model(case, tmp_path):
    tokenizer, texts, expected = case
    tokenizer = copy.deepcopy(tokenizer)
    for _ in range(2 * _CALLS_BEFORE_TRACING):
        np.testing.assert_array_equal(tokenizer(texts), expected)
    assert tokenizer._graph is not None
    assert tokenizer([]).shape == (0, tokenizer.length)
    np.testing.assert_array_equal(tokenizer(texts[0]), expected[0])
    np.testing.assert_array_equal(tokenizer(tf.constant(texts[:2])), expected[:2])
    tf.saved_model.save(tokenizer, tmp_path / "saved")
    graph = saved_model_pb2.SavedModel.FromString((tmp_path / "saved/saved_model.pb").read_bytes())
    functions = graph.meta_graphs[0].graph_def.library.function
    assert not [f.signature.name for f in functions if "lambda" in f.signature.name]
    # It goes with its last reference, its file too, not when the garbage collector comes.
    files = memory()
    gone = weakref.ref(tokenizer)
    gc.disable()
    try:
        del tokenizer
        assert gone() is None and len(memory()) == len(files) - 1
    finally:
        gc.enable()
