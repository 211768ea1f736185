"""Questions to an index of pictures: words, other pictures, or both, minus what is not wanted."""

import dataclasses
import functools
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from lit_tf import zero_shot
from lit_tf.errors import ConfigError, extra, positive_integer
from lit_tf.loading import load
from lit_tf.search.paths import from_stored, listed
from lit_tf.search.store import FACTS, Model, Store

with extra("search"):
    import pyarrow as pa

# Similarities closer than this count as equal: float32 sums in another order differ by as much.
_ROUNDING = 1e-6
_COLUMNS = [name for name in FACTS.names if name != "sha256"]


@dataclasses.dataclass(frozen=True)
class Found:
    """A picture that was found.

    Attributes:
        path: its absolute path.
        score: cosine similarity to the question, in [-1, 1].
        match: the probability that picture and text belong together, in [0, 1]; None unless the
            question is one text and the model has a bias (SigLIP).
        size: the file's size in bytes when it was indexed.
        mtime: the file's time of modification then, in nanoseconds since 1970.
        taken: when a camera took it, as ISO text such as 2020-05-01T09:30:00, or None.
        width: its width in pixels, as it is shown.
        height: its height.
        thumbnail: a small JPEG.
    """

    path: str
    score: float
    match: float | None
    size: int
    mtime: int
    taken: str | None
    width: int
    height: int
    thumbnail: bytes = dataclasses.field(repr=False)


def open(path: str | os.PathLike, model=None) -> "Searcher":
    """Opens an index of pictures that `lit-tf index` made.

    Args:
        path: the index's folder.
        model: the `LitModel` that made the index, if it is loaded already, or its name or path, if
            it has moved. By default the recorded model is loaded when it is first needed.

    Raises:
        DataError: `path` is not an index, or (perhaps later) another model made it.
    """
    return Searcher(Store.open(path), model)


