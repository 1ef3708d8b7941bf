"""CornerNet: targets and embeddings by hand, what it reads from perfect maps, crowds, empty images, that it learns."""

import pytest
import torch
from rectangles import in_quarters

from striate.core.batch import Batch
from striate.core.instances import Instances, InstanceSets
from striate.models.backbones.hourglass import Hourglass, Spec
from striate.models.detectors.catalog import create_backbone
from striate.models.detectors.centernet import build as centernet
from striate.models.detectors.cornernet import CornerNet, build, pull_and_push
from striate.ops.boxes import iou

SMALL = Spec(stacks=2, stem=8, widths=(16, 16, 24, 32), blocks=(1, 1, 1, 1))


def _network(side=64, classes=3) -> CornerNet:
    torch.manual_seed(0)
    backbone = create_backbone("resnet18", channels=3, size=(side, side))
    return build(backbone, classes=classes, channels=3, size=(side, side))


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
    """A box from (10, 6) to (64, 22), the image's border: (2.5, 1.5) to (16, 5.5) in cells of which there are 16."""
    first, last = _network().targets(_batch([_objects(), _objects((10, 6, 64, 22), labels=[2])]), (16, 16))
    assert first.images.tolist() == last.images.tolist() == [1]
    assert first.cells.tolist() == [[1, 2]]
    assert first.offsets.tolist() == [[0.5, 0.5]]
    assert last.cells.tolist() == [[5, 15]]
    assert last.offsets.tolist() == [[1.0, 0.5]]
    assert (last.heat == 1).nonzero().tolist() == [[1, 2, 5, 15]]
    assert last.heat[1, 2, 4, 15] > 0  # within the radius


def test_pull_and_push_are_equations_4_and_5():
    torch.manual_seed(0)
    first, last = torch.randn(2, 6)
    images = torch.tensor([0, 0, 0, 2, 3, 3])
    pull = push = 0.0
    for image in range(4):
        rows = [row for row in range(6) if images[row] == image]
        means = {row: float(first[row] + last[row]) / 2 for row in rows}
        for row in rows:
            pull += ((float(first[row]) - means[row]) ** 2 + (float(last[row]) - means[row]) ** 2) / len(rows)
            for other in rows:
                if other != row:
                    push += max(0.0, 1 - abs(means[row] - means[other])) / (len(rows) * (len(rows) - 1))
    found = pull_and_push(first, last, images, 4)
    assert [float(value) for value in found] == pytest.approx([pull / 4, push / 4], rel=1e-5)


def test_what_is_taught_is_what_is_read():
    """Maps that say what the targets ask for, and embeddings by object, give the objects back and no other pairs."""
    network = _network().eval()
    truth = _objects((10, 6, 32, 22), (30, 30, 64, 64), (3, 40, 17, 60), (5, 42, 40, 62), labels=[2, 0, 0, 0])
    batch = _batch([truth])
    raw = {}
    for corner, targets in zip(("first", "last"), network.targets(batch, (16, 16)), strict=True):
        rows, columns = targets.cells.unbind(1)
        raw[f"{corner}_heat"] = torch.logit(targets.heat.clamp(1e-4, 0.999))
        raw[f"{corner}_offsets"] = torch.zeros(1, 2, 16, 16)
        raw[f"{corner}_embedding"] = torch.full((1, 1, 16, 16), 9.0)
        raw[f"{corner}_offsets"][0, :, rows, columns] = targets.offsets.T
        raw[f"{corner}_embedding"][0, 0, rows, columns] = torch.arange(4.0)
    network.forward = lambda images: raw
    (found,) = network.detect(batch.images, torch.tensor([[64, 64]]))
    sure = found.select(found.scores > 0.8)  # soft-NMS leaves 0.85 to one of the two that overlap
    order = sure.boxes[:, 0].argsort()
    torch.testing.assert_close(sure.boxes[order], truth.boxes[truth.boxes[:, 0].argsort()])
    assert sure.labels[order].tolist() == [0, 0, 2, 0]
    (found,) = network.detect(batch.images, torch.tensor([[64, 20]]))
    sure = found.select(found.scores > 0.45)  # what is left of the two overlaps more
    assert len(sure) == 3  # the corner at x = 30 is padding
    assert float(sure.boxes[:, 2].max()) == 20


