"""DETR: its positions, its pairing, what it does with crowds and empty images, and that it learns."""

import math
from dataclasses import replace

import pytest
import torch
from rectangles import in_quarters

from striate.core.batch import Batch
from striate.core.instances import Instances, InstanceSets
from striate.errors import UsageError
from striate.models.backbones.lenet import build as lenet
from striate.models.detectors.catalog import create_backbone
from striate.models.detectors.detr import Detr, Spec, build, sine_positions
from striate.ops.boxes import iou

SPEC = Spec(width=32, heads=4, hidden=64, encoder=1, decoder=2, queries=6, dropout=0.0)


def _network(spec=SPEC, classes=3, side=64):
    torch.manual_seed(0)
    backbone = create_backbone("resnet18", channels=3, size=(side, side))
    return Detr(spec, backbone, classes=classes, channels=3, size=(side, side))


def _batch(truths, side=64):
    count = len(truths)
    images = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))
    sizes = torch.tensor([[side, side]]).expand(count, 2)
    return Batch(images=images, sizes=sizes, truths=InstanceSets.of(truths), indices=torch.arange(count))


def _objects(*boxes, labels=None, **more):
    number = len(boxes)
    return Instances(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(number, 4),
        labels=torch.tensor(labels or [0] * number, dtype=torch.int64),
        **more,
    )


def test_positions_by_hand():
    """One row, two columns of which one is padding in the second image; a token of 4: one frequency, 1."""
    columns = torch.tensor([[True, True], [True, False]])
    found = sine_positions(torch.ones(2, 1, dtype=torch.bool), columns, 4)
    whole, half = [0.0, 1.0], [0.0, -1.0]  # sine and cosine of 2 pi and of pi
    expected = torch.tensor([[whole + half, whole + whole], [whole + whole, whole + whole]])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_frequencies_fall_from_one_to_one_over_the_temperature():
    found = sine_positions(torch.ones(1, 4, dtype=torch.bool), torch.ones(1, 1, dtype=torch.bool), 8)[0]
    for row in range(4):
        angle = 2 * math.pi * (row + 1) / 4
        for place, period in enumerate((1, 100)):  # 10000^(0 / 4), 10000^(2 / 4)
            waves = torch.tensor([math.sin(angle / period), math.cos(angle / period)])
            torch.testing.assert_close(found[row, 2 * place : 2 * place + 2], waves, rtol=0, atol=1e-4)


def test_each_object_has_its_own_query_and_every_crowd_has_none():
    network = _network().eval()
    crowd = torch.tensor([False, True, False])
    batch = _batch(
        [
            _objects((5, 5, 30, 30), (0, 0, 64, 64), (20, 30, 60, 62), crowd=crowd, labels=[0, 1, 2]),
            _objects(crowd=torch.zeros(0, dtype=torch.bool)),
        ]
    )
    first, second = network.assigned(batch)
    assert first.kind == "query"
    assert sorted(first.objects.tolist()) == [0, 2]
    assert len(second.objects) == 0
    raw = network(batch.images)["boxes"][0]
    centres = (first.boxes[:, :2] + first.boxes[:, 2:]) / 2 / 64
    assert all((raw[:, :2] - centre).abs().sum(1).min() < 1e-4 for centre in centres)


@torch.no_grad()
def test_what_finds_only_a_crowd_is_not_taught_that_there_is_nothing():
    network = _network().eval()
    objects = [(5, 5, 30, 30), (-100, -100, 200, 200)]  # every query lies in the second
    crowd = torch.tensor([False, True])
    with_crowd = network.losses(_batch([_objects(*objects, crowd=crowd)]))
    alone = network.losses(_batch([_objects(objects[0])]))
    torch.testing.assert_close(with_crowd["l1"], alone["l1"])
    logits = network(_batch([_objects()]).images)["logits"][0]
    query = int(network.assigned(_batch([_objects(objects[0])]))[0].objects.numel())
    assert query == 1
    only = -logits.log_softmax(-1)[:, 0]
    assert any(torch.isclose(with_crowd["class"], loss, rtol=1e-4) for loss in only)  # one query's, weight 1
    assert not torch.isclose(with_crowd["class"], alone["class"])


