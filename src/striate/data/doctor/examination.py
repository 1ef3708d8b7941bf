"""What the checks work on: every image looked at once, its hashes, and who is alike."""

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from striate.config import TrainSettings
from striate.core.instances import InstanceSets
from striate.data.dataset import Dataset
from striate.data.doctor.label_errors import LabelError
from striate.data.doctor.near import SMALLEST, near_pairs, thumbnail
from striate.data.images import Header, ImageError
from striate.data.preprocess import Pixels
from striate.data.split import split
from striate.data.survey import Progress, survey

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that is wrong with the data, or that a person should know.

    Only an error means that training would go wrong.
    """

    check: str  # which check found it, as in "duplicate"
    severity: Severity
    message: str  # what is wrong
    fix: str  # how to mend it
    file: str | None = None  # the image's id, or a file or folder relative to the data; None: the data as a whole
    row: int | None = None  # line of a table, or number of the image in a file that holds many, from 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What is kept of one image."""

    header: Header | None  # None where it lies in no file of its own, or where the header cannot be read
    failure: ImageError | None  # why it cannot be decoded
    size: tuple[int, int]  # height, width; (0, 0) where it cannot be decoded
    channels: int  # 1 or 3; 0 where it cannot be decoded
    digest: bytes  # of the decoded pixels; empty where there are none
    thumbnail: Pixels | None  # see `near.thumbnail`; None for small images


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What a model makes of the images, computed elsewhere: this room knows no models. Rows are the data set's."""

    model: str  # in words
    alike: Sequence[tuple[int, int, float]]  # pairs of rows, the smaller first, and their cosine; see `alike_rows`
    errors: Sequence[LabelError]  # labels that are likely wrong, most likely first
    judged: int  # images whose labels were judged
    notes: Sequence[tuple[str, str]] = ()  # what it cannot tell, and how to mend that


