"""The options of ``striate predict`` that are for detectors, and videos, on networks that were never trained."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Cli
from PIL import Image
from scenes import some

from striate.core.instances import Instances
from striate.data.preprocess import Preprocessing
from striate.models.catalog import create
from striate.models.detectors.catalog import create_detector
from striate.ops.boxes import iou
from striate.runs.model_file import Card, write_model
from striate.runs.video import video_frames, write_video
from striate.tasks.classification import Classification
from striate.tasks.detection import Detection
from striate.tasks.task import Task

SIDE, CLASSES = 128, ("a", "b")
PREPROCESSING = Preprocessing(size=(SIDE, SIDE), channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
EVERYTHING = 1000  # objects of an image, as many as the networks here suspect and more
FRAMES = 7

Files = Callable[[str], Path]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The model file of a detector, or of ``linear``, with fresh weights; a detector says whatever it suspects."""
    folder, made = tmp_path_factory.mktemp("models"), dict[str, Path]()

    def write(name: str) -> Path:
        torch.manual_seed(0)
        task: Task
        if name == "linear":
            backbone = None
            task = Classification(create(name, classes=len(CLASSES), channels=3, size=(SIDE, SIDE)), CLASSES)
        else:
            backbone = "mobilenet_v3_small"
            network = create_detector(name, backbone=backbone, classes=len(CLASSES), channels=3, size=(SIDE, SIDE))
            task = Detection(network, CLASSES, suppression=replace(network.suppression, score=0.0))
        path = folder / f"{name}.safetensors"
        card = Card(
            model=name,
            backbone=backbone,
            channels=3,
            size=(SIDE, SIDE),
            task=task.to_json(),
            preprocessing=PREPROCESSING,
        )
        write_model(path, task, card)
        return path

    def get(name: str) -> Path:
        if name not in made:
            made[name] = write(name)
        return made[name]

    return get


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "a.png"
    Image.fromarray(some("scenes").images.read(0)).save(path)
    return path


def found(cli: Cli, model: Path, image: Path, *given: object) -> Instances:
    outcome = cli("predict", model, image, *given, "--device", "cpu", "--json")
    assert outcome.code == 0, outcome.err
    rows: list[dict[str, Any]] = outcome.json["predictions"][0]["annotations"]
    return Instances(
        boxes=torch.tensor([row["box"] for row in rows]).reshape(-1, 4),
        scores=torch.tensor([row["score"] for row in rows]),
        labels=torch.tensor([row["label"] for row in rows], dtype=torch.int64),
    )


@pytest.mark.parametrize("detector", ["ssd", "cornernet"])  # whose files say hard and soft
@pytest.mark.parametrize(
    ("given", "changes"),
    [
        (["--nms", 0.2], {"kind": "hard", "iou": 0.2}),
        (["--soft-nms"], {"kind": "soft"}),
        (["--across-classes"], {"per_class": False}),
        (["--nms", 0.2, "--across-classes"], {"kind": "hard", "iou": 0.2, "per_class": False}),
        (["--soft-nms", "--across-classes"], {"kind": "soft", "per_class": False}),
        (["--nms", 0.2, "--limit", 3], {"kind": "hard", "iou": 0.2, "limit": 3}),
        (["--soft-nms", "--score", 0.05], {"kind": "soft"}),
    ],
)
def test_boxes_are_chosen_as_asked_for(
    cli: Cli, files: Files, image: Path, detector: str, given: list[object], changes: dict[str, Any]
) -> None:
    """What is shown is what the asked-for suppression leaves of all that the network suspects."""
    # No two boxes overlap by more than 1, so that all stay.
    suspected = found(cli, files(detector), image, "--nms", 1, "--limit", EVERYTHING)
    assert 50 < len(suspected) <= EVERYTHING
    assert suspected.scores is not None
    own = create_detector(
        detector, backbone="mobilenet_v3_small", classes=len(CLASSES), channels=3, size=(SIDE, SIDE)
    ).suppression
    expected = replace(own, score=0.0, **changes)(suspected.boxes, suspected.scores, suspected.labels)
    assert expected.scores is not None
    if "--score" in given:
        expected = expected.select(expected.scores >= 0.05)
    shown = found(cli, files(detector), image, *given)
    assert 0 < len(shown) < len(suspected)
    torch.testing.assert_close(shown.boxes, expected.boxes)
    torch.testing.assert_close(shown.scores, expected.scores)
    assert shown.labels.tolist() == expected.labels.tolist()


