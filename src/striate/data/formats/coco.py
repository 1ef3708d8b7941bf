"""COCO JSON (https://cocodataset.org/#format-data): images, categories and annotations in one file per split.

Where the files lie:

- ``annotations/instances_train2017.json`` beside ``train2017/``, as COCO itself does;
- ``train/_annotations.coco.json`` among the images of each split, as Roboflow exports;
- one file anywhere, with its images beside it, in a folder beside it, or above.

Categories go by name: their ids may be any numbers. A box is x, y, width, height in pixels; keypoints count the middle
of the first pixel as 0 (here 0.5). Images without annotations stay, as negatives. Of several files for one split
(boxes, captions, keypoints) the one called ``instances`` is read; name another to read that.

Supercategories, attributes, licences of single images and the file's own ids are not read, and listed nowhere.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from striate.core.instances import Polygons, RunLengths, Shape, Skeleton
from striate.data.dataset import Dataset, Skipped
from striate.data.formats import OBJECTS, SPLIT_NAMES, Part, bare_name, new_folder, parts, write_image
from striate.data.images import IMAGE_SUFFIXES
from striate.data.objects import KEPT, NO_CLASS_ID, NO_IMAGE_ID, TWICE, Found, Picture, Point, dataset_of, sizes_of
from striate.errors import DataError

NAME = "COCO JSON"
EXPECTS = "a .json file with images, annotations and categories, or a folder with such files in it or in annotations/"
TASKS = OBJECTS
HOLDS: frozenset[Part] = frozenset(
    {
        "masks",
        "polygons",
        "areas",
        "crowds",
        "ignored",
        "points",
        "hidden points",
        "point names",
        "lines",
        "boxes",
        "class names",
        "empty classes",
        "licence",
    }
)

_KEYS = ('"images"', '"annotations"', '"categories"')
_HEAD_BYTES = 1 << 16  # at the start and at the end, in which the keys are looked for
_MOST_FILES = 100  # of one folder; more are of a format with a file per image
_ROBOFLOW = "_annotations.coco.json"
_MIDDLE = 0.5  # of the first pixel; COCO calls it 0
_DIGITS = 4  # of what is written, where so many say it exactly

Json = dict[str, Any]


def recognise(path: Path) -> bool:
    """A JSON file with COCO's keys, or a folder with one where they are put."""
    return _is_coco(path) if path.is_file() else path.is_dir() and bool(_files(path))


def load(path: Path) -> Dataset:
    """See `Format.load`; what cannot be used is skipped, and recorded with its id."""
    root = path if path.is_dir() else path.parent
    files = _chosen(path)
    table = _Classes()
    skipped = [Skipped(source=file.name, reason=reason, stray=True) for file, reason in files.passed_over]
    documents = [(file, split, _document(file)) for file, split in files.read]
    for file, _, document in documents:
        table.add(file, _rows(file, document, "categories"), _rows(file, document, "annotations"), skipped)
    skeleton = table.skeleton
    pictures = [
        picture
        for file, split, document in documents
        for picture in _pictures(file, split, document, root, table, skeleton, skipped)
    ]
    return dataset_of(
        pictures,
        path=path,
        root=_common_root(root, pictures),
        form=NAME,
        expects=EXPECTS,
        classes=table.names,
        skipped=skipped,
        skeleton=skeleton,
        licence=_licence([document for _, _, document in documents]),
    )


def save(dataset: Dataset, folder: Path) -> None:
    """See `Format.save`; writes ``annotations/instances_<split>.json`` and ``<split>/`` with the images."""
    folder = new_folder(folder)
    (folder / "annotations").mkdir()
    truths = dataset.instances
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(dataset.classes)]
    if dataset.skeleton is not None:
        edges = [[first + 1, last + 1] for first, last in dataset.skeleton.edges]
        more = {"keypoints": list(dataset.skeleton.names), "skeleton": edges}
        categories = [{**category, **more, "flips": list(dataset.skeleton.flips)} for category in categories]
    number = 0
    for split, rows in parts(dataset, "images"):
        images: list[Json] = []
        annotations: list[Json] = []
        chosen: list[int] = rows.tolist()
        for row, (height, width) in zip(chosen, sizes_of(dataset, chosen), strict=True):
            name = bare_name(dataset.ids[row])
            file = write_image(dataset, row, folder / split / name).relative_to(folder / split).as_posix()
            images.append({"id": row + 1, "file_name": file, "width": width, "height": height})
            for found in _objects(truths[row]):
                number += 1
                annotations.append({"id": number, "image_id": row + 1, **found})
        document: Json = {"info": {"description": dataset.name}}
        if dataset.licence is not None:
            document["licenses"] = [{"id": 1, "name": dataset.licence}]
        document |= {"images": images, "annotations": annotations, "categories": categories}
        text = json.dumps(document, ensure_ascii=False)
        (folder / "annotations" / f"instances_{split}.json").write_text(text, encoding="utf-8")


