"""Indices of the quantized and of the float tower do not mix; one becomes the other."""

import dataclasses
import os

import numpy as np
import pytest

from lit_tf import search
from lit_tf.errors import DataError
from lit_tf.search import index
from lit_tf.search.store import Store

from .conftest import stored, write_pictures


def rounded(model):
    """Makes a tower that is nearly the model's."""

    def embed(pixels):
        z = np.asarray(model.image_function(pixels)) + 0.001
        return z / np.linalg.norm(z, axis=1, keepdims=True)

    return embed


@pytest.fixture
def int8(settings):
    return dataclasses.replace(settings, int8=rounded)


def test_the_towers_do_not_mix_and_questions_stay_float(run, workspace, settings, int8, model):
    assert index.update(workspace / "db", [workspace / "pictures"], int8).embedded == 10
    store = Store.open(workspace / "db")
    assert store.model.tower == "dynamic_int8"
    with pytest.raises(DataError, match="tower dynamic_int8, not float32.*--reembed"):
        run()
    write_pictures(workspace / "pictures", [40])
    with pytest.raises(DataError, match="tower dynamic_int8, not float32"):
        run()
    found = search.open(workspace / "db", model).text("a cat", top=3)
    rows = stored(workspace, "embedding")
    question = model.encode_text(["a cat"])[0]
    assert found[0].score == pytest.approx(question @ rows[found[0].path]["embedding"], abs=1e-6)


def test_reembedding_loses_no_row_when_it_is_killed(run, workspace, int8, model):
    elsewhere = write_pictures(workspace / "elsewhere", [50, 51])
    run(workspace / "pictures", workspace / "elsewhere")
    before = stored(workspace, "embedding")
    reader = search.open(workspace / "db", model)

    def killed(*arguments):
        for number, table in enumerate(index.embed_here(*arguments)):
            if number == 1:
                raise KeyboardInterrupt
            yield table

    options = {"settings": int8, "reembed": True}
    with pytest.raises(KeyboardInterrupt):
        index.update(workspace / "db", [], embed=killed, **options)
    assert stored(workspace, "embedding") == before
    assert len(reader.text("a cat")) == 12
    write_pictures(workspace / "pictures", [60])
    report = index.update(workspace / "db", [workspace / "pictures"], **options)
    assert (report.embedded, report.rows) == (9, 13)  # 4 were embedded before
    after = stored(workspace, "embedding")
    assert set(after) == {*before, str(workspace / "pictures" / "060.png")}
    assert all(after[path] != row for path, row in before.items())
    assert sorted(os.listdir(workspace / "db")) == ["pictures.lance", "writing.lock"]
    with pytest.raises(DataError, match="was replaced by another index; open it again"):
        reader.text("a cat")
    assert index.update(workspace / "db", [], **options).embedded == 0
    os.unlink(elsewhere[0])
    back = {"settings": dataclasses.replace(int8, int8=None), "reembed": True}
    with pytest.raises(DataError, match="1 pictures .* not there, such as .*050.png: mount"):
        index.update(workspace / "db", [], **back)
    report = index.update(workspace / "db", [], prune_all=True, **back)
    assert (report.embedded, report.rows) == (12, 12)
    assert Store.open(workspace / "db").model.tower == "float32"
