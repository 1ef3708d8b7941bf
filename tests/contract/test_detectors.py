"""What every detector of the catalog promises.

All are held to their shapes on the meta device, as they were published. What needs numbers is asked of each around a
small backbone, on images of a few pixels.
"""

import io
import re
from dataclasses import replace

import pytest
import torch

from striate.core.batch import Batch
from striate.core.instances import Instances, InstanceSets
from striate.errors import UsageError
from striate.models.catalog import CATALOG
from striate.models.contract import Detector
from striate.models.detectors.catalog import DETECTORS, create_detector, published
from striate.models.heads.rpn import Counts
from striate.models.proposals import SelectiveSearch, SlidingWindows
from striate.ops.boxes import overlap

CLASSES, CHANNELS = 3, 3
SIZE = (64, 96)
SMALL = "mobilenet_v3_small"
# Where another backbone or size is needed: fewer cells than two would leave YOLO no place for two objects.
BACKBONES = {
    "faster_rcnn_c4": "resnet18",
    "faster_rcnn_vgg16": "vgg11_bn",
    "faster_rcnn_dcn": "resnet18",
    "faster_rcnn_dcnv2": "resnet18",
    "rfcn": "resnet18",
    "rfcn_3x3": "resnet18",
    "light_head_rcnn": "resnet18",
    "detr_dc5": "resnet18",
}
SIZES = {"yolov1": (128, 192)}
HEAVY = {"faster_rcnn_vgg16"}  # a hundred million weights in one layer
REGIONS = 16  # that a head learns from, and that it looks at
ANY_BACKBONE = {"rcnn", "rcnn_windows"}  # they read its last map, whatever that is
# deeper than the map that they read
UNREAD = dict.fromkeys(("fast_rcnn", "fast_rcnn_windows"), r"backbone\.stage5\.")
UNREACHED = {
    # maps none of whose default boxes is on an object here, or among the hardest of the others
    **dict.fromkeys(
        ("ssd", "ssd300", "ssd512"), r"neck\.extras\.[1-3]\.|head\.logits\.[4-6]\.|head\.deltas\.[01456]\."
    ),
    # the queries start as zeros, so that the first attention has nothing to choose from
    **dict.fromkeys(("detr", "detr_dc5"), r"decoder\.0\.(attention\.|norm1\.weight)"),
    # levels on which no object lies here have normalisations of their own
    **dict.fromkeys(("efficientdet_d0", "efficientdet_d1", "efficientdet_d2"), r"box_net\.norms\.\d\.[1-4]\."),
    **UNREAD,
}
LACKING = dict.fromkeys(
    ("centernet", "cornernet"), "squeezenet1_1"
)  # a backbone that ends at stride 4 has all they read
OF_A_FAMILY = {"faster_rcnn_c4": "resnet", "faster_rcnn_vgg16": "VGG", "detr_dc5": "ResNet"} | dict.fromkeys(
    ("faster_rcnn_dcn", "faster_rcnn_dcnv2"), "resnet"
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """The maps here are tiny: handing them to a second thread costs more than it saves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _build(name, device="cpu"):
    line = DETECTORS[name]
    size = line.size if line.only_size else SIZES.get(name, SIZE)
    backbone = line.backbone if line.only_backbone else BACKBONES.get(name, SMALL)
    torch.manual_seed(0)
    with torch.device(device):
        network = create_detector(name, backbone=backbone, classes=CLASSES, channels=CHANNELS, size=size)
    _lighten(network)
    # Whatever an untrained network says is an answer.
    network.suppression = replace(network.suppression, score=0.0)
    return network


def _lighten(network):
    """Fewer regions for what stands behind them, which is where the time goes."""
    if hasattr(network, "sampling"):
        network.sampling = replace(network.sampling, count=REGIONS)
    if hasattr(network, "rpn"):
        network.rpn.numbers = replace(network.rpn.numbers, testing=Counts(before=REGIONS, after=REGIONS))
    if isinstance(getattr(network, "proposer", None), SlidingWindows):
        network.proposer = SlidingWindows(scales=(0.5, 0.7), step=0.5)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.slow if name in HEAVY else ())  # HEAVY says why
        for name in DETECTORS
    ],
)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def network(name):
    network = _build(name)
    if isinstance(getattr(network, "proposer", None), SelectiveSearch):
        pytest.importorskip("cv2.ximgproc", reason="selective search is an extra", exc_type=ImportError)
    return network


# Shares of the image: x1, y1, x2, y2. Their centres are a third of the image apart, and more.
BOXES = torch.tensor([[0.05, 0.1, 0.45, 0.6], [0.55, 0.3, 0.95, 0.95]])


def _objects(network, rows=(), **marks):
    height, width = network.size
    boxes = (BOXES[list(rows)] * torch.tensor([width, height, width, height])).round()
    marks = {name: torch.tensor(value) for name, value in marks.items()}
    return Instances(boxes=boxes, labels=torch.tensor(rows, dtype=torch.int64), **marks)


def _batch(network, *truths):
    """Noise, with a bright rectangle for each object."""
    height, width = network.size
    count = len(truths)
    images = 0.3 * torch.randn(count, CHANNELS, height, width, generator=torch.Generator().manual_seed(1))
    for image, objects in zip(images, truths, strict=True):
        for label, (x1, y1, x2, y2) in zip(objects.labels, objects.boxes.int().tolist(), strict=True):
            image[label, y1:y2, x1:x2] = 2.0
    return Batch(
        images=images,
        sizes=torch.tensor([[height, width]] * count),
        truths=InstanceSets.of(list(truths)),
        indices=torch.arange(count),
    )


def _usual(network):
    return _batch(network, _objects(network, (0, 1)), _objects(network, (1,)))


@pytest.mark.parametrize("detector", DETECTORS)
def test_the_published_network_gives_raw_outputs_of_every_image(detector):
    line, network = DETECTORS[detector], published(detector).eval()
    assert isinstance(network, Detector)
    assert (network.classes, network.channels, network.size) == (line.classes, 3, line.size)
    assert all(tensor.is_meta for tensor in network.state_dict().values())
    outputs = network(torch.empty(2, 3, *network.input_size, device="meta"))
    assert outputs
    assert {len(tensor) for tensor in outputs.values()} == {2}


@pytest.mark.parametrize("detector", [name for name in DETECTORS if name not in ANY_BACKBONE])
def test_a_backbone_without_the_maps_is_refused_with_one_that_would_do(detector):
    line = DETECTORS[detector]
    with torch.device("meta"), pytest.raises(UsageError, match=OF_A_FAMILY.get(detector, "stride")) as refused:
        create_detector(
            detector, backbone=LACKING.get(detector, "resnet20"), classes=CLASSES, channels=CHANNELS, size=line.size
        )
    words = set(str(refused.value).replace(",", " ").replace(".", " ").split())
    assert words & {*CATALOG} or line.only_backbone


@pytest.mark.parametrize(
    ("detector", "backbone"),
    [("strider_n", "resnet10t"), ("fcos", "mobilenetv3_small_050"), ("ssd", "resnet10t"), ("detr", "resnet10t")],
)
def test_a_backbone_of_timm_serves(detector, backbone):
    torch.manual_seed(0)
    network = create_detector(
        detector, backbone=f"timm:{backbone}", classes=CLASSES, channels=CHANNELS, size=SIZE
    ).train()
    losses = network.losses(_usual(network))
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    reached = {name for name, weight in network.backbone.named_parameters() if weight.grad is not None}
    assert {"network.conv1.0.weight", "network.conv_stem.weight"} & reached  # what sees the image
    network.suppression = replace(network.suppression, score=0.0)
    content = torch.tensor([SIZE])
    (found,) = network.eval().detect(torch.rand(1, CHANNELS, *SIZE), content)
    assert 0 < len(found) <= network.suppression.limit
    assert bool((found.boxes >= 0).all())
    assert bool((found.boxes[:, 2:] <= content.flip(1)).all())


def test_an_object_that_the_batch_lacks_is_no_trouble(network):
    one, none = _objects(network, (0, 1)), _objects(network)
    batches = {
        "usual": (one, _objects(network, (1,))),
        "one image without": (one, none),
        "none at all": (none, none),
        "a crowd": (_objects(network, (0, 1), crowd=[False, True]), one),
        "only crowds": (_objects(network, (0,), crowd=[True]), none),
        "an ignored one": (_objects(network, (0, 1), ignore=[True, False]), none),
        "only ignored ones": (_objects(network, (0, 1), ignore=[True, True]), none),
    }
    network.train()
    for what, truths in batches.items():
        losses = network.losses(_batch(network, *truths))
        assert all(loss.dim() == 0 and loss.isfinite() for loss in losses.values()), what
        assert all(loss >= 0 for loss in losses.values()), what
        assert sum(losses.values()).requires_grad, what


def test_the_first_loss_is_about_what_is_said(network):
    network.train()
    with torch.no_grad():
        torch.manual_seed(0)
        total = float(sum(network.losses(_usual(network)).values()))
    assert network.first_loss() / 3 < total < network.first_loss() * 3


def test_backward_reaches_every_parameter(name, network):
    network.train()
    torch.manual_seed(0)
    sum(network.losses(_usual(network)).values()).backward()
    unreached = [key for key, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    network.zero_grad()
    assert [key for key in unreached if not re.match(UNREACHED.get(name, "$"), key)] == []


def test_every_parameter_has_a_part_in_every_loss_whatever_a_batch_holds(name, network):
    """Processes wait for each other's gradients: one without objects must have as many as the others, if only zeros."""
    none = _objects(network)
    first = {key: tensor.clone() for key, tensor in network.state_dict().items()}  # statistics of normalisations move
    network.train()
    try:
        for truths in ((_objects(network, (0, 1)), none), (none, none), (_objects(network, (0,), crowd=[True]), none)):
            network.zero_grad()
            sum(network.losses(_batch(network, *truths)).values()).backward()
            missing = [key for key, weight in network.named_parameters() if weight.grad is None]
            assert [key for key in missing if not re.match(UNREAD.get(name, "$"), key)] == []
    finally:
        network.zero_grad()
        network.load_state_dict(first)


def _close(found, expected):
    """Whether two answers are the same, but for the order of what is as likely."""
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-3, atol=1e-4)
    for label in range(CLASSES):
        ours, theirs = found.boxes[found.labels == label], expected.boxes[expected.labels == label]
        assert len(ours) == len(theirs)
        if len(ours):
            assert torch.cdist(ours, theirs).amin(dim=1).max() < 0.5  # pixels