def to_text(runs: RunLengths) -> str:
    """Runs as COCO packs them into text: differences to the run before the last, 5 bits to a character from "0" on."""
    text: list[str] = []
    for place, count in enumerate(runs.counts):
        value = count - runs.counts[place - 2] if place > 2 else count
        while True:
            bits = value & 0x1F
            value >>= 5
            more = value != (-1 if bits & 0x10 else 0)
            text.append(chr(48 + (bits | 0x20 if more else bits)))
            if not more:
                break
    return "".join(text)


def from_text(text: str) -> tuple[int, ...]:
    """The runs that `to_text` packed; raises ValueError where it is none of that."""
    counts: list[int] = []
    value = shift = 0
    for byte in text.encode("ascii"):
        bits = byte - 48
        if not 0 <= bits < 64:
            raise ValueError(f"{chr(byte)!r} is no character of run lengths")
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            if bits & 0x10:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    if shift:
        raise ValueError("it ends in the middle of a run")
    return tuple(counts)


@dataclass(kw_only=True)
class _Files:
    read: list[tuple[Path, str | None]]  # with the split
    passed_over: list[tuple[Path, str]]  # with the reason


@dataclass
class _Classes:
    """The classes of several files: by name, in the order of their ids in the first file that has them."""

    names: list[str] = field(default_factory=list[str])
    labels: dict[tuple[Path, Any], int] = field(default_factory=dict[tuple[Path, Any], int])
    skeletons: dict[str, Skeleton] = field(default_factory=dict[str, Skeleton])

    def add(self, file: Path, categories: Sequence[Json], annotations: Sequence[Json], skipped: list[Skipped]) -> None:
        used = {annotation.get("category_id") for annotation in annotations}
        above = {category.get("supercategory") for category in categories}
        for category in sorted(categories, key=lambda category: _order(category.get("id"))):
            id_, name = category.get("id"), category.get("name")
            source = f"{file.name} category {id_}"
            if not isinstance(name, str) or not name.strip() or not isinstance(id_, int | str):
                skipped.append(Skipped(source=source, reason=f"its id is {id_!r} and its name {name!r}"))
            elif (file, id_) in self.labels:
                skipped.append(Skipped(source=source, reason=f"the id {TWICE}, for {name!r}"))
            elif id_ not in used and name in above - {category.get("supercategory")}:
                reason = f"{name!r} is what other classes are grouped under, and has no annotation: it makes no class"
                skipped.append(Skipped(source=source, reason=reason, stray=True))
            else:
                if name not in self.names:
                    self.names.append(name)
                self.labels[file, id_] = self.names.index(name)
                self._add_skeleton(category, name, source, skipped)

    def _add_skeleton(self, category: Json, name: str, source: str, skipped: list[Skipped]) -> None:
        names = category.get("keypoints")
        if not isinstance(names, list) or not names:
            return
        points = tuple(str(point) for point in cast("list[Any]", names))
        edges = category.get("skeleton") or []
        try:
            lines = tuple((int(first) - 1, int(last) - 1) for first, last in edges)
            if not all(0 <= end < len(points) for line in lines for end in line):
                raise ValueError(f"points are 1 to {len(points)}")
        except (TypeError, ValueError) as error:
            reason = f"its skeleton is not pairs of points ({error})"
            skipped.append(Skipped(source=source, reason=reason, stray=True))
            lines = ()
        flips = category.get("flips")
        mirrored = tuple(flips) if isinstance(flips, list) and sorted(flips) == list(range(len(points))) else None
        self.skeletons[name] = Skeleton(names=points, flips=mirrored or flips_of(points), edges=lines)

    @property
    def skeleton(self) -> Skeleton | None:
        """That of the first class that has one; others must have the same points."""
        return next(iter(self.skeletons.values()), None)