def test_no_two_boxes_overlap_by_more_than_is_asked_for(cli: Cli, files: Files, image: Path) -> None:
    """Also where the model file says soft, which reads no IoU."""
    shown = found(cli, files("cornernet"), image, "--nms", 0.1)
    alike = shown.labels[:, None] == shown.labels[None]
    overlaps = iou(shown.boxes, shown.boxes).fill_diagonal_(0)
    assert float(overlaps[alike].max()) <= 0.1 + 1e-4
    assert float(overlaps.max()) > 0.1
    across = found(cli, files("cornernet"), image, "--nms", 0.1, "--across-classes")
    assert float(iou(across.boxes, across.boxes).fill_diagonal_(0).max()) <= 0.1 + 1e-4


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        ("ssd", ["--nms", 0.5, "--soft-nms"], "give one of the two"),
        ("cornernet", ["--nms", 0.5, "--soft-nms"], "give one of the two"),
        ("detr", ["--nms", 0.5], "suppresses nothing: leave --nms"),
        ("detr", ["--soft-nms"], "suppresses nothing"),
        ("detr", ["--across-classes"], "suppresses nothing"),
        ("linear", ["--nms", 0.5], "a choice of boxes is for detectors"),
    ],
)
def test_a_choice_that_would_do_nothing_is_refused(
    cli: Cli, files: Files, image: Path, model: str, given: list[object], said: str
) -> None:
    outcome = cli("predict", files(model), image, *given)
    assert outcome.code == 2, outcome.err
    assert said in outcome.err


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("av", reason="PyAV is an extra")
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    picture = np.full((SIDE, SIDE, 3), 40, dtype=np.uint8)
    picture[40:80, 30:90] = (230, 60, 60)
    write_video([picture] * FRAMES, path, rate=Fraction(10))  # what stands still is followed by any network
    return path


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("track", [False, True])
def test_the_frames_of_a_video_are_predicted(
    cli: Cli, files: Files, clip: Path, tmp_path: Path, track: bool, every: int
) -> None:
    given = ["--every", every, *(["--track"] if track else [])]
    outcome = cli(
        "predict", files("ssd"), clip, *given, "--limit", 4, "--device", "cpu", "--out", tmp_path / "out", "--json"
    )
    assert outcome.code == 0, outcome.err
    document = outcome.json
    assert document["schema"] == "striate.videos/1"
    (video,) = document["videos"]
    numbers = list(range(0, FRAMES, every))
    assert (video["schema"], video["source"], video["written"]) == ("striate.video/1", str(clip), len(numbers))
    assert [frame["frame"] for frame in video["frames"]] == numbers
    assert [frame["time"] for frame in video["frames"]] == pytest.approx([number / 10 for number in numbers])
    objects = [one for frame in video["frames"] for one in frame["annotations"]]
    assert len(objects) >= len(numbers)
    assert all(len(frame["annotations"]) <= 4 for frame in video["frames"])
    keys = {"label", "class", "score", "box"}
    assert all(set(one) == (keys | {"id"} if track else keys) for one in objects)
    if track:
        ids = [[one["id"] for one in frame["annotations"]] for frame in video["frames"]]
        assert all(len(set(one)) == len(one) for one in ids)
        assert set(ids[0]) & set(ids[1])  # an object is the same one in the next frame
    assert video["video"] == str(tmp_path / "out" / "clip.mp4")
    assert len(list(video_frames(video["video"]))) == len(numbers)


