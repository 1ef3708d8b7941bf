"""``striate data`` on images with boxes: check, mend, convert, count, split and show."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Cli
from PIL import Image

from striate.data.open import open_dataset

HEIGHT, WIDTH, IMAGES = 60, 80, 12


@pytest.fixture
def traffic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """COCO's folders with twelve pictures, in the current folder: a car in each, a lorry in every second one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "traffic/annotations").mkdir(parents=True)
    (tmp_path / "traffic/images").mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for k in range(IMAGES):
        pixels = np.random.default_rng(k).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        picture.save(tmp_path / f"traffic/images/{k:02}.png")
        images.append({"id": k, "file_name": f"{k:02}.png", "width": WIDTH, "height": HEIGHT})
        ring = [10, 10, 40, 10, 40, 30, 10, 30]
        annotations.append({"image_id": k, "category_id": 1, "bbox": [10, 10, 30, 20], "segmentation": [ring]})
        if k % 2:
            annotations.append({"image_id": k, "category_id": 2, "bbox": [45, 30, 30, 25], "iscrowd": 0})
    annotations = [{"id": k, "area": 600, **annotation} for k, annotation in enumerate(annotations)]
    write(annotations, images)
    return Path("traffic")


def write(annotations: list[dict[str, Any]], images: list[dict[str, Any]]) -> None:
    categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "lorry"}]
    document = {
        "images": images,
        "annotations": annotations,
        "categories": categories,
        "licenses": [{"id": 1, "name": "CC0"}],
    }
    Path("traffic/annotations/instances_all.json").write_text(json.dumps(document))


def change(traffic: Path, number: int, **values: Any) -> None:
    """Change one annotation."""
    document = json.loads((traffic / "annotations/instances_all.json").read_text())
    document["annotations"][number].update(values)
    write(document["annotations"], document["images"])


def test_check_and_a_copy_without_what_is_wrong(traffic: Path, cli: Cli) -> None:
    assert cli("data", "check", traffic).code == 0
    change(traffic, 0, bbox=[60, 10, 30, 20])
    broken = traffic / "images/05.png"
    broken.write_bytes(broken.read_bytes()[:60])
    found = cli("data", "check", traffic)
    assert found.code == 3
    assert "error  damaged file (1)" in found.out
    assert "warning  box outside (1)" in found.out
    assert found.out.splitlines()[-1] == (
        "Not fit for training: damaged file (1). 'striate data check traffic --fix OUT' writes a corrected copy."
    )
    document = cli("data", "check", traffic, "--fix", "good", "--json").json
    assert document["fixed"] == {
        "path": "good",
        "log": "good.fixes.jsonl",
        "images": IMAGES - 1,
        "actions": {"dropped": 1, "cut off": 1},
        "errors_left": {},
    }
    assert open_dataset("good").instances.boxes[0].tolist() == [60, 10, 80, 30]
    assert cli("data", "check", "good").code == 0


@pytest.mark.parametrize(
    ("changed", "hidden", "said"),
    [
        ({"bbox": [0.1, 0.2, 0.3, 0.4]}, "boxes normalised", "18 boxes lie within one pixel"),
        ({"category_id": 7}, "unknown class id", "no class has the id 7"),
    ],
)
def test_no_copy_that_would_hide_an_error_is_advised_or_written(
    traffic: Path, cli: Cli, changed: dict[str, Any], hidden: str, said: str
) -> None:
    for number in range(18 if "bbox" in changed else 1):
        change(traffic, number, **changed)
    found = cli("data", "check", traffic)
    assert found.code == 3
    assert found.out.splitlines()[-1] == (
        f"Not fit for training: {hidden} (1). A corrected copy would hide {hidden}: mend all of that where it was "
        "written, then --fix the rest."
    )
    found = cli("data", "check", traffic, "--fix", "good", "--json")
    assert found.code == 3
    assert "no copy is written, which would hide this: " in found.err
    assert said in found.err
    assert found.json["counts"][hidden.replace(" ", "_")] == 1  # the findings are not lost
    assert not Path("good").exists()