class Searcher:
    """Finds pictures in an index.

    Examples:
        >>> pictures = lit_tf.search.open("pictures.lance")
        >>> for found in pictures.text("a dog on a beach", top=5):
        ...     print(found.score, found.path)
    """

    def __init__(self, store: Store, model=None):
        self.store, self._given = store, model

    @functools.cached_property
    def model(self):
        """The `LitModel` that made the index; a DataError if the given one did not make it."""
        made, model = self.store.model, self._given
        if model is None or isinstance(model, str | os.PathLike):
            names = ("vocab", "resolution", "dtype", "preprocessing")
            how = {name: getattr(made, name) for name in names}
            model = load(made.checkpoint if model is None else model, **how)
        how = {"tower": made.tower, "max_patches": made.max_patches}
        found = Model.of(model, made.checkpoint, made.vocab, **how)
        made.check(found, self.store.path, "Search with that model, or index again")
        return model

    def text(self, texts: str | Sequence[str], **options) -> list[Found]:
        """Finds pictures by words: `find` of texts, with its `options`."""
        return self.find(texts=texts, **options)

    def image(self, images, **options) -> list[Found]:
        """Finds pictures that look like one or several others; with the `options` of `find`."""
        return self.find(images=images if isinstance(images, list | tuple) else [images], **options)

    def find(
        self,
        *,
        texts: str | Sequence[str] = (),
        images: Sequence = (),
        minus: str | Sequence[str] = (),
        templates=None,
        top: int = 20,
        exact: bool = False,
        where: str | None = None,
    ) -> list[Found]:
        """Finds the pictures nearest to a question.

        Args:
            texts: what the pictures show. The embeddings of several are averaged.
            images: what `lit_tf.images.to_uint8` takes, to look like; averaged with the texts.
            minus: texts of what the pictures do not show; their average is subtracted.
            templates: prompt templates that each text is put into, whose embeddings are averaged;
                see `lit_tf.zero_shot.get_templates`. By default texts are taken as they are.
            top: how many pictures to return.
            exact: whether to compare with all pictures, even if there is an approximate index.
            where: a condition on the columns in SQL, such as `taken > '2020'`.

        Returns:
            At most `top` pictures, the most similar first; equally similar ones by path.

        Raises:
            DataError: the condition or a template cannot be used, or another model made the index.
            ConfigError: there is no question.
        """
        positive_integer(top, "top", ConfigError)
        texts, minus = listed(texts), listed(minus)
        vector = self.embed(texts, images, minus, templates)
        found = self.answer(vector, top=top, exact=exact, where=where)
        if len(texts) != 1 or len(images) or minus or self.model.b is None:
            return found
        logits = [self.model.temperature * p.score + self.model.bias for p in found]
        matches = [1 / (1 + math.exp(-logit)) for logit in logits]
        return [dataclasses.replace(p, match=m) for p, m in zip(found, matches, strict=True)]

    def embed(self, texts=(), images=(), minus=(), templates=None, vectors=()) -> np.ndarray:
        """Returns a question's unit-length float32 (D,); `vectors` embed more pictures."""
        if not len(texts) and not len(images) and not len(vectors):
            raise ConfigError("there is no question: expected a text or a picture")
        # A string is a sequence of letters, which would be averaged silently.
        texts, minus = listed(texts), listed(minus)
        if not all(text.strip() for text in (*texts, *minus)):
            raise ConfigError("a text of the question is empty; expected words")
        parts = [*self._texts(texts, templates), *vectors]
        if len(images):
            most = self.store.model.max_patches
            parts += [*self.model.encode_image(images, max_patches=most)]
        vector: Any = np.mean(parts, axis=0, dtype=np.float64)
        if len(minus):
            vector -= np.mean(self._texts(minus, templates), axis=0, dtype=np.float64)
        length = np.linalg.norm(vector)
        if length < _ROUNDING:
            raise ConfigError("nothing is left of the question: its texts and `minus` are the same")
        return (vector / length).astype(np.float32)

    def _texts(self, texts, templates):
        """Returns unit-length embeddings (N, D), each text's averaged over the templates."""
        if not len(texts):
            return []
        if templates is None:
            return self.model.encode_text(list(texts))
        templates = zero_shot.get_templates(templates)
        prompts = [template.replace("{}", text) for text in texts for template in templates]
        embeddings = self.model.encode_text(prompts).reshape(len(texts), len(templates), -1)
        means = embeddings.mean(axis=1)
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    def answer(
        self, vector: np.ndarray, *, top: int = 20, exact: bool = False, where: str | None = None
    ) -> list[Found]:
        """Finds the pictures nearest to a unit-length float32 (D,), as `find` does."""
        table, scores = self.store.newest(lambda: self._nearest(vector, top, exact, where))
        order = np.lexsort((table["path"].to_pylist(), -scores))[:top]
        return _found(table.take(pa.array(order, pa.int64())), scores[order])

    def latest(self, *, top: int = 20, where: str | None = None) -> list[Found]:
        """Returns the pictures that were taken last, or changed last; their scores are 0."""
        return self.store.newest(lambda: self._latest(top, where))

    def _latest(self, top, where):
        table = self.store.columns(["path", "taken", "mtime"], where)
        changed = np.datetime_as_string(table["mtime"].to_numpy(), unit="s")
        taken = table["taken"].to_pylist()
        when = [day or time for day, time in zip(taken, changed, strict=True)]
        order = np.lexsort((table["path"].to_pylist(), when))[::-1][:top]
        paths = table["path"].take(pa.array(order, pa.int64())).to_pylist()
        rows = self.store.rows_of(paths)
        place = {path: i for i, path in enumerate(rows["path"].to_pylist())}
        found = rows.take(pa.array([place[path] for path in paths], pa.int64()))
        return _found(found, np.zeros(len(found)))

    def _nearest(self, vector, top, exact, where):
        """Returns the `top` nearest rows and those that tie with the last, and their scores."""
        rows, limit = self.store.rows, top + 1
        while True:
            table = self.store.nearest(vector, limit, exact=exact, where=where)
            embeddings = table["embedding"].combine_chunks().flatten().to_numpy()
            embeddings = embeddings.reshape(len(table), len(vector)).astype(np.float64)
            # Each row is summed alone, so equal embeddings have equal sums in any row.
            scores = (embeddings * vector).sum(axis=1)
            ordered = np.sort(scores)[::-1]
            if len(table) <= top or limit >= rows or ordered[top - 1] - ordered[-1] > _ROUNDING:
                return table, scores.astype(np.float32)
            limit *= 4


def _found(table, scores):
    """Returns rows of the table of pictures as answers."""
    place = table.schema.get_field_index("mtime")  # datetime has no nanoseconds
    table = table.set_column(place, "mtime", table["mtime"].cast("int64")).select(_COLUMNS)
    found = [row | {"path": from_stored(row["path"])} for row in table.to_pylist()]
    return [Found(score=float(s), match=None, **row) for row, s in zip(found, scores, strict=True)]