def test_each_object_is_answered_for_by_the_cells_of_its_corners():
    crowd = torch.tensor([False, True, False])
    batch = _batch([_objects(), _objects((10, 6, 32, 22), (0, 0, 9, 9), (60, 60, 64, 64), crowd=crowd)])
    first, second = _network().assigned(batch)
    assert len(first.objects) == 0
    assert second.kind == "corner"
    assert second.objects.tolist() == [0, 2, 0, 2]
    assert second.boxes.tolist() == [[8, 4, 12, 8], [60, 60, 64, 64], [32, 20, 36, 24], [60, 60, 64, 64]]


@torch.no_grad()
def test_a_crowd_is_not_taught_to_be_cold():
    network = _network().eval()
    plain = _objects((40, 40, 60, 60))
    with_crowd = _objects((40, 40, 60, 60), (0, 0, 64, 32), crowd=torch.tensor([False, True]))
    some, all_cells = network.losses(_batch([with_crowd])), network.losses(_batch([plain]))
    raw = network(_batch([plain]).images)
    saved = 0.0
    for corner in ("first", "last"):
        logits = raw[f"{corner}_heat"][0, :, :8].double()
        saved += float((logits.sigmoid() ** 2 * -torch.nn.functional.logsigmoid(-logits)).sum())
    assert float(all_cells["heat"] - some["heat"]) == pytest.approx(saved, rel=1e-2)
    torch.testing.assert_close(all_cells["offset"], some["offset"])


@pytest.mark.parametrize("counts", [(0, 0), (0, 1), (2, 0)])
@pytest.mark.parametrize("kind", ["resnet", "hourglass"])
def test_losses_are_finite_and_reach_every_parameter(counts, kind):
    network = _network()
    if kind == "hourglass":
        network = build(Hourglass(SMALL, channels=3), classes=3, channels=3, size=(64, 64))
        assert len(network.heads) == 2
    boxes = [(5, 5, 30, 40), (0, 0, 64, 64)]
    losses = network.train().losses(_batch([_objects(*boxes[:count]) for count in counts]))
    assert list(losses) == ["heat", "pull", "push", "offset"]
    sum(losses.values()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_centernet_reads_an_hourglass_too():
    torch.manual_seed(0)
    network = centernet(Hourglass(SMALL, channels=3), classes=3, channels=3, size=(64, 64)).train()
    batch = _batch([_objects((5, 5, 30, 40)), _objects()])
    sum(network.losses(batch).values()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert network(batch.images)["sizes"].shape == (2, 2, 16, 16)


@torch.no_grad()
def test_the_first_loss_is_near_what_it_says():
    network = _network(128, classes=20).train()  # whose normalisations tame what is untrained
    boxes = [(10, 10, 50, 60), (70, 60, 120, 100), (40, 40, 90, 90), (0, 80, 40, 120), (64, 0, 110, 30)]
    total = float(sum(network.losses(_batch([_objects(*boxes)] * 2, side=128)).values()))
    assert 0.6 < total / network.first_loss() < 1.6


@pytest.mark.slow  # fifty steps of training
def test_it_learns_eight_images():
    network, batch = _network().train(), in_quarters(64)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    for _ in range(50):
        optimizer.zero_grad()
        sum(network.losses(batch).values()).backward()
        optimizer.step()
    found = network.eval().detect(batch.images, batch.content)
    for objects, truth in zip(found, batch.instances, strict=True):
        sure = objects.select(objects.scores > 0.65)
        hits = (iou(truth.boxes, sure.boxes) > 0.5) & (truth.labels[:, None] == sure.labels)
        assert hits.any(1).all()
        assert len(sure) == len(truth)
