"""SSD's figures, default boxes, matching and mining, by hand and by the paper."""

import math

import pytest
import torch

from striate.core.batch import Batch
from striate.core.instances import Instances, InstanceSets
from striate.errors import UsageError
from striate.models.detectors.catalog import create_detector
from striate.models.detectors.ssd import SSD, VARIANTS, default_boxes, match, spec_for
from striate.ops.boxes import iou


def _meta(name, size, classes=80, backbone=None):
    with torch.device("meta"):
        return create_detector(name, backbone=backbone, classes=classes, channels=3, size=size)


@pytest.mark.parametrize(
    ("name", "side", "maps", "total"),
    [
        ("ssd300", 300, [38, 19, 10, 5, 3, 1], 8732),  # table 7; figure 2
        ("ssd512", 512, [64, 32, 16, 8, 4, 2, 1], 24564),  # table 7
    ],
)
def test_the_maps_and_default_boxes_are_the_papers(name, side, maps, total):
    detector = _meta(name, (side, side))
    images = torch.empty(2, 3, side, side, device="meta")
    found = detector.neck(detector.backbone(images))
    assert [x.shape[2:] for x in found] == [(rows, rows) for rows in maps]
    outputs = detector(images)
    assert outputs["logits"].shape == (2, total, 81)
    assert outputs["deltas"].shape == (2, total, 4)


def test_ssd300_has_the_parameters_of_torchvisions():
    detector = _meta("ssd300", (300, 300), classes=90)
    assert sum(parameter.numel() for parameter in detector.parameters()) == 35_641_826


@pytest.mark.parametrize("name", ["ssd300", "ssd512"])
def test_the_published_maps_come_from_resnet_too(name):
    side = int(name[3:])
    detector = _meta(name, (side, side), backbone="resnet18")
    found = detector.neck(detector.backbone(torch.empty(1, 3, side, side, device="meta")))
    assert len(found) == len(VARIANTS[name].ratios)
    assert found[-1].shape[2:] == (1, 1)


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (128, 128), (192, 192), (300, 300)])
def test_ssd_ends_on_one_place_whatever_the_size(size):
    detector = _meta("ssd", size).eval()
    maps = detector.neck(detector.backbone(torch.empty(1, 3, *size, device="meta")))
    assert len(maps) == len(detector.spec.ratios) == len(detector.spec.scales) - 1
    assert maps[-1].shape[2:] == (1, 1)
    assert math.isclose(detector.spec.scales[-2], 0.9)


def test_a_backbone_without_the_strides_is_named():
    with pytest.raises(UsageError, match="ssd reads maps of the strides 8, 16, 32"):
        _meta("ssd", (32, 32), backbone="resnet20")


def test_default_boxes_by_hand():
    spec = VARIANTS["ssd300"]
    boxes = default_boxes(spec, [(38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)], (300, 300))
    # The first place of the first map: its centre is half a step from the corner; 0.07 of 300 is 21, and the larger
    # square has sqrt(0.07 * 0.15) of it; of ratio 2, 21 sqrt(2) by 21 / sqrt(2) and the transpose.
    large, wide, high = 300 * math.sqrt(0.07 * 0.15), 21 * math.sqrt(2), 21 / math.sqrt(2)
    sides = torch.tensor([[21, 21], [large, large], [wide, high], [high, wide]])
    torch.testing.assert_close(boxes[0][:4], torch.cat((4 - sides / 2, 4 + sides / 2), dim=1))
    # The second place of the second row of the same map: 4 boxes times 39 further, 12 pixels from either border.
    centre = (boxes[0][4 * 39 : 4 * 39 + 4, :2] + boxes[0][4 * 39 : 4 * 39 + 4, 2:]) / 2
    torch.testing.assert_close(centre, torch.full((4, 2), 12.0))
    # No box is larger than the image: sqrt(0.87 * 1.05) is below 1, and 0.87 sqrt(2) above it.
    torch.testing.assert_close(boxes[5][2, 2] - boxes[5][2, 0], torch.tensor(300.0))


def test_matching_is_the_papers():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 12, 10], [20, 20, 30, 30], [50, 50, 60, 60], [0, 5, 10, 15]])
    # The first object has the first box, and the second with an overlap of 100 / 120. The second overlaps the third
    # box least of all, and has it for lack of a better one.
    objects = Instances(boxes=torch.tensor([[0.0, 0, 10, 10], [28, 28, 48, 48]]), labels=torch.tensor([1, 0]))
    assert match(boxes, objects).tolist() == [0, 0, 1, -1, -1]