@dataclass(frozen=True, kw_only=True)
class Examination:
    """A data set with what was seen of it. Letters: N images."""

    dataset: Dataset
    seen: Sequence[Seen]  # N
    opinion: Opinion | None = None
    group_by: str | None = None
    max_bad: float = TrainSettings.max_bad  # share of unreadable images above which training does not start

    @property
    def says_where(self) -> bool:
        """Whether the truths are objects, and an image has no class of its own."""
        return isinstance(self.dataset.truths, InstanceSets)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(N,) int64; of data that says where, which is not asked for them, 0."""
        return np.zeros(len(self.dataset), dtype=np.int64) if self.says_where else self.dataset.labels

    @cached_property
    def objects(self) -> NDArray[np.int64]:
        """(N,) int64: objects of each image; 0 where truths are classes of whole images."""
        if isinstance(self.dataset.truths, InstanceSets):
            return self.dataset.truths.counts.numpy()
        return np.zeros(len(self.dataset), dtype=np.int64)

    @cached_property
    def in_range(self) -> NDArray[np.bool_]:
        """(N,) bool: whether the label is an index into the class names."""
        if self.says_where:
            return np.ones(len(self.dataset), dtype=np.bool_)
        return (self.labels >= 0) & (self.labels < len(self.dataset.classes))

    @cached_property
    def split_of(self) -> Sequence[str]:
        """N names of official splits; empty where there is none."""
        names = [""] * len(self.dataset)
        for name, rows in self.dataset.splits.items():
            for row in rows.tolist():
                names[row] = name
        return names

    @cached_property
    def readable(self) -> NDArray[np.int64]:
        """Rows that can be decoded."""
        return np.array([row for row, seen in enumerate(self.seen) if seen.failure is None], dtype=np.int64)

    @cached_property
    def too_many_bad(self) -> bool:
        """Whether training would not start because of files and rows that cannot be used."""
        lost = sum(not item.stray for item in self.dataset.skipped)
        failures = len(self.dataset) - len(self.readable)
        return failures + lost > self.max_bad * (len(self.dataset) + lost)

    @cached_property
    def copies(self) -> Sequence[Sequence[int]]:
        """Groups of two or more rows with the very same pixels, each in ascending order."""
        rows_of: dict[bytes, list[int]] = defaultdict(list)
        for row in self.readable.tolist():
            rows_of[self.seen[row].digest].append(row)
        return [rows for rows in rows_of.values() if len(rows) > 1]

    @cached_property
    def near(self) -> Sequence[tuple[int, int]]:
        """Pairs of rows that look alike but are not the same, the smaller first; of copies only the first counts."""
        later = {row for rows in self.copies for row in rows[1:]}
        rows: list[int] = []
        small: list[Pixels] = []
        for row in self.readable.tolist():
            picture = self.seen[row].thumbnail
            if picture is not None and row not in later:
                rows.append(row)
                small.append(picture)
        if len(rows) < 2:
            return []
        return [(rows[a], rows[b]) for a, b in near_pairs(np.stack(small)).tolist()]

    def contradictory(self, rows: Sequence[int]) -> bool:
        """Whether rows, all the same picture, belong to more than one class; spelling does not count."""
        return len({class_key(self.class_name(row)) for row in rows}) > 1

    def class_name(self, row: int) -> str:
        """The class of a row; its number where there is no such class, and nothing where images have none."""
        if self.says_where:
            return ""
        return self.dataset.classes[self.labels[row]] if self.in_range[row] else str(self.labels[row])

    @cached_property
    def split_notes(self) -> Sequence[str]:
        """What drawing splits by group has to say; nothing without ``group_by``."""
        return split(self.dataset, group_by=self.group_by).notes if self.group_by else ()

    @cached_property
    def counts(self) -> Mapping[str, NDArray[np.int64]]:
        """Images per class for each official split; for all of them, called "", where there is none."""
        parts = self.dataset.splits or {"": np.arange(len(self.dataset), dtype=np.int64)}
        if self.says_where:
            return {name: self.dataset.images_with(rows) for name, rows in parts.items()}
        classes = len(self.dataset.classes)
        return {
            name: np.bincount(self.labels[rows][self.in_range[rows]], minlength=classes) for name, rows in parts.items()
        }


def examine(dataset: Dataset, *, group_by: str | None = None, progress: Progress | None = None) -> Examination:
    """Look at every image of a data set.

    Args:
        dataset: as opened.
        group_by: a column, or a pattern on the file name; see `striate.data.split.split`.
        progress: is told how many images have been looked at.

    Raises:
        UsageError: ``group_by`` is neither a column nor a pattern that matches.
    """
    return Examination(dataset=dataset, seen=survey(dataset.images, _look, progress=progress), group_by=group_by)


def _look(row: int, header: Header | None, pixels: Pixels | ImageError) -> Seen:
    if isinstance(pixels, ImageError):
        return Seen(header=header, failure=pixels, size=(0, 0), channels=0, digest=b"", thumbnail=None)
    size = (pixels.shape[0], pixels.shape[1])
    return Seen(
        header=header,
        failure=None,
        size=size,
        channels=pixels.shape[2],
        digest=content(pixels),
        thumbnail=thumbnail(pixels) if min(size) >= SMALLEST else None,
    )


def class_key(name: str) -> str:
    """The same text for class names that differ only in case, in space, or in how Unicode spells an accent.

    Single letters stay as they are: "a" and "A" are two classes of handwriting.
    """
    text = unicodedata.normalize("NFC", name).strip()
    return text if len(text) == 1 else "".join(text.casefold().split())


def content(pixels: Pixels) -> bytes:
    """A hash of decoded pixels, the same for a grey picture and for the same picture stored in colour.

    Args:
        pixels: (H, W, 1) or (H, W, 3) uint8.
    """
    if (
        pixels.shape[2] == 3
        and (pixels[:, :, 0] == pixels[:, :, 1]).all()
        and (pixels[:, :, 0] == pixels[:, :, 2]).all()
    ):
        pixels = pixels[:, :, :1]
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(pixels.tobytes())
    return digest.digest()
