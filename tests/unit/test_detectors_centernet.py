"""CenterNet: its targets by hand, what it reads from perfect maps, crowds, empty images, and that it learns."""

import pytest
import torch
from rectangles import in_quarters

from striate.core.batch import Batch
from striate.core.instances import Instances, InstanceSets
from striate.models.detectors.catalog import create_backbone
from striate.models.detectors.centernet import CenterNet, build
from striate.ops.boxes import iou


def _network(side=64, classes=3) -> CenterNet:
    torch.manual_seed(0)
    return build(
        create_backbone("resnet18", channels=3, size=(side, side)), classes=classes, channels=3, size=(side, side)
    )


def _batch(truths, side=64):
    images = torch.randn(len(truths), 3, side, side, generator=torch.Generator().manual_seed(1))
    sizes = torch.tensor([[side, side]]).expand(len(truths), 2)
    return Batch(images=images, sizes=sizes, truths=InstanceSets.of(truths), indices=torch.arange(len(truths)))


def _objects(*boxes, labels=None, **more):
    return Instances(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(len(boxes), 4),
        labels=torch.tensor(labels or [0] * len(boxes), dtype=torch.int64),
        **more,
    )


def test_targets_by_hand():
    """A box from (10, 6) to (32, 22): centre (21, 14), which is (5.25, 3.5) in cells; 5.5 cells wide and 4 high."""
    targets = _network().targets(_batch([_objects(), _objects((10, 6, 32, 22), labels=[2])]), (16, 16))
    assert targets.images.tolist() == [1]
    assert targets.cells.tolist() == [[3, 5]]
    assert targets.offsets.tolist() == [[0.25, 0.5]]
    assert targets.sizes.tolist() == [[5.5, 4.0]]
    assert (targets.heat == 1).nonzero().tolist() == [[1, 2, 3, 5]]


def test_what_is_taught_is_what_is_read():
    """Maps that say exactly what the targets ask for give the objects back, the padding's left out."""
    network = _network().eval()
    truth = _objects((10, 6, 32, 22), (30, 30, 64, 64), (3, 40, 17, 60), labels=[2, 0, 0])
    batch = _batch([truth])
    targets = network.targets(batch, (16, 16))
    rows, columns = targets.cells.unbind(1)
    raw = {"heat": torch.logit(targets.heat.clamp(1e-4, 0.999)), "offsets": torch.zeros(1, 2, 16, 16)}
    raw["sizes"] = torch.zeros(1, 2, 16, 16)
    raw["offsets"][0, :, rows, columns] = targets.offsets.T
    raw["sizes"][0, :, rows, columns] = targets.sizes.T
    network.forward = lambda images: raw
    (found,) = network.detect(batch.images, torch.tensor([[64, 64]]))
    sure = found.select(found.scores > 0.9)
    order = sure.boxes[:, 0].argsort()
    torch.testing.assert_close(sure.boxes[order], truth.boxes[torch.tensor([2, 0, 1])])
    assert sure.labels[order].tolist() == [0, 2, 0]
    (found,) = network.detect(batch.images, torch.tensor([[64, 40]]))
    sure = found.select(found.scores > 0.9)
    assert len(sure) == 2  # the centre at x = 47 is padding
    assert float(found.boxes[:, 2].max()) <= 40


def test_each_object_is_answered_for_by_the_cell_of_its_centre():
    crowd = torch.tensor([False, True, False])
    batch = _batch([_objects(), _objects((10, 6, 32, 22), (0, 0, 9, 9), (60, 60, 64, 64), crowd=crowd)])
    first, second = _network().assigned(batch)
    assert len(first.objects) == 0
    assert second.kind == "cell"
    assert second.objects.tolist() == [0, 2]
    assert second.boxes.tolist() == [[20, 12, 24, 16], [60, 60, 64, 64]]


@torch.no_grad()
def test_a_crowd_is_not_taught_to_be_cold():
    network = _network().eval()
    plain = _objects((40, 40, 60, 60))
    with_crowd = _objects((40, 40, 60, 60), (0, 0, 64, 32), crowd=torch.tensor([False, True]))
    some, all_cells = network.losses(_batch([with_crowd])), network.losses(_batch([plain]))
    raw = network(_batch([plain]).images)["heat"].sigmoid()[0, :, :8]
    saved = (-(raw**2) * torch.log1p(-raw)).sum()  # far from the object, whose radius is 0
    torch.testing.assert_close(all_cells["heat"] - some["heat"], saved, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(all_cells["size"], some["size"])


@pytest.mark.parametrize("counts", [(0, 0), (0, 2)])
def test_losses_are_finite_and_reach_every_parameter(counts):
    network = _network().train()
    boxes = [(5, 5, 30, 40), (0, 0, 64, 64)]
    losses = network.losses(_batch([_objects(*boxes[:count]) for count in counts]))
    assert list(losses) == ["heat", "offset", "size"]
    sum(losses.values()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@torch.no_grad()
def test_the_first_loss_is_near_what_it_says():
    network = _network(128, classes=20).train()  # whose normalisations tame what is untrained
    boxes = [(10, 10, 50, 60), (70, 60, 120, 100), (40, 40, 90, 90), (0, 80, 40, 120), (64, 0, 110, 30)]
    total = float(sum(network.losses(_batch([_objects(*boxes)] * 2, side=128)).values()))
    assert 0.6 < total / network.first_loss() < 1.6


@pytest.mark.slow  # sixty steps of training
def test_it_learns_eight_images():
    network, batch = _network().train(), in_quarters(64)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    for _ in range(60):
        optimizer.zero_grad()
        sum(network.losses(batch).values()).backward()
        optimizer.step()
    found = network.eval().detect(batch.images, batch.content)
    for objects, truth in zip(found, batch.instances, strict=True):
        sure = objects.select(objects.scores > 0.4)
        hits = (iou(truth.boxes, sure.boxes) > 0.5) & (truth.labels[:, None] == sure.labels)
        assert hits.any(1).all()
        assert len(sure) == len(truth)
