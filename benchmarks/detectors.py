"""Our detectors against torchvision's with the same weights: a training step and detection.

    python benchmarks/detectors.py retinanet                      # or another of `DETECTORS` below, or several, or all
    python benchmarks/detectors.py fcos --side 640 --images 4     # other images than the row's own
    OMP_NUM_THREADS=1 python benchmarks/detectors.py all --clock processor      # on a machine that others use too

Both get the same normalised images of one size; torchvision's own resizing and normalising are switched off. A training
step is the forward pass in training mode, the losses and the backward pass; detection is everything from images to
boxes. The sides take turns in one process, in float32, and a second copy of torchvision's runs too: its ratio to the
first says what the machine's noise is worth. Above 1 ours, or the copy, is faster. Before anything is timed the sum of
the losses and the number of boxes found must agree.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from striate.core.batch import Batch
from striate.core.instances import Instances, InstanceSets
from striate.models.catalog import create
from striate.models.contract import Detector
from striate.models.detectors.catalog import DETECTORS as CATALOG
from striate.models.weights import fit, to_ours

CLASSES, OBJECTS = 91, 8
CANDIDATES = 1000  # pairs of an anchor and a class per image with scores that count, about what a trained one has


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison."""

    theirs: Callable[[int], nn.Module]  # torchvision's network for images of a side, around `backbone`
    logits: str  # its layer that scores the classes
    backbone: str = "resnet18"
    side: int = 320
    images: int = 2
    shift: float = 0.0  # of the score that counts, in logits, where it is not the class's probability alone
    background: bool = False  # a softmax with background first, behind proposals; random weights find enough there


def _pyramid() -> nn.Module:
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    return resnet_fpn_backbone(
        backbone_name="resnet18",
        weights=None,
        norm_layer=nn.BatchNorm2d,
        trainable_layers=5,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )


def _retinanet(side: int) -> nn.Module:
    from torchvision.models.detection import RetinaNet

    return RetinaNet(_pyramid(), CLASSES, min_size=side, max_size=side)


def _fcos(side: int) -> nn.Module:
    from torchvision.models.detection import FCOS

    return FCOS(_pyramid(), CLASSES, min_size=side, max_size=side)


def _faster_rcnn(side: int) -> nn.Module:
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    body = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5)
    return FasterRCNN(body, CLASSES + 1, min_size=side, max_size=side)


def _ssd300(side: int) -> nn.Module:
    from torchvision.models.detection import ssd300_vgg16

    return ssd300_vgg16(weights=None, weights_backbone=None, num_classes=CLASSES + 1)


DETECTORS: dict[str, Row] = {
    "faster_rcnn": Row(theirs=_faster_rcnn, logits="roi_heads.box_predictor.cls_score", background=True),
    "retinanet": Row(theirs=_retinanet, logits="head.classification_head.cls_logits"),
    # A score is the root of the class's probability times the centre-ness, which is 1/2 here: 0.2 is reached at 0.08.
    "fcos": Row(theirs=_fcos, logits="head.classification_head.cls_logits", shift=0.5),
    "ssd300": Row(
        theirs=_ssd300,
        logits="head.classification_head.module_list",
        backbone="vgg16",
        side=300,
        background=True,
    ),
}


def sides(name: str, images: Tensor) -> tuple[Detector, nn.Module, nn.Module]:
    """Ours, theirs, and theirs again, with the same random weights, which find `CANDIDATES` per image."""
    row, side = DETECTORS[name], images.shape[2]
    torch.manual_seed(0)
    theirs = row.theirs(side)
    theirs.transform.resize = lambda image, target=None: (image, target)
    theirs.transform.normalize = lambda image: image
    backbone = create(row.backbone, classes=2, channels=3, size=(side, side)).backbone
    ours = CATALOG[name].build(backbone, classes=CLASSES, channels=3, size=(side, side))
    origin = CATALOG[name].origins["torchvision"]

    layer = theirs.get_submodule(row.logits)
    if isinstance(layer, nn.ModuleList):
        fit(ours, to_ours(theirs.state_dict(), ours, origin), "memory")
        with torch.no_grad():
            scores = ours.eval()(images)["logits"].double()
            found = [convolution.bias[:: scores.shape[2]] for convolution in layer]  # of the background, each box's
            raised = _background(scores, CANDIDATES * len(images), ours.suppression.score)
            for bias in found:
                bias += raised
        fit(ours, to_ours(theirs.state_dict(), ours, origin), "memory")
        return ours, theirs, copy.deepcopy(theirs)
    if row.background:
        _calibrate(theirs, images)
        with torch.no_grad():
            for convolution in (theirs.rpn.head.cls_logits, theirs.rpn.head.bbox_pred):
                convolution.weight.normal_(std=0.05)  # or all proposals were alike
            layer.weight.normal_(std=0.1)
        fit(ours, to_ours(theirs.state_dict(), ours, origin), "memory")
        return ours, theirs, copy.deepcopy(theirs)
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight.normal_(std=0.3)
        fit(ours, to_ours(theirs.state_dict(), ours, origin), "memory")
        found = ours.eval()(images)["logits"].flatten()
        score = torch.tensor(ours.suppression.score)
        layer.bias += score.logit() + row.shift - found.topk(CANDIDATES * len(images)).values[-1]
    fit(ours, to_ours(theirs.state_dict(), ours, origin), "memory")
    return ours, theirs, copy.deepcopy(theirs)


