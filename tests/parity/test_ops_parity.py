"""Operations on boxes against torchvision's, on many random ones."""

import pytest
import torch

from striate.ops import boxes as ours
from striate.ops import losses, matching
from striate.ops.coders import DeltaCoder, from_distances, to_distances
from striate.ops.suppression import nms


def _boxes(count, seed, low=0.5):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 80 - 10
    return torch.cat((corner, corner + low + torch.rand(count, 2, generator=generator) * 50), dim=1)


ONE, OTHER = _boxes(60, 0), _boxes(70, 1)


@pytest.mark.parametrize(
    ("mine", "name"),
    [
        (ours.iou, "box_iou"),
        (lambda a, b: ours.generalised_iou(a[:, None], b[None]), "generalized_box_iou"),
        (lambda a, b: ours.distance_iou(a[:, None], b[None]), "distance_box_iou"),
        (lambda a, b: ours.complete_iou(a[:, None], b[None]), "complete_box_iou"),
    ],
)
def test_overlaps_are_torchvisions(mine, name):
    import torchvision.ops

    expected = getattr(torchvision.ops, name)(ONE, OTHER)
    torch.testing.assert_close(mine(ONE, OTHER), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("giou", "generalized_box_iou_loss"),
        ("diou", "distance_box_iou_loss"),
        ("ciou", "complete_box_iou_loss"),
    ],
)
def test_box_losses_and_their_gradients_are_torchvisions(kind, name):
    import torchvision.ops

    mine, theirs = (ONE.clone().requires_grad_() for _ in range(2))
    found = losses.box_loss(kind, mine, OTHER[:60])
    expected = getattr(torchvision.ops, name)(theirs, OTHER[:60])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    found.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (-1.0, 2.0), (0.5, 1.5), (0.25, 0.0)])
def test_focal_loss_and_its_gradient_are_torchvisions(alpha, gamma):
    from torchvision.ops import sigmoid_focal_loss

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 9, generator=generator) * 4
    targets = (torch.rand(40, 9, generator=generator) < 0.2).float()
    mine, theirs = (logits.clone().requires_grad_() for _ in range(2))
    found = losses.focal(mine, targets, alpha=alpha, gamma=gamma)
    expected = sigmoid_focal_loss(theirs, targets, alpha=alpha, gamma=gamma)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    found.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_forms_areas_and_clipping_are_torchvisions():
    from torchvision.ops import box_area, box_convert, clip_boxes_to_image, remove_small_boxes

    for form in ("cxcywh", "xywh"):
        torch.testing.assert_close(ours.to_form(ONE, form), box_convert(ONE, "xyxy", form))
        torch.testing.assert_close(ours.from_form(ONE, form), box_convert(ONE, form, "xyxy"))
    torch.testing.assert_close(ours.area(ONE), box_area(ONE))
    assert torch.equal(ours.clip(ONE, (30, 50)), clip_boxes_to_image(ONE, (30, 50)))
    assert torch.equal(ours.at_least(ONE, 20.0).nonzero()[:, 0], remove_small_boxes(ONE, 20.0))


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_deltas_are_torchvisions(weights):
    from torchvision.models.detection._utils import BoxCoder

    mine, theirs = DeltaCoder(weights=weights), BoxCoder(weights=weights)
    torch.testing.assert_close(
        mine.encode(ONE, OTHER[:60]), theirs.encode_single(ONE, OTHER[:60]), rtol=1e-5, atol=1e-5
    )
    deltas = torch.randn(60, 4, generator=torch.Generator().manual_seed(2)) * 8  # some beyond the largest growth
    torch.testing.assert_close(mine.decode(deltas, ONE), theirs.decode_single(deltas, ONE), rtol=1e-5, atol=1e-3)


def test_distances_are_torchvisions():
    from torchvision.models.detection._utils import BoxLinearCoder

    theirs = BoxLinearCoder(normalize_by_size=False)
    points = (OTHER[:60, :2] + OTHER[:60, 2:]) / 2  # the centres of torchvision's anchors
    torch.testing.assert_close(to_distances(ONE, points), theirs.encode(OTHER[:60], ONE))
    distances = to_distances(ONE, points)
    torch.testing.assert_close(from_distances(distances, points), theirs.decode(distances, OTHER[:60]))


@pytest.mark.parametrize("every_object", [True, False])
@pytest.mark.parametrize(("high", "low"), [(0.7, 0.3), (0.5, 0.4), (0.5, 0.5)])
def test_matching_is_torchvisions(every_object, high, low):
    from torchvision.models.detection._utils import Matcher

    overlaps = ours.iou(ONE[:12], torch.cat((OTHER, ONE + 3, ONE[:3])))
    overlaps = (overlaps * 20).round() / 20  # ties
    expected = Matcher(high, low, allow_low_quality_matches=every_object)(overlaps.clone())
    found = matching.match_by_iou(overlaps, high=high, low=low, every_object=every_object)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("inside", [0, 3, 500])
def test_sampling_draws_what_torchvisions_draws(inside):
    from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

    matched = torch.cat((torch.arange(inside), torch.full((700,), matching.BELOW), torch.full((9,), matching.BETWEEN)))
    theirs = matched.clone()
    theirs[matched >= 0], theirs[matched == matching.BELOW], theirs[matched == matching.BETWEEN] = 1, 0, -1
    torch.manual_seed(3)
    found = matching.sample(matched, count=256, positives=0.5)
    torch.manual_seed(3)
    expected = BalancedPositiveNegativeSampler(256, 0.5)([theirs])
    for rows, (mask,) in zip(found, expected, strict=True):
        assert torch.equal(rows.sort().values, mask.nonzero()[:, 0])


@pytest.mark.parametrize(("count", "classes"), [(50, 1), (300, 3), (2500, 20)])  # both ways that torchvision takes
def test_nms_is_torchvisions(count, classes):
    from torchvision.ops import batched_nms

    boxes = _boxes(count, 4)
    generator = torch.Generator().manual_seed(5)
    scores = torch.randperm(count, generator=generator) / count
    labels = torch.randint(classes, (count,), generator=generator)
    assert torch.equal(nms(boxes, scores, labels, 0.5), batched_nms(boxes, scores, labels, 0.5))


def test_equal_scores_keep_the_first_as_one_plain_nms_of_each_class_would_in_stable_order():
    from torchvision.ops import nms as plain

    boxes = _boxes(400, 6)
    generator = torch.Generator().manual_seed(7)
    scores = (torch.rand(400, generator=generator) * 4).round() / 4
    labels = torch.randint(4, (400,), generator=generator)
    expected = torch.zeros(400, dtype=torch.bool)
    for label in range(4):
        rows = (labels == label).nonzero()[:, 0]
        order = rows[scores[rows].argsort(descending=True, stable=True)]
        ranks = torch.arange(len(order), 0, -1, dtype=torch.float32)
        expected[order[plain(boxes[order], ranks, 0.5)]] = True
    found = nms(boxes, scores, labels, 0.5)
    assert torch.equal(found.sort().values, expected.nonzero()[:, 0])
    pairs = [(-scores[row].item(), row) for row in found.tolist()]
    assert pairs == sorted(pairs)
