"""Weighted boxes fusion against the authors' package."""

import numpy as np
import pytest
import torch
from ensemble_boxes import weighted_boxes_fusion

from striate.core.instances import Instances
from striate.ops.merging import fuse

SIDE = 512.0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 1.0]])
def test_the_authors_boxes_and_scores(seed: int, weights: list[float] | None):
    rng = np.random.default_rng(seed)
    centres, sizes = rng.uniform(0.2, 0.8, (12, 2)), rng.uniform(0.1, 0.35, (12, 2))
    labels = rng.integers(0, 3, 12)
    views: list[Instances] = []
    for _ in range(4):
        seen = rng.random(12) < 0.8
        corners = np.concatenate((centres - sizes / 2, centres + sizes / 2), axis=1)[seen]
        boxes = (corners + rng.normal(0, 0.02, corners.shape)).clip(0, 1)
        views.append(
            Instances(
                boxes=torch.from_numpy(boxes * SIDE).float(),
                labels=torch.from_numpy(labels[seen]),
                scores=torch.from_numpy(rng.random(int(seen.sum()))).float(),
            )
        )
    theirs = weighted_boxes_fusion(
        [(view.boxes.double() / SIDE).tolist() for view in views],
        [view.scores.tolist() for view in views if view.scores is not None],
        [view.labels.tolist() for view in views],
        weights=weights,
        iou_thr=0.55,
    )
    ours = fuse(views, threshold=0.55, weights=weights)
    assert ours.scores is not None
    assert 10 < len(ours) < sum(len(view) for view in views)
    np.testing.assert_allclose(ours.scores, theirs[1], atol=1e-6)
    np.testing.assert_allclose(ours.boxes / SIDE, theirs[0], atol=1e-6)
    np.testing.assert_array_equal(ours.labels, theirs[2])