@torch.no_grad()
def test_what_is_found_lies_in_the_image_most_likely_first_and_alike_alone_and_in_a_batch(network):
    network.eval()
    height, width = network.size
    images = _batch(network, *(_objects(network, rows) for rows in ((0, 1), (1,), ()))).images
    kept = images.clone()
    sizes = torch.tensor([[height, width], [height // 2 + 1, width // 2 + 3], [height, width // 3]])
    found = network.detect(images, sizes)
    assert torch.equal(images, kept)
    assert len(found) == 3
    for objects, (rows, columns) in zip(found, sizes.tolist(), strict=True):
        assert 0 < len(objects) <= network.suppression.limit
        assert (objects.boxes.dtype, objects.boxes.shape) == (torch.float32, (len(objects), 4))
        assert (objects.scores.dtype, objects.scores.shape) == (torch.float32, (len(objects),))
        assert (objects.labels.dtype, objects.labels.shape) == (torch.int64, (len(objects),))
        assert (objects.boxes >= 0).all()
        assert (objects.boxes <= torch.tensor([columns, rows, columns, rows])).all()
        assert (objects.boxes[:, 2:] >= objects.boxes[:, :2]).all()
        assert (objects.scores.diff() <= 0).all()
        assert (objects.scores >= 0).all()
        assert (objects.scores <= 1).all()
        assert (objects.labels >= 0).all()
        assert (objects.labels < CLASSES).all()
    for one, two in zip(found, network.detect(images, sizes), strict=True):
        assert torch.equal(one.boxes, two.boxes)
        assert torch.equal(one.scores, two.scores)
    (alone,) = network.detect(images[1:2], sizes[1:2])
    _close(alone, found[1])


@torch.no_grad()
def test_weights_survive_a_file_and_are_all_there_is(name, network):
    network.eval()
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    again = _build(name, device="meta").eval()
    again.load_state_dict(torch.load(file, weights_only=True), assign=True)
    batch = _usual(network)
    for one, two in zip(
        network.detect(batch.images, batch.sizes), again.detect(batch.images, batch.sizes), strict=True
    ):
        assert torch.equal(one.boxes, two.boxes)
        assert torch.equal(one.scores, two.scores)
        assert torch.equal(one.labels, two.labels)


def test_every_object_has_what_answers_for_it_and_a_crowd_has_nothing(network):
    network.eval()
    state = {key: tensor.clone() for key, tensor in network.named_buffers()}
    truths = (
        _objects(network, (0, 1)),
        _objects(network),
        _objects(network, (0, 1), crowd=[True, False]),
        _objects(network, (0, 1), ignore=[False, True]),
    )
    answers = network.assigned(_batch(network, *truths))
    assert all(torch.equal(state[key], tensor) for key, tensor in network.named_buffers())
    assert [set(answer.objects.tolist()) for answer in answers] == [{0, 1}, set(), {1}, {0}]
    for answer in answers:
        count = len(answer.objects)
        assert answer.kind
        assert answer.boxes.shape == (count, 4)
        assert answer.boxes.dtype == torch.float32
        assert answer.levels.shape == (count,)
        assert (answer.levels >= 0).all()
    if answers[0].kind != "query":  # before training a query is anywhere
        here = answers[0]
        assert (overlap(here.boxes, truths[0].boxes[here.objects]) > 0).all()


@torch.no_grad()
def test_classes_that_change_places_take_their_weights_along(name, network):
    """The same objects cost the same, under whatever numbers their classes go."""
    layers = network.class_layers()
    line = DETECTORS[name]
    backbone = line.backbone if line.only_backbone else BACKBONES.get(name, SMALL)
    with torch.device("meta"):
        more = create_detector(
            name, backbone=backbone, classes=CLASSES + 1, channels=CHANNELS, size=network.size
        ).state_dict()
    own = network.state_dict()
    assert {key for key in own if own[key].shape != more[key].shape} == {
        f"{layer}.{part}" for layer in layers for part in ("weight", "bias")
    }
    network.train()
    first = {key: tensor.clone() for key, tensor in own.items()}
    kept, moved = dict(first), dict(first)
    order = torch.tensor([2, 0, 1])  # the old number of each new class
    for layer, rows in layers.items():
        for part in ("weight", "bias"):
            key = f"{layer}.{part}"
            assert rows.classes(len(own[key])) == CLASSES
            assert rows.rows(CLASSES + 1) == len(more[key])
            # Untrained, classes are all but equals.
            kept[key] = first[key] + 0.05 * torch.randn(first[key].shape, generator=torch.Generator().manual_seed(0))
            moved[key] = rows.carried(torch.zeros_like(kept[key]), kept[key], list(enumerate(order.tolist())))

    def total(weights, truths):
        network.load_state_dict(weights)
        torch.manual_seed(0)
        return torch.stack(list(network.losses(replace(batch, truths=truths)).values()))

    batch = _usual(network)
    new = replace(batch.instances, labels=order.argsort()[batch.instances.labels])
    try:
        before, after, unmoved = total(kept, batch.instances), total(moved, new), total(kept, new)
    finally:
        network.load_state_dict(first)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(unmoved, before, rtol=1e-4, atol=1e-5)
