"""The stream that embeds images: order, failures by name, bounded reading ahead."""

import itertools
import threading

import numpy as np
import pytest

import lit_tf
from lit_tf.errors import ImageError
from lit_tf.images.stream import embed_stream, in_flight, read_ahead


@pytest.fixture(scope="module")
def model(fixtures):
    return lit_tf.load(fixtures / "lit_bert_tiny.npz")


def test_what_cannot_be_decoded_is_named_and_the_others_keep_their_order(model, fixture_module):
    pictures = fixture_module.images()
    items = [b"broken", *pictures[:3], b"", *pictures[3:], b"\xff\xd8"]
    failures = []
    batches = list(
        model.embed_stream(iter(items), 2, failed=lambda item, e: failures.append((item, str(e))))
    )
    assert [len(batch.items) for batch in batches] == [2, 2, 1]
    found = [item for batch in batches for item in batch.items]
    assert all(a is b for a, b in zip(found, pictures, strict=True))
    assert [item for item, _ in failures] == [b"broken", b"", b"\xff\xd8"]
    assert [text.split()[1] for _, text in failures] == ["0", "4", "7"]
    embeddings = np.concatenate([batch.embeddings for batch in batches])
    np.testing.assert_allclose(embeddings, model.encode_image(pictures), atol=1e-6)


def test_without_one_readable_image_there_is_no_batch(model):
    failures = []
    assert not list(model.embed_stream([b"a"] * 5, 2, failed=lambda *f: failures.append(f)))
    assert len(failures) == 5


def test_a_reader_of_ones_own_sends_a_value_along_with_each_image():
    def read(number):
        if number == 3:
            raise ImageError("three")
        return np.full((4, 4, 3), number, np.uint8), f"note {number}"

    def embed(pixels):
        assert pixels.dtype == np.uint8 and len(pixels) <= 4
        return pixels[:, 0, 0, :1].astype(np.float32)

    batches = list(embed_stream(range(9), read, embed, 4, failed=lambda *_: None))
    assert [batch.items for batch in batches] == [[0, 1, 2, 4], [5, 6, 7, 8]]
    assert batches[1].extras == ["note 5", "note 6", "note 7", "note 8"]
    np.testing.assert_array_equal(batches[1].embeddings, [[5], [6], [7], [8]])
    with pytest.raises(ImageError, match="three"):
        list(embed_stream(range(9), read, embed, 2))


def test_an_endless_stream_is_read_a_bounded_number_ahead():
    taken = itertools.count()
    items = (next(taken) for _ in itertools.count())
    stream = read_ahead(items, lambda item: item, ahead=6)
    assert [next(stream) for _ in range(50)] == [(i, i) for i in range(50)]
    stream.close()
    assert next(taken) <= 50 + 6


def test_reading_goes_on_while_a_batch_is_embedded():
    read_later = threading.Event()

    def read(number):
        if number == 3:
            read_later.set()
        return np.zeros((1, 1, 3), np.uint8), None

    def embed(pixels):
        assert read_later.wait(10), "the next batch was not read beside the tower"
        return pixels[:, 0, 0]

    assert sum(len(batch.items) for batch in embed_stream(range(4), read, embed, 2)) == 4


def test_errors_that_are_no_images_fault_are_not_hidden():
    def read(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(embed_stream([1], read, None, 1, failed=lambda *_: None))


def test_a_batch_is_started_before_the_one_before_is_fetched():
    started = []

    def embed(batch):
        started.append(batch)
        return np.float32(batch)

    seen = [(batch, len(started)) for batch, _ in in_flight(range(5), embed)]
    assert seen == [(0, 1), (1, 3), (2, 4), (3, 5), (4, 5)]
