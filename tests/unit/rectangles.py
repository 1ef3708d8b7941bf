"""Rectangles: eight images that a detector can learn by heart, anywhere or in quarters, and white ones to move."""

import numpy as np
import torch
from torch import Tensor

from striate.core.batch import Batch
from striate.core.instances import Instances, InstanceSets
from striate.ops.boxes import iou

HEIGHT, WIDTH = 96, 128  # of images with white rectangles
COLOURS = torch.tensor([[2.0, -1, -1], [-1.0, 2, -1], [-1.0, -1, 2]])  # one per class


def rectangles(count=8, side=96, seed=0):
    """A batch of ``count`` images of ``side`` x ``side`` pixels with one to three rectangles that do not overlap."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.3 * torch.randn(count, 3, side, side, generator=generator)
    truths = []
    for image in images:
        boxes, labels = torch.empty(0, 4), []
        for _ in range(int(torch.randint(1, 4, (), generator=generator))):
            extent = torch.randint(side // 5, side // 2, (2,), generator=generator)
            first = (torch.rand(2, generator=generator) * (side - extent)).long()
            box = torch.cat((first, first + extent)).float()[None]
            if iou(boxes, box).sum() > 0:
                continue
            label = int(torch.randint(3, (), generator=generator))
            x1, y1, x2, y2 = box[0].long().tolist()
            image[:, y1:y2, x1:x2] = COLOURS[label][:, None, None]
            boxes, labels = torch.cat((boxes, box)), [*labels, label]
        truths.append(Instances(boxes=boxes, labels=torch.tensor(labels)))
    sizes = torch.tensor([[side, side]] * count)
    return Batch(images=images, sizes=sizes, truths=InstanceSets.of(truths), indices=torch.arange(count))


def in_quarters(side):
    """As `rectangles`, but each one in a quarter of its own, so that small networks learn them in few steps."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 3, side, side, generator=generator) * 0.3
    truths = []
    for image in images:
        boxes, labels = [], []
        for place in torch.randperm(4, generator=generator)[: int(torch.randint(1, 4, (), generator=generator))]:
            left, top = int(place) % 2 * side // 2, int(place) // 2 * side // 2
            width, height = (torch.rand(2, generator=generator) * 0.2 + 0.25).mul(side).long().tolist()
            label = int(torch.randint(3, (), generator=generator))
            image[:, top : top + height, left : left + width] -= 1
            image[label, top : top + height, left : left + width] += 3
            boxes.append((left, top, left + width, top + height))
            labels.append(label)
        truths.append(Instances(boxes=torch.tensor(boxes, dtype=torch.float32), labels=torch.tensor(labels)))
    sizes = torch.tensor([[side, side]]).expand(8, 2)
    return Batch(images=images, sizes=sizes, truths=InstanceSets.of(truths), indices=torch.arange(8))


def share_found(network, batch, score=0.5):
    """Of all objects and confident predictions, the share that are pairs: same class, IoU of at least a half."""
    network.eval()
    with torch.no_grad():
        found = network.detect(batch.images, batch.sizes)
    pairs = total = 0
    for own, truth in zip(found, batch.instances, strict=True):
        own = own.select(own.scores >= score)
        same = (iou(truth.boxes, own.boxes) >= 0.5) & (truth.labels[:, None] == own.labels[None])
        hits = int(same.any(dim=1).sum())
        pairs += hits
        total += len(truth) + max(len(own) - hits, 0)
    return pairs / total


def learn(network, batch, *, steps, rate=3e-4):
    """Minimise the losses on one batch; gives the total before and after."""
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    totals = []
    for _ in range(steps):
        loss = torch.stack(list(network.losses(batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        totals.append(float(loss.detach()))
    return totals[0], totals[-1]


def white_rectangles(count: int, objects: int = 1, seed: int = 0) -> tuple[Tensor, InstanceSets]:
    """Pictures with white rectangles on black, image i in channel i % 4 of four, with boxes, masks and keypoints."""
    rng = np.random.default_rng(seed)
    images = torch.zeros(count, 4, HEIGHT, WIDTH, dtype=torch.uint8)
    truths: list[Instances] = []
    for i in range(count):
        boxes = torch.zeros(objects, 4)
        masks = torch.zeros(objects, HEIGHT, WIDTH, dtype=torch.bool)
        for j in range(objects):
            x, y = int(rng.integers(0, WIDTH - 50)), int(rng.integers(0, HEIGHT - 50))
            w, h = rng.integers(20, 50, 2).tolist()
            boxes[j] = torch.tensor([x, y, x + w, y + h])
            masks[j, y : y + h, x : x + w] = True
            images[i, i % 4, y : y + h, x : x + w] = 255
        corners = torch.cat(
            (boxes[:, [0, 1, 2, 1]].view(-1, 2, 2), (boxes[:, None, :2] + boxes[:, None, 2:]) / 2), dim=1
        )
        points = torch.cat((corners, torch.full((objects, 3, 1), 2.0)), dim=2)
        truths.append(
            Instances(
                boxes=boxes,
                labels=torch.full((objects,), i % 4),
                masks=masks,
                keypoints=points,
                crowd=torch.zeros(objects, dtype=torch.bool),
                areas=torch.full((objects,), float(i)),
            )
        )
    return images, InstanceSets.of(truths)
