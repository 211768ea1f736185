"""Odd settings and damaged manifests: taken as they are meant, or refused by name in one line."""

import json
import time

import pytest

from lit_tf.errors import ConfigError, DataError
from lit_tf.training.config import TrainConfig, load_config
from lit_tf.training.data.embeddings import read_manifest
from lit_tf.training.evaluation.artefacts import TFLiteEncoder

from . import mutations

QUICK, FULL = range(20), range(20, 320)
KEYS = (
    *("steps", "batch_size", "dtype", "optimizer.lr", "optimizer.warmup", "model.bias"),
    *("data.source", "data.exif", "data.max_bad_share", "eval.zero_shot", "model.locking"),
    *("optimizer", "nothing", "data.", ".", ""),
)
PIECES = (
    *("-", "+", "~", "(", ")", "[", "]", "{", "}", ",", ":", ".", "...", "e", "j", "_", "=", " "),
    *("'", '"', "\\", "\n", "#", "0x", "0b1", "nan", "inf", "1e999", "none", "true", "True", "b''"),
    *("9", "0", "1", "16", "3e-4", "a", "é", "\udcff", "1 if 1 else 2", "f'{1}'", "lambda: 0"),
)


def each(cases):
    return pytest.mark.parametrize(
        "cases", [QUICK, pytest.param(FULL, marks=pytest.mark.full)], ids=["quick", "full"]
    )(cases)


@each
def test_odd_values_of_settings_are_taken_or_refused_by_name(cases):
    for case in cases:
        rng = mutations.generator("set", case)
        pieces = [PIECES[rng.integers(len(PIECES))] for _ in range(rng.integers(1, 7))]
        text = "".join(p * int(rng.choice([1, 1, 1, 2, 400, 5000])) for p in pieces)
        key = KEYS[rng.integers(len(KEYS))]
        began = time.process_time()
        try:
            config = load_config("lit_coco", [f"{key}={text}"])
        except ConfigError as error:
            assert key in str(error) and len(str(error)) < 1000, case
        else:
            assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config, case
        assert time.process_time() - began < 5, case


@each
def test_damaged_manifests_are_read_or_refused_by_name(tmp_path, cases):
    exported = {"model": "LiT-digits", "resolution": 40, "crop": False, "temperature": 10.5}
    shards = [{"name": f"embeddings-{i}.tfrecord", "examples": 7} for i in range(3)]
    stored = {"settings": {"checkpoint": "LiT-digits"}, "image_tower": "5f", "width": 96}
    stored |= {"resolution": 40, "views": 1, "shards": shards}
    for case in cases:
        rng = mutations.generator("manifest", case)
        for name, content, read in (
            ("lit_manifest.json", exported, TFLiteEncoder),
            ("manifest.json", stored, read_manifest),
        ):
            data = mutations.damaged(json.dumps(content, indent=2).encode(), rng)
            (tmp_path / name).write_bytes(data)
            try:
                found = read(str(tmp_path))
            except DataError as error:
                # Where the manifest passes, the graphs are missed.
                assert name in str(error) or "has no image_encoder" in str(error), case
                assert len(str(error)) < 1000, case
            else:
                assert found["width"] > 0 and isinstance(found["shards"], list), case