def flips_of(names: Sequence[str]) -> tuple[int, ...]:
    """Which point each becomes in a mirrored image, by its name: left and right change places."""
    folded = [name.casefold() for name in names]
    swap = {"left": "right", "right": "left", "l": "r", "r": "l"}

    def mirrored(name: str) -> str:
        words = re.split(r"(left|right|(?<![a-z])[lr](?![a-z]))", name)
        return "".join(swap.get(word, word) for word in words)

    return tuple(
        folded.index(mirrored(name)) if mirrored(name) in folded else place for place, name in enumerate(folded)
    )


def _is_coco(file: Path) -> bool:
    if file.suffix.lower() != ".json":
        return False
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
            stream.seek(max(0, stream.seek(0, 2) - _HEAD_BYTES))
            text = (head + stream.read()).decode("utf-8", errors="replace")
    except OSError:
        return False
    return text.lstrip("\ufeff \t\r\n").startswith("{") and sum(key in text for key in _KEYS) >= 2


def _files(folder: Path) -> list[Path]:
    """The files of the first place in which there are some."""
    places = [folder / "annotations", folder]
    for place in places:
        if place.is_dir():
            files = sorted(place.glob("*.json"))
            if len(files) <= _MOST_FILES and (found := [file for file in files if _is_coco(file)]):
                return found
    inner = (folder / name for name in sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))
    return [
        file
        for place in inner
        if place.name.casefold() in SPLIT_NAMES
        for file in sorted(place.glob("*.json"))
        if file.name == _ROBOFLOW or _is_coco(file)
    ]


def _chosen(path: Path) -> _Files:
    """Which files to read, and of which splits they are."""
    if path.is_file():
        return _Files(read=[(path, None)], passed_over=[])
    of_split: dict[str | None, list[Path]] = {}
    for file in _files(path):
        of_split.setdefault(_split_of(file, path), []).append(file)
    read: list[tuple[Path, str | None]] = []
    passed_over: list[tuple[Path, str]] = []
    for split, files in of_split.items():
        first = [file for file in files if file.stem.startswith("instances")] or files
        if len(first) > 1:
            names = ", ".join(file.name for file in first)
            raise DataError(f"{path}: {names} are all of {split or 'no split'}. Name the one to read.")
        read.append((first[0], split))
        reason = f"{first[0].name} is read in its place; name this file to read it"
        passed_over += [(file, reason) for file in files if file != first[0]]
    return _Files(read=read, passed_over=passed_over)


def _split_of(file: Path, root: Path) -> str | None:
    words = re.findall(r"[a-z]+", file.stem.casefold())
    if file.parent != root:
        words.append(file.parent.name.casefold())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


def _document(file: Path) -> Json:
    try:
        document = json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}). Check its permissions.") from error
    except ValueError as error:  # of JSON or of UTF-8
        raise DataError(f"{file}: is not JSON ({error}). It may be truncated: copy it again.") from error
    if not isinstance(document, dict):
        raise DataError(f"{file}: holds a {type(document).__name__}. Expected {EXPECTS}.")
    return cast("Json", document)


def _rows(file: Path, document: Json, key: str) -> list[Json]:
    rows = document.get(key, [] if key == "annotations" else None)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in cast("list[Any]", rows)):
        raise DataError(f"{file}: its {key!r} are not a list of objects. Expected {EXPECTS}.")
    return cast("list[Json]", rows)


