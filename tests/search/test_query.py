"""Questions: exact answers are NumPy's, ties go by path, and the tour on LiT-digits."""

import os
import shutil

import numpy as np
import PIL.ExifTags
import PIL.Image
import pyarrow as pa
import pytest

import lit_tf
from lit_tf import cli, search
from lit_tf.errors import ConfigError, DataError
from lit_tf.search import index
from lit_tf.search.paths import to_stored
from lit_tf.search.store import Model, Store
from lit_tf.training.digits import render

from .conftest import write_pictures

TEXTS = ["a cat", "a photo of a dog", "x"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, settings):
    """An index of ten pictures, three of which are copies, and a name that is not UTF-8."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = write_pictures(folder, range(10))
    for name in ("b copy.png", "a copy.png"):
        shutil.copy(paths[4], folder / name)
    os.rename(paths[9], os.fsencode(folder) + b"/caf\xe9.png")
    for i in range(9):
        exif = PIL.Image.Exif()
        exif[PIL.ExifTags.Base.Orientation] = 1
        date = f"{2000 + i}:06:01 12:00:00"
        exif.get_ifd(PIL.ExifTags.IFD.Exif)[PIL.ExifTags.Base.DateTimeOriginal] = date
        PIL.Image.open(paths[i]).save(paths[i], exif=exif)
    index.update(folder / "db", [folder], settings)
    return folder


def expected(folder, model, vector, top):
    """What NumPy answers: paths, and their similarities."""
    paths = sorted(str(path) for path in folder.glob("*.png"))
    scores = model.encode_image(paths) @ vector
    order = sorted(range(len(paths)), key=lambda i: (-scores[i].round(6), to_stored(paths[i])))[
        :top
    ]
    return [paths[i] for i in order], scores[order]


def check(found, paths, scores):
    assert [picture.path for picture in found] == paths
    np.testing.assert_allclose([picture.score for picture in found], scores, atol=1e-6)


def test_one_text_is_a_text_and_not_its_letters(pictures, model):
    searcher = search.open(pictures / "db", model)
    assert searcher.find(texts="a cat") == searcher.find(texts=["a cat"])
    listed = searcher.embed(["a cat"], minus=["a dog"])
    np.testing.assert_array_equal(searcher.embed("a cat", minus="a dog"), listed)


@pytest.mark.parametrize("top", [1, 2, 3, 5, 12, 50])
def test_exact_answers_are_numpys_and_ties_go_by_path(pictures, model, top):
    searcher = search.open(pictures / "db", model)
    for text in TEXTS:
        vector = model.encode_text([text])[0]
        check(searcher.text(text, top=top), *expected(pictures, model, vector, top))
    picture = str(pictures / "004.png")  # has two copies
    found = searcher.image(picture, top=top)
    check(found, *expected(pictures, model, model.encode_image([picture])[0], top))
    copies = [str(pictures / name) for name in ("004.png", "a copy.png", "b copy.png")]
    assert [picture.path for picture in found[:3]] == copies[:top]


def test_texts_and_pictures_are_averaged_and_minus_is_subtracted(pictures, model):
    unit = lambda v: v / np.linalg.norm(v)  # noqa: E731
    searcher = search.open(pictures / "db", model)
    a, b, c = model.encode_text(TEXTS)
    picture = str(pictures / "002.png")
    z = model.encode_image([picture])[0]
    for question, vector in (
        ({"texts": TEXTS[:2]}, a + b),
        ({"texts": TEXTS[:2], "minus": TEXTS[2]}, (a + b) / 2 - c),
        ({"texts": TEXTS[:1], "images": [picture]}, a + z),
        ({"texts": ["cat"], "templates": ["a {}"]}, a),
    ):
        found = searcher.find(**question, top=5)
        check(found, *expected(pictures, model, unit(vector), 5))
        assert all(picture.match is None for picture in found)
    with pytest.raises(ConfigError, match="nothing is left"):
        searcher.text("a cat", minus=["a cat"])
    with pytest.raises(ConfigError, match="no question"):
        searcher.find()
    for top in (0, -1, 2.5, "3", None, float("nan"), True):
        with pytest.raises(ConfigError, match="top must be a positive integer, found"):
            searcher.text("a cat", top=top)
    assert len(searcher.text("a cat", top=np.int64(2))) == 2


def test_a_condition_holds_for_all_that_is_found(pictures, model):
    searcher = search.open(pictures / "db", model)
    found = searcher.text("a cat", where="taken > '2005'", top=10)
    years = sorted(picture.taken[:4] for picture in found)
    assert years == ["2005", "2006", "2007", "2008"]
    assert len(searcher.text("a cat", where="taken IS NULL AND width > height")) == 3
    assert len(searcher.text("a cat", where="width = 32 AND height = 24")) == 12
    assert searcher.text("a cat", where="taken > '2030'") == []
    for wrong in ("token > '3'", "taken >", "'"):
        with pytest.raises(DataError, match="the condition"):
            searcher.text("a cat", where=wrong)


def test_a_model_with_a_bias_says_how_likely_picture_and_text_match(pictures, fixtures, tmp_path):
    settings = index.Settings(str(fixtures / "siglip_tiny.npz"))
    index.update(tmp_path / "db", [pictures], settings)
    searcher = search.open(tmp_path / "db")
    found = searcher.text("a cat", top=3)
    logits = searcher.model.temperature * np.array([p.score for p in found]) + searcher.model.bias
    np.testing.assert_allclose([p.match for p in found], 1 / (1 + np.exp(-logits)), rtol=1e-6)
    assert searcher.find(images=[found[0].path])[0].match is None


def test_a_question_with_another_model_is_refused(pictures, fixtures):
    with pytest.raises(DataError, match="another model.*weights_sha256"):
        search.open(pictures / "db", fixtures / "lit_small_tiny.npz").text("a cat")


def test_without_the_extra_its_name_is_said(pictures, monkeypatch, capsys):
    import sys

    for name in [n for n in sys.modules if n.startswith("lit_tf.search.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lancedb", None)
    assert cli.main(["search", str(pictures / "db"), "a cat"]) == 2
    assert "pip install 'lit_tf[search]'" in capsys.readouterr().err


def test_an_open_index_answers_from_what_was_indexed_since(tmp_path):
    def store(checkpoint):
        return Store.create(tmp_path, Model(checkpoint, None, "0", 32, "float32", 2))

    def rows(name):
        vectors = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 0.0], pa.float32()), 2)
        return pa.table({"path": [name], "embedding": vectors})

    written = store("a")
    written.write(rows("/a"))
    question, vector = search.open(tmp_path), np.array([1, 0], np.float32)
    found = lambda: [picture.path for picture in question.answer(vector)]  # noqa: E731
    assert found() == ["/a"]
    written.write(rows("/b"))
    assert found() == ["/a", "/b"]
    shutil.rmtree(tmp_path / "pictures.lance")
    other = store("b")
    for name in ("/c", "/d", "/e"):
        other.write(rows(name))
    with pytest.raises(DataError, match="was replaced by another index; open it again"):
        found()


def test_the_approximate_index_finds_nearly_all_and_exact_finds_all(tmp_path, model):
    width, rows = 48, 3000
    rng = np.random.default_rng(0)
    z = rng.standard_normal((rows, width)).astype(np.float32)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    about = Model("none", None, "0", 32, "float32", width)
    store = Store.create(tmp_path / "db", about)
    embeddings = pa.FixedSizeListArray.from_arrays(pa.array(z.ravel()), width)
    names = pa.array([f"/{i:06d}.jpg" for i in range(rows)])
    store.write(pa.table({"path": names, "embedding": embeddings}))
    assert store.needs_vector_index(rows) and not store.needs_vector_index(rows + 1)
    store.make_vector_index()
    assert not store.needs_vector_index(rows)
    hits = {True: 0, False: 0}
    for q in z[:20] + 0.1 * rng.standard_normal((20, width)).astype(np.float32):
        best = {f"/{i:06d}.jpg" for i in np.argsort(-(z @ q))[:10]}
        for exact in hits:
            hits[exact] += len(best & set(store.nearest(q, 10, exact=exact)["path"].to_pylist()))
    assert hits[True] == 200 and hits[False] >= 190


# --- the command line ----------------------------------------------------------------------------


def test_an_empty_index_answers_that_there_is_nothing(tmp_path, settings, model, command):
    (tmp_path / "pictures").mkdir()
    assert index.update(tmp_path / "db", [tmp_path / "pictures"], settings).rows == 0
    assert search.open(tmp_path / "db", model).text("a cat") == []
    write_pictures(tmp_path / "pictures", [1])
    index.update(tmp_path / "db", [tmp_path / "pictures"], settings)
    shutil.rmtree(tmp_path / "pictures")
    (tmp_path / "pictures").mkdir()
    start = ["index", settings.checkpoint, "--db", tmp_path / "db", tmp_path / "pictures"]
    assert command(*start, "--prune-all", "--json")["deleted"] == 1
    assert "No picture fits." in command("search", tmp_path / "db", "--top", 3, "a cat")
    assert command("search", tmp_path / "db", "--json", "a cat", "a dog")["found"] == []


def test_printed_answers_hold_no_thumbnail(pictures, model):
    found = search.open(pictures / "db", model).text("a cat", top=1)
    assert found[0].thumbnail.startswith(b"\xff\xd8") and "thumbnail" not in str(found)
    assert "taken='20" in str(found) and "width=32" in str(found)


@pytest.mark.parametrize("texts, minus", [("", ()), (["a cat", " \n"], ()), ("a cat", [""])])
def test_an_empty_text_is_not_a_question(pictures, model, texts, minus):
    with pytest.raises(ConfigError, match="a text of the question is empty"):
        search.open(pictures / "db", model).text(texts, minus=minus)


def test_search_prints_a_table_json_and_a_page(pictures, command, tmp_path):
    page = tmp_path / "found.html"
    table = command("search", pictures / "db", "a <b>cat</b>", "--top", 12, "--html", page)
    lines = table.splitlines()
    assert lines[0].split() == ["score", "taken", "picture"] and len(lines) == 14
    assert str(pictures / "caf\\xe9.png") in table
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/jpeg;base64,") == 12 and "caf%E9.png" in text
    assert "a &lt;b&gt;cat" in text and "<b>cat" not in text
    assert "http" not in text and 'src="data:' in text  # needs no other file
    answer = command("search", pictures / "db", "a <b>cat</b>", "--top", 12, "--json")
    odd = [p["path"] for p in answer["found"] if "caf" in p["path"]]
    assert os.fsencode(odd[0]) == os.fsencode(pictures) + b"/caf\xe9.png"
    like = command("search", pictures / "db", "--like", pictures / "001.png", "--json")
    assert like["found"][0]["path"] == str(pictures / "001.png")
    assert "no question" in command("search", pictures / "db", code=2)
    nothing = ["search", pictures / "db", "a", "--where", "width > 99", "--html", page]
    assert "No picture fits." in command(*nothing)
    assert command(*nothing, "--json")["found"] == [] and "0 of 12" in page.read_text()
    assert "not an index" in command("search", tmp_path, "a", code=2)


def draw(folder, numbers, inks, rng):
    """Writes pictures of two handwritten digits in coloured ink."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = np.stack([numbers // 10, numbers % 10], axis=1)
    left, right = (render.choose_digits(digits[:, side], "test", rng) for side in (0, 1))
    papers = rng.integers(len(render.PAPERS), size=len(numbers))
    names = list(render.INKS)
    for i, pixels in enumerate(render.draw(left, right, inks, papers, rng)):
        PIL.Image.fromarray(pixels).save(folder / f"{numbers[i]:02d}_{names[inks[i]]}_{i:03d}.png")


