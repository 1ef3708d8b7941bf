"""Predictions as files that other programs read: COCO JSON, YOLO txt, CSV.

Letters: M images, N objects of one image, K classes, P keypoints.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from striate.core.instances import Instances, Polygons, RunLengths, Skeleton
from striate.data.shapes import run_lengths
from striate.errors import UsageError
from striate.files import write_text
from striate.ops.boxes import to_form
from striate.runs.building import says_where

Form = Literal["coco", "yolo", "csv"]
FORMS: tuple[Form, ...] = ("coco", "yolo", "csv")
PLACE, SCORE = 4, 7  # decimals of pixels (YOLO: of shares, two more) and of scores


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What was written."""

    files: tuple[Path, ...]
    objects: int
    left_out: tuple[str, ...]  # what the form cannot hold, in words, with counts

    def __str__(self) -> str:
        shown = str(self.files[0]) if len(self.files) == 1 else f"{len(self.files)} files in {self.files[0].parent}"
        lost = "".join(f"; {part}" for part in self.left_out)
        return f"{self.objects} objects to {shown}{lost}"


@dataclass(frozen=True, kw_only=True)
class _Image:
    source: str
    stem: str  # different for all images
    number: int  # the same
    size: tuple[int, int]  # height, width
    objects: Instances


def save_predictions(
    sources: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    found: Sequence[Instances],
    classes: Sequence[str],
    folder: Path,
    form: Form,
    *,
    skeleton: Skeleton | None = None,
) -> Saved:
    """Write what was found in images, in one of the field's forms.

    - ``coco``: ``coco.json``, a whole COCO file (images, categories, annotations with scores), and
      ``coco_results.json``, the bare list that COCO's evaluation takes. Images are numbered by their file names where
      all of these are different numbers, as COCO's are, else from 1; categories are numbered from 1 in the order of
      the classes. Masks become run lengths.
    - ``yolo``: ``labels/NAME.txt`` for every image, empty where nothing was found, with rows "class cx cy w h score",
      shares of width and height; keypoints stand before the score, as "x y visibility". ``data.yaml`` names the
      classes. Masks are left out.
    - ``csv``: ``predictions.csv``, a row per object: image, class, label, score, x1, y1, x2, y2 and the keypoints.
      Masks are left out, and images without objects have no row.

    Args:
        sources: M names of images, paths where they are files.
        sizes: M heights and widths.
        found: M times the objects of an image, in its pixels. Objects whose boxes are not finite are left out.
        classes: K class names.
        folder: made where it does not exist.
        form: see above.
        skeleton: the keypoints' names and lines, where there are any.

    Returns:
        The files, and what was left out.

    Raises:
        UsageError: one of the files is there already; then none is written.
    """
    left_out: list[str] = []
    odd = 0
    images: list[_Image] = []
    for source, stem, number, size, objects in zip(
        sources, stems(sources), _numbers(sources), sizes, found, strict=True
    ):
        finite = objects.boxes.isfinite().all(1)
        odd += int((~finite).sum())
        images.append(
            _Image(source=source, stem=stem, number=number, size=size, objects=objects.select(finite).to("cpu"))
        )
    if odd:
        left_out.append(f"{odd} objects whose boxes are not finite are left out")
    if form != "coco":
        masked = sum(len(image.objects) for image in images if _has_masks(image.objects))
        if masked:
            left_out.append(f"{masked} masks are left out, which {form} has no place for here")
    written = {"coco": _coco, "yolo": _yolo, "csv": _csv}[form](images, list(classes), skeleton)
    files = {folder / name: text for name, text in written.items()}
    _refuse_existing(files)
    for file, text in files.items():
        write_text(file, text)
    return Saved(files=tuple(files), objects=sum(len(image.objects) for image in images), left_out=tuple(left_out))


def check_writable(sources: Sequence[str], folder: Path, form: Form, *, task: str) -> None:
    """Refuse, before anything is predicted, what `save_predictions` would refuse after it.

    Args:
        sources: names of the images.
        folder: of the files.
        form: of the files.
        task: of the model.

    Raises:
        UsageError: a task without places, or one of the files is there already.
    """
    if not says_where(task):
        raise UsageError(f"--write {form} is for objects with places, and this is a model for {task}: take --json.")
    names = {
        "coco": ["coco.json", "coco_results.json"],
        "yolo": ["data.yaml", *(f"labels/{stem}.txt" for stem in stems(sources))],
        "csv": ["predictions.csv"],
    }
    _refuse_existing(folder / name for name in names[form])


def _refuse_existing(files: Iterable[Path]) -> None:
    for file in files:
        if file.exists():
            raise UsageError(
                f"{file} is there already, and nothing is written over: name another folder, or remove it."
            )


def stems(sources: Sequence[str]) -> list[str]:
    """A name without suffix for what belongs to each image; one that is taken already gets a number."""
    taken: set[str] = set()
    names: list[str] = []
    for source in sources:
        stem = Path(source).stem
        name, number = stem, 2
        while name.casefold() in taken:  # some file systems do not tell A from a
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.casefold())
        names.append(name)
    return names


