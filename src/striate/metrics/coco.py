"""COCO's metrics: average precision and recall over IoU thresholds, sizes of objects and numbers of detections.

Lin et al. 2014, "Microsoft COCO: Common Objects in Context"; the definitions are those of the data set's page on
evaluation and of its reference implementation, pycocotools 2.0, whose results ours equal. hotcoco computes them.

Letters: N images, M objects, K classes.
"""

from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from hotcoco import COCO, COCOeval
from numpy.typing import NDArray

from striate.core.instances import InstanceSets
from striate.errors import DataError
from striate.metrics.gathered import Gathered
from striate.metrics.matching import counted, scores

IOU_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())  # pycocotools, Params.setDetParams: iouThrs
SMALL, MEDIUM = 32**2, 96**2  # the same, areaRng: the greatest area of a small and of a medium object, in pixels
MOST = (1, 10, 100)  # the same, maxDets: detections that count per image and class
# pycocotools overwrites an annotation's own "ignore" with its "iscrowd"; what it does look at is the area. An object
# beyond the greatest range of areas (1e10) is set aside in every range: neither found nor missed.
BEYOND = 2e10


class ClassPrecision(TypedDict):
    """One row of the table by class; a class without objects has no precision."""

    name: str
    AP: float | None
    AP50: float | None
    objects: int  # that count: neither crowd nor to be ignored


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """What COCO's evaluation accumulates; -1 where there is no object.

    Axes: 10 IoU thresholds, 101 recalls from 0 to 1, K classes, areas (all, small, medium, large; for keypoints all,
    medium, large), numbers of detections.
    """

    precision: NDArray[np.float64]  # (10, 101, K, areas, numbers)
    recall: NDArray[np.float64]  # (10, K, areas, numbers)


class DetectionMetric(Gathered):
    """COCO's metrics of boxes, as fractions from 0 to 1.

    - ``AP``: average precision (101-point interpolated), mean over IoU thresholds 0.50, 0.55, ..., 0.95 and classes.
    - ``AP50``, ``AP75``: at one IoU threshold.
    - ``APs``, ``APm``, ``APl``: of objects with areas up to 32^2, up to 96^2, and above.
    - ``AR1``, ``AR10``, ``AR100``: greatest recall with so many detections per image and class, mean over IoU
      thresholds and classes; ``ARs``, ``ARm``, ``ARl``: with 100, by area.

    Means run over the classes that have objects (of that area). Where none has, pycocotools says -1; here the name is
    left out.

    A crowd region swallows the detections of its class that lie inside of it by half or more; an object to be ignored
    takes up one detection. Neither is missed when nothing is found there. The area of an object is its ``areas``, or
    its box's where there is none. Among equal scores the earlier detection and the earlier image come first (see
    `Gathered`).
    """

    def __init__(self, classes: int):
        super().__init__(classes)
        self._curves: tuple[int, Curves] | None = None  # and the number of images that they are of

    def compute(self) -> dict[str, float]:
        """The numbers that the class describes, under their names.

        Raises:
            DataError: no image was taken in, or no object to find is in any.
        """
        curves = self.curves()
        values = {
            "AP": mean_over(curves.precision[..., 0, -1]),
            "AP50": mean_over(curves.precision[0, ..., 0, -1]),
            "AP75": mean_over(curves.precision[5, ..., 0, -1]),
            **{f"AP{size}": mean_over(curves.precision[..., k, -1]) for k, size in enumerate("sml", 1)},
            **{f"AR{most}": mean_over(curves.recall[..., 0, k]) for k, most in enumerate(MOST)},
            **{f"AR{size}": mean_over(curves.recall[..., k, -1]) for k, size in enumerate("sml", 1)},
        }
        return {name: value for name, value in values.items() if value is not None}

    def per_class(self, names: list[str] | tuple[str, ...]) -> list[ClassPrecision]:
        """One row per class, in the order of the labels.

        Args:
            names: K class names.

        Raises:
            DataError: as `compute`.
        """
        precision = self.curves().precision[..., 0, -1]
        _, truths = self.whole()
        counts = np.bincount(truths.labels.numpy()[counted(truths)], minlength=self.classes)
        return [
            ClassPrecision(
                name=name, AP=mean_over(precision[..., k]), AP50=mean_over(precision[0, :, k]), objects=int(counts[k])
            )
            for k, name in zip(range(self.classes), names, strict=True)
        ]

    def curves(self) -> Curves:
        """Precision and recall as COCO accumulates them; raises `DataError` as `compute`."""
        if self._curves is None or self._curves[0] != self.count:
            predictions, truths = self.whole()
            require_objects(truths)
            ground = _ground(truths, self.classes)
            rows = np.empty((len(predictions.boxes), 7))
            rows[:, 0] = predictions.images.numpy() + 1
            rows[:, 1:5] = corner_and_size(predictions)
            rows[:, 5] = scores(predictions)
            rows[:, 6] = predictions.labels.numpy() + 1
            self._curves = self.count, accumulated(COCOeval(ground, ground.load_res(rows), "bbox"))
        return self._curves[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_curves": None}  # megabytes, made again in a second


def accumulated(evaluation: COCOeval) -> Curves:
    """Match and accumulate."""
    evaluation.evaluate()
    evaluation.accumulate()
    assert evaluation.eval is not None
    return Curves(precision=np.asarray(evaluation.eval["precision"]), recall=np.asarray(evaluation.eval["recall"]))


def corner_and_size(objects: InstanceSets) -> NDArray[np.float64]:
    """(M, 4) boxes as COCO has them: x, y, width, height. A box turned inside out is empty."""
    boxes = objects.boxes.double().numpy()
    return np.concatenate((boxes[:, :2], np.maximum(boxes[:, 2:] - boxes[:, :2], 0)), 1)


def require_objects(truths: InstanceSets) -> None:
    """Raise `DataError` where no image has an object to find."""
    if not counted(truths).any():
        raise DataError(
            f"There is no object to find in any of the {len(truths)} images (crowds and objects to be ignored do not "
            "count), so there is no precision to measure. Choose another split or data set."
        )


def _ground(truths: InstanceSets, classes: int) -> COCO:
    assert truths.crowd is not None
    return COCO.from_arrays(
        [{"id": image} for image in range(1, len(truths) + 1)],
        [{"id": label, "name": str(label)} for label in range(1, classes + 1)],
        truths.images.numpy() + 1,
        truths.labels.numpy() + 1,
        corner_and_size(truths),
        area=areas(truths),
        iscrowd=truths.crowd.numpy(),
    )


def areas(truths: InstanceSets) -> NDArray[np.float64]:
    """(M,) areas of the truths of `Gathered.whole`, those to be ignored beyond every range."""
    assert truths.areas is not None
    assert truths.ignore is not None
    return np.where(truths.ignore.numpy(), BEYOND, truths.areas.double().numpy())


def mean_over(values: NDArray[np.float64]) -> float | None:
    """Mean of those that are known; None where none is."""
    known = values[values > -1]
    return float(known.mean()) if known.size else None
