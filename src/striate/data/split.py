"""Who is trained on, who chooses the best epoch, and who is held out.

Official splits are respected. What is missing is drawn: stratified by class, whole groups at a time where groups are
given, and by a hash of each image's id with the seed, so that the outcome depends on neither the order of the files
nor a library's random numbers, and a new image moves few of the old ones.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.data.dataset import Dataset, Indices
from striate.errors import DataError, UsageError, did_you_mean
from striate.files import replacing

SCHEMA = "striate.split/1"

_FIELDS: dict[str, type | tuple[type, ...]] = {
    "data": str,
    "origin": str,
    "seed": int,
    "group_by": (str, type(None)),
    "fingerprints": dict,
    "splits": dict,
}

_VAL_SHARE, _VAL_MOST = 1 / 6, 10_000  # of an official train set, where there is no official val: MNIST's 50,000/10,000

_ORDER = {"train": 0, "test": 1, "val": 2}  # who is served first when there is too little for all


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Which rows of a data set belong to which split; no row to two."""

    indices: Mapping[str, Indices]  # "train", "val", "test" or whichever of them exist -> rows, ascending
    fingerprints: Mapping[str, str]  # per split, `Dataset.fingerprint`
    origin: str  # where they come from, in words
    notes: tuple[str, ...] = ()  # what a person should know, as in "class 'owl' has no image in val"
    seed: int = 0
    group_by: str | None = None

    def of(self, name: str) -> Indices:
        """The rows of one split; raises `DataError` where there is no such split, and says what there is."""
        if name in self.indices:
            return self.indices[name]
        there = ", ".join(self.indices)
        if name == "test":
            mend = (
                "Add a test folder or column entry; a score on val is measured on the images that chose the best epoch."
            )
        else:
            mend = f"Use one of them, or add {name!r} to the data."
        raise DataError(f"there is no split {name!r} in this data, only {there} ({self.origin}). {mend}")

    def save(self, path: Path, dataset: Dataset) -> None:
        """Write as JSON (schema ``striate.split/1``), ids instead of rows; whole or not at all."""
        document = {
            "schema": SCHEMA,
            "data": dataset.name,
            "origin": self.origin,
            "seed": self.seed,
            "group_by": self.group_by,
            "fingerprints": dict(self.fingerprints),
            "notes": list(self.notes),
            "splits": {name: [dataset.ids[int(i)] for i in rows] for name, rows in self.indices.items()},
        }
        try:
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(document, indent=1), encoding="utf-8")
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror}). Name another file.") from error

    @staticmethod
    def load(path: Path, dataset: Dataset) -> "Splits":
        """Read what `save` wrote, for a data set that may have changed since.

        Returns:
            The splits with the fingerprints of the data as it is now; ``notes`` says what has changed.

        Raises:
            DataError: the file is not a split file, or names no image of this data.
        """
        document = _read(path)
        row_of = {id_: row for row, id_ in enumerate(dataset.ids)}
        notes: list[str] = []
        indices: dict[str, Indices] = {}
        vanished: list[str] = []
        placed = 0
        for name, ids in document["splits"].items():
            vanished += [id_ for id_ in ids if id_ not in row_of]
            indices[name] = np.array(sorted(row_of[id_] for id_ in ids if id_ in row_of), dtype=np.int64)
            placed += len(indices[name])
        if not placed:
            raise DataError(
                f"{path}: none of its {len(vanished):,} images is in {dataset.name}. It was written for "
                f"{document['data']!r}; split this data anew."
            )
        if vanished:
            notes.append(f"{len(vanished):,} images of {path} are no longer in the data, as {vanished[0]}")
        if placed < len(dataset):
            notes.append(f"{len(dataset) - placed:,} images of the data are in no split of {path}")
        fingerprints = {name: dataset.fingerprint(rows) for name, rows in indices.items()}
        notes += [
            f"{name} is not what it was when {path} was written: images or labels have changed"
            for name, fingerprint in fingerprints.items()
            if fingerprint != document["fingerprints"].get(name)
        ]
        return Splits(
            indices=indices,
            fingerprints=fingerprints,
            origin=f"{path} ({document['origin']})",
            notes=tuple(notes),
            seed=document["seed"],
            group_by=document["group_by"],
        )


