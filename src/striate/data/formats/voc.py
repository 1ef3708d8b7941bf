"""Pascal VOC (Everingham et al. 2010): an XML file per image, with the boxes of its objects.

``Annotations/*.xml`` beside ``JPEGImages/``, splits in ``ImageSets/Main/train.txt``, ``val.txt``, ``test.txt``; or XML
files among the images themselves, in one folder or in one per split, as LabelImg and Roboflow write them.

Pixels count from 1 and the last one belongs to the box, so that xmin 1, xmax 1 is the first pixel: here 0 and 1. A
coordinate of 0, which some tools write, is read as 1. An object that is ``difficult`` is neither found nor missed;
``truncated``, ``pose``, ``occluded`` and ``part`` are not read, and listed nowhere.
"""

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from striate.data.dataset import Dataset, Skipped
from striate.data.formats import OBJECTS, SPLIT_NAMES, Part, bare_name, new_folder, parts, sorted_classes, write_image
from striate.data.images import IMAGE_SUFFIXES
from striate.data.objects import KEPT, NO_FILE, Found, Picture, dataset_of, sizes_of

NAME = "Pascal VOC"
EXPECTS = "a folder with Annotations/*.xml and JPEGImages/, or .xml files of boxes among their images"
TASKS = OBJECTS
HOLDS: frozenset[Part] = frozenset({"boxes", "class names", "ignored"})

_SETS = ("train", "val", "test")
_HEAD_BYTES = 4096


@dataclass(kw_only=True)
class _Place:
    """Where the XML files of one split lie, and where the images."""

    annotations: Path
    images: Path
    split: str | None = None


def recognise(path: Path) -> bool:
    """A folder with XML files of boxes, in it, in Annotations/, or in the folders of splits."""
    return path.is_dir() and bool(_places(path))


def load(path: Path) -> Dataset:
    """See `Format.load`; a file or an object that cannot be used is skipped and recorded."""
    skipped: list[Skipped] = []
    named: list[tuple[Picture, list[tuple[str, Found]]]] = []
    for place in _places(path):
        split_of = _image_sets(path, skipped)
        images = {file.stem: file for file in sorted(place.images.iterdir()) if file.suffix.lower() in IMAGE_SUFFIXES}
        files = {file.stem: file for file in sorted(place.annotations.glob("*.xml"))}
        for stem, file in files.items():
            source = _name(file, path)
            try:
                named.append(_picture(file, images.get(stem), place, split_of.get(stem, place.split), source, skipped))
            except (ET.ParseError, ValueError) as error:
                skipped.append(Skipped(source=source, reason=f"cannot be read as XML of boxes ({error})"))
        bare = sorted(images.keys() - files.keys())
        named += [(Picture(file=images[stem], split=split_of.get(stem, place.split)), []) for stem in bare]
        for stem in sorted(split_of.keys() - files.keys() - images.keys()):
            source = f"ImageSets/Main/{split_of[stem]}.txt"
            skipped.append(Skipped(source=source, reason=f"{NO_FILE} of the name {stem}"))
    classes = sorted_classes({label for _, objects in named for label, _ in objects})
    number = {label: k for k, label in enumerate(classes)}
    for picture, objects in named:
        for label, found in objects:
            found.label = number[label]
            picture.objects.append(found)
    return dataset_of(
        [picture for picture, _ in named],
        path=path,
        root=path,
        form=NAME,
        expects=EXPECTS,
        classes=classes,
        skipped=skipped,
    )


