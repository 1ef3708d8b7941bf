"""Clusters of an embeddings file by k-means (scikit-learn), and a contact sheet of each.

Embeddings are brought to length 1 first, so that distance follows the angle between them (spherical k-means but for the
centres' lengths, Dhillon and Modha 2001).

Letters: N images, D features, K clusters.
"""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.engine.log import Display
from striate.errors import UsageError
from striate.files import replacing, write_text
from striate.runs.embeddings import Embeddings
from striate.runs.feature_classifiers import require_sklearn
from striate.runs.neighbours import Floats
from striate.runs.search import caption
from striate.viz.contact_sheet import absent, contact_sheet

SCHEMA = "striate.clusters/1"
TRIED = range(2, 21)  # numbers of clusters that the silhouette chooses from
SAMPLE = 3000  # images that it is measured on: it takes the distance of each to each
FITTED = 50_000  # images that k-means takes its centres from
STARTS = 4  # of k-means; the best is kept
SHOWN = 24  # images on the sheet of a cluster


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Images that a network finds alike."""

    rows: NDArray[np.int64]  # in the embeddings file, the most central first
    similarities: NDArray[np.float64]  # of each to the cluster's centre, cosine
    label: str | None  # the most frequent class among its images, None where none has one
    labelled: int  # images with a class
    share: float  # of the labelled ones that have the most frequent class; nan without any


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """All clusters, the largest first."""

    embeddings: Embeddings
    clusters: tuple[Cluster, ...]
    silhouettes: dict[int, float]  # mean silhouette of each K that was tried; empty where K was given
    sampled: int  # images that it was measured on
    seed: int

    @property
    def purity(self) -> float | None:
        """Share of the labelled images that have their cluster's most frequent class; None without labels."""
        labelled = sum(cluster.labelled for cluster in self.clusters)
        right = sum(round(cluster.share * cluster.labelled) for cluster in self.clusters if cluster.labelled)
        return right / labelled if labelled else None

    def to_json(self) -> dict[str, Any]:
        """The ``striate.clusters/1`` document."""
        return {
            "schema": SCHEMA,
            "embeddings": str(self.embeddings.path),
            "images": len(self.embeddings),
            "seed": self.seed,
            "purity": self.purity,
            "silhouettes": {str(count): round(value, 6) for count, value in self.silhouettes.items()},
            "clusters": [
                {
                    "cluster": number,
                    "size": len(cluster.rows),
                    "class": cluster.label,
                    "purity": cluster.share if cluster.labelled else None,
                    "central": [self.embeddings.ids[row] for row in cluster.rows[:SHOWN].tolist()],
                }
                for number, cluster in enumerate(self.clusters, 1)
            ],
        }


def cluster_embeddings(
    embeddings: Embeddings, count: int | None = None, *, seed: int = 0, display: Display | None = None
) -> Clusters:
    """Cluster an embeddings file.

    Args:
        embeddings: of `striate.open_embeddings`.
        count: K; without, that of 2 to 20 whose mean silhouette (Rousseeuw 1987) is greatest.
        seed: of k-means' starts, and of the sample that the silhouette is measured on.
        display: for progress.

    Raises:
        UsageError: scikit-learn is missing, or there are fewer different embeddings than clusters.
    """
    require_sklearn("clusters")
    display = display or Display(quiet=True)
    units = embeddings.units()
    different = _different(units, most=(count or TRIED.stop) + 1)
    if count is not None and not 1 <= count <= different:
        raise UsageError(
            f"{count} clusters were asked for (--clusters), but {embeddings.path} holds {different} different "
            f"embeddings of {len(embeddings)} images."
        )
    if count is None and different < 3:
        raise UsageError(
            f"{embeddings.path} holds {different} different embeddings, too few to choose a number of clusters for: "
            "give it (--clusters), or embed more images."
        )
    silhouettes: dict[int, float] = {}
    sampled = 0
    if count is None:
        silhouettes, sampled = _silhouettes(units, different, seed, display)
        count = max(silhouettes, key=lambda k: silhouettes[k])
    labels = _k_means(units, count, seed)
    return Clusters(
        embeddings=embeddings,
        clusters=_described(embeddings, units, labels),
        silhouettes=silhouettes,
        sampled=sampled,
        seed=seed,
    )


def drawn(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """All rows, or as many as ``most`` of them, evenly drawn, in order."""
    if count <= most:
        return np.arange(count, dtype=np.int64)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False)).astype(np.int64)


def _different(units: Floats, most: int) -> int:
    """How many different rows there are, counted no further than ``most``."""
    seen: set[bytes] = set()
    for row in units:
        seen.add(row.tobytes())
        if len(seen) >= most:
            break
    return len(seen)


def _k_means(units: Floats, count: int, seed: int) -> NDArray[np.int64]:
    """A cluster for each; of very many, the centres are those of an evenly drawn sample."""
    from sklearn.cluster import KMeans

    means: Any = KMeans
    fitted = means(count, n_init=STARTS, random_state=seed).fit(units[drawn(len(units), FITTED, seed)])
    return fitted.predict(units).astype(np.int64)


