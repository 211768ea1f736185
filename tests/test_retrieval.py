import tracemalloc

import numpy as np
import pytest

from lit_tf import retrieval
from lit_tf.errors import DataError


def unit(rng, *shape):
    z = rng.standard_normal(shape).astype(np.float32)
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def sorted_ranks(similarities, correspondence):
    """The same ranks through a full stable sort, as the definition has it."""
    order = np.argsort(-similarities, axis=1, kind="stable")  # (images, texts)
    image_rank = (correspondence[order] == np.arange(len(order))[:, None]).argmax(axis=1)
    order = np.argsort(-similarities.T, axis=1, kind="stable")  # (texts, images)
    return image_rank, (order == correspondence[:, None]).argmax(axis=1)


@pytest.mark.parametrize("block", [1, 64, 100, 4096])
def test_recalls_equal_the_reference(reference, block):
    expected = reference("evaluation")
    found = retrieval.recalls(
        expected["zimg"], expected["ztxt"], expected["correspondence"], block=block
    )
    assert list(found) == [k for k in expected if "Recall@" in k]
    for key, value in found.items():
        assert value == expected[key], key


@pytest.mark.parametrize("block", [64, 192, 4096])
def test_ties_go_to_the_smaller_index_whatever_the_blocks(block):
    # Only 12 different embeddings, so that nearly every query has ties, with exact values (small
    # integers), in an order of texts that has nothing to do with the images'.
    rng = np.random.default_rng(0)
    kinds = rng.integers(-3, 4, (12, 8)).astype(np.float32)
    zimg, ztxt = kinds[rng.integers(0, 12, 300)], kinds[rng.integers(0, 12, 700)]
    correspondence = np.concatenate([np.arange(300), rng.integers(0, 300, 400)])
    rng.shuffle(correspondence)
    found = retrieval.ranks(zimg, ztxt, correspondence, block)
    expected = sorted_ranks(zimg @ ztxt.T, correspondence)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_equal_embeddings_tie_wherever_they_stand():
    # Real-valued embeddings, so that a product added up in another order would differ in the last
    # bit: all images equal means that text j's image stands at its own index, exactly.
    rng = np.random.default_rng(1)
    zimg = np.repeat(unit(rng, 1, 768), 333, axis=0)
    ztxt = unit(rng, 333, 768)
    for block in (64, 128, 4096):
        _, text_rank = retrieval.ranks(zimg, ztxt, np.arange(333), block)
        np.testing.assert_array_equal(text_rank, np.arange(333))


def test_memory_stays_bounded():
    rng = np.random.default_rng(2)
    zimg, ztxt = unit(rng, 6000, 8), unit(rng, 6000, 8)
    tracemalloc.start()
    retrieval.ranks(zimg, ztxt, rng.permutation(6000), block=512)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The whole matrix would take 144 MB, its sorted order twice that again.
    assert peak < 20 * 512**2 + 60 * 12000 + 2e5


@pytest.mark.parametrize(
    ("zimg", "ztxt", "correspondence", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), [0, 1], r"\(2, 4\)"),
        (np.ones((2, 3)), np.ones((2, 3)), [0], "each of the 2 texts"),
        (np.ones((2, 3)), np.ones((2, 3)), [0.0, 1.0], "integers"),
        (np.ones((2, 3)), np.ones((2, 3)), [0, 2], "only 2 images"),
        (np.ones((2, 3)), np.ones((2, 3)), [0, -1], "only 2 images"),
        (np.ones((3, 3)), np.ones((2, 3)), [0, 2], "number 1"),
        (np.ones((0, 3)), np.ones((0, 3)), np.zeros(0, int), "0 and 0"),
        (np.full((2, 3), np.nan), np.ones((2, 3)), [0, 1], "NaN"),
        (np.ones((2, 3)), np.full((2, 3), np.inf), [0, 1], "NaN or inf"),
    ],
)
def test_what_would_give_a_wrong_number_is_refused(zimg, ztxt, correspondence, message):
    with pytest.raises(DataError, match=message):
        retrieval.recalls(zimg, ztxt, np.asarray(correspondence))


def test_k_below_one_is_refused():
    with pytest.raises(DataError, match="at least 1"):
        retrieval.recalls(np.eye(2), np.eye(2), np.arange(2), ks=(0,))
