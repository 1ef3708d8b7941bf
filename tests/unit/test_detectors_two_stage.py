"""Detectors of two stages: shapes as published, what teaches and what does not, proposals, and that they learn."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from rectangles import learn, rectangles, share_found
from torch import nn

from striate.core.batch import Batch
from striate.core.instances import Instances, InstanceSets
from striate.errors import UsageError
from striate.models import proposals
from striate.models.detectors import (
    cascade_rcnn,
    deformable_rcnn,
    fast_rcnn,
    faster_rcnn,
    light_head_rcnn,
    rcnn,
    rfcn,
)
from striate.models.detectors.catalog import create_backbone
from striate.models.heads.box import Sampling, match_regions, sample_regions
from striate.models.heads.rpn import RPN, Proposed
from striate.models.proposals import SelectiveSearch, SlidingWindows
from striate.nn.deformable import DeformableConv2d
from striate.ops.boxes import iou
from striate.ops.matching import BELOW, BETWEEN

BUILDS = {
    "faster_rcnn": (faster_rcnn.build, "resnet18"),
    "faster_rcnn_c4": (faster_rcnn.build_c4, "resnet18"),
    "faster_rcnn_vgg16": (faster_rcnn.build_vgg16, "vgg11_bn"),
    "fast_rcnn_windows": (partial(fast_rcnn.build, "fast_rcnn_windows"), "resnet18"),
    "rcnn_windows": (partial(rcnn.build, "rcnn_windows"), "resnet18"),
    "cascade_rcnn": (cascade_rcnn.build, "resnet18"),
    "rfcn_3x3": (partial(rfcn.build, "rfcn_3x3"), "resnet18"),
    "light_head_rcnn": (light_head_rcnn.build, "resnet18"),
    "faster_rcnn_dcn": (partial(deformable_rcnn.build, "faster_rcnn_dcn"), "resnet18"),
    "faster_rcnn_dcnv2": (partial(deformable_rcnn.build, "faster_rcnn_dcnv2"), "resnet18"),
}
CLASSES, SIDE = 3, 64
LEARNT = 128  # the side of the images that are learnt: eight steps of the maps of stride 16


def _build(name, side=SIDE):
    """Small, and with few regions to learn from, which is where the time goes."""
    build, backbone = BUILDS[name]
    torch.manual_seed(0)
    network = build(
        create_backbone(backbone, channels=3, size=(side, side)), classes=CLASSES, channels=3, size=(side, side)
    )
    network.sampling = replace(network.sampling, count=32)
    return network


SLOW = [name for name in BUILDS if name.endswith("_windows")]  # thousands of windows of every image


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in BUILDS],
)
def network(request):
    return _build(request.param)


def _batch(*truths, side=SIDE):
    images = torch.randn(len(truths), 3, side, side, generator=torch.Generator().manual_seed(0))
    sizes = torch.tensor([[side, side]] * len(truths))
    return Batch(images=images, sizes=sizes, truths=InstanceSets.of(list(truths)), indices=torch.arange(len(truths)))


def _objects(boxes, **marks):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Instances(boxes=boxes, labels=torch.arange(len(boxes)) % CLASSES, **marks)


def test_losses_are_finite_and_near_what_is_expected(network):
    torch.manual_seed(0)
    network.train()
    batch = _batch(_objects([[5, 5, 40, 30], [30, 20, 60, 62]]), _objects([]))
    losses = network.losses(batch)
    total = sum(losses.values())
    assert torch.isfinite(total)
    assert 0.5 * network.first_loss() < float(total.detach()) < 2 * network.first_loss()
    total.backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []
    for empty in (_batch(_objects([]), _objects([])), _batch(_objects([[5, 5, 5, 30]]), _objects([]))):
        assert all(torch.isfinite(loss) for loss in network.losses(empty).values())


def test_outputs_are_batch_first_and_detections_lie_within_their_images(network):
    network.eval()
    batch = _batch(_objects([]), _objects([]))
    with torch.no_grad():
        outputs = network(batch.images)
        found = network.detect(batch.images, torch.tensor([[SIDE, SIDE], [40, 30]]))
        again = network.detect(batch.images, torch.tensor([[SIDE, SIDE], [40, 30]]))
    assert all(len(tensor) == 2 for tensor in outputs.values())
    assert outputs["logits"].shape[-1] == CLASSES + 1
    assert outputs["deltas"].shape[-2:] in ((CLASSES + 1, 4), (1, 4))
    for one, two, (height, width) in zip(found, again, ((SIDE, SIDE), (40, 30)), strict=True):
        assert torch.equal(one.boxes, two.boxes)
        assert (one.scores.diff() <= 0).all()
        assert ((one.labels >= 0) & (one.labels < CLASSES)).all()
        assert (one.boxes >= 0).all()
        assert (one.boxes <= torch.tensor([width, height, width, height])).all()


def test_what_answers_for_an_object_overlaps_it(network):
    network.eval()
    truth = _objects([[4, 4, 36, 36], [0, 0, 64, 64], [30, 30, 62, 62]], crowd=torch.tensor([False, True, False]))
    first, second = network.assigned(_batch(truth, _objects([])))
    assert len(second.boxes) == 0
    assert set(first.objects.tolist()) == {0, 2}  # the crowd has nothing
    assert first.kind in ("anchor", "proposal")
    assert (iou(first.boxes, truth.boxes)[torch.arange(len(first.objects)), first.objects] > 0.2).all()


def test_a_crowd_is_neither_learnt_nor_background():
    crowd = torch.tensor([False, True])
    objects = _objects([[0, 0, 10, 10], [20, 20, 60, 60]], crowd=crowd)
    boxes = torch.tensor([[0.0, 0, 10, 9], [22, 22, 30, 30], [20, 20, 60, 60], [40, 0, 60, 10]])
    matched = match_regions(boxes, objects, Sampling())
    assert matched.tolist() == [0, BETWEEN, BETWEEN, BELOW]
    rpn = faster_rcnn.pyramid_rpn()
    found = Proposed(objectness=torch.zeros(1, 4), deltas=torch.zeros(1, 4, 4), anchors=boxes, counts=(4,))
    (answer,) = rpn.match(found, InstanceSets.of([objects]))
    assert answer.tolist() == [0, BETWEEN, BETWEEN, BELOW]


def test_a_quarter_of_the_regions_is_on_objects_and_background_is_of_fast_rcnns_band():
    torch.manual_seed(0)
    objects = _objects([[0, 0, 32, 32]])
    inside = torch.tensor([[0.0, 0, 32, 30]]).repeat(100, 1)
    near = torch.tensor([[0.0, 0, 32, 10]]).repeat(100, 1)  # IoU 0.31
    far = torch.tensor([[40.0, 40, 60, 60]]).repeat(100, 1)
    sampling = Sampling(count=64, positives=0.25, overlap=0.5, least=0.1)
    regions = sample_regions([torch.cat((inside, near, far))], [objects], sampling)
    assert (regions.labels == 1).sum() == 16
    assert (regions.labels == 0).sum() == 48
    background = regions.boxes[0][regions.labels == 0]
    assert (background == near[0]).all()
    regions = sample_regions([torch.cat((inside, far))], [objects], sampling)  # no such background: any
    assert (regions.boxes[0][regions.labels == 0] == far[0]).all()


def test_proposals_recall_what_the_deltas_point_at():
    """A proposal network that knows the truth: its proposals find every object, the first ones already."""
    torch.manual_seed(0)
    rpn: RPN = faster_rcnn.pyramid_rpn()
    maps = [torch.zeros(1, 256, 128 // stride, 128 // stride) for stride in (4, 8, 16, 32, 64)]
    with torch.no_grad():
        found = rpn(maps, (128, 128))
    first = torch.rand(12, 2) * 55
    truth = torch.cat((first, first + 20 + torch.rand(12, 2) * 50), dim=1)
    best = iou(found.anchors, truth)
    deltas = rpn.coder.encode(truth[best.argmax(dim=1)], found.anchors)
    told = replace(found, objectness=10 * best.amax(dim=1)[None] - 5, deltas=deltas[None])
    boxes, scores = rpn.propose(told, torch.tensor([[128, 128]]), rpn.numbers.testing)
    assert (iou(truth, boxes[0, :100]).amax(dim=1) > 0.95).all()
    assert boxes.shape[1] <= 1000
    kept = boxes[0][scores[0] >= 0]
    assert ((iou(kept, kept) > 0.7).sum(dim=1) <= len(maps)).all()  # each level by itself
    assert (kept >= 0).all()
    assert (kept <= 128).all()


@pytest.mark.slow  # dozens of steps of a residual network and its pyramid
def test_proposals_recall_every_object_when_they_are_learnt():
    network, batch = _build("faster_rcnn"), rectangles(side=SIDE)

    def recall():
        network.eval()
        with torch.no_grad():
            found = network.propose(batch.images, batch.sizes)
        best = [
            iou(truth.boxes, own.boxes[:100]).amax(dim=1) for truth, own in zip(batch.instances, found, strict=True)
        ]
        return float((torch.cat(best) >= 0.5).float().mean())

    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for _ in range(60):
        found = network.rpn(network.maps(batch.images), (SIDE, SIDE))
        optimizer.zero_grad()
        torch.stack(network.rpn.losses(found, batch.instances)).sum().backward()
        optimizer.step()
    assert recall() >= 0.95


def test_windows_cover_every_box_that_is_not_tiny():
    torch.manual_seed(0)
    boxes = SlidingWindows()(torch.zeros(1, 3, 96, 160), torch.tensor([[96, 160]]))[0]
    assert (boxes >= 0).all()
    assert (boxes <= torch.tensor([160, 96, 160, 96]) + 1e-3).all()
    size = (1 / 8 + torch.rand(2000, 1) * 5 / 8) * 96
    ratio = 2 ** (torch.rand(2000, 1) * 2 - 1)
    extent = torch.cat((size / ratio.sqrt(), size * ratio.sqrt()), dim=1).clamp(max=96)
    first = torch.rand(2000, 2) * (torch.tensor([160.0, 96.0]) - extent)
    assert iou(torch.cat((first, first + extent), dim=1), boxes).amax(dim=1).min() >= 0.5


def test_windows_pass_the_head_in_parts_and_give_the_same(monkeypatch):
    network = _build("fast_rcnn_windows").eval()
    network.proposer = SlidingWindows(scales=(0.5,), step=0.25)
    torch.nn.init.normal_(network.head.predictor.logits.weight, std=0.3)  # or rounding would choose among equal scores
    images, sizes = torch.randn(2, 3, SIDE, SIDE), torch.tensor([[SIDE, SIDE], [SIDE, SIDE - 20]])
    whole = network.detect(images, sizes)
    seen = []
    network.head.pool = lambda maps, boxes, pool=network.head.pool: seen.append(len(boxes[0])) or pool(maps, boxes)
    monkeypatch.setattr(fast_rcnn, "TOGETHER", 20)
    for one, other in zip(whole, network.detect(images, sizes), strict=True):
        torch.testing.assert_close(one.boxes, other.boxes, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(one.scores, other.scores, rtol=1e-4, atol=1e-5)
    assert max(seen) == 20


def test_selective_search_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(proposals.importlib, "import_module", lambda name: object())
    network = fast_rcnn.build(
        "fast_rcnn", create_backbone("resnet18", channels=3, size=(64, 64)), classes=2, channels=3, size=(64, 64)
    )
    assert network.proposer.name == "selective search"
    with pytest.raises(UsageError, match=r"pip install 'striate\[selective-search\]'.*fast_rcnn_windows"):
        network.detect(torch.zeros(1, 3, 64, 64), torch.tensor([[64, 64]]))


def test_selective_search_finds_a_square():
    cv2 = pytest.importorskip("cv2", reason="OpenCV is an extra")
    if not hasattr(cv2, "ximgproc"):
        pytest.skip("OpenCV is there without its contributed modules")
    images = torch.full((2, 3, 96, 80), -1.0)
    images[0, :, 20:60, 10:50] = torch.tensor([2.0, 0.0, 1.0])[:, None, None]
    found, nothing = SelectiveSearch()(images, torch.tensor([[96, 80], [70, 60]]))
    assert iou(torch.tensor([[10.0, 20, 50, 60]]), found).max() > 0.8
    assert len(nothing) > 0
    assert (nothing <= torch.tensor([60, 70, 60, 70])).all()


def test_a_crop_has_its_box_in_the_middle_and_the_mean_outside():
    images = torch.arange(40.0)[None, None, None].expand(1, 1, 30, 40)
    box = torch.tensor([[10.0, 5, 26, 21]])
    (crop,) = rcnn.warp(images, [box], 24, 4)
    torch.testing.assert_close(crop[0, 12], torch.arange(6.0, 30.0))  # 4 pixels of context, then 16 of the box
    (corner,) = rcnn.warp(images + 1, [torch.tensor([[0.0, 0, 8, 8]])], 24, 4)
    assert not corner[0, :3].any()  # above the image
    assert rcnn.warp(images, [torch.empty(0, 4)], 24, 4).shape == (0, 1, 24, 24)


@pytest.mark.parametrize(
    ("build", "backbone", "size", "classes", "shapes"),
    [
        # Lin et al. 2017: P2 to P6 of 256 channels
        (
            faster_rcnn.build,
            "resnet50",
            (800, 1344),
            90,
            [(256, 800 // s, 1344 // s) for s in (4, 8, 16, 32)] + [(256, 13, 21)],
        ),
        (faster_rcnn.build_c4, "resnet50", (608, 1024), 80, [(1024, 38, 64)]),
        (faster_rcnn.build_vgg16, "vgg16", (608, 1024), 20, [(512, 38, 64)]),
        # Dai et al. 2016: conv4 for the proposals and 1024 channels of the dilated conv5
        (partial(rfcn.build, "rfcn"), "resnet101", (608, 1024), 20, [(1024, 38, 64), (1024, 38, 64)]),
        # Li et al. 2017: 490 = 10 x 7 x 7 thin channels
        (light_head_rcnn.build, "resnet101", (800, 1344), 80, [(1024, 50, 84), (490, 50, 84)]),
    ],
)
def test_maps_are_as_published(build, backbone, size, classes, shapes):
    with torch.device("meta"):
        network = build(create_backbone(backbone, channels=3, size=size), classes=classes, channels=3, size=size)
        maps = network.maps(torch.empty(1, 3, *size))
    assert [tuple(one.shape[1:]) for one in maps] == shapes


def test_layers_are_as_published():
    def meta(build, backbone, classes):
        with torch.device("meta"):
            return build(
                create_backbone(backbone, channels=3, size=(608, 800)), classes=classes, channels=3, size=(608, 800)
            )

    vgg = meta(faster_rcnn.build_vgg16, "vgg16", 20)
    assert vgg.rpn.objectness.out_channels == 9  # section 3.1.1
    assert vgg.rpn.conv.out_channels == 512
    assert vgg.head.body.fc6.weight.shape == (4096, 25088)
    assert vgg.head.predictor.deltas.out_features == 84
    voting = meta(partial(rfcn.build, "rfcn_3x3"), "resnet101", 20)
    assert (voting.head.scores.out_channels, voting.head.boxes.out_channels) == (9 * 21, 36)
    light = meta(light_head_rcnn.build, "resnet101", 80)
    assert light.rpn.objectness.out_channels == 15
    assert light.neck.thin.long1.weight.shape == (256, 2048, 15, 1)
    assert light.head.body.fc6.weight.shape == (2048, 490)
    assert light.head.predictor.deltas.out_features == 4
    first = meta(partial(deformable_rcnn.build, "faster_rcnn_dcn"), "resnet50", 80)
    second = meta(partial(deformable_rcnn.build, "faster_rcnn_dcnv2"), "resnet50", 80)
    counts = [sum(isinstance(layer, DeformableConv2d) for layer in one.modules()) for one in (first, second)]
    assert counts == [3, 13]
    cascade = meta(cascade_rcnn.build, "resnet50", 80)
    assert [step.overlap for step in cascade.steps] == [0.5, 0.6, 0.7]
    assert [head.predictor.deltas.out_features for head in cascade.heads] == [4, 4, 4]


@pytest.mark.parametrize("modulated", [False, True])
def test_a_deformable_convolution_starts_as_the_plain_one_and_moves_its_taps(modulated):
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2)
    x = torch.randn(2, 4, 12, 15)
    layer = DeformableConv2d(plain, modulated=modulated)
    torch.testing.assert_close(layer(x), plain(x) if not modulated else _halved(plain, x), rtol=1e-4, atol=1e-5)
    # All taps one pixel down and two to the right: the plain convolution of the image moved up and to the left.
    with torch.no_grad():
        layer.offset.bias[: 2 * 9] = torch.tensor([1.0, 2.0]).repeat(9)
        layer.offset.bias[2 * 9 :] = 100.0
    moved = torch.zeros_like(x)
    moved[:, :, :-1, :-2] = x[:, :, 1:, 2:]
    torch.testing.assert_close(layer(x)[:, :, 1:-1, 1:-1], plain(moved)[:, :, 1:-1, 1:-1], rtol=1e-4, atol=1e-5)
    layer(x).sum().backward()
    assert layer.offset.weight.grad is not None
    assert set(layer.state_dict()) == {"weight", "bias", "offset.weight", "offset.bias"}


def _halved(plain, x):
    return (plain(x) - plain.bias[:, None, None]) / 2 + plain.bias[:, None, None]


@pytest.mark.parametrize(
    ("build", "fix"),
    [
        (faster_rcnn.build, "stride"),
        (faster_rcnn.build_c4, "resnet18"),
        (partial(deformable_rcnn.build, "faster_rcnn_dcn"), "resnet18"),
    ],
)
def test_a_backbone_that_does_not_fit_is_named_with_one_that_does(build, fix):
    with pytest.raises(UsageError, match=fix):
        build(create_backbone("lenet5", channels=3, size=(32, 32)), classes=2, channels=3, size=(32, 32))


@pytest.mark.slow  # minutes: dozens of steps of a residual network and of hundreds of regions
def test_eight_images_are_learnt_by_heart():
    network, batch = _build("faster_rcnn", side=LEARNT), rectangles(side=LEARNT)
    for _ in range(10):
        before, after = learn(network, batch, steps=20)
        assert math.isfinite(after)
        if share_found(network, batch) >= 0.95:
            return
    pytest.fail(f"{share_found(network, batch):.2f} found, loss {before:.2f} to {after:.2f}")