def _silhouettes(units: Floats, different: int, seed: int, display: Display) -> tuple[dict[int, float], int]:
    """Mean silhouette by number of clusters, and of how many images."""
    from sklearn.metrics import pairwise_distances, silhouette_score

    sample = units[drawn(len(units), SAMPLE, seed)]
    distances: Any = pairwise_distances(sample)
    np.fill_diagonal(distances, 0)
    tried = [count for count in TRIED if count < min(len(sample), different + 1)]
    found: dict[int, float] = {}
    for done, count in enumerate(tried):
        labels = _k_means(sample, count, seed)
        found[count] = float(silhouette_score(distances, labels, metric="precomputed"))
        display.progress("clusters", done + 1, len(tried), f"{count} clusters: silhouette {found[count]:.3f}")
    display.close()
    return found, len(sample)


def _described(embeddings: Embeddings, units: Floats, labels: NDArray[np.int64]) -> tuple[Cluster, ...]:
    clusters: list[Cluster] = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label).astype(np.int64)
        centre = units[rows].mean(0, dtype=np.float64)
        similarities = units[rows].astype(np.float64) @ centre / max(float(np.linalg.norm(centre)), 1e-30)
        order = np.argsort(-similarities, kind="stable")
        own = embeddings.labels[rows]
        counts = np.bincount(own[own >= 0], minlength=1)
        labelled = int(counts.sum())
        clusters.append(
            Cluster(
                rows=rows[order],
                similarities=similarities[order],
                label=embeddings.classes[int(counts.argmax())] if labelled else None,
                labelled=labelled,
                share=float(counts.max() / labelled) if labelled else float("nan"),
            )
        )
    return tuple(sorted(clusters, key=lambda cluster: (-len(cluster.rows), int(cluster.rows.min()))))


def write_clusters(found: Clusters, out: Path) -> tuple[list[Path], int]:
    """Write ``clusters.json``, ``clusters.csv``, ``images.csv`` and a contact sheet per cluster into a folder.

    Args:
        found: of `cluster_embeddings`.
        out: the folder; sheets of an earlier call are taken away.

    Returns:
        The sheets, and how many images of them are not there any more: tiles stand for them.

    Raises:
        UsageError: the folder holds other things.
    """
    _clear(out)
    embeddings, tile, missing = found.embeddings, absent(), 0
    sheets: list[Path] = []
    digits = max(2, len(str(len(found.clusters))))
    for number, cluster in enumerate(found.clusters, 1):
        rows: list[int] = cluster.rows[:SHOWN].tolist()
        pictures = embeddings.pictures(rows)
        missing += sum(picture is None for picture in pictures)
        sheet = contact_sheet(
            [tile if picture is None else picture for picture in pictures],
            [
                f"{similarity:.4f}\n{caption(embeddings, row)}"
                for row, similarity in zip(rows, cluster.similarities.tolist(), strict=False)
            ],
        )
        file = out / f"cluster-{number:0{digits}d}.png"
        with replacing(file) as temporary:
            sheet.save(temporary, "PNG")
        sheets.append(file)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("cluster", "size", "class", "purity"))
    members = io.StringIO()
    listing = csv.writer(members, lineterminator="\n")
    listing.writerow(("id", "cluster", "similarity", "class"))
    for number, cluster in enumerate(found.clusters, 1):
        share = f"{cluster.share:.4f}" if cluster.labelled else ""
        writer.writerow((number, len(cluster.rows), cluster.label or "", share))
        for row, similarity in zip(cluster.rows.tolist(), cluster.similarities.tolist(), strict=True):
            listing.writerow((embeddings.ids[row], number, f"{similarity:.6f}", embeddings.class_of(row) or ""))
    write_text(out / "clusters.csv", _utf8(table.getvalue()))
    write_text(out / "images.csv", _utf8(members.getvalue()))
    document = found.to_json() | {"sheets": [sheet.name for sheet in sheets]}
    write_text(out / "clusters.json", json.dumps(document, indent=2))
    return sheets, missing


def _utf8(text: str) -> str:
    """Names that are not UTF-8, as Python and JSON escape them."""
    return text.encode("utf-8", "backslashreplace").decode()


def _clear(out: Path) -> None:
    """Make room for new sheets in a folder that holds those of an earlier call, or nothing."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; it names the folder of the clusters.")
    if not out.is_dir() or not any(out.iterdir()):
        return
    try:
        earlier: Any = json.loads((out / "clusters.json").read_text(encoding="utf-8"))
        sheets = [str(name) for name in earlier["sheets"]] if earlier["schema"] == SCHEMA else None
    except (OSError, ValueError, KeyError, TypeError):
        sheets = None
    if sheets is None:
        raise UsageError(f"--out {out} holds other things than clusters. Name a new folder.")
    for name in sheets:
        (out / Path(name).name).unlink(missing_ok=True)
