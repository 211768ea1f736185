"""SIGKILL at any moment while indexing: no picture is lost, and none is there twice."""

import random

import numpy as np
import pytest

from lit_tf.search import index
from lit_tf.search.store import Store

from ..processes import launch, worker
from .conftest import write_pictures


@pytest.mark.full
@pytest.mark.parametrize("kills", [1, 10])
def test_killed_runs_lose_no_picture_and_leave_none_twice(kills, settings, model, tmp_path):
    count = 40 * kills
    write_pictures(tmp_path / "pictures", range(count))
    rows, draw = [0], random.Random(kills)
    for _ in range(kills):
        arguments = (settings.checkpoint, tmp_path / "pictures", tmp_path / "db")
        process = launch(worker("index_pictures", *arguments))
        for _ in range(draw.randrange(3, 12)):
            assert process.stdout.readline() == "embedded\n"
        process.kill()  # now somewhere between a batch and a write
        process.communicate()
        store = Store.find(tmp_path / "db")
        rows.append(store.rows if store else 0)
        assert rows[-1] >= rows[-2]
    assert rows[-1] <= count
    report = index.update(tmp_path / "db", [tmp_path / "pictures"], settings)
    assert (report.embedded, report.rows) == (count - rows[-1], count)
    table = Store.open(tmp_path / "db").columns(["path", "embedding"])
    paths = table["path"].to_pylist()
    assert len(set(paths)) == count
    found = np.array(table["embedding"].to_pylist(), np.float32)
    np.testing.assert_allclose(found, model.encode_image(paths, 100), atol=1e-6)