def test_an_object_that_shares_its_best_box_loses_it_to_the_later_one():
    boxes = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60]])
    objects = Instances(boxes=torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9]]), labels=torch.tensor([0, 1]))
    assert match(boxes, objects).tolist() == [1, -1]


def test_negatives_are_the_worst_three_of_each_positive_of_the_image():
    logits = torch.zeros(2, 8, 3)
    logits[0, :, 0] = torch.tensor([0.0, -1, -2, -3, -4, -5, 1, 2])  # the lower, the worse as background
    positive = torch.zeros(2, 8, dtype=torch.bool)
    positive[0, 5] = True
    aside = torch.zeros_like(positive)
    aside[0, 4] = True
    chosen = SSD._negatives(logits, positive, aside)
    assert chosen[0].nonzero()[:, 0].tolist() == [1, 2, 3]
    assert not chosen[1].any()  # no positive, no negative


def test_fewer_negatives_than_three_to_one_are_all_taken_once():
    positive = torch.tensor([[True, True, False, False]])
    chosen = SSD._negatives(torch.zeros(1, 4, 3), positive, torch.zeros_like(positive))
    assert chosen.tolist() == [[False, False, True, True]]


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return create_detector("ssd", classes=3, channels=3, size=(64, 64))


def _batch(*images):
    torch.manual_seed(1)
    return Batch(
        images=torch.randn(len(images), 3, 64, 64),
        sizes=torch.tensor([(64, 64)] * len(images)),
        truths=InstanceSets.of(images),
        indices=torch.arange(len(images)),
    )


NOTHING = Instances(boxes=torch.empty(0, 4), labels=torch.empty(0, dtype=torch.int64))
ONE = Instances(boxes=torch.tensor([[1.0, 1, 32, 32]]), labels=torch.tensor([2]))


def test_images_without_objects_have_a_loss_of_nothing(detector):
    losses = detector.losses(_batch(NOTHING, NOTHING))
    assert {name: loss.item() for name, loss in losses.items()} == {"confidence": 0.0, "localization": 0.0}
    sum(losses.values()).backward()


def test_a_crowd_teaches_nothing(detector):
    detector.eval()
    alone = detector.losses(_batch(ONE))
    crowd = Instances(
        boxes=torch.cat((ONE.boxes, torch.tensor([[30.0, 0, 64, 64]]))),
        labels=torch.tensor([2, 0]),
        crowd=torch.tensor([False, True]),
    )
    beside = detector.losses(_batch(crowd))
    assert torch.equal(alone["localization"], beside["localization"])
    assert beside["confidence"] <= alone["confidence"]  # harder negatives only where the crowd is not
    only = Instances(boxes=ONE.boxes, labels=ONE.labels, ignore=torch.tensor([True]))
    assert sum(detector.losses(_batch(only)).values()).item() == 0
    assert not len(detector.assigned(_batch(only))[0].boxes)


def test_the_first_loss_is_near_the_expected(detector):
    total = sum(detector.train().losses(_batch(ONE, ONE, NOTHING, ONE)).values()).item()
    assert 0.5 < total / detector.first_loss() < 2


def test_assigned_boxes_are_those_that_overlap_the_object(detector):
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    crowd = Instances(
        boxes=torch.tensor([[0.0, 0, 64, 64], [1, 1, 32, 32]]),
        labels=torch.tensor([0, 1]),
        ignore=torch.tensor([True, False]),
    )
    found = detector.assigned(_batch(crowd, NOTHING))
    assert [len(some.objects) > 0 for some in found] == [True, False]
    assert (iou(found[0].boxes, ONE.boxes) >= 0.5).all()
    assert (found[0].objects == 1).all()
    assert found[0].kind == "default box"
    assert set(found[0].levels.tolist()) <= set(range(len(detector.spec.ratios)))
    assert all(torch.equal(before[name], tensor) for name, tensor in detector.state_dict().items())


def test_detections_stay_within_what_is_image(detector):
    sizes = torch.tensor([[40, 64], [64, 30]])
    for found, (height, width) in zip(detector.eval().detect(torch.randn(2, 3, 64, 64), sizes), sizes, strict=True):
        assert len(found)
        assert found.boxes.min() >= 0
        assert found.boxes[:, 2].max() <= width
        assert found.boxes[:, 3].max() <= height
        assert (found.scores.diff() <= 0).all()


def test_spec_for_the_published_size_follows_equation_4():
    spec = spec_for((192, 192))  # maps of 24, 12, 6, 3, 2 and 1
    torch.testing.assert_close(
        torch.tensor(spec.scales), torch.tensor([0.07, 0.15, 0.3375, 0.525, 0.7125, 0.9, 1.0875])
    )