def _numbers(sources: Sequence[str]) -> list[int]:
    names = [Path(source).stem for source in sources]
    if all(name.isascii() and name.isdigit() for name in names) and len({int(name) for name in names}) == len(names):
        return [int(name) for name in names]
    return list(range(1, len(names) + 1))


def _has_masks(objects: Instances) -> bool:
    return len(objects) > 0 and (objects.masks is not None or objects.shapes is not None)


def _places(values: Any) -> list[float]:
    return [round(value, PLACE) for value in values.tolist()]


def _score(objects: Instances, row: int) -> float:
    return 1.0 if objects.scores is None else round(float(objects.scores[row]), SCORE)


def _coco(images: Sequence[_Image], classes: Sequence[str], skeleton: Skeleton | None) -> dict[str, str]:
    annotations: list[dict[str, Any]] = []
    for image in images:
        objects = image.objects
        for row, box in enumerate(to_form(objects.boxes, "xywh")):
            place = _places(box)
            entry: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": image.number,
                "category_id": int(objects.labels[row]) + 1,
                "bbox": place,
                "area": round(place[2] * place[3], PLACE),
                "iscrowd": 0,
                "score": _score(objects, row),
            }
            if _has_masks(objects):
                entry["segmentation"] = _segmentation(objects, row)
            if objects.keypoints is not None:
                points = objects.keypoints[row]
                entry["keypoints"] = _places(points.flatten())
                entry["num_keypoints"] = int((points[:, 2] > 0).sum())
            annotations.append(entry)
    points = (
        {}
        if skeleton is None
        else {"keypoints": list(skeleton.names), "skeleton": [[a + 1, b + 1] for a, b in skeleton.edges]}
    )
    whole = {
        "info": {"description": "predictions by striate"},
        "images": [
            {"id": image.number, "file_name": image.source, "height": image.size[0], "width": image.size[1]}
            for image in images
        ],
        "categories": [{"id": label + 1, "name": name, **points} for label, name in enumerate(classes)],
        "annotations": annotations,
    }
    kept = ("image_id", "category_id", "bbox", "score", "segmentation", "keypoints")
    results = [{name: entry[name] for name in kept if name in entry} for entry in annotations]
    return {"coco.json": _json(whole), "coco_results.json": _json(results)}


def _segmentation(objects: Instances, row: int) -> Any:
    if objects.masks is not None:
        shape = run_lengths(objects.masks[row].numpy())
    else:
        assert objects.shapes is not None
        shape = objects.shapes[row]
    if isinstance(shape, Polygons):
        return [list(ring) for ring in shape.rings]
    assert isinstance(shape, RunLengths)
    return {"size": list(shape.size), "counts": list(shape.counts)}


def _json(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n"


def _yolo(images: Sequence[_Image], classes: Sequence[str], skeleton: Skeleton | None) -> dict[str, str]:
    names: dict[str, Any] = {"names": dict(enumerate(classes))}
    points = next((image.objects.keypoints for image in images if image.objects.keypoints is not None), None)
    if points is not None:
        names |= {"kpt_shape": list(points.shape[1:])}
        names |= {"flip_idx": list(skeleton.flips)} if skeleton else {}
    files = {"data.yaml": yaml.safe_dump(names, allow_unicode=True, sort_keys=False)}
    for image in images:
        height, width = image.size
        objects = image.objects
        rows: list[str] = []
        for row, box in enumerate(to_form(objects.boxes, "cxcywh").tolist()):
            numbers = [box[0] / width, box[1] / height, box[2] / width, box[3] / height]
            if objects.keypoints is not None:
                for x, y, seen in objects.keypoints[row].tolist():
                    numbers += [x / width, y / height, seen]
            shares = " ".join(f"{number:.{PLACE + 2}f}" for number in numbers)
            rows.append(f"{int(objects.labels[row])} {shares} {_score(objects, row):.{SCORE}f}\n")
        files[f"labels/{image.stem}.txt"] = "".join(rows)
    return files


def _csv(images: Sequence[_Image], classes: Sequence[str], skeleton: Skeleton | None) -> dict[str, str]:
    points = next((image.objects.keypoints for image in images if image.objects.keypoints is not None), None)
    count = 0 if points is None else points.shape[1]
    names = skeleton.names if skeleton else [f"point {number + 1}" for number in range(count)]
    parts = [f"{name} {part}" for name in names[:count] for part in ("x", "y", "visibility")]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "class", "label", "score", "x1", "y1", "x2", "y2", *parts])
    for image in images:
        objects = image.objects
        for row, box in enumerate(objects.boxes):
            label = int(objects.labels[row])
            values = [] if objects.keypoints is None else _places(objects.keypoints[row].flatten())
            table.writerow([image.source, classes[label], label, _score(objects, row), *_places(box), *values])
    return {"predictions.csv": text.getvalue()}
