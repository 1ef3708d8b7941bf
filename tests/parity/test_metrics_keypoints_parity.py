"""OKS and the precision on it against pycocotools; PCK and NME by hand."""

import contextlib
import io
import pickle

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from striate.core.instances import Instances, InstanceSets
from striate.errors import DataError, DivergedError
from striate.metrics.keypoints import COCO_SIGMAS, KeypointMetric

NAMES = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")


class Reference(COCOeval):
    """pycocotools, which also honours "ignore": its own `_prepare` overwrites it with "iscrowd"."""

    def _prepare(self):
        super()._prepare()
        for annotations in self._gts.values():
            for annotation in annotations:
                annotation["ignore"] = annotation["ignore"] or annotation["set_aside"]


def draw(
    seed: int,
    *,
    images: int,
    classes: int = 1,
    points: int = 17,
    crowd: float = 0.0,
    ignore: float = 0.0,
    areas: bool = True,
    ties: bool = False,
    found: int = 8,
) -> tuple[InstanceSets, InstanceSets]:
    """Objects, a sixth of them without a labelled point, and detections near them."""
    generator = np.random.default_rng(seed)
    predictions, truths = [], []
    for _ in range(images):
        count = generator.integers(0, 5) * (generator.random() > 0.2)
        corner = generator.uniform(0, 300, (count, 1, 2))
        size = np.exp(generator.uniform(np.log(15), np.log(200), (count, 1, 2)))
        true = corner + size * generator.random((count, points, 2))
        visibility = generator.integers(0, 3, (count, points)) * (generator.random((count, 1)) > 1 / 6)
        truths.append(
            Instances(
                boxes=torch.from_numpy(np.concatenate((corner, corner + size), 2)[:, 0]).float(),
                labels=torch.from_numpy(generator.integers(0, classes, count)),
                keypoints=torch.from_numpy(np.concatenate((true, visibility[..., None]), 2)).float(),
                crowd=torch.from_numpy(generator.random(count) < crowd) if crowd else None,
                ignore=torch.from_numpy(generator.random(count) < ignore) if ignore else None,
                areas=torch.from_numpy(size[:, 0].prod(1) * generator.uniform(0.3, 0.8, count)).float()
                if areas
                else None,
            )
        )
        many = generator.integers(0, found + 1)
        if count:
            source = generator.integers(0, count, many)
            noise = generator.normal(0, 1, (many, points, 2)) * generator.choice([0.02, 0.05, 0.2], (many, 1, 1))
            near, labels = true[source] + noise * size[source], truths[-1].labels.numpy()[source]
        else:
            near, labels = generator.uniform(0, 300, (many, points, 2)), generator.integers(0, classes, many)
        scores = generator.random(many)
        scores = (scores * 4).round() / 4 if ties else scores
        predictions.append(
            Instances(
                boxes=torch.from_numpy(np.concatenate((near.min(1), near.max(1)), 1)).float(),
                labels=torch.from_numpy(labels),
                scores=torch.from_numpy(scores).float(),
                keypoints=torch.from_numpy(np.concatenate((near, np.ones((many, points, 1))), 2)).float(),
            )
        )
    return InstanceSets.of(predictions), InstanceSets.of(truths)


