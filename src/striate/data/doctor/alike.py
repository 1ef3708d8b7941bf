"""Pictures that a model finds alike where their pixels are not: mirrored, cropped, under another light.

Similarity is the cosine of whitened embeddings (Jegou and Chum 2012, "Negative evidences and co-occurences in image
retrieval: the benefit of PCA and whitening"): what all images of the data share counts little, what tells them apart
counts much. How similar is too similar depends on the data and on the model, and is taken from them.

Around an image, where neighbours lie as if strewn at random, the distances r to its nearest neighbours follow one
law: the shares (r / r_k)^d of the volume within the k-th are uniformly distributed, d being the intrinsic dimension
(the model of Levina and Bickel 2005, "Maximum Likelihood Estimation of Intrinsic Dimension"). Half of the k
neighbours lie within half of that volume, which gives d: one for the data, by the median over images, so that even
where every image has some copies these do not move it. A pair is near duplicates when, seen from both sides, a
neighbour in so small a share of the volume would be expected `CHANCE` times in the whole data set, or less; and,
where both are of one class, also by the law among the images of their class alone, whose pictures may all be alike.

Letters: N images, D features, k neighbours.
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.doctor.examination import Examination, class_key
from striate.data.survey import Progress

NEIGHBOURS = 10  # k; five copies of each picture, which fill half of it, hide each other
FEWEST = 3 * NEIGHBOURS  # images below which the law says nothing
FEWEST_OF_CLASS = 6  # the same of a class: five neighbours
MOST = 200_000  # images above which comparing all with all takes hours
CHANCE = 1.0  # pairs named wrongly, at most, in the whole data set, were the neighbours strewn at random

_BLOCK = 1 << 26  # similarities at once: 256 MB


def alike_rows(
    of: Examination, rows: NDArray[np.int64], embeddings: NDArray[np.float32], *, progress: Progress | None = None
) -> list[tuple[int, int, float]]:
    """Pairs of images that a model finds alike and that are not alike by their pixels.

    Of exact copies only the first counts, and what `Examination.near` joins, through others too, is left out.

    Args:
        of: the data set, looked at.
        rows: (M,) int64 of it.
        embeddings: (M, D) float32 of these.
        progress: is told how many images have been compared.

    Returns:
        Two rows, the smaller first, and the cosine of their embeddings as they are.
    """
    later = {row for copies in of.copies for row in copies[1:]}
    kept = np.flatnonzero([row not in later for row in rows.tolist()])
    names, values = rows[kept].tolist(), embeddings[kept]
    family = families(range(len(of.dataset)), of.near)
    numbers: dict[str, int] = {}
    classes = [numbers.setdefault(class_key(of.class_name(row)), len(numbers)) for row in names]
    pairs = alike_pairs(values, np.array(classes, dtype=np.int64), progress=progress).tolist()
    lengths = np.maximum(np.linalg.norm(values, axis=1), np.finfo(np.float32).tiny)
    return [
        (names[a], names[b], float(values[a] @ values[b] / (lengths[a] * lengths[b])))
        for a, b in pairs
        if family[names[a]] != family[names[b]]
    ]


def families(rows: Iterable[int], pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """For each row one row that stands for all that pairs join it to."""
    towards = {row: row for row in rows}

    def root(row: int) -> int:
        while towards[row] != row:
            towards[row] = row = towards[towards[row]]
        return row

    for first, second in pairs:
        towards[root(first)] = root(second)
    return {row: root(row) for row in towards}


def whitened(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Embeddings in which every direction counts alike, as far as the images show it, with length 1.

    The mean variance is added to each direction's, so that those with hardly any are not blown up.

    Args:
        embeddings: (N, D) float32.

    Returns:
        (N, D) float32.
    """
    values = embeddings - embeddings.mean(axis=0)
    variances, directions = np.linalg.eigh((values.T @ values / len(values)).astype(np.float64))
    variances = np.maximum(variances, 0)
    scale = 1 / np.sqrt(np.maximum(variances + variances.mean(), np.finfo(np.float32).tiny))
    turned = values @ (directions * scale).astype(np.float32)
    return turned / np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def alike_pairs(
    embeddings: NDArray[np.float32], classes: NDArray[np.int64], *, progress: Progress | None = None
) -> NDArray[np.int64]:
    """Pairs of images whose embeddings are nearer than chance allows.

    Args:
        embeddings: (N, D) float32, no two rows of one and the same picture.
        classes: (N,) int64, any numbers.
        progress: is told how many images have been compared.

    Returns:
        (P, 2) int64, the smaller row first, each pair once; none where there are fewer than `FEWEST` images.
    """
    count = len(embeddings)
    if count < FEWEST:
        return np.zeros((0, 2), dtype=np.int64)
    units = whitened(embeddings)
    pairs = _too_near(units, CHANCE / count, progress)
    same = classes[pairs[:, 0]] == classes[pairs[:, 1]]
    kept = pairs[~same].tolist()
    for number in np.unique(classes[pairs[same, 0]]):
        members = np.flatnonzero(classes == number)
        inside = pairs[same & (classes[pairs[:, 0]] == number)]
        if len(members) >= FEWEST_OF_CLASS:
            nearer = {tuple(pair) for pair in members[_too_near(units[members], CHANCE / count)].tolist()}
            kept += [pair for pair in inside.tolist() if tuple(pair) in nearer]
        else:
            kept += inside.tolist()
    return np.array(sorted(kept), dtype=np.int64).reshape(-1, 2)


def _too_near(units: NDArray[np.float32], chance: float, progress: Progress | None = None) -> NDArray[np.int64]:
    """Pairs that are nearer than the law allows, (P, 2), where ``chance`` such neighbours are allowed per image."""
    similarities, neighbours = _nearest(units, progress)
    distances = np.sqrt(np.maximum(2 - 2 * similarities.astype(np.float64), 0))  # (N, k), ascending
    k = distances.shape[1]
    farthest, middle = distances[:, -1], distances[:, k // 2 - 1]
    spread = farthest[middle > 0] / middle[middle > 0]
    growth = float(np.log(np.median(spread))) if len(spread) else 0.0
    if growth <= 0:
        return np.zeros((0, 2), dtype=np.int64)
    dimension = np.log(k / (k // 2)) / growth
    within = np.divide(distances, farthest[:, None], out=np.ones_like(distances), where=farthest[:, None] > 0)
    first, place = np.nonzero(within**dimension <= chance / (k - 1))
    found = np.stack([first, neighbours[first, place]], axis=1)
    pairs, seen_from = np.unique(np.sort(found, axis=1), axis=0, return_counts=True)
    return pairs[seen_from == 2]


def _nearest(units: NDArray[np.float32], progress: Progress | None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Cosines to the k nearest other images, falling, and their rows; both (N, k), k being N - 1 where that is less."""
    tensor, count = torch.from_numpy(units), len(units)
    k = min(NEIGHBOURS, count - 1)
    similarities, neighbours = torch.empty(count, k), torch.empty(count, k, dtype=torch.int64)
    step = max(1, _BLOCK // count)
    for start in range(0, count, step):
        block = tensor[start : start + step] @ tensor.T
        block[torch.arange(len(block)), torch.arange(start, start + len(block))] = -2.0
        similarities[start : start + step], neighbours[start : start + step] = block.topk(k)
        if progress is not None:
            progress(min(count, start + step), count)
    return similarities.numpy(), neighbours.numpy()
