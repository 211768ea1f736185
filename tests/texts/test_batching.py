"""Texts cost what their own length costs, and the embeddings stay what they are at full length."""

import numpy as np
import pytest
import tensorflow as tf

import lit_tf
from lit_tf.export.to_saved_model import Served
from lit_tf.texts.batching import distinct_by_length

TEXTS = [
    "a photo of a cat",
    "a",
    "",
    "a photo of a cat",
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen",
    "A PHOTO of a cat",
    "two dogs",
]


@pytest.fixture(scope="module")
def model(fixtures):
    return lit_tf.load(fixtures / "lit_bert_tiny.npz")


@pytest.fixture(scope="module")
def tokens(model):
    """Tokens of all lengths, some rows twice, one row without any token."""
    rows = model.tokenize(TEXTS)
    return np.concatenate([rows, np.zeros_like(rows[:1]), rows[::-1]])


def at_full_length(model, tokens):
    return model.embed_tokens(tf.constant(tokens)).numpy()


@pytest.mark.parametrize("count", [0, 1, 15])
def test_distinct_rows_come_by_length_and_lead_back_to_all(tokens, count):
    rows, places = distinct_by_length(tokens[:count])
    np.testing.assert_array_equal(rows[places], tokens[:count])
    assert len(np.unique(rows, axis=0)) == len(rows)
    ends = [np.flatnonzero(row).max(initial=-1) for row in rows if row.any()]
    assert ends == sorted(ends)


@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_embeddings_equal_those_of_full_length_in_the_order_given(model, tokens, batch_size):
    z = model.encode_tokens(tokens, batch_size)
    np.testing.assert_allclose(z, at_full_length(model, tokens), atol=1e-6, rtol=0)
    z = model.encode_text(TEXTS, batch_size)
    want = at_full_length(model, tokens[: len(TEXTS)])
    np.testing.assert_allclose(z, want, atol=1e-6, rtol=0)


def test_each_distinct_text_is_embedded_once_and_at_its_batchs_length(model, monkeypatch):
    seen = []

    def embed(rows):
        seen.append(model.text_tower.without_padding(rows).shape)
        return model.embed_tokens(rows)

    monkeypatch.setattr(model, "token_function", embed)
    model.encode_text(["a", "two dogs", "a", "a photo of a cat"] * 50, batch_size=2)
    assert sum(count for count, _ in seen) == 3
    lengths = [length for _, length in seen]
    assert lengths == sorted(lengths) and lengths[0] < lengths[-1] < 16


def test_texts_of_all_lengths_share_one_graph(fixtures):
    model = lit_tf.load(fixtures / "lit_bert_tiny.npz")
    words = ("a photo of a cat and of a dog " * 2).split()
    for n in range(1, len(words)):
        model.encode_text([" ".join(words[:n])])
    model.encode_text(TEXTS)
    assert model.token_function.experimental_get_tracing_count() <= 2


def test_compilers_of_whole_programs_get_the_full_static_length(model, tokens):
    shapes = []

    @tf.function(jit_compile=True, autograph=False)
    def embed(tokens):
        shapes.append(model.text_tower.without_padding(tokens).shape.as_list())
        return model.embed_short_tokens(tokens)

    z = embed(tf.constant(tokens)).numpy()
    assert shapes == [list(tokens.shape)]
    np.testing.assert_allclose(z, at_full_length(model, tokens), atol=1e-6, rtol=0)


def test_a_tower_that_reads_the_last_position_keeps_all_of_them(fixtures):
    model = lit_tf.load(fixtures / "lit_tt_tiny.npz")
    tokens = model.tokenize(TEXTS)
    assert model.text_tower.without_padding(tf.constant(tokens)).shape == tokens.shape
    z = model.encode_tokens(tokens, batch_size=2)
    np.testing.assert_allclose(z, at_full_length(model, tokens), atol=1e-6, rtol=0)


def test_the_served_graph_cuts_a_batch_to_its_longest_text(model, tokens):
    served = Served(model, ("tokens",), None, 0, True, None)
    longest = served.encode_tokens.get_concrete_function().graph
    tables = [op for op in longest.get_operations() if op.type == "ResourceGather"]
    tables += [op for op in longest.get_operations() if op.type == "GatherV2"]
    assert any(op.outputs[0].shape.as_list()[1:2] == [None] for op in tables)
    for rows in (tokens, tokens[:1], tokens[1:2], tokens[:0]):
        z = served.encode_tokens(tf.constant(rows)).numpy()
        np.testing.assert_allclose(z, at_full_length(model, rows), atol=1e-6, rtol=0)


def test_the_batch_stays_static_where_it_is(model, tokens):
    """Replicas gather embeddings, which needs their number."""
    specs = tf.TensorSpec(tokens.shape, tf.int32)
    embed = tf.function(model.embed_short_tokens, input_signature=[specs], autograph=False)
    assert embed.get_concrete_function().outputs[0].shape == [len(tokens), 48]
