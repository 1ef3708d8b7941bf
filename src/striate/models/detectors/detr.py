"""DETR: detection as the prediction of a set, without anchors and without suppression.

Carion, Massa, Synnaeve, Usunier, Kirillov, Zagoruyko: "End-to-End Object Detection with Transformers", ECCV 2020,
arXiv 2005.12872. Figure 2 and section 3.2, with the numbers of section 4.2 and appendix A.4:

    backbone     the map of stride 32, C = 2048 channels for ResNet-50      C x H/32 x W/32
    projection   convolution 1 x 1                                        256 x H/32 x W/32
    tokens       one for each place, with a position of sines             (HW / 32^2) x 256
    encoder      6 x [attention to all places; full layers of 2048]       (HW / 32^2) x 256
    decoder      6 x [attention among the queries; to the places; full layers of 2048]  100 x 256
    head         of each query: classes and "no object"                   100 x (K + 1)
                 box, by three full layers: centre and size, 0 to 1       100 x 4

    network       backbone      parameters   GFLOPS   AP on COCO (table 1)
    DETR          ResNet-50            41M       86   42.0
    DETR-DC5      ResNet-50            41M      187   43.3
    DETR-R101     ResNet-101           60M      152   43.5

DC5 takes the stride out of the backbone's last stage and dilates it: a map of stride 16, with four times the tokens.

Attention has 8 heads; its weights and the layers' outputs have dropout of 0.1; layer normalisation follows every sum
("post-norm"). Positions are added to queries and keys of every attention (figure 10): those of the places are sines
and cosines of 64 frequencies for the row and as many for the column, those of the 100 queries are learned.

Training pairs each object with one query, exactly, at the least sum of costs (equation 1): minus the probability of its
class, 5 times the L1 distance and minus 2 times the GIoU of the boxes. Then each query is taught its object's class, or
"no object" with a tenth of the weight (section 3.1), and its box by the same L1 distance and GIoU, divided by the
number of objects. The heads read every layer of the decoder, normalised by one shared layer, and each layer has its own
pairing and losses.

Boxes are relative to what is image: padding, which attention does not see, is not counted. Every query gives one
object, of its likeliest class but "no object" (section 4); nothing is suppressed.

Weights start as in the authors' code: the transformer's matrices uniform with variance 2 / (fan-in + fan-out), where
queries, keys and values count as one matrix, the queries' positions normal with variance 1, the rest as torch does.

Differences from the paper:
- Normalisations of the backbone are frozen there, trained ones of ImageNet's; here they learn as any other.
- The number of objects that losses are divided by is that of the batch of one process, not of all.
- Queries that find nothing but a crowd or an ignored object (`striate.ops.matching.set_aside`) are not taught "no
  object"; there, crowds are left out of the truth.

Letters: B images, C channels, H height, W width, K classes, D width of a token, Q queries, L layers of the decoder,
N objects of one image, h and w height and width of the map.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.core.batch import Batch
from striate.core.instances import Assigned, Instances
from striate.errors import UsageError
from striate.models.backbones import resnet
from striate.models.contract import Backbone, Detector, Stage, pyramid_stages
from striate.models.official import COCO, scene_input
from striate.models.weights import ClassRows, Names, Origin
from striate.nn.attention import Attention
from striate.ops.boxes import clip, from_form, generalised_iou, to_form
from striate.ops.matching import assign, set_aside, taught
from striate.ops.suppression import Suppression

CLASS, L1, GIOU = 1.0, 5.0, 2.0  # weights of the losses and of the costs: appendix A.4, and the authors' code
NO_OBJECT = 0.1  # weight of the class "no object", section 3.1
TEMPERATURE = 10_000  # of the positions' frequencies, Vaswani et al. 2017, section 3.5
EPS = 1e-6  # of the positions, in the authors' code


@dataclass(frozen=True, kw_only=True)
class Spec:
    """The transformer."""

    dilated: bool = False  # DC5, section 4
    width: int = 256  # D, section 4.2
    heads: int = 8  # section 4.2
    hidden: int = 2048  # of the full layers between, in the authors' code
    encoder: int = 6  # layers, section 4.2
    decoder: int = 6  # L, section 4.2
    queries: int = 100  # Q, section 4
    dropout: float = 0.1  # appendix A.4


VARIANTS: dict[str, Spec] = {"detr": Spec(), "detr_dc5": Spec(dilated=True)}


class FullLayers(nn.Module):
    """Two full layers with a rectifier between them, of every token for itself."""

    def __init__(self, spec: Spec):
        super().__init__()
        self.expand = nn.Linear(spec.width, spec.hidden)
        self.dropout = nn.Dropout(spec.dropout)
        self.contract = nn.Linear(spec.hidden, spec.width)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, tokens, D) to the same."""
        return self.contract(self.dropout(F.relu(self.expand(x))))