def split(
    dataset: Dataset,
    *,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    validation: float | None = None,
    seed: int = 0,
    group_by: str | None = None,
) -> Splits:
    """Split a data set.

    - No official splits, or only train: all images, by ``fractions``.
    - Official train and test: val is taken from train, a sixth of it and at most 10,000 images, or
      ``validation`` of it.
    - Anything else: as it is. Train and val without test stay without: `Splits.of` says so when test is asked for.

    Args:
        dataset: what to split.
        fractions: of train, val and test; a split of fraction 0 does not come to be.
        validation: val's share where val is drawn, at train's expense; 0 draws none. None: as the rules above say.
        seed: another seed, another draw.
        group_by: a column of ``dataset.groups``, or a regular expression that is searched in the file name (in the
            whole id, if there is a slash in it) and whose first group, or else the whole match, names the group.
            Images of one group never end on both sides of a split that is drawn.

    Raises:
        UsageError: fractions, ``validation`` or ``group_by`` that do not fit.
    """
    _check_fractions(fractions)
    keys = None if group_by is None else group_keys(dataset, group_by)
    official = {name: rows for name, rows in dataset.splits.items() if len(rows)}
    notes: list[str] = []
    how = f", seed {seed}" + (f", grouped by {group_by!r}" if group_by else "")
    if set(official) <= {"train"}:
        if validation is not None:
            _check_validation(validation, 1 - fractions[2], "what the test split leaves")
            fractions = (1 - validation - fractions[2], validation, fractions[2])
        drawn = _draw(dataset, np.arange(len(dataset), dtype=np.int64), fractions, seed, keys)
        shares = "/".join(f"{100 * fraction:g}" for fraction in fractions)
        origin = f"drawn {shares} by class{how}"
    elif set(official) == {"train", "test"}:
        if validation is not None:
            _check_validation(validation, 1.0, "all of train")
        total = len(official["train"])
        share = min(total * _VAL_SHARE, _VAL_MOST) / total if validation is None else validation
        drawn = _draw(dataset, official["train"], (1 - share, share, 0.0), seed, keys)
        taken = len(drawn.get("val", ()))
        drawn = {**drawn, "test": np.sort(official["test"])}
        origin = "official train and test"
        origin += f"; val is {taken:,} of train's {total:,} images, drawn by class{how}" if taken else ", no val"
    else:
        drawn = {name: np.sort(rows) for name, rows in official.items()}
        origin = f"official {', '.join(drawn)}"
        if validation is not None:
            notes.append(f"--validation {validation:g} is not used, because the splits are the data's own")
    drawn = {name: drawn[name] for name in ("train", "val", "test") if name in drawn} | drawn
    notes += _missing(dataset, drawn)
    if keys is not None:
        notes += _straddling(drawn, keys)
    return Splits(
        indices=drawn,
        fingerprints={name: dataset.fingerprint(rows) for name, rows in drawn.items()},
        origin=origin,
        notes=tuple(notes),
        seed=seed,
        group_by=group_by,
    )


def fewer(splits: Splits, dataset: Dataset, per_class: int) -> Splits:
    """The splits with at most ``per_class`` training images of each class; the others become the split ``unused``.

    The images are drawn by the hash of their ids with the splits' seed, so that of two numbers the smaller one's images
    are among the larger one's.
    """
    rows, labels = splits.indices["train"], dataset.strata
    taken: dict[int, int] = defaultdict(int)
    kept: list[int] = []
    for row in sorted(rows.tolist(), key=lambda row: _hash(splits.seed, f"fewer {dataset.ids[row]}")):
        label = int(labels[row])
        taken[label] += 1
        if taken[label] <= per_class:
            kept.append(row)
    train: Indices = np.sort(np.array(kept, dtype=np.int64))
    unused = np.sort(np.concatenate([np.setdiff1d(rows, train), splits.indices.get("unused", train[:0])]))
    changed = {"train": train, "unused": unused}
    return replace(
        splits,
        indices={**splits.indices, **changed},
        fingerprints={**splits.fingerprints, **{name: dataset.fingerprint(part) for name, part in changed.items()}},
    )