def test_a_conversion_that_fails_leaves_nothing_and_names_the_way_on(traffic: Path, cli: Cli) -> None:
    (traffic / "images/05.png").write_bytes(b"no image")
    found = cli("data", "convert", traffic, "voc", "--to", "yolo")
    assert found.code == 3
    assert "05.png" in found.err
    assert "'striate data check traffic --fix OUT' leaves it out" in found.err
    assert not Path("voc").exists()


def test_convert_says_what_is_lost(traffic: Path, cli: Cli) -> None:
    found = cli("data", "convert", traffic, "voc", "--to", "voc", "--class", "lorry=truck")
    assert (found.code, found.err) == (0, "")
    assert found.out.splitlines() == [
        "Wrote 12 images of traffic to voc.",
        "Not kept: the licence, CC0.",
        "Not kept: 12 masks.",
        "Not kept: 6 areas.",
    ]
    change(traffic, 0, category_id=7)
    found = cli("data", "convert", traffic, "coco", "--to", "coco", "--json")
    assert (found.code, found.err) == (0, "")
    assert found.json == {
        "schema": "striate.data_convert/1",
        "data": "traffic",
        "out": "coco",
        "format": "coco",
        "images": IMAGES,
        "lost": [],
        "skipped": [{"source": "instances_all.json annotation 0", "reason": "no class has the id 7"}],
    }
    assert open_dataset("voc").classes == ("car", "truck")
    assert len(open_dataset("coco").instances.boxes) == 17


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("out", "--to", "coko"), 2, "Did you mean 'coco'"),
        (("out", "--to", "folder"), 3, "say what is where, which folder of classes does not hold"),
        (("traffic", "--to", "yolo"), 3, "is not empty"),
        (("out", "--to", "yolo", "--class", "lory=truck"), 2, "Did you mean 'lorry'"),
        (("out", "--to", "yolo", "--class", "lorry"), 2, "is not OLD=NEW"),
    ],
)
def test_convert_refuses_nonsense(traffic: Path, cli: Cli, arguments: tuple[str, ...], code: int, words: str) -> None:
    found = cli("data", "convert", traffic, *arguments)
    assert (found.code, found.out) == (code, "")
    assert words in found.err
    assert not Path("out").exists()


def test_stats(traffic: Path, cli: Cli) -> None:
    change(traffic, 0, category_id=7)
    document = cli("data", "stats", traffic, "--json").json
    assert document["schema"] == "striate.data_stats/1"
    assert document["sizes"]["median"] == [HEIGHT, WIDTH]
    found = cli("data", "stats", traffic)
    assert found.code == 0, found.err
    rows = [line.split() for line in found.out.splitlines()]
    assert ["car", "11"] in rows
    assert ["lorry", "6"] in rows
    assert ["all", "12", "1"] in rows  # images, of which without objects
    assert "CC0" in found.out


def test_split(traffic: Path, cli: Cli) -> None:
    found = cli("data", "split", traffic, "--json")
    assert found.code == 0, found.err
    parts = found.json["splits"]
    assert list(parts) == ["train", "val", "test"]
    assert sum(sum(part["classes"].values()) for part in parts.values()) == 18  # objects
    split = json.loads(Path("traffic.split.json").read_text())
    assert sorted(id_ for part in split["splits"].values() for id_ in part) == sorted(open_dataset(traffic).ids)


def test_show_draws_the_truth(traffic: Path, cli: Cli) -> None:
    found = cli("data", "show", traffic, "--split", "all", "--count", 2, "--out", "drawn.png")
    assert found.code == 0, found.err
    with Image.open("drawn.png") as picture:
        drawn = np.asarray(picture)
    for number in range(18):
        change(traffic, number, bbox=[70, 50, 5, 5], segmentation=[])
    assert cli("data", "show", traffic, "--split", "all", "--count", 2, "--out", "other.png").code == 0
    with Image.open("other.png") as picture:
        assert not np.array_equal(drawn, np.asarray(picture))
