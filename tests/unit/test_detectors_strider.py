"""Strider: assignment and losses by hand, what answers for what, and that it learns."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from striate.core.batch import Batch
from striate.core.instances import Instances, InstanceSets
from striate.data.open import open_dataset
from striate.errors import UsageError
from striate.metrics.coco import DetectionMetric
from striate.models.catalog import create
from striate.models.detectors import strider
from striate.ops.losses import distribution_focal, focal, quality_focal
from striate.ops.matching import BELOW, BETWEEN
from striate.ops.task_alignment import align, padded


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _build(name="strider_n", size=(128, 128), classes=3):
    torch.manual_seed(0)
    backbone = create("resnet18", classes=2, channels=3, size=size).backbone
    return strider.build(name, backbone, classes=classes, channels=3, size=size)


def _objects(boxes, labels=None, **marks):
    labels = torch.zeros(len(boxes), dtype=torch.int64) if labels is None else torch.tensor(labels)
    marks = {key: torch.tensor(value) for key, value in marks.items()}
    return Instances(boxes=torch.tensor(boxes).float().view(-1, 4), labels=labels, **marks)


def _batch(truths, size=(128, 128)):
    draw = torch.Generator().manual_seed(1)
    return Batch(
        images=torch.randn(len(truths), 3, *size, generator=draw),
        sizes=torch.tensor([size] * len(truths)),
        truths=InstanceSets.of(truths),
        indices=torch.arange(len(truths)),
    )


# Four points in a row, x 4, 12, 20, 28 and y 4, and what is predicted there for three objects. By TOOD's section 3.2:
#   object 0   u 1/2, 1/3 at points 0, 1             t 0.5 / 2^6, 0.8 / 3^6
#   object 1   u 2/3, 1, 1/12 at points 1, 2, 3      t 0.5 (2/3)^6, 0.4, 0.9 / 12^6
#   object 2   u 1/4 at point 3, its cell's          t 0.2 / 4^6
CELLS = torch.tensor([[0.0, 0, 8, 8], [8, 0, 16, 8], [16, 0, 24, 8], [24, 0, 32, 8]])
OBJECTS = torch.tensor([[0.0, 0, 16, 8], [8, 0, 32, 8], [27, 3, 29, 5]])
LABELS = torch.tensor([0, 1, 0])
PREDICTED = torch.tensor([[0.0, 0, 8, 8], [8, 0, 24, 8], [8, 0, 32, 8], [26, 2, 30, 6]])
SCORES = torch.tensor([[0.5, 0.1], [0.8, 0.5], [0.3, 0.4], [0.2, 0.9]])


@pytest.mark.parametrize(
    ("count", "matched", "quality"),
    [
        (1, [0, BELOW, 1, 2], [1 / 2, 0, 1, 1 / 4]),
        # Point 1 is wanted by objects 0 and 1, and better for object 1, where t is (2/3)^6 0.5 / 0.4 of the best.
        (2, [0, 1, 1, 2], [1 / 2, 0.5 * (2 / 3) ** 6 / 0.4, 1, 1 / 4]),
        # Point 3 is wanted by objects 1 and 2.
        (13, [0, 1, 1, 2], [1 / 2, 0.5 * (2 / 3) ** 6 / 0.4, 1, 1 / 4]),
    ],
)
def test_positives_are_those_of_a_hand_calculation(count, matched, quality):
    # The second image has objects 1 and 2 in another order, and a row that is none.
    truths = torch.stack((OBJECTS, OBJECTS[[2, 1, 0]]))
    labels = torch.stack((LABELS, LABELS[[2, 1, 0]]))
    there = torch.tensor([[True, True, True], [True, True, False]])
    found, good = align(
        SCORES.logit().expand(2, -1, -1),
        PREDICTED.expand(2, -1, -1),
        *(CELLS, truths, labels, there),
        count=count,
        alpha=1.0,
        beta=6.0,
    )
    assert found[0].tolist() == matched
    torch.testing.assert_close(good[0], torch.tensor(quality), atol=1e-5, rtol=1e-4)
    others = {0: BELOW, 1: 1, 2: 0, BELOW: BELOW}
    assert found[1].tolist() == [others[each] for each in matched]
    torch.testing.assert_close(good[1], torch.tensor([0.0, *quality[1:]]), atol=1e-5, rtol=1e-4)


def test_where_nothing_overlaps_yet_the_points_near_the_middle_are_taken():
    nowhere = torch.tensor([100.0, 100, 101, 101]).expand(1, 4, 4)
    arguments = {"count": 2, "alpha": 1.0, "beta": 6.0}
    whole, there = torch.tensor([[[0.0, 0, 26, 8]]]), torch.ones(1, 1, dtype=torch.bool)
    found, quality = align(torch.zeros(1, 4, 2), nowhere, CELLS, whole, torch.zeros(1, 1).long(), there, **arguments)
    assert found.tolist() == [[BELOW, 0, 0, BELOW]]  # the middle is 13: points 12 and 20 are the nearest
    # The nearer of the two is the best there is: 1 and 7 pixels of half the width, 13, and a step, 8.
    torch.testing.assert_close(
        quality, torch.tensor([[0.0, 0.1, 0.1 * (1 + (1 / 21) ** 2) / (1 + (7 / 21) ** 2), 0.0]])
    )


def test_without_objects_all_points_are_background():
    for there in (torch.zeros(2, 0, dtype=torch.bool), torch.zeros(2, 3, dtype=torch.bool)):
        count = there.shape[1]
        found, quality = align(
            torch.zeros(2, 4, 2),
            *(PREDICTED.expand(2, -1, -1), CELLS, torch.zeros(2, count, 4), torch.zeros(2, count).long(), there),
            **{"count": 13, "alpha": 1.0, "beta": 6.0},
        )
        assert (found == BELOW).all()
        assert (quality == 0).all()


def test_objects_are_laid_out_in_a_table_without_those_that_are_left_out():
    truths = InstanceSets.of(
        [_objects([[0, 0, 1, 1], [0, 0, 2, 2]], [1, 2]), _objects([]), _objects([[0, 0, 3, 3]], [0])]
    )
    boxes, labels, rows, there = padded(truths, torch.tensor([False, True, True]))
    assert there.tolist() == [[True], [False], [True]]
    assert boxes[:, 0, 2].tolist() == [2, 0, 3]
    assert (labels[there].tolist(), rows[there].tolist()) == ([2, 0], [1, 2])
    boxes, labels, rows, there = padded(truths, torch.zeros(3, dtype=torch.bool))
    assert boxes.shape == (3, 0, 4)
    assert there.shape == labels.shape == rows.shape == (3, 0)


def test_quality_focal_loss_is_the_focal_loss_of_whole_targets_and_least_at_its_target():
    logits = torch.linspace(-6, 6, 49, dtype=torch.float64)
    for target in (0.0, 1.0):
        whole = torch.full_like(logits, target)
        torch.testing.assert_close(quality_focal(logits, whole), focal(logits, whole, alpha=-1))
    half = quality_focal(logits, torch.full_like(logits, 0.5))
    assert half.argmin() == 24
    assert half[24] == 0
    # |0.8 - 0.5|^2 times -(0.2 log 0.5 + 0.8 log 0.5).
    torch.testing.assert_close(quality_focal(torch.zeros(1), torch.tensor([0.8])), torch.tensor([0.09 * math.log(2)]))


def test_distribution_focal_loss_weighs_the_two_bins_around_its_target():
    shares = torch.tensor([0.1, 0.2, 0.3, 0.4])
    targets = torch.tensor([0.0, 1.0, 1.25, 2.9, 3.0, 7.0, -1.0])
    expected = [
        -math.log(0.1),
        -math.log(0.2),
        -0.75 * math.log(0.2) - 0.25 * math.log(0.3),
        -0.1 * math.log(0.3) - 0.9 * math.log(0.4),
        -math.log(0.4),
        -math.log(0.4),  # cut off
        -math.log(0.1),
    ]
    loss = distribution_focal(shares.log().expand(7, 4), targets)
    torch.testing.assert_close(loss, torch.tensor(expected))


def test_a_box_is_the_mean_of_its_distributions_in_steps_of_its_level():
    network = _build(size=(256, 256)).eval()
    cells = network.cells.on((64, 64), [(8, 8), (4, 4), (2, 2)], "cpu")
    counts = network.cells.counts([(8, 8), (4, 4), (2, 2)])
    sides = torch.full((4, 16), -1e4)
    sides[0, 1] = sides[1, 2] = sides[2, 3] = 0
    sides[3, 0] = sides[3, 1] = 0  # half a step
    network.forward = None
    network._pyramid = lambda images: [torch.empty(1, 1, side, side) for side in (8, 4, 2)]
    logits = torch.full((1, len(cells), 3), -20.0)
    logits[0, counts[0] + 5, 2] = 3.0  # row 1, column 1 of the stride 16: the point (24, 24)
    network._outputs = lambda pyramid: {
        "logits": logits,
        "distributions": sides.flatten().expand(1, len(cells), -1),
    }
    (found,) = network.detect(torch.zeros(1, 3, 64, 64), torch.tensor([[64, 64]]))
    assert found.boxes.tolist() == [[8, 0, 64, 32]]  # 24 - 16, 24 - 32 cut off, 24 + 48 cut off, 24 + 8
    assert found.labels.tolist() == [2]
    torch.testing.assert_close(found.scores, torch.tensor([3.0]).sigmoid())


def test_small_images_are_read_at_stride_four_too():
    assert _build(size=(128, 160)).cells.sizes == ((4,), (8,), (16,), (32,))
    assert _build(size=(128, 640)).cells.sizes == ((8,), (16,), (32,))
    lenet = create("lenet5", classes=2, channels=1, size=(32, 32)).backbone
    with pytest.raises(UsageError, match="strides 8, 16, 32"):
        strider.build("strider_n", lenet, classes=2, channels=1, size=(32, 32))


@pytest.mark.parametrize("name", list(strider.VARIANTS))
def test_it_starts_where_it_is_expected_to(name):
    network = _build(name).train()
    batch = _batch([_objects([[8, 16, 60, 70], [90, 80, 110, 120]]), _objects([[40, 20, 100, 120]])])
    outputs = network(batch.images)
    cells = network._cells([(32, 32), (16, 16), (8, 8), (4, 4)], batch.images)
    assert outputs["logits"].shape == (2, len(cells), 3)
    assert outputs["distributions"].shape == (2, len(cells), 64)
    mean = strider._mean(outputs["distributions"])
    assert (mean - 2).abs().max() < 0.5  # steps to each side
    losses = network.losses(batch)
    assert 0.5 < float(sum(losses.values()).detach()) / network.first_loss() < 2
    sum(losses.values()).backward()
    assert all(each.grad is not None and torch.isfinite(each.grad).all() for each in network.parameters())


def test_each_object_begins_on_the_level_of_its_size_around_its_middle():
    network = _build().eval()
    network.suppression = replace(network.suppression, score=0.0)
    truth = _objects([[10, 10, 26, 26], [30, 30, 94, 94], [100, 4, 106, 9]])
    (answer,) = network.assigned(_batch([truth]))
    middles = (truth.boxes[:, :2] + truth.boxes[:, 2:]) / 2
    points = (answer.boxes[:, :2] + answer.boxes[:, 2:]) / 2
    assert answer.kind == "point"
    for number, level in ((0, 0), (1, 2), (2, 0)):  # 16 pixels are four steps of stride 4, 64 of stride 16
        own = answer.objects == number
        assert 1 <= own.sum() <= strider.COUNT
        assert int(answer.levels[own].mode().values) == level
        assert (points[own].mean(0) - middles[number]).abs().max() <= 4 * 2**level


def test_empty_truths_cost_something_finite_and_crowds_teach_nothing():
    network = _build().train()
    truth = _objects([[8, 8, 50, 60], [30, 30, 60, 60]], [0, 2])
    for truths in ([truth, _objects([])], [_objects([]), _objects([])]):
        losses = network.losses(_batch(truths))
        assert all(torch.isfinite(value) for value in losses.values())
        sum(losses.values()).backward()
    assert losses["box_regression"] == losses["distribution"] == 0

    network.eval()
    plain = _objects([[8, 8, 50, 60], [70, 40, 126, 120]], [0, 2], crowd=[False, False])
    marked = _objects([[8, 8, 50, 60], [60, 0, 128, 36], [70, 40, 126, 120]], [0, 1, 2], crowd=[False, True, False])
    batch = _batch([plain, marked, _objects([])])
    first, second, third = network.assigned(replace(batch, images=batch.images[:1].expand(3, -1, -1, -1)))
    assert set(first.objects.tolist()) == {0, 1}
    assert set(second.objects.tolist()) == {0, 2}
    assert len(third.objects) == 0
    assert torch.equal(first.boxes, second.boxes)
    row, quality = network._assign(
        network(batch.images), network._cells([(32, 32), (16, 16), (8, 8), (4, 4)], batch.images), batch.instances
    )
    assert (row[0] == BETWEEN).sum() == (row[2] == BETWEEN).sum() == 0
    fine = row[1, :1024].view(32, 32)
    assert (fine[:9, 15:] == BETWEEN).all()  # cells from x 60 and up to y 36
    assert (quality[row < 0] == 0).all()


def test_the_losses_of_a_batch_do_not_depend_on_how_its_images_are_ordered():
    network = _build().eval()
    truths = [_objects([[8, 8, 50, 60], [70, 40, 126, 120]], [0, 2]), _objects([]), _objects([[30, 50, 60, 80]], [1])]
    batch = _batch(truths)
    turned = replace(batch, images=batch.images.flip(0), truths=InstanceSets.of(truths[::-1]))
    torch.testing.assert_close(network.losses(batch), network.losses(turned))


def test_losses_in_bfloat16_are_those_in_float32():
    network = _build().train()
    batch = _batch([_objects([[8, 8, 50, 60], [70, 40, 126, 120]], [0, 2]), _objects([])])
    plain = network.losses(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        short = network.losses(batch)
    for name, value in plain.items():
        assert short[name].dtype == torch.float32
        torch.testing.assert_close(short[name], value, rtol=0.05, atol=0.01)


def test_what_is_found_lies_within_the_image():
    network = _build(size=(64, 96)).eval()
    network.suppression = replace(network.suppression, score=0.0)
    sizes = torch.tensor([[64, 96], [50, 33]])
    for found, (height, width) in zip(network.detect(torch.randn(2, 3, 64, 96), sizes), sizes.tolist(), strict=True):
        assert 0 < len(found) <= network.suppression.limit
        assert (found.boxes >= 0).all()
        assert (found.boxes <= torch.tensor([width, height, width, height])).all()
        assert found.scores.diff().max() <= 0


@pytest.mark.slow
def test_eight_scenes_are_learnt_by_heart():  # some tens of training steps take about a minute
    scenes = open_dataset("scenes")
    images = torch.stack([torch.from_numpy(np.array(scenes.images.read(row))) for row in range(8)])
    images = (images.permute(0, 3, 1, 2).float() - 118) / 60
    sizes = torch.tensor([[128, 128]] * 8)
    batch = Batch(images=images, sizes=sizes, truths=scenes.instances.select(slice(8)), indices=torch.arange(8))
    network = _build(classes=10).train()
    for layer in network.modules():  # few steps: statistics must follow the weights
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 0.3
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    steps = 80
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1, (step + 1) / 10) * (1 if step < steps * 0.75 else 0.1)
        optimizer.zero_grad()
        sum(network.losses(batch).values()).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
    metric = DetectionMetric(10)
    metric.update(InstanceSets.of(network.eval().detect(batch.images, sizes)), batch.instances)
    assert metric.compute()["AP50"] >= 0.95
