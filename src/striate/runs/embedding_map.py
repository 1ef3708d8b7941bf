"""A two-dimensional map of an embeddings file: where each image lies, and its thumbnail.

Letters: N images, M of them on the map, D features.
"""

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.data.images import cpus
from striate.data.preprocess import Pixels, Preprocessing
from striate.data.reading import read_pixels
from striate.engine.log import Display
from striate.errors import StriateError, UsageError
from striate.files import write_text
from striate.runs.clusters import drawn
from striate.runs.embeddings import Embeddings
from striate.runs.feature_classifiers import require_sklearn
from striate.runs.neighbours import Floats

SCHEMA = "striate.map/1"
Method = Literal["tsne", "umap", "pca"]
POINTS = 10_000  # on a map; of more images an evenly drawn sample is shown
PERPLEXITY = 30.0  # van der Maaten and Hinton 2008, section 2: 5 to 50 are typical
COMPONENTS = 50  # of PCA before t-SNE, which makes it faster and changes little; theirs was 30 (section 4.2)
SMALL = 32  # pixels: thumbnails up to this are kept exactly
PER_SHEET = 1024  # thumbnails on one picture of the page, 32 x 32
COLUMNS = 32


@dataclass(frozen=True, kw_only=True)
class Thumbnails:
    """Small pictures, side by side on a few larger ones."""

    cell: int  # side of each in pixels
    sheets: tuple[str, ...]  # data URIs, PER_SHEET thumbnails each in rows of COLUMNS
    sizes: NDArray[np.int64]  # (M, 2) height and width inside of the cell, centred; zeros where there is no image


@dataclass(frozen=True, kw_only=True)
class EmbeddingMap:
    """Where images lie in the plane: near ones are alike to the network."""

    embeddings: Embeddings
    rows: NDArray[np.int64]  # (M,) in the embeddings file
    points: NDArray[np.float64]  # (M, 2)
    method: Method
    words: str  # the method with its settings
    seed: int

    def to_json(self) -> dict[str, Any]:
        """The ``striate.map/1`` document."""
        return {
            "schema": SCHEMA,
            "embeddings": str(self.embeddings.path),
            "images": len(self.embeddings),
            "method": self.method,
            "seed": self.seed,
            "points": [
                {
                    "id": self.embeddings.ids[row],
                    "class": self.embeddings.class_of(row),
                    "x": round(x, 4),
                    "y": round(y, 4),
                }
                for row, (x, y) in zip(self.rows.tolist(), self.points.tolist(), strict=True)
            ],
        }


def map_embeddings(
    embeddings: Embeddings,
    *,
    method: Method = "tsne",
    seed: int = 0,
    most: int = POINTS,
    display: Display | None = None,
) -> EmbeddingMap:
    """Lay out an embeddings file in the plane.

    Args:
        embeddings: of `striate.open_embeddings`.
        method: ``tsne`` (van der Maaten and Hinton 2008), ``umap`` (McInnes, Healy and Melville 2018) or ``pca``, of
            embeddings brought to length 1.
        seed: of the method, and of the sample where there are more images than ``most``.
        most: images on the map.
        display: for people.

    Raises:
        UsageError: a library is missing, or there are fewer than three different embeddings.
    """
    require_sklearn("maps")
    display = display or Display(quiet=True)
    rows = drawn(len(embeddings), most, seed)
    units = embeddings.units(rows)
    if len({row.tobytes() for row in units}) < 3:
        raise UsageError(f"{embeddings.path} holds fewer than three different embeddings: there is nothing to map.")
    if method == "tsne" and len(rows) > 3000:
        display.say(f"t-SNE of {len(rows):,} images takes a minute or more (--method pca takes none).")
    points, words = {"tsne": _tsne, "umap": _umap, "pca": _pca}[method](units, seed)
    return EmbeddingMap(embeddings=embeddings, rows=rows, points=points, method=method, words=words, seed=seed)


def _tsne(units: Floats, seed: int) -> tuple[NDArray[np.float64], str]:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    count = min(COMPONENTS, *units.shape)
    reduced: Any = PCA(count, random_state=seed).fit_transform(units)
    perplexity = min(PERPLEXITY, (len(units) - 1) / 3)
    found: Any = TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed).fit_transform(reduced)
    return found.astype(np.float64), f"t-SNE, perplexity {perplexity:g}, after PCA to {count}, seed {seed}"


