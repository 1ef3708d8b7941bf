"""Localization and keypoints: losses against calculations by hand, learning, sliding windows."""

import math

import pytest
import torch
from torch import Tensor, nn

from striate.core.batch import Batch
from striate.core.instances import Instances, InstanceSets, Skeleton
from striate.metrics.keypoints import COCO_POINTS
from striate.models.contract import Backbone, Stage
from striate.models.detectors.catalog import create_backbone
from striate.models.regressor import Regressor
from striate.tasks.catalog import build_network, build_task
from striate.tasks.keypoints import Keypoints
from striate.tasks.localization import BoxForm, Localization


class Says(Regressor):
    """A network that gives the same answers whatever it sees."""

    def __init__(self, **answers: Tensor):
        nn.Module.__init__(self)
        self.answers = answers
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {
            name: answer[None, :, None, None].expand(len(images), -1, 1, 1) for name, answer in self.answers.items()
        }


class Averages(Backbone):
    """A map of averages over 8x8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = (Stage(name="mean", channels=1, stride=8),)
        self.conv = nn.Conv2d(1, 1, 8, 8)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.conv(images)]


def batch_of(*images: Instances, size: tuple[int, int] = (32, 64)) -> Batch:
    count = len(images)
    return Batch(
        images=torch.zeros(count, 1, *size),
        sizes=torch.tensor([size] * count),
        truths=InstanceSets.of(images),
        indices=torch.arange(count),
    )


def one(box: list[float], label: int) -> Instances:
    return Instances(boxes=torch.tensor([box]), labels=torch.tensor([label]))


@pytest.mark.parametrize(("form", "said"), [("corners", [0.25, 0.25, 0.75, 0.75]), ("centre", [0.5, 0.5, 0.5, 0.5])])
def test_the_loss_of_a_box_by_hand(form: BoxForm, said: list[float]) -> None:
    network = Says(logits=torch.zeros(4), boxes=torch.tensor(said))
    task = Localization(network, list("abcd"), form=form, loss="l2")
    losses = task(batch_of(one([16, 8, 48, 24], 2), one([16, 8, 56, 24], 1)))
    assert float(losses["cross_entropy"]) == pytest.approx(math.log(4))
    # The second box ends at 56 / 64: by 1/8 too far in one coordinate, or by 1/16 and 1/8 in centre and width.
    second = (1 / 8) ** 2 if form == "corners" else (1 / 16) ** 2 + (1 / 8) ** 2
    assert float(losses["box"]) == pytest.approx(second / 2, rel=1e-5)


def test_the_iou_family_sees_pixels() -> None:
    network = Says(logits=torch.zeros(2), boxes=torch.tensor([0.25, 0.25, 0.75, 0.75]))
    task = Localization(network, ["a", "b"], loss="giou")
    assert float(task(batch_of(one([16, 8, 48, 24], 0)))["box"]) == pytest.approx(0, abs=1e-5)
    assert float(task(batch_of(one([0, 8, 32, 24], 0)))["box"]) == pytest.approx(1 - (1 / 3), abs=1e-4)


def test_objects_are_told_apart_from_left_to_right() -> None:
    logits = torch.tensor([9.0, 0, 0, 9])  # the first object is class 0, the second class 1
    network = Says(logits=logits, boxes=torch.tensor([0, 0, 0.25, 1, 0.5, 0, 1, 1.0]))
    task = Localization(network, ["a", "b"], objects=2)
    truth = Instances(boxes=torch.tensor([[32.0, 0, 64, 32], [0.0, 0, 16, 32]]), labels=torch.tensor([1, 0]))
    losses = task(batch_of(truth))
    assert float(losses["cross_entropy"]) < 1e-3
    assert float(losses["box"]) == pytest.approx(0, abs=1e-6)


def test_an_image_that_lost_an_object_teaches_nothing() -> None:
    network = Says(logits=torch.zeros(2), boxes=torch.zeros(4))
    task = Localization(network, ["a", "b"])
    empty = Instances(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
    assert all(float(loss) == 0 for loss in task(batch_of(empty)).values())


def test_predictions_lie_in_the_image_and_not_in_its_padding() -> None:
    network = Says(logits=torch.tensor([0.0, 3]), boxes=torch.tensor([-0.1, 0.0, 1.2, 1.0]))
    batch = batch_of(one([0, 0, 8, 8], 0))
    padded = Batch(
        images=batch.images,
        sizes=torch.tensor([[32, 40]]),
        truths=batch.truths,
        indices=batch.indices,
        placement=torch.tensor([[1.0, 1, 0, 0]]),
    )
    (found,) = Localization(network, ["a", "b"]).predict(padded)
    assert found.boxes.tolist() == [[0, 0, 40, 32]]
    assert found.labels.tolist() == [1]


def test_a_larger_image_gives_an_answer_for_every_window() -> None:
    torch.manual_seed(0)
    network = Regressor(Averages(), {"logits": 3, "boxes": 4}, channels=1, size=(32, 32)).eval()
    task = Localization(network, list("abc"))
    image = torch.rand(1, 1, 48, 64)
    boxes, scores = task.windows(image)
    assert boxes.shape == (3 * 5, 4)
    assert scores.shape == (3 * 5, 3)
    # The window in row 1 and column 2 is the network alone on that part of the image.
    alone, sure = task.windows(image[:, :, 8:40, 16:48])
    shift = torch.tensor([16.0, 8, 16, 8])
    torch.testing.assert_close(boxes[1 * 5 + 2], alone[0] + shift, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(scores[1 * 5 + 2], sure[0])


@pytest.mark.parametrize(("frozen", "left"), [("boxes", {"cross_entropy"}), ("logits", {"box"})])
def test_a_frozen_head_teaches_the_body_nothing(frozen: str, left: set[str]) -> None:
    torch.manual_seed(0)
    network = Regressor(Averages(), {"logits": 2, "boxes": 4}, channels=1, size=(32, 64))
    task = Localization(network, ["a", "b"])
    both = task.first_loss()
    task.learn({name for name, _ in network.named_parameters() if not name.startswith(f"heads.{frozen}.")})
    losses = task(batch_of(one([8, 8, 40, 24], 1)))
    assert set(losses) == left
    assert 0 < task.first_loss() < both


SKELETON = Skeleton(names=("left", "right"), flips=(1, 0))


def test_a_point_without_a_label_teaches_nothing() -> None:
    network = Says(points=torch.tensor([0.5, 0.5, 0.9, 0.9]), visible=torch.zeros(2))
    task = Keypoints(network, ("face",), skeleton=SKELETON)
    truth = Instances(
        boxes=torch.tensor([[0.0, 0, 64, 32]]),
        labels=torch.tensor([0]),
        keypoints=torch.tensor([[[32.0, 16, 2], [0, 0, 0]]]),
    )
    losses = task(batch_of(truth))
    assert float(losses["points"]) == pytest.approx(0, abs=1e-6)
    assert float(losses["visible"]) == pytest.approx(0.1 * math.log(2) / 2, rel=1e-5)


def test_points_come_back_with_their_box_and_visibility() -> None:
    network = Says(points=torch.tensor([0.25, 0.5, 0.75, 0.25]), visible=torch.tensor([4.0, -4]))
    (found,) = Keypoints(network, ("face",), skeleton=SKELETON).predict(batch_of(one([0, 0, 8, 8], 0)))
    assert found.keypoints is not None
    assert found.keypoints.tolist() == [[[16, 16, 2], [48, 8, 1]]]
    assert found.boxes.tolist() == [[16, 8, 48, 16]]


def test_oks_takes_the_sigmas_of_coco_where_the_points_are_those_of_its_persons() -> None:
    def similarity(names: tuple[str, ...], away: int) -> float:
        """OKS where one point is 4 pixels away in an object of 2048 pixels."""
        document = {"task": "keypoints", "classes": ["person"], "points": names, "flips": range(17), "edges": []}
        network = build_network(document, "mobilenet_v1_025", backbone=None, channels=1, size=(32, 32))
        metric = build_task(network, document).metric()
        points = torch.full((1, 17, 3), 2.0)
        moved = points.clone()
        moved[0, away, 0] += 4
        box = torch.tensor([[0.0, 0, 64, 32]])
        found, true = (Instances(boxes=box, labels=torch.tensor([0]), keypoints=each) for each in (moved, points))
        metric.update(InstanceSets.of([found]), InstanceSets.of([true]))
        return metric.compute()["OKS"]

    def by_hand(sigma: float) -> float:
        return (16 + math.exp(-(4**2) / (2 * 2048 * (2 * sigma) ** 2))) / 17

    # cocodataset.org, "Keypoint Evaluation": the nose has sigma 0.026, the right ankle 0.089.
    assert similarity(COCO_POINTS, 0) == pytest.approx(by_hand(0.026))
    assert similarity(COCO_POINTS, 16) == pytest.approx(by_hand(0.089))
    spelled = tuple(name.replace("_", " ").title() for name in reversed(COCO_POINTS))
    assert similarity(spelled, 0) == pytest.approx(by_hand(0.089))
    assert similarity(tuple(map(str, range(17))), 0) == pytest.approx(by_hand(0.05))


@pytest.mark.parametrize("task", ["localization", "keypoints"])
def test_a_small_network_learns_eight_images(task: str) -> None:
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(0)
    images = torch.zeros(8, 3, 32, 32)
    truths: list[Instances] = []
    for row in range(8):
        x, y = (torch.rand(2, generator=rng) * 16).round().tolist()
        images[row, row % 3, int(y) : int(y) + 12, int(x) : int(x) + 12] = 1
        box = torch.tensor([[x, y, x + 12, y + 12]])
        points = torch.tensor([[[x, y, 2.0], [x + 12, y, 2.0]]])
        label = torch.tensor([row % 3 if task == "localization" else 0])
        truths.append(Instances(boxes=box, labels=label, keypoints=points))
    document = {"task": task, "classes": list("abc" if task == "localization" else "a"), "objects": 1}
    document |= {"form": "corners", "points": ["left", "right"], "flips": [1, 0], "edges": []}
    network = build_network(document, "mobilenet_v1_025", backbone=None, channels=3, size=(32, 32))
    learner = build_task(network, document).train()
    batch = Batch(
        images=images,
        sizes=torch.full((8, 2), 32),
        truths=InstanceSets.of(truths),
        indices=torch.arange(8),
    )
    optimizer = torch.optim.AdamW(learner.parameters(), lr=2e-3)
    for _ in range(120):
        optimizer.zero_grad()
        sum(learner(batch).values()).backward()  # pyright: ignore[reportAttributeAccessIssue]
        optimizer.step()
    metric = learner.metric()
    metric.update(learner.predict(batch), batch.truths)
    assert metric.compute()["top1_localization" if task == "localization" else "PCK"] >= 0.9


def test_a_backbone_without_maps_is_refused() -> None:
    with pytest.raises(Exception, match="no feature maps"):
        Regressor(create_backbone("linear", channels=1, size=(28, 28)), {"boxes": 4}, channels=1, size=(28, 28))


def test_a_backbone_of_timm_says_where() -> None:
    torch.manual_seed(0)
    document = {"task": "localization", "classes": ["a", "b"], "objects": 1, "form": "corners"}
    network = build_network(document, "timm:resnet10t", backbone=None, channels=1, size=(64, 96))
    task = build_task(network, document)
    batch = batch_of(one([16.0, 8, 48, 40], 1), one([4.0, 8, 90, 60], 0), size=(64, 96))
    losses = task.train()(batch)
    total = losses["cross_entropy"] + losses["box"]
    assert bool(total.isfinite())
    total.backward()
    gradient = network.get_parameter("backbone.network.conv1.0.weight").grad
    assert gradient is not None
    found = task.eval().predict(batch)
    assert isinstance(found, InstanceSets)
    assert found.counts.tolist() == [1, 1]
