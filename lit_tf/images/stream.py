"""Embeds a stream of images of any length: decoding runs beside the tower, in bounded memory.

Everything that embeds many images goes through this loop. What embeds a batch is a function, which
may run on one device or on all replicas of a strategy. The last batch is not padded: what needs one
static shape (replicas, XLA) does that itself, since elsewhere one new image would cost as much as a
whole batch.
"""

import collections
import concurrent.futures
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from lit_tf.errors import ImageError

# Batches whose results have not been fetched yet: the device has work while the host reads.
IN_FLIGHT = 2


class Embedded(NamedTuple):
    """One batch of embedded images, in the order in which the images came.

    Attributes:
        items: the n items that could be read.
        extras: n values, what `read` returned beside the pixels of each.
        embeddings: float32 (n, D), unit length.
    """

    items: list
    extras: list
    embeddings: np.ndarray


def embed_stream(
    items: Iterable,
    read: Callable[[Any], tuple[np.ndarray, Any]],
    embed: Callable[[np.ndarray], Any],
    batch_size: int,
    failed: Callable[[Any, ImageError], None] | None = None,
    stack: Callable[[list], Any] = np.stack,
) -> Iterator[Embedded]:
    """Yields batches of embeddings of a stream of images, none empty; see `LitModel.embed_stream`.

    `read` maps an item to (a prepared image, any value that travels along), in several threads.
    `embed` maps what `stack` makes of up to `batch_size` of them to (n, D), perhaps still on its
    way. Without `failed`, the ImageError of an item is raised.
    """
    readable = _readable(read_ahead(items, read, 2 * batch_size), failed)
    batches = iter(lambda: list(itertools.islice(readable, batch_size)), [])

    def start(batch):
        return embed(stack([pixels for _, pixels, _ in batch]))

    for batch, embeddings in in_flight(batches, start):
        yield Embedded([b[0] for b in batch], [b[2] for b in batch], embeddings)


def read_ahead(items: Iterable, read: Callable, ahead: int) -> Iterator[tuple[Any, Any]]:
    """Reads items in several threads, at most `ahead` before they are asked for.

    Yields, in their order, (item, what `read` returned, or the ImageError that it raised).
    """
    items = iter(items)
    waiting: collections.deque = collections.deque()
    pool = concurrent.futures.ThreadPoolExecutor(min(16, os.cpu_count() or 1))

    def start(count):
        for item in itertools.islice(items, count):
            waiting.append((item, pool.submit(read, item)))

    try:
        start(ahead)
        while waiting:
            item, future = waiting.popleft()
            try:
                result = future.result()
            except ImageError as error:
                result = error
            start(1)
            yield item, result
    finally:
        # Do not wait for the threads. The garbage collector may close this generator in any thread,
        # even while another thread starts, and joining would then deadlock.
        pool.shutdown(wait=False, cancel_futures=True)


def in_flight(batches: Iterable, embed: Callable) -> Iterator[tuple[Any, Any]]:
    """Yields (batch, what `embed` makes of it, as arrays); the next batch is started before."""
    pending: collections.deque = collections.deque()
    allowed = 1

    def fetch():
        batch, outputs = pending.popleft()
        return batch, tf.nest.map_structure(np.asarray, outputs)

    for batch in batches:
        pending.append((batch, embed(batch)))
        if len(pending) >= allowed:
            yield fetch()
            allowed = IN_FLIGHT  # the first batch is alone: it compiles, and starts the clock
    while pending:
        yield fetch()


def _readable(results, failed):
    """Yields (item, pixels, extra) of what could be read; tells of the rest, or raises it."""
    for item, result in results:
        if not isinstance(result, ImageError):
            yield item, *result
        elif failed is None:
            raise result
        else:
            failed(item, result)
