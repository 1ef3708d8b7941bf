"""Nearest neighbours by cosine: exact by one matrix-vector product, approximate by an index for millions.

Letters: N embeddings, D features, Q queries, k neighbours.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.errors import DataError, UsageError
from striate.files import replacing

Floats = NDArray[np.float32]

AT_ONCE = 32  # queries of one matrix product: N x 32 similarities are in memory
RESCORED = 4096  # rows of one block in double precision
MANY = 1_000_000  # embeddings from which on an index is worth its time
CANDIDATES = 8  # times k are asked of the index, at least LEAST, and ordered exactly
LEAST = 64
EXPANSION = 256  # of the index's own search: more finds more and takes longer
ADDED = 20_000  # embeddings given to the index at once


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The nearest of one query, the nearest first; equal ones in the order of the file."""

    rows: NDArray[np.int64]  # (k,)
    similarities: NDArray[np.float64]  # (k,) cosine, -1 to 1; 0 where a side is all zeros


def nearest(values: Floats, norms: Floats, queries: Floats, top: int) -> list[Neighbours]:
    """The nearest embeddings of each query, exactly.

    A product in float32 finds the candidates, with the margin that its rounding can have; the candidates are ordered
    in double precision. The order is therefore that of exact arithmetic, and equal embeddings stay in their order.

    Args:
        values: (N, D) float32, may be mapped from a file.
        norms: (N,) float32, their lengths.
        queries: (Q, D) float32.
        top: k, at most N.

    Returns:
        One per query.
    """
    found: list[Neighbours] = []
    # |fl(x.y) - x.y| <= D u |x| |y|, u = 2^-24 (Higham 2002, Accuracy and Stability, equation 3.5); the few more are
    # for the lengths. A candidate and the last of the best may both be off.
    margin = 2 * (values.shape[1] + 16) * 2.0**-24
    lengths = np.maximum(norms, np.finfo(np.float32).tiny)
    for start in range(0, len(queries), AT_ONCE):
        units = [_unit(query) for query in queries[start : start + AT_ONCE]]
        # One query is a matrix-vector product, which reads the file once and writes nothing but N numbers.
        products = values @ units[0][:, None] if len(units) == 1 else values @ np.stack(units, axis=1)
        for column, unit in enumerate(units):
            similarities = products[:, column] / lengths
            last = np.partition(similarities, len(similarities) - top)[len(similarities) - top]
            candidates = np.flatnonzero(similarities >= last - margin)
            found.append(_ordered(values, candidates, unit, top))
    return found


def _unit(query: Floats) -> Floats:
    length = np.linalg.norm(query.astype(np.float64))
    return (query / max(float(length), np.finfo(np.float32).tiny)).astype(np.float32)


def _ordered(values: Floats, candidates: NDArray[np.int64], query: Floats, top: int) -> Neighbours:
    """The best of the candidates, which are rows in ascending order."""
    direction = query.astype(np.float64)
    direction /= max(float(np.linalg.norm(direction)), np.finfo(np.float64).tiny)
    exact = np.empty(len(candidates))
    for start in range(0, len(candidates), RESCORED):
        block = values[candidates[start : start + RESCORED]].astype(np.float64)
        # Sums by row, not a matrix product, whose order of summing may differ from row to row.
        lengths = np.sqrt((block * block).sum(1))
        exact[start : start + RESCORED] = (block * direction).sum(1) / np.maximum(lengths, np.finfo(np.float64).tiny)
    best = np.argsort(-exact, kind="stable")[:top]
    return Neighbours(rows=candidates[best].astype(np.int64), similarities=np.clip(exact[best], -1, 1))


def approximate(index: Any, values: Floats, queries: Floats, top: int) -> list[Neighbours]:
    """As `nearest`, but only among the candidates that an index finds: most of the true ones, in far less time.

    Args:
        index: of `open_index`.
        values: (N, D) float32.
        queries: (Q, D) float32.
        top: k, at most N.
    """
    count = min(len(values), max(CANDIDATES * top, LEAST))
    found: list[Neighbours] = []
    for query in queries:
        candidates = np.sort(np.asarray(index.search(_unit(query), count, threads=1).keys).astype(np.int64))
        found.append(_ordered(values, candidates, query, top))
    return found


def index_path(path: Path, key: str, norms: Floats) -> Path:
    """Where the index of an embeddings file lies; another file's content gives another name."""
    digest = hashlib.sha256(key.encode() + norms.tobytes()).hexdigest()
    return path.with_name(f"{path.name}.{digest[:12]}.usearch")


def open_index(path: Path, values: Floats, *, display: Any) -> Any:
    """The index of an embeddings file (HNSW, Malkov and Yashunin 2018), built where it is not there yet.

    Args:
        path: of `index_path`.
        values: (N, D) float32.
        display: an `engine.log.Display`, for the progress of building.

    Raises:
        UsageError: usearch is not installed.
        DataError: the index is damaged.
    """
    try:
        from usearch.index import Index
    except ImportError:
        raise UsageError(
            "--approximate needs usearch, which is not installed: pip install 'striate[ann]'. Without the option the "
            "search is exact."
        ) from None
    if not path.exists():
        # Half precision halves the index; what it finds is ordered by the file's own numbers.
        index: Any = Index(ndim=values.shape[1], metric="cos", dtype="f16")
        for start in range(0, len(values), ADDED):
            block = np.asarray(values[start : start + ADDED])
            index.add(np.arange(start, start + len(block)), block)
            display.progress("index", start + len(block), len(values))
        display.close()
        with replacing(path) as temporary:
            index.save(str(temporary))
        display.say(f"Index: {path}")
    try:
        restored: Any = Index.restore(str(path), view=True)
        opened: Any = restored if restored is not None else ()  # None: it is no index
        whole = len(opened) == len(values) and opened.ndim == values.shape[1]
    except Exception as error:
        raise DataError(f"{path} is damaged ({error}). Remove it; it is built anew.") from error
    if not whole:
        raise DataError(f"{path} is damaged or not the index of these embeddings. Remove it; it is built anew.")
    opened.expansion_search = EXPANSION
    return opened
