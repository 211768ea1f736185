"""Indexing pictures beside the bare tower, and a query of many embeddings beside NumPy's exact one.

    python benchmarks/search.py [--pictures 256] [--rows 1000000]

Pictures are JPEGs of 1024 x 768 pixels; the tower is ViT-B/16 with random weights. The embeddings
are generated: 64 random directions, mixed by normal weights, with noise on top. Those of real
pictures vary in few directions, too; pure noise would have no neighbours. Making the approximate
index of a million takes minutes.
"""

import argparse
import os
import pathlib
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import PIL.Image
import pyarrow as pa
from timing import best_times, verdict

from lit_tf.config import LitConfig, ViTConfig
from lit_tf.model import LitModel
from lit_tf.search import index
from lit_tf.search.query import Searcher
from lit_tf.search.store import Model, Store

VIT = ViTConfig(
    patch_size=16, image_size=224, width=768, depth=12, num_heads=12, mlp_dim=3072, out_dim=None
)
WIDTH, DIRECTIONS, QUERIES, TOP = 768, 64, 50, 10
BATCH = 16
MB = 1 << 20


class _Settings(index.Settings):
    """Settings whose model is made, not read."""

    model = LitModel(LitConfig(image=VIT, text=None))

    def load(self):
        return self.model


class _Clock:
    """A progress bar that notes when how many pictures were done, and the process's memory."""

    def __init__(self, total):
        self.total, self.done, self.notes = total, 0, []

    def update(self, count):
        self.done += count
        self.notes.append((time.perf_counter(), self.done, memory()))

    def close(self):
        pass


def memory():
    """Returns how many bytes of memory this process holds."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def write_photos(folder, count):
    """Writes JPEGs that compress as photographs do, smooth areas with some noise."""
    rng = np.random.default_rng(0)
    for i in range(count):
        small = PIL.Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        pixels = np.asarray(small.resize((1024, 768), PIL.Image.Resampling.BICUBIC), np.int16)
        pixels = pixels + rng.normal(0, 6, pixels.shape).astype(np.int16)
        image = PIL.Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        image.save(folder / f"{i:05d}.jpg", quality=90)


def measure_indexing(folder, count):
    """Times indexing beside the bare tower; returns whether the bounds hold."""
    (folder / "photos").mkdir()
    write_photos(folder / "photos", count)
    settings = _Settings("random", batch_size=BATCH)
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, 224, 224, 3), dtype=np.uint8)
    bare = lambda: settings.model.image_function(pixels).numpy()  # noqa: E731
    before = best_times({"tower": bare}, rounds=5)["tower"]
    clocks = []

    def progress(total):
        clocks.append(_Clock(total))
        return clocks[-1]

    index.update(folder / "pictures.lance", [folder / "photos"], settings, progress=progress)
    after = best_times({"tower": bare}, rounds=5)["tower"]
    (start, first, _), (end, last, _) = clocks[0].notes[0], clocks[0].notes[-1]
    tower, ours = BATCH / min(before, after), (last - first) / (end - start)
    notes = [held for _, _, held in clocks[0].notes]
    middle = len(notes) // 2
    growth = (max(notes[middle:]) - max(notes[:middle])) / MB
    print(f"  {count} pictures: {ours:.1f} a second, the bare tower {tower:.1f}")
    print(f"  memory: {max(notes) / MB:.0f} MB; the second half added {growth:.0f} MB")
    return [
        verdict("indexing / bare tower, pictures per second", ours / tower, 0.9),
        verdict("100 MB / what the second half of the pictures added", 100 / max(growth, 1), 1),
    ]


def generate(rows):
    """Yields float32 (n, WIDTH) embeddings of unit length, `rows` in all, and last the queries."""
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((DIRECTIONS, WIDTH), np.float32) / DIRECTIONS**0.5
    for count in [50_000] * (rows // 50_000) + [rows % 50_000] * bool(rows % 50_000) + [QUERIES]:
        z = rng.standard_normal((count, DIRECTIONS), np.float32) @ mix
        z += 0.3 * rng.standard_normal(z.shape, np.float32)
        yield z / np.linalg.norm(z, axis=1, keepdims=True)


def measure_queries(folder, rows):
    """Times queries by the approximate index beside NumPy's; returns whether the bounds hold."""
    store = Store.create(folder / "many.lance", Model("none", None, "0", 224, "float32", WIDTH))
    *parts, queries = generate(rows)
    start, written = time.perf_counter(), 0
    for z in parts:
        names = pa.array([f"/{i:07d}.jpg" for i in range(written, written + len(z))])
        embeddings = pa.FixedSizeListArray.from_arrays(pa.array(z.ravel()), WIDTH)
        store.write(pa.table({"path": names, "embedding": embeddings}))
        written += len(z)
    print(f"  {rows:,} x {WIDTH} written in {time.perf_counter() - start:.0f} s", flush=True)
    start = time.perf_counter()
    store.make_vector_index()
    print(f"  approximate index made in {time.perf_counter() - start:.0f} s", flush=True)
    everything = np.concatenate(parts)
    del parts
    searcher = Searcher(store)

    def ask(question, exact):
        found = searcher.answer(question, top=TOP, exact=exact)
        return {int(picture.path[1:8]) for picture in found}

    def numpy(question):
        scores = everything @ question
        return set(np.argpartition(scores, -TOP)[-TOP:].tolist())

    times = {"index": [], "exact": [], "NumPy": []}
    hits = {"index": 0, "exact": 0}
    for i, question in enumerate(queries):
        for name, function in (
            ("index", lambda q: ask(q, False)),
            ("NumPy", numpy),
            *([("exact", lambda q: ask(q, True))] if i < 3 else []),
        ):
            start = time.perf_counter()
            found = function(question)
            times[name].append(time.perf_counter() - start)
            if name == "index":
                approximate = found
            elif name == "NumPy":
                hits["index"] += len(found & approximate)
                truth = found
            else:
                hits["exact"] += len(found & truth)
    middle = {name: float(np.median(t)) * 1e3 for name, t in times.items()}
    recall = {"index": hits["index"] / QUERIES / TOP, "exact": hits["exact"] / 3 / TOP, "NumPy": 1}
    for name, milliseconds in middle.items():
        print(f"  {name:8s} {milliseconds:8.1f} ms a query (median), recall@10 {recall[name]:.3f}")
    return [
        verdict("100 ms / a query by the index", 100 / middle["index"], 1),
        verdict("recall@10 of the index", recall["index"], 0.95),
        verdict("recall@10 of the exact search", recall["exact"], 1),
    ]


def main():
    """Runs the benchmark; returns whether every bound holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=256, help="to index; 0 for none")
    parser.add_argument("--rows", type=int, default=1_000_000, help="embeddings; 0 for none")
    args = parser.parse_args()
    held = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        if args.pictures:
            print("\nindexing")
            held += measure_indexing(folder, args.pictures)
        if args.rows:
            print("\nqueries")
            held += measure_queries(folder, args.rows)
    return all(held)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