def _background(logits: Tensor, count: int, score: float) -> float:
    """What to add to the background's logit for ``count`` classes of boxes to have a probability of ``score``."""
    low, high = -20.0, 20.0
    for _ in range(25):
        middle = (low + high) / 2
        raised = torch.cat((logits[..., :1] + middle, logits[..., 1:]), dim=-1)
        more = int((raised.softmax(-1)[..., 1:] >= score).sum()) > count
        low, high = (middle, high) if more else (low, middle)
    return high


def _calibrate(theirs: nn.Module, images: Tensor) -> None:
    """Give the normalisations the statistics of the images, so that maps are of a trained network's size."""
    norms = [layer for layer in theirs.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in norms:
        layer.momentum = 1.0
    with torch.no_grad():
        theirs.train().backbone(images)
    for layer in norms:
        layer.momentum = 0.1


def truths(count: int, side: int) -> InstanceSets:
    """`OBJECTS` boxes of random sizes and classes in each image."""
    found: list[Instances] = []
    for _ in range(count):
        sides = side * (0.05 + 0.45 * torch.rand(OBJECTS, 2))
        first = torch.rand(OBJECTS, 2) * (side - sides)
        found.append(Instances(boxes=torch.cat((first, first + sides), 1), labels=torch.randint(CLASSES, (OBJECTS,))))
    return InstanceSets.of(found)


def run(name: str, side: int, count: int, trials: int, clock: Callable[[], float]) -> None:
    torch.manual_seed(1)
    batch = Batch(
        images=torch.randn(count, 3, side, side),
        sizes=torch.tensor([[side, side]] * count),
        truths=truths(count, side),
        indices=torch.arange(count),
    )
    first = int(DETECTORS[name].background)
    targets = [{"boxes": each.boxes, "labels": each.labels + first} for each in batch.instances]
    networks = sides(name, batch.images)

    def losses(network: nn.Module) -> Mapping[str, Tensor]:
        network.train()
        return network.losses(batch) if isinstance(network, Detector) else network(list(batch.images), targets)

    def training(network: nn.Module) -> float:
        network.zero_grad()
        torch.manual_seed(2)  # the same anchors and proposals to learn from
        total = torch.stack(list(losses(network).values())).sum()
        total.backward()
        return float(total.detach())

    @torch.inference_mode()
    def detection(network: nn.Module) -> int:
        network.eval()
        if isinstance(network, Detector):
            return sum(len(found) for found in network.detect(batch.images, batch.sizes))
        return sum(len(found["scores"]) for found in network(list(batch.images)))

    found = [detection(network) for network in networks]  # before training moves running statistics
    assert found[0] == found[1], f"{name}: {found[0]} boxes here, {found[1]} there"
    total = [training(network) for network in networks]
    assert abs(total[0] - total[1]) < 1e-3 * total[1], f"{name}: a loss of {total[0]} here, of {total[1]} there"
    print(f"{name}: {count} images of {side}x{side}, {found[0]} boxes found", flush=True)
    compare(f"{name} detection", count, measure(detection, networks, trials, clock))
    compare(f"{name} training step", count, measure(training, networks, trials, clock))


def measure(
    step: Callable[[nn.Module], object], networks: Sequence[nn.Module], trials: int, clock: Callable[[], float]
) -> list[dict[int, float]]:
    """Seconds of each network in each trial; they take turns, who begins changing every time."""
    took: list[dict[int, float]] = []
    for trial in range(trials):
        times: dict[int, float] = {}
        for place in range(len(networks)):
            which = (trial + place) % len(networks)
            started = clock()
            step(networks[which])
            times[which] = clock() - started
        took.append(times)
    return took


def compare(name: str, count: int, took: Sequence[Mapping[int, float]]) -> None:
    """Print the ratio of their rates."""
    ours, theirs = (statistics.median(trial[side] for trial in took) for side in range(2))
    ratios, copies = [trial[1] / trial[0] for trial in took], [trial[1] / trial[2] for trial in took]
    print(
        f"{name:<26} ours {count / ours:7.2f} images/s, torchvision {count / theirs:7.2f}: ratio median "
        f"{statistics.median(ratios):.2f} (min {min(ratios):.2f}, max {max(ratios):.2f}); torchvision's copy "
        f"{statistics.median(copies):.2f} ({len(took)} trials)",
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=(*DETECTORS, "all"))
    parser.add_argument("--side", type=int, help="of the images, in pixels")
    parser.add_argument("--images", type=int, help="per batch")
    parser.add_argument("--trials", type=int, default=7)
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall", help="time gone by, or time used")
    options = parser.parse_args()
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    for name in DETECTORS if "all" in options.names else options.names:
        row = DETECTORS[name]
        run(name, options.side or row.side, options.images or row.images, options.trials, clock)