def _pictures(
    file: Path,
    split: str | None,
    document: Json,
    root: Path,
    table: _Classes,
    skeleton: Skeleton | None,
    skipped: list[Skipped],
) -> list[Picture]:
    """The images of one file, with their objects."""
    find = _Finder(file, root)
    pictures: dict[Any, Picture] = {}
    for image in _rows(file, document, "images"):
        id_, name = image.get("id"), image.get("file_name")
        source = f"{file.name} image {id_}"
        if not isinstance(name, str) or not name or not isinstance(id_, int | str):
            skipped.append(Skipped(source=source, reason=f"its id is {id_!r} and its file_name {name!r}"))
        elif id_ in pictures:
            skipped.append(Skipped(source=source, reason=f"the id {TWICE}, for {name}"))
        else:
            height, width = image.get("height"), image.get("width")
            size = None
            if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
                size = (height, width)
            pictures[id_] = Picture(file=find(name), split=split, size=size, source=source)
    ids: Counter[Any] = Counter()
    for annotation in _rows(file, document, "annotations"):
        id_ = annotation.get("id")
        source = f"{file.name} annotation {id_}"
        image, category = annotation.get("image_id"), annotation.get("category_id")
        if not isinstance(image, int | str) or image not in pictures:
            reason = f"{NO_IMAGE_ID} {image!r}"
        elif not isinstance(category, int | str) or (file, category) not in table.labels:
            reason = f"{NO_CLASS_ID} id {category!r}"
        else:
            try:
                found = _found(annotation, table.labels[file, category], pictures[image], skeleton)
            except (TypeError, ValueError) as error:
                reason = str(error)
            else:
                ids[id_] += 1
                if id_ is None or ids[id_] == 1:
                    pictures[image].objects.append(found)
                    continue
                reason = f"the id {TWICE}"
                if found in pictures[image].objects:
                    reason += ", for the same object"
                else:
                    pictures[image].objects.append(found)
                    reason += f", for another object: {KEPT}"
                skipped.append(Skipped(source=source, reason=reason, stray=True))
                continue
        skipped.append(Skipped(source=source, reason=reason))
    return list(pictures.values())


def _found(annotation: Json, label: int, picture: Picture, skeleton: Skeleton | None) -> Found:
    box = annotation.get("bbox")
    shape = _shape(annotation.get("segmentation"), picture)
    if isinstance(box, list) and len(cast("list[Any]", box)) == 4:
        x, y, width, height = _numbers(cast("list[Any]", box), "bbox")
    else:
        raise ValueError(f"its bbox is {_short_words(box)}, not four numbers")
    area = annotation.get("area")
    points = _points(annotation.get("keypoints"), skeleton)
    return Found(
        label=label,
        box=(x, y, x + width, y + height),
        shape=shape,
        points=points,
        crowd=bool(annotation.get("iscrowd", 0)),
        ignore=bool(annotation.get("ignore", 0)),
        area=None if area is None else _numbers([area], "area")[0],
    )


def _shape(stated: Any, picture: Picture) -> Shape | None:
    """A segmentation: a list of polygons, or run lengths as numbers or as text."""
    if not stated:
        return None
    if isinstance(stated, list):
        rings: list[tuple[float, ...]] = []
        for ring in cast("list[Any]", stated):
            if not isinstance(ring, list) or len(cast("list[Any]", ring)) < 6 or len(cast("list[Any]", ring)) % 2:
                raise ValueError(f"a polygon of its segmentation is {_short_words(ring)}, not three points or more")
            rings.append(_numbers(cast("list[Any]", ring), "segmentation"))
        return Polygons(rings=tuple(rings))
    if not isinstance(stated, dict):
        raise ValueError(f"its segmentation is {_short_words(stated)}, neither polygons nor run lengths")
    runs, size = cast("Json", stated).get("counts"), cast("Json", stated).get("size")
    if not isinstance(size, list) or len(cast("list[Any]", size)) != 2:
        raise ValueError(f"its segmentation has the size {_short_words(size)}, not height and width")
    height, width = map(int, _numbers(cast("list[Any]", size), "segmentation's size"))
    if isinstance(runs, str):
        counts = from_text(runs)
    elif isinstance(runs, list):
        counts = tuple(map(int, _numbers(cast("list[Any]", runs), "segmentation's counts")))
    else:
        raise ValueError(f"its segmentation has the counts {_short_words(runs)}")
    if sum(counts) != height * width or min(counts, default=0) < 0:
        raise ValueError(f"its run lengths sum to {sum(counts)}, not to {height}x{width}")
    if picture.size is not None and picture.size != (height, width):
        raise ValueError(f"its mask has {height} rows of {width}, the image is stated with {picture.size}")
    return RunLengths(size=(height, width), counts=counts)


def _points(stated: Any, skeleton: Skeleton | None) -> list[Point] | None:
    if not stated or skeleton is None:
        return None
    values = _numbers(stated if isinstance(stated, list) else [stated], "keypoints")
    if len(values) != 3 * len(skeleton.names):
        raise ValueError(f"it has {len(values)} numbers of keypoints, not three for each of {len(skeleton.names)}")
    triples = zip(values[::3], values[1::3], values[2::3], strict=True)
    return [(x + _MIDDLE, y + _MIDDLE, seen) if seen > 0 else (0.0, 0.0, 0.0) for x, y, seen in triples]