def _umap(units: Floats, seed: int) -> tuple[NDArray[np.float64], str]:
    try:
        from umap import UMAP  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UsageError(
            "--method umap needs umap-learn, which is not installed: pip install umap-learn. t-SNE needs no more than "
            "scikit-learn."
        ) from None
    neighbours = min(15, len(units) - 1)
    # With a seed UMAP works in one thread; saying so spares its warning.
    found: Any = UMAP(n_neighbors=neighbours, metric="cosine", random_state=seed, n_jobs=1).fit_transform(units)
    return np.asarray(found, dtype=np.float64), f"UMAP, {neighbours} neighbours, seed {seed}"


def _pca(units: Floats, seed: int) -> tuple[NDArray[np.float64], str]:
    from sklearn.decomposition import PCA

    pca: Any = PCA(2, random_state=seed)
    points: Any = pca.fit_transform(units)
    return points.astype(np.float64), f"PCA, {pca.explained_variance_ratio_.sum():.0%} of the variance"


def thumbnails(embeddings: Embeddings, rows: NDArray[np.int64], display: Display) -> Thumbnails:
    """Small pictures of images, the smaller the more there are."""
    # Whole blocks of JPEG (16 pixels with halved colours), so that neighbours do not mix.
    cell = 96 if len(rows) <= 1000 else 64 if len(rows) <= 3000 else 48
    sizes = np.zeros((len(rows), 2), dtype=np.int64)
    try:
        images = embeddings.images
    except StriateError:  # the data set is not there
        return Thumbnails(cell=cell, sheets=(), sizes=sizes)
    # Scaled down to fit, never up; grey around it is not shown.
    small = Preprocessing(size=(cell, cell), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3, resize="pad", fill=128)
    cells = np.full((len(rows), cell, cell, 3), small.fill, dtype=np.uint8)

    def read(number: int) -> None:
        try:
            cells[number], (tall, wide) = read_pixels(images, embeddings.place(int(rows[number])), small)
        except (StriateError, IndexError):
            return
        scale = min(1.0, cell / tall, cell / wide)
        sizes[number] = max(1, int(tall * scale)), max(1, int(wide * scale))

    with ThreadPoolExecutor(cpus()) as pool:
        for done, _ in enumerate(pool.map(read, range(len(rows))), 1):
            display.progress("thumbnails", done, len(rows))
    display.close()
    needed = max(1, int(sizes.max()))
    if needed <= SMALL:  # all of them are small images: no room around them
        start = (cell - sizes) // 2
        tight = np.full((len(rows), needed, needed, 3), small.fill, dtype=np.uint8)
        for number, ((top, left), (tall, wide)) in enumerate(zip(start.tolist(), sizes.tolist(), strict=True)):
            y, x = (needed - tall) // 2, (needed - wide) // 2
            tight[number, y : y + tall, x : x + wide] = cells[number, top : top + tall, left : left + wide]
        cell, cells = needed, tight
    sheets = [
        _data_uri(_side_by_side(cells[start : start + PER_SHEET]), exact=cell <= SMALL)
        for start in range(0, len(rows), PER_SHEET)
    ]
    return Thumbnails(cell=cell, sheets=tuple(sheets), sizes=sizes)


def _side_by_side(cells: Pixels) -> Pixels:
    """(M, cell, cell, 3) thumbnails in rows of COLUMNS; what is left of the last row is black."""
    count, cell = cells.shape[:2]
    columns = min(COLUMNS, count)
    filled = np.zeros((-(-count // columns) * columns, cell, cell, 3), dtype=np.uint8)
    filled[:count] = cells
    return filled.reshape(-1, columns, cell, cell, 3).swapaxes(1, 2).reshape(-1, columns * cell, 3)


def _data_uri(sheet: Pixels, *, exact: bool) -> str:
    grey = bool((sheet == sheet[:, :, :1]).all())
    picture = Image.fromarray(sheet[:, :, 0] if grey else sheet)
    encoded = io.BytesIO()
    if exact:
        picture.save(encoded, "PNG", optimize=True)
    else:
        picture.save(encoded, "JPEG", quality=82)
    return f"data:image/{'png' if exact else 'jpeg'};base64,{base64.b64encode(encoded.getvalue()).decode()}"


def write_map(found: EmbeddingMap, out: Path, display: Display) -> int:
    """Write the page of a map.

    Returns:
        How many of its images are not there any more, and have no thumbnail.
    """
    from striate.runs.map_page import render

    small = thumbnails(found.embeddings, found.rows, display)
    write_text(out, render(found, small))
    return int((small.sizes[:, 0] == 0).sum())
