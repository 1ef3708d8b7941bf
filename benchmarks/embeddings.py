"""Search over 100,000 embeddings of 1,280 features in a file, against plain NumPy over an array in memory.

    python benchmarks/embeddings.py          # exact search
    python benchmarks/embeddings.py index    # the approximate index over 10,000: its time, and what it finds

Both sides answer one query with the same twelve rows and take turns in one process. The plain side divides one
matrix-vector product by the lengths and sorts the best of `argpartition`; ours does that on the mapped file, checks the
query, and orders all that rounding could have swapped in double precision. Opening the file and the first search, which
brings it into memory, are timed apart.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import striate
from striate.data.preprocess import Preprocessing
from striate.runs.embeddings import About, Embeddings, write_embeddings

COUNT, FEATURES, TOP, TRIALS = 100_000, 1280, 12, 41
INDEXED, QUERIES = 10_000, 200


def written(folder: str, count: int) -> Embeddings:
    """A file of embeddings as networks give them: not negative, in groups."""
    draw = np.random.default_rng(0)
    centres = np.maximum(0, draw.standard_normal((200, FEATURES), dtype=np.float32))
    values = np.maximum(0, centres[draw.integers(0, 200, count)] + draw.standard_normal((count, FEATURES), np.float32))
    preprocessing = Preprocessing(size=(224, 224), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
    about = About(model="random", key="0", layer="none", preprocessing=preprocessing, folder=folder)
    rows = np.arange(count)
    ids = [f"{row}.jpg" for row in range(count)]
    path = Path(folder, "random.embeddings")
    return write_embeddings(path, about, values=values, labels=rows * 0 - 1, rows=rows, ids=ids)


def exact() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, COUNT).path
        started = time.perf_counter()
        found = striate.open_embeddings(path)
        opening = time.perf_counter() - started
        queries = np.asarray(found.values[:: COUNT // TRIALS][:TRIALS]) + np.float32(0.1)
        started = time.perf_counter()
        found.search(queries[0], TOP)
        first = time.perf_counter() - started
        values, norms = np.array(found.values), found.norms

        def ours(query: np.ndarray) -> tuple[float, list[int]]:
            started = time.perf_counter()
            near = found.search(query, TOP)
            return time.perf_counter() - started, near.rows.tolist()

        def plain(query: np.ndarray) -> tuple[float, list[int]]:
            started = time.perf_counter()
            similarities = values @ query / norms
            best = np.argpartition(similarities, COUNT - TOP)[COUNT - TOP :]
            best = best[np.argsort(-similarities[best])]
            return time.perf_counter() - started, best.tolist()

        times: list[tuple[float, float]] = []
        spent: list[float] = []
        for trial, query in enumerate(queries):
            sides = (ours, plain) if trial % 2 else (plain, ours)
            took = {side: side(query) for side in sides}
            assert took[ours][1] == took[plain][1]
            times.append((took[ours][0], took[plain][0]))
            started = time.process_time()
            found.search(query, TOP)
            spent.append(time.process_time() - started)
        ratios = [other / mine for mine, other in times]
        mine, other = (statistics.median(side) for side in zip(*times, strict=True))
        print(
            f"{COUNT:,} x {FEATURES}, {path.stat().st_size / 1e6:,.0f} MB: open {1000 * opening:.0f} ms, first search "
            f"{1000 * first:.0f} ms; then {1000 * mine:.1f} ms a query (least {1000 * min(t for t, _ in times):.1f}; "
            f"processor time {1000 * statistics.median(spent):.1f}), "
            f"plain {1000 * other:.1f} ms (least {1000 * min(t for _, t in times):.1f}); ratio min {min(ratios):.2f}  "
            f"median {statistics.median(ratios):.2f}  max {max(ratios):.2f} ({TRIALS} trials)"
        )


def index() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = written(folder, INDEXED)
        queries = np.asarray(found.values[:QUERIES]) + np.float32(0.1)
        started = time.perf_counter()
        found.search_all(queries[:1], TOP, approximately=True)
        building = time.perf_counter() - started
        seconds: dict[bool, float] = {}
        rows: dict[bool, list[set[int]]] = {}
        for approximately in (False, True):
            rows[approximately] = []
            started = time.process_time()
            for query in queries:
                near = found.search(query, TOP, approximately=approximately)
                rows[approximately].append(set(near.rows.tolist()))
            seconds[approximately] = (time.process_time() - started) / QUERIES
        recall = statistics.mean(len(a & b) / TOP for a, b in zip(rows[False], rows[True], strict=True))
        exactly, roughly = 1000 * seconds[False], 1000 * seconds[True]
        print(
            f"{INDEXED:,} x {FEATURES}: index built in {building:.0f} s; a query takes {exactly:.1f} ms of processor "
            f"time exactly, {roughly:.1f} ms approximately, which finds {recall:.1%} of the {TOP} nearest"
        )


if __name__ == "__main__":
    index() if sys.argv[1:] == ["index"] else exact()
