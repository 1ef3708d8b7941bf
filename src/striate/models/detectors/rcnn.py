"""R-CNN: every proposal is cut out, warped to one size and classified by itself.

Girshick, Donahue, Darrell, Malik: "Rich Feature Hierarchies for Accurate Object Detection and Semantic Segmentation",
CVPR 2014, arXiv 1311.2524.

                  rcnn                                               rcnn_windows
    proposals     selective search, fast, about 2000                 sliding windows, fewer than Fast R-CNN's
                  (section 2.1), from the extra `selective-search`
    crop          the proposal with 16 pixels of the warped crop around it, warped to 227x227; what lies outside the
                  image is the mean, 0 (section 2.1, appendix A)
    network       AlexNet: pool5, fc6 4096, fc7 4096 (section 2.1); any other backbone: its last map, averaged
    siblings      K + 1 logits, 4 deltas for each class
    learnt from   128 crops, 32 of them on objects (IoU of 0.5 or more), the rest background (section 2.3)

                     parameters, 20 classes    published
    rcnn                         57,434,025    mAP 58.5 on VOC 2007 (table 2)

Differences:
- The softmax of the fine-tuning classifies, and the deltas are learnt along with it as in Fast R-CNN. The paper then
  throws the softmax away, fits one support vector machine per class on fc7, and a ridge regression on pool5 (section
  2.3, appendix C).
- The deltas are those of appendix C, times 10, 10, 5, 5.
- 128 crops of each image, where the paper has 128 of a batch. The objects themselves are among the proposals.
- Crops are warped to 227x227 only where the image's shorter side is 454 or more; else to half of it, a multiple of 32
  and at least 64, with as much less context.

Every crop runs through the whole network: this is for the history and the comparison.

Letters: B images, R crops of all, P proposals, S side of a crop, K classes.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.core.batch import Batch
from striate.core.instances import Assigned, Instances
from striate.models.backbones.alexnet import AlexNet
from striate.models.contract import Backbone, Detector
from striate.models.detectors.fast_rcnn import assigned_proposals
from striate.models.detectors.faster_rcnn import CODER, SUPPRESSION
from striate.models.heads.box import FullLayers, Predictor, Sampling, find, region_losses, sample_regions
from striate.models.proposals import Proposer, SelectiveSearch, SlidingWindows
from striate.models.weights import ClassRows
from striate.ops.suppression import Suppression

SIDE, CONTEXT = 227, 16  # pixels of a crop, and of what is around the proposal in it; section 2.1
TOGETHER = 128  # crops in one pass, when there are no gradients to keep

PROPOSERS: dict[str, Proposer] = {
    "rcnn": SelectiveSearch(),
    "rcnn_windows": SlidingWindows(scales=(0.25, 0.35, 0.5, 0.7, 1.0), step=1 / 3),
}


class RCNN(Detector):
    """A classifier of crops.

    Attributes:
        proposer: where the proposals come from; its ``name`` says so.

    Args:
        backbone: of the crops.
        body: from its last map to (R, F).
        predictor: from these to logits and deltas.
        proposer: proposes.
        side: S.
        context: pixels of a crop around the proposal.
        classes: K.
        channels: of the images.
        size: height and width of the images.
        sampling: the proposals to learn from.
        suppression: how `detect` chooses.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        body: nn.Module,
        predictor: Predictor,
        proposer: Proposer,
        side: int,
        context: float,
        classes: int,
        channels: int,
        size: tuple[int, int],
        sampling: Sampling,
        suppression: Suppression = SUPPRESSION,
    ):
        super().__init__()
        self.backbone = backbone
        self.body = body
        self.predictor = predictor
        self.proposer = proposer
        self.side = side
        self.context = context
        self.classes = classes
        self.channels = channels
        self.size = size
        self.sampling = sampling
        self.suppression = suppression

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of a crop."""
        return self.side, self.side

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """What the network says of crops that are cut out already.

        Args:
            images: (R, channels, S, S) float32, normalised: crops, as `warp` makes them.

        Returns:
            ``logits`` (R, K + 1), background first, and ``deltas`` (R, K + 1, 4) of the proposals.
        """
        logits, deltas = self.predictor(self.body(self.backbone(images)[-1]))
        return {"logits": logits, "deltas": deltas}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """``class`` and ``box``."""
        proposals = self.proposer(batch.images, batch.content)
        regions = sample_regions(proposals, list(batch.instances), self.sampling)
        found = self(warp(batch.images, regions.boxes, self.side, self.context))
        classes, boxes = region_losses(found["logits"], found["deltas"], regions, CODER, beta=1.0)
        return {"class": classes, "box": boxes}

    def detect(self, images: Tensor, sizes: Tensor) -> list[Instances]:
        """As `Detector.detect`."""
        proposals = self.proposer(images, sizes)
        parts = [
            self(warp(images[place, None], [some], self.side, self.context))
            for place, boxes in enumerate(proposals)
            for some in boxes.split(TOGETHER)
        ]
        logits, deltas = (torch.cat([part[name] for part in parts]) for name in ("logits", "deltas"))
        return find(logits.softmax(dim=1), deltas, proposals, sizes, coder=CODER, suppression=self.suppression)

    def assigned(self, batch: Batch) -> list[Assigned]:
        """The proposals that are on an object, drawn or not."""
        return assigned_proposals(self.proposer(batch.images, batch.content), batch, self.sampling)

    def first_loss(self) -> float:
        """Logits near 0, and deltas near 0 of up to a quarter of the crops: about a half."""
        return math.log(self.classes + 1) + 0.5

    def class_layers(self) -> dict[str, ClassRows]:
        """As `Detector.class_layers`."""
        return {f"predictor.{name}": rows for name, rows in self.predictor.class_layers().items()}


def warp(images: Tensor, boxes: Sequence[Tensor], side: int, context: float) -> Tensor:
    """Proposals and what is around them, warped to squares whatever their shape (appendix A).

    Args:
        images: (B, C, H, W).
        boxes: B times (N, 4), in pixels of the images.
        side: S.
        context: pixels of the crop on each side that lie outside the box.

    Returns:
        (R, C, S, S) crops; what lies outside an image is 0.
    """
    height, width = images.shape[2:]
    crops: list[Tensor] = []
    # Where the middle of each of the crop's pixels lies in the box: from 0, one border of it, to 1, the other.
    inner = (torch.arange(side, device=images.device) + 0.5 - context) / (side - 2 * context)
    for image, regions in zip(images, boxes, strict=True):
        x = regions[:, 0, None] + inner * (regions[:, 2] - regions[:, 0])[:, None]
        y = regions[:, 1, None] + inner * (regions[:, 3] - regions[:, 1])[:, None]
        grid = torch.stack(
            (
                (2 * x / width - 1)[:, None, :].expand(-1, side, -1),
                (2 * y / height - 1)[:, :, None].expand(-1, -1, side),
            ),
            dim=-1,
        )
        sheet = image[None].expand(len(regions), -1, -1, -1)
        crops.append(F.grid_sample(sheet, grid.to(image.dtype), align_corners=False))
    return torch.cat(crops)


def build(variant: str, backbone: Backbone, *, classes: int, channels: int, size: tuple[int, int]) -> RCNN:
    """With the proposals of `PROPOSERS` and any backbone."""
    side = min(SIDE, max(64, min(size) // 2 // 32 * 32)) if min(size) < 2 * SIDE else SIDE
    features = backbone.stages[-1].channels
    if isinstance(backbone, AlexNet):
        body = nn.Sequential(nn.AdaptiveAvgPool2d(6), FullLayers(features * 6 * 6, (4096, 4096), dropout=0.5))
        features = 4096
    else:
        body = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return RCNN(
        backbone,
        body=body,
        predictor=Predictor(features, classes),
        proposer=PROPOSERS[variant],
        side=side,
        context=CONTEXT * side / SIDE,
        sampling=Sampling(count=128, positives=0.25, overlap=0.5),
        classes=classes,
        channels=channels,
        size=size,
    )
