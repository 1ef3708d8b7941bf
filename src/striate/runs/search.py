"""Reverse image search: the images of an embeddings file that are most like other images, and a sheet of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from PIL import Image

from striate.engine.log import Display
from striate.errors import DataError
from striate.runs.embeddings import Embeddings
from striate.runs.model import Failed, embed_images, name_of, pixels_of
from striate.runs.neighbours import Neighbours
from striate.viz.contact_sheet import absent, search_sheet

if TYPE_CHECKING:
    from striate.runs.features import Extractor

SCHEMA = "striate.search/1"
ROWS = 50  # queries that one sheet shows


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found."""

    embeddings: Embeddings
    queries: tuple[str, ...]  # those that could be read
    neighbours: tuple[Neighbours, ...]  # one per query
    failed: tuple[Failed, ...]
    approximate: bool

    def to_json(self) -> dict[str, Any]:
        """The ``striate.search/1`` document."""
        about = self.embeddings.about
        return {
            "schema": SCHEMA,
            "embeddings": str(self.embeddings.path),
            "images": len(self.embeddings),
            "model": about.model,
            "layer": about.layer,
            "similarity": "cosine",
            "approximate": self.approximate,
            "queries": [
                {
                    "source": source,
                    "hits": [
                        {
                            "id": self.embeddings.ids[row],
                            "path": self.embeddings.file(row),
                            "class": self.embeddings.class_of(row),
                            "similarity": round(similarity, 6),
                        }
                        for row, similarity in hits(near)
                    ],
                }
                for source, near in zip(self.queries, self.neighbours, strict=True)
            ],
            "failed": [{"source": item.source, "error": item.error} for item in self.failed],
        }


def hits(near: Neighbours) -> list[tuple[int, float]]:
    """Row and similarity of each, the most similar first."""
    return list(zip(near.rows.tolist(), near.similarities.tolist(), strict=True))


def search_images(
    embeddings: Embeddings,
    sources: Sequence[str | bytes],
    *,
    extractor: "Extractor",
    top: int,
    approximate: bool,
    display: Display,
) -> Found:
    """The nearest images of each source.

    Args:
        embeddings: to search in.
        sources: of `striate.runs.model.expand`.
        extractor: of `Embeddings.extractor`.
        top: neighbours of each.
        approximate: among the candidates of an index.
        display: for the index's progress.

    Raises:
        DataError: none of the sources can be read.
        UsageError: more neighbours than there are images.
    """
    found = embed_images(extractor, sources)
    if not found.sources:
        lines = "\n".join(f"  {item.error}" for item in found.failed)
        raise DataError(f"none of the {len(sources)} queries can be read:\n{lines}")
    neighbours = embeddings.search_all(found.values, top, approximately=approximate, display=display)
    return Found(
        embeddings=embeddings,
        queries=found.sources,
        neighbours=tuple(neighbours),
        failed=found.failed,
        approximate=approximate,
    )


def sheet_of(found: Found, sources: Sequence[str | bytes]) -> tuple[Image.Image, int]:
    """The first queries with what was found for them.

    Args:
        found: of ``sources``.
        sources: what was searched for, in the same order.

    Returns:
        An RGB picture, and how many of its images are not there any more: tiles stand for them.
    """
    embeddings, failed = found.embeddings, {item.source for item in found.failed}
    named = [(name_of(n, source), source) for n, source in enumerate(sources)]
    readable = [(name, source) for name, source in named if name not in failed][:ROWS]
    missing: set[int] = set()
    rows = [near.rows.tolist() for near in found.neighbours[:ROWS]]
    shown = {row for near in rows for row in near}
    pictures = dict(zip(sorted(shown), embeddings.pictures(sorted(shown)), strict=True))
    missing = {row for row, picture in pictures.items() if picture is None}
    tile = absent()
    tiles = {row: tile if picture is None else picture for row, picture in pictures.items()}
    sheet = search_sheet(
        [pixels_of(source, name) for name, source in readable],
        [[tiles[row] for row in near] for near in rows],
        [Path(name).name for name, _ in readable],
        [
            [f"{similarity:.4f}\n{caption(embeddings, row)}" for row, similarity in hits(near)]
            for near in found.neighbours[:ROWS]
        ],
    )
    return sheet, len(missing)


def caption(embeddings: Embeddings, row: int) -> str:
    """File name of an image, and on a second line its class where it has one."""
    name = embeddings.class_of(row)
    return PurePosixPath(embeddings.ids[row]).name + ("" if name is None else f"\n{name}")