class EncoderLayer(nn.Module):
    """All places attend to all (figure 10, left)."""

    def __init__(self, spec: Spec):
        super().__init__()
        self.attention = Attention(spec.width, spec.heads, dropout=spec.dropout)
        self.norm1 = nn.LayerNorm(spec.width)
        self.full = FullLayers(spec)
        self.norm2 = nn.LayerNorm(spec.width)
        self.dropout = nn.Dropout(spec.dropout)

    def forward(self, x: Tensor, positions: Tensor, seen: Tensor | None) -> Tensor:
        """From (B, h w, D) tokens to the same; ``positions`` (B, h w, D), ``seen`` (B, h w) bool or None for all."""
        placed = x + positions
        x = self.norm1(x + self.dropout(self.attention(placed, placed, x, seen=seen)))
        return self.norm2(x + self.dropout(self.full(x)))


class DecoderLayer(nn.Module):
    """The queries attend to each other, then to the places (figure 10, right)."""

    def __init__(self, spec: Spec):
        super().__init__()
        self.attention = Attention(spec.width, spec.heads, dropout=spec.dropout)
        self.norm1 = nn.LayerNorm(spec.width)
        self.lookup = Attention(spec.width, spec.heads, dropout=spec.dropout)
        self.norm2 = nn.LayerNorm(spec.width)
        self.full = FullLayers(spec)
        self.norm3 = nn.LayerNorm(spec.width)
        self.dropout = nn.Dropout(spec.dropout)

    def forward(self, x: Tensor, queries: Tensor, memory: Tensor, keys: Tensor, seen: Tensor | None) -> Tensor:
        """The next state of the queries.

        Args:
            x: (B, Q, D), the state so far.
            queries: (Q, D), their positions.
            memory: (B, h w, D), what the encoder gives.
            keys: (B, h w, D), the same with positions.
            seen: (B, h w) bool, the places that are image; None: all.
        """
        asking = x + queries
        x = self.norm1(x + self.dropout(self.attention(asking, asking, x)))
        x = self.norm2(x + self.dropout(self.lookup(x + queries, keys, memory, seen=seen)))
        return self.norm3(x + self.dropout(self.full(x)))