def test_a_person_reads_how_much_was_seen_in_each_video(cli: Cli, files: Files, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "other.mp4").write_bytes(clip.read_bytes())
    given = ["--every", 4, "--limit", 2, "--device", "cpu", "--out", tmp_path / "out"]
    outcome = cli("predict", files("ssd"), clip, tmp_path / "other.mp4", *given)
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines() == [
        f"{source}\t2 frames, 4 objects\t{tmp_path / 'out' / source.name}" for source in (clip, tmp_path / "other.mp4")
    ]


def test_a_video_is_predicted_in_batches_as_large_as_asked_for(
    cli: Cli, files: Files, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    predict = Detection.predict

    def counted(task: Detection, batch: Any) -> Any:
        seen.append(len(batch.images))
        return predict(task, batch)

    monkeypatch.setattr(Detection, "predict", counted)
    outcome = cli("predict", files("ssd"), clip, "--batch", 3, "--device", "cpu", "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert seen == [3, 3, 1]


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        ("ssd", [], "give --out DIR"),
        ("ssd", ["--out", "out", "--tile", 64], "give only videos"),
        ("ssd", ["--out", "out", "--views"], "give only videos"),
        ("ssd", ["--out", "out", "--write", "coco"], "give only videos"),
        ("ssd", ["--out", "out", "--slide", "1"], "give only videos"),
        ("linear", ["--out", "out"], "a video is for detectors"),
    ],
)
def test_what_does_not_go_with_a_video_is_refused(
    cli: Cli, files: Files, clip: Path, tmp_path: Path, model: str, given: list[object], said: str
) -> None:
    given = [tmp_path / "out" if one == "out" else one for one in given]
    outcome = cli("predict", files(model), clip, *given)
    assert outcome.code == 2, outcome.err
    assert said in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "said"), [(["--track"], "--track is for videos"), (["--every", 2], "--every is for")]
)
def test_what_is_for_videos_is_refused_with_images(
    cli: Cli, files: Files, image: Path, given: list[object], said: str
) -> None:
    outcome = cli("predict", files("ssd"), image, *given)
    assert outcome.code == 2, outcome.err
    assert said in outcome.err


@pytest.mark.parametrize("given", [["--tile", 64], ["--views"], ["--slide", "1"]])
def test_a_batch_that_nothing_would_read_is_refused(cli: Cli, files: Files, image: Path, given: list[object]) -> None:
    outcome = cli("predict", files("ssd"), image, "--batch", 2, *given)
    assert outcome.code == 2
    assert "--batch is of whole images" in outcome.err


def test_a_video_that_cannot_be_read_costs_no_other_its_answers(
    cli: Cli, files: Files, clip: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    given = ["--every", 4, "--limit", 2, "--device", "cpu", "--out", tmp_path / "out", "--json"]
    outcome = cli("predict", files("ssd"), broken, clip, *given)
    assert outcome.code == 3
    assert [video["source"] for video in outcome.json["videos"]] == [str(clip)]
    assert [item["source"] for item in outcome.json["failed"]] == [str(broken)]
    assert "1 of 2 inputs could not be read" in outcome.err


def test_copies_of_two_videos_that_would_have_one_name_are_refused(
    cli: Cli, files: Files, clip: Path, tmp_path: Path
) -> None:
    other = tmp_path / "sub" / clip.name
    other.parent.mkdir()
    other.write_bytes(clip.read_bytes())
    outcome = cli("predict", files("ssd"), clip, other, "--device", "cpu", "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "two folders" in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_video_that_was_written_before_is_not_written_over(
    cli: Cli, files: Files, clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"mine")
    outcome = cli("predict", files("ssd"), clip, "--out", tmp_path, "--device", "cpu")
    assert outcome.code == 2
    assert "is there already" in outcome.err
    assert (tmp_path / "clip.mp4").read_bytes() == b"mine"
