"""Fast R-CNN: one pass over the image, and a head for each region that someone else proposes.

Girshick: "Fast R-CNN", ICCV 2015, arXiv 1504.08083.

                  fast_rcnn                                          fast_rcnn_windows
    proposals     selective search, about 2000 (section 2.1),        sliding windows
                  from the extra `selective-search`
    map           conv5_3 of a VGG, before pool5, stride 16; conv5 of a residual network, dilated to stride 16; of any
                  other backbone the map of stride 16
    pooling       RoI pooling 7x7 (section 2.1)
    head          fc6 4096, fc7 4096, dropout 0.5; 1024 each on other backbones (Lin et al. 2017, section 5.2)
    siblings      K + 1 logits, 4 deltas for each class, times 10, 10, 5, 5
    learnt from   64 of an image, a quarter on objects (IoU of 0.5 or more), background of IoU 0.1 to 0.5 (section 2.3)
    loss          softmax, and smooth L1 on what is on objects (equations 1 to 3)

                     parameters, 20 classes    published
    fast_rcnn                   134,690,729    mAP 66.9 on VOC 2007, trained on 2007 (table 1)

Differences: the objects themselves are added to the proposals to learn from, as in the code of Faster R-CNN. Where an
image has no background of IoU 0.1 or more, such as one without objects, background is taken from all. Truncated
singular values (section 3.1) are left out.

Letters: B images, P proposals, K classes.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from striate.core.batch import Batch
from striate.core.instances import Assigned, Instances
from striate.models.backbones.vgg import VGG
from striate.models.contract import Backbone, Detector
from striate.models.detectors.faster_rcnn import CODER, SUPPRESSION, Reading, ReadStages, read_conv5_3
from striate.models.detectors.rfcn import read_dilated
from striate.models.heads.box import (
    BoxHead,
    FullLayers,
    Predictor,
    RegionHead,
    Sampling,
    find,
    learnable,
    match_regions,
    region_losses,
    sample_regions,
)
from striate.models.proposals import Proposer, SelectiveSearch, SlidingWindows
from striate.models.weights import ClassRows
from striate.ops.coders import DeltaCoder
from striate.ops.rois import RoIPool
from striate.ops.suppression import Suppression

TOGETHER = 512  # regions in one pass, when there are no gradients to keep: windows are thousands of an image
PROPOSERS: dict[str, Proposer] = {"fast_rcnn": SelectiveSearch(), "fast_rcnn_windows": SlidingWindows()}


class FastRCNN(Detector):
    """A head for proposals from outside.

    Attributes:
        proposer: where the proposals come from; its ``name`` says so.

    Args:
        backbone: gives the maps.
        read: which of them.
        head: says what the proposals are.
        proposer: proposes.
        classes: K.
        channels: of the images.
        size: height and width of the images.
        sampling: the proposals that the head learns from.
        coder: of the head's deltas.
        beta: where the smooth L1 loss turns from a parabola to a line.
        suppression: how `detect` chooses.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        read: Reading,
        head: RegionHead,
        proposer: Proposer,
        classes: int,
        channels: int,
        size: tuple[int, int],
        sampling: Sampling,
        coder: DeltaCoder = CODER,
        beta: float = 1.0,
        suppression: Suppression = SUPPRESSION,
    ):
        super().__init__()
        self.backbone = backbone
        self.read = read
        self.head = head
        self.proposer = proposer
        self.classes = classes
        self.channels = channels
        self.size = size
        self.sampling = sampling
        self.coder = coder
        self.beta = beta
        self.suppression = suppression

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """What the head says of the proposals of whole images.

        Args:
            images: (B, channels, H, W) float32, normalised.

        Returns:
            ``proposals`` (B, P, 4), an image with fewer than the others filled up with empty boxes; their ``logits``
            (B, P, K + 1), background first, and ``deltas`` (B, P, K + 1, 4).
        """
        whole = torch.tensor([list(images.shape[2:])] * len(images))
        proposals = pad_sequence(self.proposer(images, whole), batch_first=True)
        logits, deltas = self.head(self.read(self.backbone, images), proposals.unbind(0), self.backbone)
        shape = proposals.shape[:2]
        return {
            "proposals": proposals,
            "logits": logits.unflatten(0, shape),
            "deltas": deltas.unflatten(0, shape),
        }

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """``class`` and ``box`` (equation 1)."""
        proposals = self.proposer(batch.images, batch.content)
        regions = sample_regions(proposals, list(batch.instances), self.sampling)
        logits, deltas = self.head(self.read(self.backbone, batch.images), regions.boxes, self.backbone)
        classes, boxes = region_losses(logits, deltas, regions, self.coder, beta=self.beta)
        return {"class": classes, "box": boxes}

    def detect(self, images: Tensor, sizes: Tensor) -> list[Instances]:
        """As `Detector.detect`."""
        proposals = self.proposer(images, sizes)
        maps = self.read(self.backbone, images)
        parts = [
            self.head([level[place, None] for level in maps], [some], self.backbone)
            for place, boxes in enumerate(proposals)
            for some in boxes.split(TOGETHER)
        ]
        logits, deltas = (torch.cat(side) for side in zip(*parts, strict=True))
        return find(logits.softmax(dim=1), deltas, proposals, sizes, coder=self.coder, suppression=self.suppression)

    def assigned(self, batch: Batch) -> list[Assigned]:
        """The proposals that are on an object, drawn or not."""
        return assigned_proposals(self.proposer(batch.images, batch.content), batch, self.sampling)

    def first_loss(self) -> float:
        """Logits near 0, and deltas near 0 of up to a quarter of the regions: about a half."""
        return math.log(self.classes + 1) + 0.5

    def class_layers(self) -> dict[str, ClassRows]:
        """As `Detector.class_layers`."""
        return {f"head.{name}": rows for name, rows in self.head.class_layers().items()}


def assigned_proposals(proposals: list[Tensor], batch: Batch, sampling: Sampling) -> list[Assigned]:
    """Which of B times (N, 4) proposals are on which object."""
    answers: list[Assigned] = []
    for boxes, objects in zip(proposals, batch.instances, strict=True):
        matched = match_regions(boxes, objects, sampling)
        rows = (matched >= 0).nonzero()[:, 0]
        answers.append(
            Assigned(
                kind="proposal",
                boxes=boxes[rows],
                objects=learnable(objects)[matched[rows]],
                levels=torch.zeros_like(rows),
            )
        )
    return answers


def build(variant: str, backbone: Backbone, *, classes: int, channels: int, size: tuple[int, int]) -> FastRCNN:
    """With the proposals of `PROPOSERS`; raises `UsageError` where the backbone lacks a map of stride 16."""
    read: Reading
    if isinstance(backbone, VGG):
        read, features, widths, dropout = read_conv5_3, backbone.stages[4].channels, (4096, 4096), 0.5
    else:
        place = read_dilated(backbone, variant).places[-1]
        read, features, widths, dropout = (
            ReadStages(places=(place,)),
            backbone.stages[place].channels,
            (1024, 1024),
            0.0,
        )
    body: nn.Module = FullLayers(features * 7 * 7, widths, dropout=dropout)
    return FastRCNN(
        backbone,
        read=read,
        head=BoxHead(RoIPool(size=(7, 7), stride=16), body, Predictor(widths[-1], classes)),
        proposer=PROPOSERS[variant],
        sampling=Sampling(count=64, positives=0.25, overlap=0.5, least=0.1),
        classes=classes,
        channels=channels,
        size=size,
    )