def save(dataset: Dataset, folder: Path) -> None:
    """See `Format.save`; writes Annotations/, JPEGImages/ and ImageSets/Main/.

    Boxes that do not end between two pixels are written with their fractions.
    """
    folder = new_folder(folder)
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    truths = dataset.instances
    for split, rows in parts(dataset, ""):
        chosen: list[int] = rows.tolist()
        stems: list[str] = []
        for row, (height, width) in zip(chosen, sizes_of(dataset, chosen), strict=True):
            name = bare_name(dataset.ids[row]).replace("/", "-")
            file = _written(dataset, row, folder / "JPEGImages" / name)
            stems.append(file.stem)
            root = ET.Element("annotation")
            ET.SubElement(root, "filename").text = file.name
            size = ET.SubElement(root, "size")
            for key, value in (("width", width), ("height", height), ("depth", 3)):
                ET.SubElement(size, key).text = str(value)
            truth = truths[row]
            for k, (label, box) in enumerate(zip(truth.labels.tolist(), truth.boxes.tolist(), strict=True)):
                found = ET.SubElement(root, "object")
                ET.SubElement(found, "name").text = dataset.classes[label]
                ET.SubElement(found, "difficult").text = str(int(truth.ignore is not None and bool(truth.ignore[k])))
                corners = ET.SubElement(found, "bndbox")
                shifted = (box[0] + 1, box[1] + 1, box[2], box[3])
                for key, value in zip(("xmin", "ymin", "xmax", "ymax"), shifted, strict=True):
                    ET.SubElement(corners, key).text = repr(int(value) if value == int(value) else value)
            ET.indent(root)
            target = folder / "Annotations" / f"{file.stem}.xml"
            target.write_bytes(ET.tostring(root, encoding="utf-8"))
        if split:
            text = "".join(f"{stem}\n" for stem in stems)
            (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(text, encoding="utf-8")


def _written(dataset: Dataset, row: int, target: Path) -> Path:
    """Write an image under a stem that no other has, whatever its suffix: its XML file is called by that."""
    stem, count = target.stem, 1
    while any(file.stem == target.stem for file in target.parent.glob(f"{_escaped(target.stem)}.*")):
        count += 1
        target = target.with_stem(f"{stem}-{count}")
    return write_image(dataset, row, target)


def _escaped(stem: str) -> str:
    return "".join(f"[{mark}]" if mark in "*?[" else mark for mark in stem)


def _places(folder: Path) -> list[_Place]:
    if _has_boxes(folder / "Annotations"):
        images = folder / "JPEGImages"
        return [_Place(annotations=folder / "Annotations", images=images if images.is_dir() else folder)]
    if _has_boxes(folder):
        return [_Place(annotations=folder, images=folder)]
    inner = [folder / entry.name for entry in sorted(folder.iterdir()) if entry.name.casefold() in SPLIT_NAMES]
    return [
        _Place(annotations=place, images=place, split=SPLIT_NAMES[place.name.casefold()])
        for place in inner
        if place.is_dir() and _has_boxes(place)
    ]


def _has_boxes(folder: Path) -> bool:
    """Whether the first XML file of a folder is one of boxes."""
    file = next(iter(sorted(folder.glob("*.xml"))), None) if folder.is_dir() else None
    if file is None:
        return False
    try:
        with file.open("rb") as stream:
            return b"<annotation" in stream.read(_HEAD_BYTES)
    except OSError:
        return False


def _image_sets(folder: Path, skipped: list[Skipped]) -> Mapping[str, str]:
    """The split of each stem, where there are lists of them."""
    split_of: dict[str, str] = {}
    for split in _SETS:
        file = folder / "ImageSets" / "Main" / f"{split}.txt"
        if not file.is_file():
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), start=1):
            stem = line.split()[0] if line.strip() else ""
            if stem in split_of and split_of[stem] != split:
                reason = f"{stem} is listed in {split_of[stem]}.txt, too, and {KEPT}"
                source = f"ImageSets/Main/{file.name} line {number}"
                skipped.append(Skipped(source=source, reason=reason, stray=True))
            elif stem:
                split_of[stem] = split
    return split_of


def _picture(
    file: Path, image: Path | None, place: _Place, split: str | None, source: str, skipped: list[Skipped]
) -> tuple[Picture, list[tuple[str, Found]]]:
    root = ET.fromstring(file.read_bytes())
    stated = PurePosixPath((root.findtext("filename") or "").strip().replace("\\", "/")).name
    # The stem of the XML file says which image is meant: filename is often what it once was called.
    if image is None:
        image = place.images / (stated or f"{file.stem}.jpg")
    size = None
    width, height = _whole(root.findtext("size/width")), _whole(root.findtext("size/height"))
    if width and height:
        size = (height, width)
    objects: list[tuple[str, Found]] = []
    for number, element in enumerate(root.iter("object"), start=1):
        try:
            objects.append(_object(element))
        except ValueError as error:
            skipped.append(Skipped(source=f"{source} object {number}", reason=str(error)))
    return Picture(file=image, split=split, size=size, source=source), objects


def _object(element: ET.Element) -> tuple[str, Found]:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise ValueError("it has no name")
    corners: list[float] = []
    for key in ("xmin", "ymin", "xmax", "ymax"):
        text = element.findtext(f"bndbox/{key}")
        try:
            corners.append(float(text or ""))
        except ValueError:
            raise ValueError(f"its {key} is {text!r}, not a number") from None
    if not all(map(math.isfinite, corners)):
        raise ValueError("its box holds a number that is not finite")
    x1, y1, x2, y2 = corners
    first = max(x1 - 1, 0.0) if x1 >= 0 else x1, max(y1 - 1, 0.0) if y1 >= 0 else y1
    difficult = (element.findtext("difficult") or "0").strip()
    return name, Found(label=0, box=(*first, x2, y2), ignore=difficult not in ("0", "false", "False", ""))


def _whole(text: str | None) -> int:
    try:
        return int(float(text or 0))
    except ValueError:
        return 0


def _name(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix()
