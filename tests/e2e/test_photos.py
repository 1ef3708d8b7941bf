"""A folder of photos, as people have them: several sizes and formats, a few of them broken."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import Cli
from PIL import Image
from skimage import data

SOURCES = {"astronaut": data.astronaut, "cat": data.chelsea, "coffee": data.coffee}
FAST = ["--precision", "float32", "--no-channels-last", "--epochs", "2", "--model", "CONV 8 /2 -> RELU -> GAP -> FC"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of thirty crops of a photo each."""
    root = tmp_path_factory.mktemp("data") / "photos"
    draw = np.random.default_rng(0)
    for name, source in SOURCES.items():
        picture = Image.fromarray(source())
        (root / name).mkdir(parents=True)
        for number in range(30):
            side = int(draw.integers(120, 250))
            left, top = (int(draw.integers(0, extent - side)) for extent in picture.size)
            suffix = ("jpg", "png", "webp")[number % 3]
            crop = picture.crop((left, top, left + side, top + int(side * 0.8)))
            crop.save(root / name / f"scene{number // 3}_{number}.{suffix}")
    return root


@pytest.fixture
def copy(photos: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(photos, tmp_path / "photos"))


def test_trains_on_photos_of_all_kinds(photos: Path, cli: Cli, tmp_path: Path) -> None:
    found = cli("train", photos, *FAST, "--out", tmp_path / "run", "--json", "--augment", "standard", "--size", "48x64")
    assert found.code == 0, found.err
    assert "folder of classes" in found.err
    assert "54 train, 18 val, 18 test" in found.err
    predicted = cli("predict", tmp_path / "run", photos / "cat", "--json")
    assert predicted.code == 0
    assert len(predicted.json["predictions"]) == 30
    assert predicted.json["predictions"][0]["annotations"][0]["class"] in SOURCES
    card = cli("runs", "show", tmp_path / "run", "--json").json
    assert card["preprocessing"]["size"] == [48, 64]
    assert card["preprocessing"]["channels"] == 3


def test_one_bad_file_is_skipped_counted_and_named(copy: Path, cli: Cli, tmp_path: Path) -> None:
    victim = next((copy / "cat").glob("*.webp"))
    victim.write_bytes(victim.read_bytes()[:200])
    found = cli("train", copy, *FAST, "--out", tmp_path / "run", "--max-bad", 0.05, "--size", 32, "--augment", "none")
    assert found.code == 0, found.err
    assert "1 files could not be read" in found.err or "Skipped 1 bad files" in found.err
    assert victim.name in (tmp_path / "run" / "metrics.jsonl").read_text()
    assert victim.name in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_more_than_one_percent_bad_stops_at_the_start_with_the_list(
    suffix: str, copy: Path, cli: Cli, tmp_path: Path
) -> None:
    victims = sorted((copy / "coffee").glob(f"*.{suffix}"))[:2]
    for victim in victims:
        victim.write_bytes(victim.read_bytes()[:-500])
    found = cli("train", copy, *FAST, "--out", tmp_path / "run", "--size", 32)
    assert found.code == 3
    assert "2 of 90 files are bad, more than 1%" in found.err
    assert all(victim.name in found.err for victim in victims)
    assert "data check" in found.err
    assert not (tmp_path / "run").exists()


def test_groups_never_sit_on_both_sides(photos: Path, cli: Cli, tmp_path: Path) -> None:
    import json

    found = cli("train", photos, *FAST, "--out", tmp_path / "run", "--size", 32, "--group-by", r"(scene\d+)_")
    assert found.code == 0, found.err
    splits = json.loads((tmp_path / "run" / "split.json").read_text())["splits"]
    scenes = {name: {Path(id_).stem.split("_")[0] for id_ in ids} for name, ids in splits.items()}
    assert not scenes["train"] & scenes["test"]
    assert not scenes["train"] & scenes["val"]
    found = cli("train", photos, *FAST, "--out", tmp_path / "other", "--group-by", "scene(")
    assert found.code == 2


def test_trains_on_a_table_and_grey_images(photos: Path, cli: Cli, tmp_path: Path) -> None:
    with (tmp_path / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for number, source in enumerate(sorted(photos.rglob("*.png"))):
            with Image.open(source) as image:
                image.convert("L").save(tmp_path / f"{number}.png")
            writer.writerow([f"{number}.png", source.parent.name, ("train", "train", "val", "test")[number % 4]])
    found = cli("train", tmp_path / "table.csv", *FAST, "--out", tmp_path / "run", "--size", 32, "--json")
    assert found.code == 0, found.err
    assert found.json["split"] == "test"
    assert cli("runs", "show", tmp_path / "run", "--json").json["preprocessing"]["channels"] == 1


def test_the_classes_weigh_and_smooth(photos: Path, cli: Cli, tmp_path: Path) -> None:
    more = ["--class-weights", "cat=3", "--label-smoothing", 0.1, "--mixup", 0.2, "--cutmix", 1.0, "--clip", 1]
    found = cli("train", photos, *FAST, *more, "--out", tmp_path / "run", "--size", 32, "--tensorboard")
    assert found.code == 0, found.err
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    found = cli("train", photos, *FAST, "--class-weights", "dog=3", "--out", tmp_path / "other", "--size", 32)
    assert found.code == 2
    assert "'dog'" in found.err


def test_one_class_is_not_enough(photos: Path, cli: Cli, tmp_path: Path) -> None:
    shutil.copytree(photos / "cat", tmp_path / "one" / "cat")
    found = cli("train", tmp_path / "one", *FAST, "--out", tmp_path / "run")
    assert found.code == 3
    assert "1 class (cat)" in found.err