def _check_fractions(fractions: tuple[float, float, float]) -> None:
    if len(fractions) != 3 or min(fractions) < 0 or fractions[0] == 0 or abs(sum(fractions) - 1) > 1e-6:
        raise UsageError(f"fractions {fractions}: expected three for train, val and test that sum to 1, train above 0.")


def _check_validation(share: float, most: float, what: str) -> None:
    if not 0 <= share < most - 1e-9:
        raise UsageError(
            f"--validation {share:g} leaves nothing to train on: here it takes a share from 0 up to, but without, "
            f"{most:g} ({what})."
        )


def group_keys(dataset: Dataset, group_by: str) -> list[str]:
    """The group of every image; one without a group is its own."""
    if group_by in dataset.groups:
        column = dataset.groups[group_by]
        return [f"={value}" if value else f"#{id_}" for value, id_ in zip(column, dataset.ids, strict=True)]
    columns = f" The data has the columns {', '.join(dataset.groups)}." if dataset.groups else ""
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise UsageError(
            f"--group-by {group_by!r} is neither a column nor a pattern: {error}."
            f"{columns}{did_you_mean(group_by, dataset.groups)}"
        ) from error
    keys: list[str] = []
    for id_ in dataset.ids:
        match = pattern.search(id_ if "/" in group_by else id_.rsplit("/", 1)[-1])
        value = None if match is None else (match[1] if pattern.groups else match[0])
        keys.append(f"={value}" if value else f"#{id_}")
    if dataset.ids and all(key.startswith("#") for key in keys):
        raise UsageError(
            f"--group-by {group_by!r} matches no file name, as {dataset.ids[0]!r}.{columns}"
            f"{did_you_mean(group_by, dataset.groups)}"
        )
    return keys


def _draw(
    dataset: Dataset, rows: Indices, fractions: tuple[float, float, float], seed: int, keys: Sequence[str] | None
) -> dict[str, Indices]:
    wanted = {name: share for name, share in zip(("train", "val", "test"), fractions, strict=True) if share > 0}
    labels = dataset.strata
    order = sorted(_ORDER[name] for name in wanted)
    names = [name for place in order for name in wanted if _ORDER[name] == place]
    shares = np.array([wanted[name] for name in names])
    ids = [dataset.ids[int(i)] for i in rows]
    if keys is None:
        assigned = assign(ids, labels[rows], shares, seed)
    else:
        assigned = assign_groups(ids, labels[rows], [keys[int(i)] for i in rows], shares, seed)
    drawn = {name: np.sort(rows[assigned == place]) for place, name in enumerate(names)}
    return {name: members for name, members in drawn.items() if len(members)}