@pytest.mark.full
@pytest.mark.parametrize("count", [100, 500])
def test_tour_of_many_pictures_and_then_some_more(tmp_path, command, count):
    rng, more = np.random.default_rng(3), count // 10
    red = list(render.INKS).index("red")
    numbers, inks = np.arange(count) % 100, rng.integers(len(render.INKS), size=count)
    first = np.arange(count // 100) == 0
    inks[numbers == 37] = np.where(first, red, (inks[numbers == 37] + 1) % 8)
    draw(tmp_path / "pictures", numbers, inks, rng)
    db = tmp_path / "pictures.lance"
    index_it = ["index", "LiT-digits", tmp_path / "pictures", "--db", db, "--json"]
    assert command(*index_it)["embedded"] == count

    find = ["search", db, "the number 37 in red", "--top", 3, "--json"]
    assert os.path.basename(command(*find)["found"][0]["path"]).startswith("37_red")
    draw(tmp_path / "pictures" / "more", np.full(more, 37), np.full(more, red), rng)
    report = command(*index_it)
    assert (report["embedded"], report["rows"]) == (more, count + more)
    top = more * 4 // 5
    found = command("search", db, "the number 37 in red", "--top", top, "--json")["found"]
    right = sum(os.path.basename(p["path"]).startswith("37_red") for p in found)
    assert right >= 0.95 * top
    assert len(lit_tf.search.open(db).text("the number 37 in red", top=top)) == top