def _objects(truth: Any) -> Iterable[Json]:
    """The annotations of one image, without their ids."""
    boxes: list[list[float]] = truth.boxes.tolist()
    for row, (label, (x1, y1, x2, y2)) in enumerate(zip(truth.labels.tolist(), boxes, strict=True)):
        area = (x2 - x1) * (y2 - y1) if truth.areas is None else float(truth.areas[row])
        found: Json = {
            "category_id": label + 1,
            "bbox": [_short(x1), _short(y1), _width(x1, x2), _width(y1, y2)],
            "area": _short(area),
            "iscrowd": int(truth.crowd is not None and bool(truth.crowd[row])),
        }
        if truth.ignore is not None and bool(truth.ignore[row]):
            found["ignore"] = 1
        if truth.shapes is not None and truth.shapes[row] != Polygons(rings=()):
            found["segmentation"] = _segmentation(truth.shapes[row])
        if truth.keypoints is not None:
            points: list[list[float]] = truth.keypoints[row].tolist()
            found["keypoints"] = [v for x, y, seen in points for v in _keypoint(x, y, seen)]
            found["num_keypoints"] = sum(seen > 0 for _, _, seen in points)
        yield found


def _keypoint(x: float, y: float, seen: float) -> tuple[float, float, int]:
    if not seen:
        return 0, 0, 0
    return round(_short(x) - _MIDDLE, 9), round(_short(y) - _MIDDLE, 9), int(seen)  # 9: what 32 bits can tell apart


def _segmentation(shape: Shape) -> Any:
    if isinstance(shape, RunLengths):
        return {"size": list(shape.size), "counts": to_text(shape)}
    return [list(ring) for ring in shape.rings]


def _short(value: float) -> float:
    """The shortest decimal number that is the same in 32 bits."""
    return float(str(np.float32(value)))


def _width(first: float, last: float) -> float:
    """What to add to the shortest form of ``first`` so that it is ``last`` again in 32 bits."""
    start, exact = _short(first), _short(last) - _short(first)
    near = round(exact, _DIGITS)
    return near if np.float32(start + near) == np.float32(last) else exact


def _numbers(values: Sequence[Any], what: str) -> tuple[float, ...]:
    if not set(map(type, values)) <= {int, float}:  # bool, too, is none
        odd = next(value for value in values if type(value) not in (int, float))
        raise ValueError(f"its {what} holds {_short_words(odd)}, not a number")
    return tuple(map(float, values))


def _short_words(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _order(id_: Any) -> tuple[bool, int, str]:
    return (False, id_, "") if isinstance(id_, int) else (True, 0, str(id_))


def _licence(documents: Sequence[Json]) -> str | None:
    """The names of the licences that the files state, where they are few."""
    rows = [row for document in documents for row in document.get("licenses") or []]
    names = list(dict.fromkeys(str(row["name"]) for row in rows if isinstance(row, Mapping) and row.get("name")))
    return "; ".join(names) if 0 < len(names) <= 3 else f"{len(names)} licences, stated per image" if names else None


class _Finder:
    """Where the image files of one annotation file lie."""

    def __init__(self, file: Path, root: Path):
        above = file.parent.parent if file.parent.name.casefold() == "annotations" else file.parent
        words = re.findall(r"[A-Za-z]+[0-9]*", file.stem)
        names = [name for name in ("images", "data", *words[::-1]) if (above / name).is_dir()]
        nested = [f"images/{word}" for word in words[::-1] if (above / "images" / word).is_dir()]
        self._places = [file.parent, *(above / name for name in [*nested, *names]), above, root]
        self._root = above
        self._index: dict[str, Path | None] | None = None

    def __call__(self, name: str) -> Path:
        """The file of that name; where there is none, the first place where it should be."""
        name = name.replace("\\", "/")
        for number, place in enumerate(self._places):
            if (place / name).is_file():
                self._places.insert(0, self._places.pop(number))  # the next one lies there too
                return place / name
        if self._index is None:
            self._index = {}
            for file in self._root.rglob("*"):
                if file.suffix.lower() in IMAGE_SUFFIXES:
                    self._index[file.name] = None if file.name in self._index else file
        return self._index.get(Path(name).name) or self._places[0] / name


def _common_root(root: Path, pictures: Sequence[Picture]) -> Path:
    """The folder that ids are relative to: the data's own, or the one above where the images lie beside it."""
    if all(picture.file.is_relative_to(root) for picture in pictures[:100]):
        return root
    return root.parent
