"""Captions of a tar's samples: text members, JSON fields, lists of several captions."""

import io
import json
import tarfile

import numpy as np
import pytest

from lit_tf.training.config import DataConfig
from lit_tf.training.data import Counters, make_train_dataset, make_validation_dataset, open_source
from lit_tf.training.data.counters import EMPTY_CAPTION
from lit_tf.training.data.tar import sample_captions

from . import shards


@pytest.mark.parametrize(
    ("name", "member", "expected"),
    [
        ("txt", b'["a cat", "a dog"]', [b'["a cat", "a dog"]']),  # as webdataset and open_clip do
        ("json", b'["a cat", "a dog"]', [b"a cat", b"a dog"]),
        ("json", b'"a cat"', [b"a cat"]),
        ("json/captions", b'{"captions": ["a cat", "a dog"]}', [b"a cat", b"a dog"]),
        ("json/a/b", b'{"a": {"b": ["\\u00e9"]}}', ["é".encode()]),
        ("json/c", b'{"c": ["\\ud800"]}', [b"?"]),
        ("json/c", b'{"d": "a cat"}', "json/c is missing"),
        ("json/c", b'["c"]', "json/c is missing"),
        ("json/c", b'{"c": []}', "json/c is []; expected a text or a list of texts"),
        ("json/c", b'{"c": 5}', "json/c is 5; expected"),
        ("json/c", b'{"c": {"en": "a cat"}}', 'json/c is {"en": "a cat"}; expected'),
        ("json/c", b'{"c": ["a cat", null]}', 'json/c is ["a cat", null]; expected'),
        ("json/c", b'{"c": [["a cat"]]}', 'json/c is [["a cat"]]; expected'),
        ("json/c", b"{'c': 'a cat'}", "json cannot be read as JSON"),
        ("json/c", b"[" * 100_000, "json cannot be read as JSON"),
        ("json/c", b'{"c": ' + b"9" * 10_000 + b"}", "json cannot be read as JSON"),
    ],
)
def test_a_list_is_several_captions_and_what_is_no_caption_is_named(name, member, expected):
    texts, problem = sample_captions({name.split("/")[0]: member}, [name])
    if isinstance(expected, str):
        assert texts == [] and problem.startswith(expected)
    else:
        assert texts == expected and problem == ""


def write(path, captions):
    """Writes a tar of pictures 0, 1, ... whose JSON members hold these captions."""
    with tarfile.open(path, "w") as archive:
        for number, caption in enumerate(captions):
            image = shards.encode(shards.picture(number))
            for suffix, data in (("jpg", image), ("json", json.dumps({"c": caption}).encode())):
                member = tarfile.TarInfo(f"{number}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def test_training_draws_one_caption_of_a_list(tmp_path):
    write(tmp_path / "0.tar", [["0", " ", "100"], "1", ["2", "102", "202"], ["3", "103"]])
    config = DataConfig(source=f"{tmp_path}/0.tar", text_key="json/c", shuffle_buffer=4)
    dataset = make_train_dataset(
        open_source(config), shards.tokenize, global_batch_size=4, image_size=16, seed=0
    )
    drawn = set()
    for batch in dataset.take(30):
        pictures, captions = shards.numbers(batch)
        assert [c % 100 for c in captions] == pictures
        drawn |= set(captions)
    assert drawn == {0, 100, 1, 2, 102, 202, 3, 103}


def test_captions_that_are_no_texts_are_counted_and_named(tmp_path):
    write(tmp_path / "0.tar", ["0", 1, ["2", "102"], {"en": "3"}, ["4", 5], *map(str, range(5, 8))])
    config = DataConfig(source=f"{tmp_path}/0.tar", text_key="json/c", max_bad_share=0.5)
    counters = Counters()
    batches = make_validation_dataset(
        open_source(config), shards.tokenize, global_batch_size=8, image_size=16, counters=counters
    )
    (batch,) = batches
    assert np.array_equal(*shards.numbers(batch)) and counters.count[EMPTY_CAPTION] == 3
    expected = "expected a text or a list of texts)"
    assert counters.named == [
        f"empty caption in 0.tar #1 (1: jpg, json; json/c is 1; {expected}",
        f'empty caption in 0.tar #3 (3: jpg, json; json/c is {{"en": "3"}}; {expected}',
        f'empty caption in 0.tar #4 (4: jpg, json; json/c is ["4", 5]; {expected}',
    ]