def assign(ids: Sequence[str], labels: NDArray[np.int64], shares: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """Assign images to splits, stratified by class.

    Every class is cut as its share says, rounding so that the splits' totals come out right. A class of at least as
    many images as there are splits is in all of them; a smaller one is in the first ones.

    Args:
        ids: (N,) names, all different.
        labels: (N,) int64.
        shares: (S,) fractions above zero that sum to 1.
        seed: of the draw.

    Returns:
        (N,) int64, the split of each image, 0 to S - 1. A pure function of the set of (id, label) and the seed.
    """
    assigned = np.zeros(len(ids), dtype=np.int64)
    members: dict[int, list[int]] = defaultdict(list)
    for row, label in enumerate(labels.tolist()):
        members[label].append(row)
    owed = np.zeros(len(shares))  # how far each split lags behind its share so far
    for label in sorted(members):
        rows = sorted(members[label], key=lambda row: _hash(seed, ids[row]))
        target = len(rows) * shares
        counts = np.floor(target + 1e-9).astype(np.int64)
        if len(rows) >= len(shares):
            counts = np.maximum(counts, 1)
        owed += target - counts
        while counts.sum() < len(rows):
            # Of a class too small for all, each split in turn gets one; else whoever lags most behind.
            place = int(np.argmin(counts > 0)) if len(rows) < len(shares) else int(np.argmax(owed.round(9)))
            counts[place] += 1
            owed[place] -= 1
        while counts.sum() > len(rows):  # the minimum of one each took too many
            place = int(np.argmin(np.where(counts > 1, owed.round(9), np.inf)))
            counts[place] -= 1
            owed[place] += 1
        assigned[rows] = np.repeat(np.arange(len(shares)), counts)
    return assigned


def assign_groups(
    ids: Sequence[str], labels: NDArray[np.int64], keys: Sequence[str], shares: NDArray[np.float64], seed: int
) -> NDArray[np.int64]:
    """Assign whole groups of images to splits, stratified by class as well as the groups allow.

    Greedy, the largest groups first: each goes where it brings the counts per split and class nearest to their
    shares, in the sense of least squares relative to the size of the class. A class about to run out of groups goes
    to the splits that still have none of it, the first one first.

    Args:
        ids: (N,) names, all different.
        labels: (N,) int64.
        keys: (N,) the group of each image.
        shares: (S,) fractions above zero that sum to 1.
        seed: breaks ties between groups of one size.

    Returns:
        (N,) int64, the split of each image, 0 to S - 1.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        members[key].append(row)
    contents = {key: np.unique(labels[rows], return_counts=True) for key, rows in members.items()}
    totals = np.bincount(labels)
    left = np.zeros(len(totals), dtype=np.int64)  # groups with this class that are not yet assigned
    for classes, _ in contents.values():
        left[classes] += 1
    lag = shares[:, None] * totals  # (S, K) images that each split still wants of each class
    has = np.zeros((len(shares), len(totals)), dtype=bool)
    assigned = np.zeros(len(ids), dtype=np.int64)
    for key in sorted(members, key=lambda key: (-len(members[key]), _hash(seed, key))):
        classes, counts = contents[key]
        lacking = ~has[:, classes]  # (S, classes of the group)
        forced = lacking[:, left[classes] <= lacking.sum(0)].any(1)
        cost = ((lag[:, classes] - counts) ** 2 - lag[:, classes] ** 2) / totals[classes] ** 2
        total = cost.sum(1).round(12)
        place = int(np.flatnonzero(forced)[0]) if forced.any() else int(np.argmin(total))
        assigned[members[key]] = place
        lag[place, classes] -= counts
        has[place, classes] = True
        left[classes] -= 1
    return assigned


def _hash(seed: int, text: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{text}".encode(errors="surrogateescape"), digest_size=16).digest()


def _missing(dataset: Dataset, drawn: Mapping[str, Indices]) -> list[str]:
    """One note per split that lacks classes."""
    notes: list[str] = []
    for name, rows in drawn.items():
        absent = [dataset.classes[k] for k in np.flatnonzero(dataset.images_with(rows) == 0)]
        if absent:
            more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
            notes.append(f"{name} has no image of {', '.join(map(repr, absent[:5]))}{more}")
    return notes


def _straddling(drawn: Mapping[str, Indices], keys: Sequence[str]) -> list[str]:
    """Groups that official splits have torn apart."""
    groups = {name: {keys[int(i)] for i in rows} for name, rows in drawn.items()}
    names = list(groups)
    torn = [(a, b, len(groups[a] & groups[b])) for i, a in enumerate(names) for b in names[i + 1 :]]
    return [f"{count:,} groups are in both official splits {a} and {b}" for a, b, count in torn if count]


def _read(path: Path) -> dict[str, Any]:
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}). Expected a file of `striate data split`."
        ) from error
    except ValueError as error:
        raise DataError(f"{path}: is not JSON ({error}). Expected a file of `striate data split`.") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        seen = document.get("schema") if isinstance(document, dict) else type(document).__name__
        raise DataError(f"{path}: its schema is {seen!r}, expected {SCHEMA!r}. Write it with `striate data split`.")
    for name, kind in _FIELDS.items():
        if not isinstance(document.get(name, ...), kind):
            raise DataError(f"{path}: the field {name!r} is missing or of the wrong type. Write the file anew.")
    lists: list[Any] = list(document["splits"].values())
    if not all(isinstance(ids, list) and all(isinstance(id_, str) for id_ in ids) for ids in lists):
        raise DataError(f"{path}: a split is not a list of image ids. Write the file anew.")
    ids = [id_ for ids in lists for id_ in ids]
    if len(set(ids)) != len(ids):
        raise DataError(f"{path}: an image is listed twice. Write the file anew.")
    return document