class Head(nn.Module):
    """Class and box of every query, from its state (section 3.2, "prediction feed-forward networks")."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.classify = nn.Linear(width, classes + 1)
        self.locate = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """From (..., D) to (..., K + 1) logits, "no object" last, and (..., 4) centres and sizes, 0 to 1."""
        return self.classify(x), self.locate(x).sigmoid()


class Detr(Detector):
    """DETR around a backbone.

    Attributes:
        reads: the place of the map that is read among the backbone's stages.
        queries: (Q, D), the learned positions of the queries.
    """

    def __init__(self, spec: Spec, backbone: Backbone, *, classes: int, channels: int, size: tuple[int, int]):
        super().__init__()
        self.classes, self.channels, self.size = classes, channels, size
        self.suppression = Suppression(kind="none", score=0.0, candidates=spec.queries, limit=spec.queries)
        self.backbone = backbone
        if spec.dilated:
            dilate(backbone)
        (self.reads,) = pyramid_stages(backbone, (16 if spec.dilated else 32,), "DETR")
        self.projection = nn.Conv2d(backbone.stages[self.reads].channels, spec.width, 1)
        self.encoder = nn.ModuleList(EncoderLayer(spec) for _ in range(spec.encoder))
        self.decoder = nn.ModuleList(DecoderLayer(spec) for _ in range(spec.decoder))
        self.norm = nn.LayerNorm(spec.width)
        self.queries = nn.Parameter(torch.empty(spec.queries, spec.width))
        self.head = Head(spec.width, classes)
        if not self.queries.is_meta:
            self._initialise()

    def _initialise(self) -> None:
        nn.init.normal_(self.queries)
        for module in (*self.encoder.modules(), *self.decoder.modules()):
            if isinstance(module, FullLayers):
                nn.init.xavier_uniform_(module.expand.weight)
                nn.init.xavier_uniform_(module.contract.weight)
            elif isinstance(module, Attention):
                for layer in (module.query, module.key, module.value):  # of fan-in D and, together, fan-out 3 D
                    nn.init.xavier_uniform_(layer.weight, gain=math.sqrt((1 + 1) / (1 + 3)))
                nn.init.xavier_uniform_(module.project.weight)
                for layer in (module.query, module.key, module.value, module.project):
                    nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """What every query has found, by the decoder's last layer.

        Args:
            images: (B, channels, H, W) float32, normalised, without padding.

        Returns:
            ``logits`` (B, Q, K + 1), "no object" last; ``boxes`` (B, Q, 4), centre and size relative to the image.
        """
        logits, boxes = self.every_layer(images, None)
        return {"logits": logits[-1], "boxes": boxes[-1]}

    def every_layer(self, images: Tensor, sizes: Tensor | None) -> tuple[Tensor, Tensor]:
        """What every query has found, by each layer of the decoder.

        Args:
            images: (B, channels, H, W) float32, normalised.
            sizes: (B, 2) int64, height and width of what is image; None: there is no padding.

        Returns:
            (L, B, Q, K + 1) logits and (L, B, Q, 4) boxes, float32, as `forward` gives them.
        """
        if sizes is not None and bool((sizes.cpu() == torch.tensor(images.shape[2:])).all()):
            sizes = None
        features = self.projection(self.backbone(images)[self.reads])
        rows, columns = self._rulers(images, features, sizes)
        positions = sine_positions(rows, columns, features.shape[1]).to(features.dtype)
        seen = None if sizes is None else (rows[:, :, None] & columns[:, None]).flatten(1)

        memory = features.flatten(2).transpose(1, 2)
        for layer in self.encoder:
            memory = layer(memory, positions, seen)
        keys = memory + positions

        x = torch.zeros_like(self.queries).expand(len(images), -1, -1)
        states: list[Tensor] = []
        for layer in self.decoder:
            x = layer(x, self.queries, memory, keys, seen)
            states.append(self.norm(x))
        logits, boxes = self.head(torch.stack(states))
        return logits.float(), boxes.float()

    @staticmethod
    def _rulers(images: Tensor, features: Tensor, sizes: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, h) and (B, w) bool: the rows and columns of the map that are image, by their first pixel."""
        device, count = images.device, len(images)
        height, width = features.shape[2:]
        if sizes is None:
            return torch.ones(count, height, device=device).bool(), torch.ones(count, width, device=device).bool()
        first = [
            (torch.arange(side, device=device) * (whole / side)).floor()
            for side, whole in zip(features.shape[2:], images.shape[2:], strict=True)
        ]
        limits = sizes.to(device)
        return first[0] < limits[:, :1], first[1] < limits[:, 1:]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The set prediction loss (equation 2), with its weights.

        Args:
            batch: as the contract says.

        Returns:
            ``class``, ``l1`` and ``giou`` of the last layer, and ``auxiliary``, the sum of all three over the layers
            before it.
        """
        logits, boxes = self.every_layer(batch.images, batch.content)
        layers = layer_losses(logits, boxes, self._truths(batch))
        last = {name: values[-1] for name, values in layers.items()}
        return last | {"auxiliary": torch.stack([values[:-1].sum() for values in layers.values()]).sum()}

    @torch.no_grad()
    def detect(self, images: Tensor, sizes: Tensor) -> list[Instances]:
        """As the contract says; of each query one object, unless `suppression` was changed."""
        logits, boxes = (found[-1] for found in self.every_layer(images, sizes))
        scores, labels = logits.softmax(-1)[..., :-1].max(-1)
        corners = from_form(boxes, "cxcywh") * _scale(sizes.to(boxes))[:, None]
        return [
            self.suppression(clip(boxes, size), scores, labels)
            for boxes, scores, labels, size in zip(corners, scores, labels, sizes.tolist(), strict=True)
        ]

    @torch.no_grad()
    def assigned(self, batch: Batch) -> list[Assigned]:
        """The queries that the last layer's pairing gives the objects, with the boxes that they predict now."""
        logits, boxes = (found[-1:] for found in self.every_layer(batch.images, batch.content))
        truths = self._truths(batch)
        (pairs,) = pair(logits, boxes, truths)
        corners = from_form(boxes[0], "cxcywh") * _scale(batch.content.to(boxes))[:, None]
        return [
            Assigned(
                kind="query",
                boxes=corners[image, queries],
                objects=truth.rows[objects],
                levels=torch.zeros_like(objects),
            )
            for image, (truth, (queries, objects)) in enumerate(zip(truths, pairs, strict=True))
        ]

    def first_loss(self) -> float:
        """Guessed: every class as likely as any, and boxes of half the image for objects of a third of it.

        The L1 distance is then 2/3, if objects lie anywhere, and GIoU about 0.
        """
        return len(self.decoder) * (CLASS * math.log(self.classes + 1) + L1 * 2 / 3 + GIOU)

    def class_layers(self) -> dict[str, ClassRows]:
        """As `Detector.class_layers`."""
        return {"head.classify": ClassRows(after=1)}

    @staticmethod
    def _truths(batch: Batch) -> "list[Truth]":
        found: list[Truth] = []
        for objects, size in zip(batch.instances, batch.content, strict=True):
            kept = taught(objects)
            scale = _scale(size.to(objects.boxes))
            found.append(
                Truth(
                    labels=objects.labels[kept],
                    boxes=to_form(objects.boxes[kept], "cxcywh") / scale,
                    rows=kept.nonzero()[:, 0],
                    aside=Instances(
                        boxes=objects.boxes[~kept] / scale, labels=objects.labels[~kept], crowd=~kept[~kept]
                    ),
                )
            )
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """The objects of one image, as DETR learns them."""

    labels: Tensor  # (N,) int64
    boxes: Tensor  # (N, 4) float32, centre and size relative to the image
    rows: Tensor  # (N,) int64, which of the image's objects they are
    aside: Instances  # the others, that teach nothing, relative to the image


