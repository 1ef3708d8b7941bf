"""YOLO, Pascal VOC, tables of boxes and files of points, in the shapes that people and their tools make them in."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.core.instances import Polygons, Skeleton
from striate.data.dataset import Dataset
from striate.data.formats import boxes_csv, pts, voc, yolo
from striate.data.open import open_dataset
from striate.errors import DataError

Told = Mapping[str, list[tuple[str, list[float]]]]  # image -> its objects: class and box


def lay(folder: Path, files: Mapping[str, str]) -> Path:
    """Write files; one that is called like an image is one, 20 high and 40 wide, turned by the orientation given."""
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix in (".jpg", ".png"):
            picture = Image.fromarray(np.zeros((20, 40, 3), np.uint8))
            exif = picture.getexif()
            exif[0x0112] = int(text or 1)
            picture.save(file, exif=exif)
        else:
            file.write_text(text, encoding="utf-8")
    return folder


def told(dataset: Dataset) -> Told:
    return {
        id_: [
            (dataset.classes[label], [round(value, 4) for value in box])
            for label, box in zip(truth.labels.tolist(), truth.boxes.tolist(), strict=True)
        ]
        for id_, truth in zip(dataset.ids, dataset.instances, strict=True)
    }


def splits(dataset: Dataset) -> dict[str, list[str]]:
    return {name: [str(dataset.ids[int(i)]) for i in rows] for name, rows in dataset.splits.items()}


LINE = "1 0.5 0.5 0.25 0.5"  # of 40x20: from 15, 5 to 25, 15
DOG = ("dog", [15.0, 5.0, 25.0, 15.0])
NAMES = "names: [cat, dog]\n"

YOLO = [
    # files beside, what is read, splits, why
    (
        {
            "data.yaml": "path: .\ntrain: images/train\nval: images/val\nnames: {0: cat, 1: dog}\n",
            "images/train/a.jpg": "",
            "images/train/b.jpg": "",
            "images/val/c.png": "",
            "labels/train/a.txt": f"{LINE}\n0 0.5 0.5 1 1\n",
            "labels/val/c.txt": "",
        },
        {"images/train/a.jpg": [DOG, ("cat", [0, 0, 40, 20])], "images/train/b.jpg": [], "images/val/c.png": []},
        {"train": ["images/train/a.jpg", "images/train/b.jpg"], "val": ["images/val/c.png"]},
        "as ultralytics lays it out; an empty file and a missing one are images without objects",
    ),
    (
        {
            "data.yaml": f"train: ../train/images\nval: ../valid/images\n{NAMES}",
            "train/images/a.jpg": "",
            "train/labels/a.txt": LINE,
            "valid/images/b.jpg": "",
        },
        {"train/images/a.jpg": [DOG], "valid/images/b.jpg": []},
        {"train": ["train/images/a.jpg"], "val": ["valid/images/b.jpg"]},
        "as Roboflow exports it",
    ),
    (
        {
            "my.yml": f"path: /where/it/once/lay\ntrain: [one, two]\ntest: test.txt\n{NAMES}",
            "one/a.jpg": "",
            "one/a.txt": LINE,
            "two/b.jpg": "",
            "c.jpg": "",
            "c.txt": LINE,
            "test.txt": "./c.jpg\n",
        },
        {"one/a.jpg": [DOG], "two/b.jpg": [], "c.jpg": [DOG]},
        {"train": ["one/a.jpg", "two/b.jpg"], "test": ["c.jpg"]},
        "folders and lists, labels beside the images",
    ),
    (
        {"images/a.jpg": "", "labels/a.txt": LINE, "labels/classes.txt": "cat\ndog\n"},
        {"images/a.jpg": [DOG]},
        {},
        "without a yaml",
    ),
    (
        {"images/a.jpg": "", "labels/a.txt": LINE},
        {"images/a.jpg": [("1", DOG[1])]},
        {},
        "without any names",
    ),
    (
        {"data.yaml": f"train: images\n{NAMES}", "images/a.jpg": "6", "labels/a.txt": "1 0.5 0.5 0.5 0.25"},
        {"images/a.jpg": [("dog", [5, 15, 15, 25])]},
        {},
        "shares are of the upright image; one split is none",
    ),
]


@pytest.mark.parametrize(("files", "expected", "parts", "why"), YOLO, ids=[row[3] for row in YOLO])
def test_reads_yolo(
    files: Mapping[str, str], expected: Told, parts: dict[str, list[str]], why: str, tmp_path: Path
) -> None:
    dataset = open_dataset(lay(tmp_path, files))
    assert dataset.format == "YOLO"
    assert told(dataset) == expected
    assert splits(dataset) == parts
    assert dataset.skipped == ()
    yaml = next((name for name in files if name.endswith(("yaml", "yml"))), None)
    if yaml:
        assert told(open_dataset(tmp_path / yaml)) == expected


YOLO_LINES = [
    # a line, words of why it is not read
    ("2 0.5 0.5 0.5 0.5", "no class has the number 2"),
    ("-1 0.5 0.5 0.5 0.5", "no class has the number -1"),
    ("1.5 0.5 0.5 0.5 0.5", "the class is 1.5, not a whole number"),
    ("dog 0.5 0.5 0.5 0.5", "other than numbers"),
    ("1 0.5 0.5 0.5", "has 4 numbers, expected 5, or 7 and more"),
    ("1 0.5 0.5 0.5 0.5 0.9", "has 6 numbers"),
    ("1 20 10 5 5", "20 where shares of the image, 0 to 1, are expected: pixels?"),
    ("1 0.5 0.5 0 0.5", "the box has no size"),
    ("1 1.6 0.5 0.2 0.2", "the box lies outside of the image"),
    ("1 nan 0.5 0.2 0.2", "not finite"),
]


@pytest.mark.parametrize(("line", "words"), YOLO_LINES)
def test_a_line_of_yolo_that_cannot_be_used_is_recorded(line: str, words: str, tmp_path: Path) -> None:
    files = {"data.yaml": f"train: images\n{NAMES}", "images/a.jpg": "", "labels/a.txt": f"\n{LINE}\n{line}\n"}
    dataset = yolo.load(lay(tmp_path, files))
    assert told(dataset) == {"images/a.jpg": [DOG]}
    assert len(dataset.skipped) == 1
    assert dataset.skipped[0].source in ("labels/a.txt line 3", "images/a.jpg object 2")
    assert words in dataset.skipped[0].reason


def test_polygons_and_points_of_yolo(tmp_path: Path) -> None:
    line = "1 0.1 0.1 0.5 0.1 0.5 0.9"
    files = {"data.yaml": f"train: images\n{NAMES}", "images/a.jpg": "", "labels/a.txt": line}
    truths = yolo.load(lay(tmp_path / "polygons", files)).instances
    assert truths.shapes is not None
    assert isinstance(truths.shapes[0], Polygons)
    np.testing.assert_allclose(truths.shapes[0].rings[0], (4, 2, 20, 2, 20, 18))
    np.testing.assert_allclose(truths.boxes, [[4, 2, 20, 18]])
    assert truths.areas is not None
    np.testing.assert_allclose(truths.areas, [128])

    pose = f"train: images\n{NAMES}kpt_shape: [2, 3]\nflip_idx: [1, 0]\n"
    lines = f"{LINE} 0.1 0.1 2 0 0 0\n{LINE} 0.1 0.1 1 0.5\n"
    files = {"data.yaml": pose, "images/a.jpg": "", "labels/a.txt": lines}
    dataset = yolo.load(lay(tmp_path / "points", files))
    assert dataset.skeleton == Skeleton(names=("0", "1"), flips=(1, 0))
    assert dataset.task == "keypoints"
    assert dataset.instances.keypoints is not None
    np.testing.assert_allclose(dataset.instances.keypoints, [[[4, 2, 2], [0, 0, 0]]])
    assert [item.source for item in dataset.skipped] == ["labels/a.txt line 2"]


def test_polygons_of_yolo_are_written_where_they_stand_for_the_boxes(tmp_path: Path) -> None:
    line = "1 0.1 0.1 0.5 0.1 0.5 0.9"
    files = {"data.yaml": f"train: images\n{NAMES}", "images/a.jpg": "", "labels/a.txt": line}
    before = yolo.load(lay(tmp_path / "before", files))
    yolo.save(before, tmp_path / "after")
    assert (tmp_path / "after" / "labels" / "train" / "a.txt").read_text() == f"{line}\n"


def test_what_yolo_files_lack_is_recorded(tmp_path: Path) -> None:
    files = {
        "data.yaml": f"train: images\nval: gone\n{NAMES}",
        "images/a.jpg": "",
        "labels/a.txt": LINE,
        "labels/b.txt": LINE,
    }
    lay(tmp_path, files)
    (tmp_path / "images" / "c.jpg").write_bytes(b"nothing")
    (tmp_path / "labels" / "c.txt").write_text(LINE)
    dataset = yolo.load(tmp_path)
    assert {item.source: item.reason for item in dataset.skipped} == {
        "data.yaml val": "there is no file or folder gone",
        "labels/b.txt": "there is no image of this name",
        "labels/c.txt": "the size of c.jpg cannot be read, and what it states are shares of that",
    }


def xml(*objects: str, filename: str = "a.jpg", size: tuple[int, int] = (40, 20)) -> str:
    width, height = size
    stated = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{filename}</filename>{stated}{''.join(objects)}</annotation>"


def thing(name: str, *box: float, more: str = "") -> str:
    corners = "".join(
        f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name>{more}<bndbox>{corners}</bndbox></object>"


VOC_DOG = thing("dog", 16, 6, 25, 15)  # counted from 1, and the last pixel belongs to it

VOC = [
    (
        {
            "Annotations/a.xml": xml(VOC_DOG, thing("cat", 1, 1, 40, 20)),
            "Annotations/b.xml": xml(filename="b.jpg"),
            "JPEGImages/a.jpg": "",
            "JPEGImages/b.jpg": "",
            "JPEGImages/c.jpg": "",
            "ImageSets/Main/train.txt": "a\nc 1\n",
            "ImageSets/Main/val.txt": "b\n",
        },
        {"JPEGImages/a.jpg": [DOG, ("cat", [0, 0, 40, 20])], "JPEGImages/b.jpg": [], "JPEGImages/c.jpg": []},
        {"train": ["JPEGImages/a.jpg", "JPEGImages/c.jpg"], "val": ["JPEGImages/b.jpg"]},
        "as VOC lays it out",
    ),
    (
        {"a.jpg": "", "a.xml": xml(VOC_DOG, filename="C:\\\\photos\\\\once.jpg"), "b.jpg": ""},
        {"a.jpg": [DOG], "b.jpg": []},
        {},
        "files among images",
    ),
    (
        {
            "train/a.jpg": "",
            "train/a.xml": xml(VOC_DOG),
            "valid/b.jpg": "",
            "valid/b.xml": xml(thing("dog", 0, 0, 5, 5)),
        },
        {"train/a.jpg": [DOG], "valid/b.jpg": [("dog", [0, 0, 5, 5])]},
        {"train": ["train/a.jpg"], "val": ["valid/b.jpg"]},
        "a folder per split; a tool that counts from 0",
    ),
    (
        {"a.jpg": "6", "a.xml": xml(VOC_DOG), "b.jpg": "6", "b.xml": xml(VOC_DOG, size=(20, 40))},
        {"a.jpg": [("dog", [5, 15, 15, 25])], "b.jpg": [DOG]},
        {},
        "boxes of the stored pixels are turned, those of the upright image are not",
    ),
]


@pytest.mark.parametrize(("files", "expected", "parts", "why"), VOC, ids=[row[3] for row in VOC])
def test_reads_voc(
    files: Mapping[str, str], expected: Told, parts: dict[str, list[str]], why: str, tmp_path: Path
) -> None:
    dataset = open_dataset(lay(tmp_path, files))
    assert dataset.format == "Pascal VOC"
    assert told(dataset) == expected
    assert splits(dataset) == parts
    assert dataset.skipped == ()


def test_difficult_objects_of_voc_are_to_be_ignored(tmp_path: Path) -> None:
    hard = thing("dog", 1, 1, 5, 5, more="<difficult>1</difficult>")
    dataset = voc.load(lay(tmp_path, {"a.jpg": "", "a.xml": xml(VOC_DOG, hard)}))
    assert dataset.instances.ignore is not None
    assert dataset.instances.ignore.tolist() == [False, True]


def test_what_voc_files_lack_is_recorded(tmp_path: Path) -> None:
    files = {
        "Annotations/a.xml": xml(VOC_DOG, thing("", 1, 1, 5, 5), "<object><name>cat</name></object>"),
        "Annotations/b.xml": xml(VOC_DOG)[:60],
        "Annotations/c.xml": xml(VOC_DOG, filename="c.jpg"),
        "Annotations/d.xml": xml(VOC_DOG, size=(80, 40)),
        "JPEGImages/a.jpg": "",
        "JPEGImages/d.jpg": "",
        "ImageSets/Main/train.txt": "a\ne\n",
        "ImageSets/Main/test.txt": "a\n",
    }
    dataset = voc.load(lay(tmp_path, files))
    assert told(dataset) == {"JPEGImages/a.jpg": [DOG]}
    reasons = {item.source: item.reason for item in dataset.skipped}
    expected = {
        "Annotations/a.xml object 2": "it has no name",
        "Annotations/a.xml object 3": "its xmin is None, not a number",
        "Annotations/b.xml": "cannot be read as XML of boxes",
        "Annotations/c.xml": "there is no file JPEGImages/c.jpg, with 1 objects",
        "Annotations/d.xml": "the file has 40x20 pixels, not 80x40 as stated",
        "ImageSets/Main/train.txt": "there is no file of the name e",
        "ImageSets/Main/test.txt line 1": "a is listed in train.txt, too",
    }
    assert reasons.keys() == expected.keys()
    for source, words in expected.items():
        assert words in reasons[source]


TABLES = [
    # content, what is read, splits, why
    ("image,label,x1,y1,x2,y2\na.jpg,dog,15,5,25,15\nb.jpg,,,,,\n", {"a.jpg": [DOG], "b.jpg": []}, {}, "corners"),
    ("image,label,x,y,w,h\na.jpg,dog,15,5,10,10\n", {"a.jpg": [DOG]}, {}, "a corner and a size"),
    ("image;label;left;top;width;height\na.jpg;dog;15;5;10;10\n", {"a.jpg": [DOG]}, {}, "semicolons"),
    (
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,40,20,dog,15,5,25,15\na.jpg,40,20,cat,0,0,40,20\n",
        {"a.jpg": [DOG, ("cat", [0, 0, 40, 20])]},
        {},
        "as TensorFlow's tools write it, with the size of the image",
    ),
    (
        "Path,Split,Label,X Min,Y Min,X Max,Y Max\na.jpg,train,dog,15,5,25,15\nb.jpg,validation,,,,,\n",
        {"a.jpg": [DOG], "b.jpg": []},
        {"train": ["a.jpg"], "val": ["b.jpg"]},
        "with splits",
    ),
]


@pytest.mark.parametrize(("content", "expected", "parts", "why"), TABLES, ids=[row[3] for row in TABLES])
def test_reads_tables_of_boxes(
    content: str, expected: Told, parts: dict[str, list[str]], why: str, tmp_path: Path
) -> None:
    dataset = open_dataset(lay(tmp_path, {"a.jpg": "", "b.jpg": "", "boxes.csv": content}) / "boxes.csv")
    assert dataset.format == "table of boxes"
    assert told(dataset) == expected
    assert splits(dataset) == parts
    assert dataset.skipped == ()


def test_shares_in_a_table_become_pixels_and_that_is_said(tmp_path: Path) -> None:
    content = "ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\na.jpg,dog,0.375,0.625,0.25,0.75,1\n"
    dataset = open_dataset(lay(tmp_path, {"a.jpg": "", "boxes.csv": content}) / "boxes.csv")
    assert told(dataset) == {"a.jpg": [DOG]}
    assert dataset.instances.crowd is not None
    assert [item.stray for item in dataset.skipped] == [True]
    assert "shares of the image" in dataset.skipped[0].reason


def test_a_row_of_a_table_that_cannot_be_used_is_recorded(tmp_path: Path) -> None:
    rows = {
        3: ("a.jpg,,1,1,5,5,train", "the label is empty"),
        4: ("a.jpg,dog,1,1,x,5,train", "the box is 1, 1, x, 5: not four numbers"),
        5: (",dog,1,1,5,5,train", "the image is empty"),
        6: ("a.jpg,dog,1,1,5,5,other", "the split is 'other', none of train, val, test"),
        7: ("a.jpg,dog,1,1,5,5,test", "the split is 'test', and 'train' where the image comes first"),
        8: ("gone.jpg,dog,1,1,5,5,train", "there is no file gone.jpg, with 1 objects"),
    }
    head = "image,label,x1,y1,x2,y2,split\na.jpg,dog,15,5,25,15,train\n"
    content = head + "\n".join(row for row, _ in rows.values())
    dataset = boxes_csv.load(lay(tmp_path, {"a.jpg": "", "boxes.csv": content}) / "boxes.csv")
    assert told(dataset) == {"a.jpg": [DOG]}
    expected = {f"boxes.csv line {line}": words for line, (_, words) in rows.items()}
    assert {item.source: item.reason for item in dataset.skipped} == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [("image,x1,y1,x2,y2\na.jpg,1,1,5,5\n", "no column holds a label"), ("label,x1,y1,x2,y2\n", "holds an image")],
)
def test_a_table_of_boxes_without_a_column_is_refused(content: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        open_dataset(lay(tmp_path, {"a.jpg": "", "boxes.csv": content}) / "boxes.csv")


def points(*rows: tuple[float, float], count: int | None = None) -> str:
    lines = "".join(f"{x} {y}\n" for x, y in rows)
    return f"version: 1\nn_points: {len(rows) if count is None else count}\n{{\n{lines}}}\n"


def test_reads_files_of_points(tmp_path: Path) -> None:
    files = {
        "trainset/a.jpg": "",
        "trainset/a.pts": points((1, 1), (10, 5.5), (3, 9)),
        "testset/b.png": "",
        "testset/b.pts": points((2, 2), (3, 3), (4, 4)),
    }
    dataset = open_dataset(lay(tmp_path, files))
    assert dataset.format == "points in .pts files"
    assert dataset.task == "keypoints"
    assert splits(dataset) == {"train": ["trainset/a.jpg"], "test": ["testset/b.png"]}
    assert told(dataset)["trainset/a.jpg"] == [("object", [0.5, 0.5, 9.5, 8.5])]  # the first pixel's middle is 0.5
    assert dataset.instances.keypoints is not None
    assert dataset.instances.keypoints[1].tolist() == [[0.5, 0.5, 2], [9.5, 5, 2], [2.5, 8.5, 2]]
    assert dataset.skipped == ()


def test_what_files_of_points_lack_is_recorded(tmp_path: Path) -> None:
    good = points((1, 1), (10, 5), (3, 9))
    files = {f"{name}.jpg": "" for name in "abcdefh"} | {
        "a.pts": good,
        "b.pts": good,
        "c.pts": points((1, 1), (5, 5)),
        "d.pts": points((1, 1), (10, 5), (3, 9), count=4),
        "e.pts": "1 2 3",
        "f.pts": "{\n1 2\n3 x\n}",
        "g.pts": good,
    }
    dataset = pts.load(lay(tmp_path, files))
    assert list(dataset.ids) == ["a.jpg", "b.jpg", "h.jpg"]
    assert dataset.instances.counts.tolist() == [1, 1, 0]
    assert {item.source: item.reason for item in dataset.skipped} == {
        "c.pts": "has 2 points, the other files have 3",
        "d.pts": "says n_points: 4, and has 3",
        "e.pts": "has no points between { and }",
        "f.pts": "has a line that is not x and y",
        "g.pts": "there is no image of this name",
    }


def test_the_68_points_of_a_face_know_their_mirror_images() -> None:
    skeleton = pts.skeleton_of(68)
    flips = skeleton.flips
    assert [flips[flip] for flip in flips] == list(range(68))
    # As published with 300-W's baselines: 0 and 16, 17 and 26, 36 and 45, 41 and 46, 48 and 54, 60 and 64, ...
    for left, right in (
        (0, 16),
        (17, 26),
        (31, 35),
        (36, 45),
        (39, 42),
        (41, 46),
        (40, 47),
        (48, 54),
        (59, 55),
        (67, 65),
    ):
        assert flips[left] == right
    assert [k for k in range(68) if flips[k] == k] == [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]
    assert len(skeleton.edges) == 16 + 4 + 4 + 3 + 4 + 6 + 6 + 12 + 8
