"""Counts the examples that could not be used, and stops a run when they are too many."""

import collections
import contextlib
import threading

import tensorflow as tf

from lit_tf.errors import DataError

GOOD, CORRUPT_IMAGE, EMPTY_CAPTION, MISSING = range(4)
_WORDS = ("", "corrupt image", "empty caption", "unreadable record")  # of each status
_SCALARS = ("", "corrupt_images", "empty_captions", "missing_records")

# The share of bad examples is computed over at least this many, so a few bad ones at the start do
# not stop a run.
_ENOUGH = 1000
_NAMED = 20


def status_of(present, decoded, captioned):
    """Returns an example's status, an int32 scalar, in a pipeline."""
    found = tf.where(decoded, tf.where(captioned, GOOD, EMPTY_CAPTION), CORRUPT_IMAGE)
    return tf.where(present, found, MISSING)


class Counters:
    """Counts a pipeline's good and bad examples, on this host and since this process started.

    Pass one to `make_train_dataset`, write `scalars()` to TensorBoard, and iterate inside
    `raising()`, which turns the pipeline's failure back into its `DataError`.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._lost = self._total = 0
        self.clear()

    def clear(self) -> None:
        """Resets the counts, as for another pass over the same examples."""
        with self._lock:
            self.count: collections.Counter[int] = collections.Counter()  # {status: examples}
            self.named: list[str] = []
            self.error: DataError | None = None

    def lose(self, lost: int, total: int) -> None:
        """Notes the examples found missing at the start; they count as bad in proportion."""
        with self._lock:
            self._lost, self._total = lost, total

    @property
    def examples(self) -> int:
        """Examples so far, good and bad."""
        return self.count.total()

    @property
    def bad(self) -> int:
        """Examples that could not be used; good ones took their places."""
        return self.examples - self.count[GOOD]

    def scalars(self) -> dict[str, float]:
        """Returns {name: value} for TensorBoard."""
        with self._lock:
            bad = {f"data/{_SCALARS[i]}": float(self.count[i]) for i in range(1, len(_SCALARS))}
            share = self.bad / max(self.examples, 1)
            return {"data/examples": float(self.examples), **bad, "data/bad_share": share}

    def report(self) -> str:
        """Returns one line: how many examples were bad, why, and the names of the first."""
        line = (
            f"{self.bad} of {self.examples} examples could not be used "
            f"({self.count[CORRUPT_IMAGE]} corrupt images, {self.count[EMPTY_CAPTION]} without a "
            f"caption, {self.count[MISSING]} unreadable records)"
        )
        if self._lost:
            line += f"; {self._lost} of {self._total} are lost with damaged shards"
        return f"{line}: {'; '.join(self.named)}" if self.named else line

    def add(self, statuses, name, max_bad_share) -> None:
        """Counts a batch."""
        with self._lock:
            self.count.update(statuses.tolist())
            for i in (statuses != GOOD).nonzero()[0][: _NAMED - len(self.named)]:
                self.named.append(f"{_WORDS[statuses[i]]} in {name(i)}")
            seen = max(self.examples, _ENOUGH)
            lost = self._lost / max(self._total, 1) * seen
            if self.bad and self.bad + lost > max_bad_share * seen:
                self.error = DataError(
                    f"more bad examples than data.max_bad_share={max_bad_share:g} allows; repair "
                    f"the data or raise it. {self.report()}"
                )
                raise self.error

    @contextlib.contextmanager
    def raising(self):
        """A context in which a pipeline that these counters stopped raises their `DataError`."""
        try:
            yield
        except tf.errors.OpError as e:
            if self.error is not None:
                raise self.error from e
            raise