def reference(predictions: InstanceSets, truths: InstanceSets, classes: int, sigmas: np.ndarray) -> COCOeval:
    annotations, results = [], []
    for image, (true, mine) in enumerate(zip(truths, predictions, strict=True), 1):
        for k in range(len(true)):
            x1, y1, x2, y2 = true.boxes[k].tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(true.labels[k]) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1) if true.areas is None else float(true.areas[k]),
                    "iscrowd": 0 if true.crowd is None else int(true.crowd[k]),
                    "set_aside": 0 if true.ignore is None else int(true.ignore[k]),
                    "keypoints": true.keypoints[k].flatten().tolist(),
                    "num_keypoints": int((true.keypoints[k, :, 2] > 0).sum()),
                }
            )
        for k in range(len(mine)):
            results.append(  # noqa: PERF401
                {
                    "image_id": image,
                    "category_id": int(mine.labels[k]) + 1,
                    "keypoints": mine.keypoints[k].flatten().tolist(),
                    "score": float(mine.scores[k]),
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = {
            "images": [{"id": image} for image in range(1, len(truths) + 1)],
            "categories": [{"id": label} for label in range(1, classes + 1)],
            "annotations": annotations,
        }
        ground.createIndex()
        evaluation = Reference(ground, ground.loadRes(results), "keypoints")
        evaluation.params.kpt_oks_sigmas = sigmas
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


CASES = {
    "plain": {"images": 40},
    "crowds": {"images": 60, "crowd": 0.2},
    "to be ignored": {"images": 60, "ignore": 0.2},
    "several classes, areas of boxes": {"images": 60, "classes": 3, "areas": False},
    "ties": {"images": 60, "ties": True, "crowd": 0.1},
    "more than twenty detections": {"images": 15, "found": 60},
    "four corners": {"images": 40, "points": 4},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [1, 2])
def test_against_pycocotools(case: str, seed: int, capfd: pytest.CaptureFixture[str]):
    options = CASES[case]
    classes, points = options.get("classes", 1), options.get("points", 17)
    sigmas = COCO_SIGMAS if points == 17 else 0.05
    predictions, truths = draw(seed, **options)
    expected = reference(predictions, truths, classes, np.broadcast_to(np.array(sigmas), (points,)))
    metric = KeypointMetric(classes, sigmas=sigmas)
    for rows in (slice(0, 11), slice(11, None)):
        metric.update(predictions.select(rows), truths.select(rows))
    metrics = metric.compute()
    assert metrics == pytest.approx(
        {f"OKS_{name}": value for name, value in zip(NAMES, expected.stats, strict=True) if value > -1}, abs=1e-9
    )
    np.testing.assert_allclose(metric.curves().precision, expected.eval["precision"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(metric.curves().recall, expected.eval["recall"], rtol=0, atol=1e-9)
    for label, row in enumerate(metric.per_class([""] * classes)):
        assert row["OKS_AP"] == pytest.approx(expected.eval["precision"][:, :, label, 0, 0].mean(), abs=1e-9)
    assert capfd.readouterr() == ("", "")


def test_coco_sigmas_are_theirs():
    assert pytest.approx(COCO_SIGMAS, abs=1e-15) == COCOeval(iouType="keypoints").params.kpt_oks_sigmas


def test_similarity_of_pairs_is_that_of_pycocotools():
    _, truths = draw(3, images=50)
    noise = torch.randn(truths.keypoints.shape, generator=torch.Generator().manual_seed(0)) * 6
    found = InstanceSets(
        offsets=truths.offsets,
        boxes=truths.boxes,
        labels=truths.labels,
        scores=torch.rand(len(truths.boxes), generator=torch.Generator().manual_seed(1)),
        keypoints=truths.keypoints + noise,
    )
    evaluation = reference(found, truths, 1, np.array(COCO_SIGMAS))
    expected = []
    for image, (true, mine) in enumerate(zip(truths, found, strict=True), 1):
        if len(true):
            order = np.argsort(-mine.scores.numpy(), kind="stable")
            table = evaluation.ious[image, 1][np.argsort(order)]
            labelled = (true.keypoints[..., 2] > 0).any(1).numpy()
            expected += table.diagonal()[labelled].tolist()
    metric = KeypointMetric(1, sigmas=COCO_SIGMAS)
    metric.update(found, truths)
    assert metric.compute()["OKS"] == pytest.approx(np.mean(expected), abs=1e-12)


def one(points: list[list[float]], **columns: torch.Tensor | None) -> InstanceSets:
    return InstanceSets(
        offsets=torch.tensor([0, 1]),
        boxes=torch.tensor([[0.0, 0.0, 100.0, 50.0]]),
        labels=torch.tensor([0]),
        keypoints=torch.tensor([points]),
        **columns,
    )


TRUE = one([[10, 10, 2], [50, 10, 1], [30, 40, 2], [90, 40, 0]])
FOUND = one([[10, 20, 0], [53, 14, 0], [30, 40.5, 0], [0, 0, 0]])  # 10, 5 and 0.5 away; the fourth does not count


def test_pck_over_the_larger_side_of_the_box():
    metric = KeypointMetric(1, thresholds=(0.1, 0.05, 0.01))
    metric.update(FOUND, TRUE)
    metrics = metric.compute()
    assert metrics["PCK"] == metrics["PCK@0.1"] == 1  # "at most": exactly a tenth of 100 pixels is enough
    assert metrics["PCK@0.05"] == pytest.approx(2 / 3)
    assert metrics["PCK@0.01"] == pytest.approx(1 / 3)
    assert metrics["NME"] == pytest.approx(0.155 / 3, abs=1e-9)
    # Uniform sigmas of 0.05 and the box's area of 5,000 pixels.
    expected = np.exp(-np.array([100, 25, 0.25]) / (2 * 5000 * 0.1**2)).mean()
    assert metrics["OKS"] == pytest.approx(expected, abs=1e-9)
    rows = metric.per_point(["a", "b", "c", "d"])
    assert [row["labelled"] for row in rows] == [1, 1, 1, 0]
    assert rows[1]["NME"] == pytest.approx(0.05)
    assert rows[3] == {"name": "d", "PCK": None, "NME": None, "labelled": 0}


def test_length_between_two_points():
    metric = KeypointMetric(1, length=(0, 1), thresholds=(0.2,))
    metric.update(FOUND, TRUE)
    metrics = metric.compute()
    assert metrics["PCK"] == pytest.approx(2 / 3)
    assert metrics["NME"] == pytest.approx(15.5 / 40 / 3, abs=1e-9)
    unknown = KeypointMetric(1, length=(0, 3))
    unknown.update(FOUND, TRUE)
    assert {"PCK", "NME"}.isdisjoint(unknown.compute())
    assert "OKS" in unknown.compute()


def test_without_scores_and_over_processes():
    predictions, truths = [], []
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        points = torch.cat((torch.rand(1, 4, 2, generator=generator) * 100, torch.full((1, 4, 1), 2.0)), 2)
        box, label = torch.tensor([[0.0, 0.0, 100.0, 100.0]]), torch.tensor([0])
        truths.append(Instances(boxes=box, labels=label, keypoints=points))
        near = points + torch.randn(points.shape, generator=generator) * 5
        predictions.append(Instances(boxes=box, labels=label, keypoints=near))
    pair = InstanceSets.of(predictions), InstanceSets.of(truths)
    whole = KeypointMetric(1)
    whole.update(*pair)
    merged = KeypointMetric(1)
    for process in (1, 0):
        part = KeypointMetric(1)
        rows = torch.arange(process, 40, 2)
        part.update(*(sets.select(rows) for sets in pair), rows)
        part.compute()
        merged.merge(pickle.loads(pickle.dumps(part)))
    assert merged.compute() == whole.compute()
    assert {"PCK", "NME", "OKS", "OKS_AP"} <= set(whole.compute())


def test_what_is_refused():
    metric = KeypointMetric(1, sigmas=COCO_SIGMAS)
    with pytest.raises(ValueError, match="17 sigmas do not fit 4 keypoints"):
        metric.update(FOUND, TRUE)
    metric = KeypointMetric(1)
    with pytest.raises(ValueError, match="predictions have 3 keypoints per object and truths 4"):
        metric.update(one([[1, 1, 1]] * 3), TRUE)
    bare = InstanceSets(offsets=TRUE.offsets, boxes=TRUE.boxes, labels=TRUE.labels)
    with pytest.raises(ValueError, match="predictions must have keypoints"):
        metric.update(bare, TRUE)
    with pytest.raises(DivergedError, match="keypoints of 1 of 1"):
        metric.update(one([[1, float("inf"), 1]] * 4), TRUE)
    metric.update(FOUND, one([[0, 0, 0]] * 4))
    with pytest.raises(DataError, match="No keypoint is labelled"):
        metric.compute()