def _scale(sizes: Tensor) -> Tensor:
    """(..., 4) from heights and widths (..., 2): what turns relative boxes into pixels."""
    return torch.cat((sizes, sizes), dim=-1)[..., [1, 0, 3, 2]]


def sine_positions(rows: Tensor, columns: Tensor, width: int) -> Tensor:
    """Positions of the places of a map, as sines and cosines (section 3.2; Parmar et al. 2018).

    The first half of a token tells the row, the second half the column; each counts the places that are image up to
    this one, divided by all of them, times 2 pi, times frequencies that fall from 1 to 1 / `TEMPERATURE`. Places that
    are padding get some number, which nothing reads.

    Args:
        rows: (B, h) bool, the rows that are image.
        columns: (B, w) bool.
        width: D, a multiple of 4.

    Returns:
        (B, h w, D) float32.
    """
    (batch, height), across = rows.shape, columns.shape[1]
    exponents = torch.arange(0, width // 2, 2, device=rows.device) / (width // 2)
    periods = TEMPERATURE**exponents

    def waves(inside: Tensor) -> Tensor:
        count = inside.cumsum(1)
        angles = (count / (count[:, -1:] + EPS) * 2 * math.pi)[..., None] / periods
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(2)

    down = waves(rows)[:, :, None].expand(-1, -1, across, -1)
    along = waves(columns)[:, None].expand(-1, height, -1, -1)
    return torch.cat((down, along), dim=-1).reshape(batch, height * across, width)


@torch.no_grad()
def pair(logits: Tensor, boxes: Tensor, truths: list[Truth]) -> list[list[tuple[Tensor, Tensor]]]:
    """The queries of the objects, by layer and by image, at the least sum of costs (equation 1).

    Args:
        logits: (L, B, Q, K + 1).
        boxes: (L, B, Q, 4), centre and size, relative.
        truths: B of them.

    Returns:
        For each layer and image two int64 tensors on the device of ``boxes``: queries, ascending, and the object of
        each. Where there are more objects than queries, some get none.
    """
    labels = torch.cat([truth.labels for truth in truths])
    objects = torch.cat([truth.boxes for truth in truths])
    likely = logits.softmax(-1)[..., labels]  # (L, B, Q, objects of all images)
    distance = torch.cdist(boxes, objects.expand(*boxes.shape[:2], -1, -1), p=1)
    agreement = generalised_iou(from_form(boxes, "cxcywh")[..., None, :], from_form(objects, "cxcywh"))
    costs = (L1 * distance - CLASS * likely - GIOU * agreement).cpu()  # once: every copy waits for the device
    counts = [len(truth.labels) for truth in truths]

    def one(own: Tensor) -> tuple[Tensor, Tensor]:
        queries, found = assign(own)
        return queries.to(boxes.device), found.to(boxes.device)

    return [[one(whole[image]) for image, whole in enumerate(layer.split(counts, dim=-1))] for layer in costs]


def layer_losses(logits: Tensor, boxes: Tensor, truths: list[Truth]) -> dict[str, Tensor]:
    """The losses of every layer of the decoder.

    Args:
        logits: (L, B, Q, K + 1).
        boxes: (L, B, Q, 4), centre and size, relative.
        truths: B of them.

    Returns:
        ``class``, ``l1`` and ``giou``, weighted, (L,) each.
    """
    count = max(1, sum(len(truth.labels) for truth in truths))
    nothing = logits.shape[-1] - 1
    importance = torch.ones(nothing + 1, device=logits.device)
    importance[nothing] = NO_OBJECT
    corners = from_form(boxes.detach(), "cxcywh")

    found: dict[str, list[Tensor]] = {"class": [], "l1": [], "giou": []}
    for layer, pairs in enumerate(pair(logits, boxes, truths)):
        targets = torch.full(logits.shape[1:3], nothing, device=logits.device)
        weights = torch.ones(logits.shape[1:3], device=logits.device)
        predicted: list[Tensor] = []
        wanted: list[Tensor] = []
        for image, (truth, (queries, objects)) in enumerate(zip(truths, pairs, strict=True)):
            weights[image, set_aside(corners[layer, image], truth.aside)] = 0
            weights[image, queries] = 1
            targets[image, queries] = truth.labels[objects]
            predicted.append(boxes[layer, image, queries])
            wanted.append(truth.boxes[objects])
        weights = weights * importance[targets]
        wrong = F.cross_entropy(logits[layer].flatten(0, 1), targets.flatten(), reduction="none")
        ours, theirs = torch.cat(predicted), torch.cat(wanted)
        found["class"].append(CLASS * (wrong * weights.flatten()).sum() / weights.sum().clamp(min=NO_OBJECT))
        found["l1"].append(L1 * (ours - theirs).abs().sum() / count)
        agreement = generalised_iou(from_form(ours, "cxcywh"), from_form(theirs, "cxcywh"))
        found["giou"].append(GIOU * (1 - agreement).sum() / count)
    return {name: torch.stack(values) for name, values in found.items()}


def dilate(backbone: Backbone) -> None:
    """Take the stride of a ResNet's last stage away, in place, and dilate what follows it (DC5).

    As torchvision does, which the authors use: the first block, which had the stride, is not dilated.

    Raises:
        UsageError: another network.
    """
    if not isinstance(backbone, resnet.ResNet):
        raise UsageError("detr_dc5 dilates the last stage of a ResNet, which this backbone is not: take resnet50, say.")
    for number, block in enumerate(backbone.stage4):
        for layer in block.modules():
            if isinstance(layer, nn.Conv2d):
                layer.stride = (1, 1)
                if number and layer.kernel_size == (3, 3):
                    layer.dilation = layer.padding = (2, 2)
    last = backbone.stages[-1]
    backbone.stages = (*backbone.stages[:-1], Stage(name=last.name, channels=last.channels, stride=last.stride // 2))


def build(variant: str, backbone: Backbone, *, classes: int, channels: int, size: tuple[int, int]) -> Detr:
    """A network of `VARIANTS` around any backbone with a map of stride 32; ``size`` is only noted."""
    return Detr(VARIANTS[variant], backbone, classes=classes, channels=channels, size=size)


def _of_backbone(before: str, library: str) -> Names:
    """The rows of the published backbone, whose names there begin with ``before``."""
    rows = (row for row in resnet.origins("resnet50")[library].names if row[1].startswith("backbone."))
    return tuple((before + row[0], row[1]) for row in rows)


_LOCATE = (
    ("bbox_embed.layers.0.{p}", "head.locate.0.{p}"),
    ("bbox_embed.layers.1.{p}", "head.locate.2.{p}"),
    ("bbox_embed.layers.2.{p}", "head.locate.4.{p}"),
)

# The authors' files, with queries, keys and values in one tensor.
AUTHORS: Names = (
    *_of_backbone("backbone.0.body.", "torchvision"),
    ("transformer.encoder.layers.{i}.self_attn.out_proj.{p}", "encoder.{i}.attention.project.{p}"),
    ("transformer.encoder.layers.{i}.self_attn.{part}.{p}", "encoder.{i}.attention.{part}.{p}"),
    ("transformer.decoder.layers.{i}.self_attn.out_proj.{p}", "decoder.{i}.attention.project.{p}"),
    ("transformer.decoder.layers.{i}.self_attn.{part}.{p}", "decoder.{i}.attention.{part}.{p}"),
    ("transformer.decoder.layers.{i}.multihead_attn.out_proj.{p}", "decoder.{i}.lookup.project.{p}"),
    ("transformer.decoder.layers.{i}.multihead_attn.{part}.{p}", "decoder.{i}.lookup.{part}.{p}"),
    ("transformer.{stack}.layers.{i}.linear1.{p}", "{stack}.{i}.full.expand.{p}"),
    ("transformer.{stack}.layers.{i}.linear2.{p}", "{stack}.{i}.full.contract.{p}"),
    ("transformer.{stack}.layers.{i}.{norm}.{p}", "{stack}.{i}.{norm}.{p}"),
    ("transformer.decoder.norm.{p}", "norm.{p}"),
    ("query_embed.weight", "queries"),
    ("input_proj.{p}", "projection.{p}"),
    ("class_embed.{p}", "head.classify.{p}"),
    *_LOCATE,
)


def _transformers(backbone: str, out: str, full: str) -> Names:
    """Names in Hugging Face's transformers, whose files and modules differ in three places."""
    parts = (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), (out, "project"))
    return (
        *_of_backbone(f"model.{backbone}.model.", "timm"),
        *(
            (f"model.{stack}.layers.{{i}}.{there}.{theirs}.{{p}}", f"{stack}.{{i}}.{here}.{ours}.{{p}}")
            for stack, there, here in (
                ("encoder", "self_attn", "attention"),
                ("decoder", "self_attn", "attention"),
                ("decoder", "encoder_attn", "lookup"),
            )
            for theirs, ours in parts
        ),
        (f"model.{{stack}}.layers.{{i}}.{full}fc1.{{p}}", "{stack}.{i}.full.expand.{p}"),
        (f"model.{{stack}}.layers.{{i}}.{full}fc2.{{p}}", "{stack}.{i}.full.contract.{p}"),
        ("model.{stack}.layers.{i}.self_attn_layer_norm.{p}", "{stack}.{i}.norm1.{p}"),
        ("model.decoder.layers.{i}.encoder_attn_layer_norm.{p}", "decoder.{i}.norm2.{p}"),
        ("model.encoder.layers.{i}.final_layer_norm.{p}", "encoder.{i}.norm2.{p}"),
        ("model.decoder.layers.{i}.final_layer_norm.{p}", "decoder.{i}.norm3.{p}"),
        ("model.decoder.layernorm.{p}", "norm.{p}"),
        ("model.query_position_embeddings.weight", "queries"),
        ("model.input_projection.{p}", "projection.{p}"),
        ("class_labels_classifier.{p}", "head.classify.{p}"),
        *((there.replace("bbox_embed", "bbox_predictor"), here) for there, here in _LOCATE),
    )


def origins(variant: str) -> dict[str, Origin]:
    """Libraries that have the network ``variant`` of `VARIANTS` around a ResNet too."""
    stacked = tuple(
        (f"{layer}.in_proj_{{p}}", tuple(f"{layer}.{part}.{{p}}" for part in ("query", "key", "value")))
        for layer in (
            "transformer.{stack}.layers.{i}.self_attn",
            "transformer.{stack}.layers.{i}.multihead_attn",
        )
    )
    seen = scene_input((800, 1066))
    return {
        "authors": Origin(
            model=variant.replace("detr", "detr_resnet50"), names=AUTHORS, stacked=stacked, input=seen, classes=COCO
        ),
        "transformers": Origin(
            model="facebook/" + variant.replace("detr", "detr-resnet-50").replace("_", "-"),
            names=_transformers("backbone.conv_encoder", "out_proj", "") + _transformers("backbone", "o_proj", "mlp."),
            input=seen,
            classes=COCO,
        ),
    }