@pytest.mark.parametrize("counts", [(0, 0), (0, 2), (9, 1)])  # nine objects for six queries
def test_losses_are_finite_and_reach_every_parameter(counts):
    network = _network().train()
    boxes = [(i, i, i + 20, i + 30) for i in range(9)]
    losses = network.losses(_batch([_objects(*boxes[:count]) for count in counts]))
    assert list(losses) == ["class", "l1", "giou", "auxiliary"]
    sum(losses.values()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@torch.no_grad()
def test_the_first_loss_is_near_what_it_says():
    torch.manual_seed(0)
    backbone = create_backbone("resnet18", channels=3, size=(128, 128))
    network = build("detr", backbone, classes=20, channels=3, size=(128, 128)).eval()
    batch = _batch([_objects((10, 10, 50, 60), (70, 60, 120, 100)), _objects((40, 40, 90, 90))], side=128)
    total = float(sum(network.losses(batch).values()))
    assert 0.6 < total / network.first_loss() < 1.6


def test_boxes_lie_within_the_image_and_scores_fall():
    network = _network().eval()
    with torch.no_grad():
        found = network.detect(torch.randn(2, 3, 64, 64), torch.tensor([[64, 40], [30, 64]]))
    for objects, (height, width) in zip(found, ((64, 40), (30, 64)), strict=True):
        assert len(objects) == SPEC.queries
        assert (objects.boxes >= 0).all()
        assert (objects.boxes <= torch.tensor([width, height, width, height])).all()
        assert (objects.scores.diff() <= 0).all()
        assert objects.labels.max() < 3


def test_a_backbone_without_a_map_of_stride_32_is_named():
    backbone = lenet("lenet5", classes=2, channels=1, size=(32, 32)).backbone
    with pytest.raises(UsageError, match="DETR reads maps of the strides 32"):
        build("detr", backbone, classes=2, channels=1, size=(32, 32))


def test_only_a_resnet_is_dilated():
    backbone = create_backbone("mobilenet_v2", channels=3, size=(64, 64))
    with pytest.raises(UsageError, match="detr_dc5 dilates the last stage of a ResNet"):
        build("detr_dc5", backbone, classes=2, channels=3, size=(64, 64))


@pytest.mark.slow  # 150 steps of training
def test_it_learns_eight_images():
    network = _network(Spec(width=64, heads=4, hidden=128, encoder=1, decoder=2, queries=10, dropout=0.0)).train()
    batch = in_quarters(64)
    optimizer = torch.optim.AdamW(network.parameters(), 5e-4)
    for _ in range(150):
        optimizer.zero_grad()
        sum(network.losses(batch).values()).backward()
        optimizer.step()
    found = network.eval().detect(batch.images, batch.content)
    for objects, truth in zip(found, batch.instances, strict=True):
        sure = objects.select(objects.scores > 0.5)
        hits = (iou(truth.boxes, sure.boxes) > 0.5) & (truth.labels[:, None] == sure.labels)
        assert hits.any(1).all()
        assert len(sure) == len(truth)


@torch.no_grad()
def test_losses_know_what_is_padding_after_augmentation_as_before():
    network = _network().eval()
    batch = _batch([_objects((5, 5, 30, 20)), _objects((2, 10, 40, 60))])
    content = torch.tensor([[32, 64], [64, 48]])
    placed = replace(batch, sizes=content, placement=torch.tensor([[1.0, 1, 0, 0]] * 2))
    augmented = replace(batch, inner=content)
    known, seen, blind = (network.losses(each) for each in (augmented, placed, batch))
    for name, loss in seen.items():
        torch.testing.assert_close(known[name], loss)
        assert abs(float(known[name] - blind[name])) > 1e-4
