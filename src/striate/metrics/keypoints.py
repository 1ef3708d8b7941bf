"""How well keypoints are placed: PCK, the mean normalised error, and COCO's OKS with the precision built on it.

Letters: N images, M objects, P keypoints, K classes.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from hotcoco import COCO, COCOeval
from numpy.typing import NDArray
from torch import Tensor

from striate.core.instances import InstanceSets
from striate.errors import DataError
from striate.metrics.coco import Curves, accumulated, corner_and_size, mean_over
from striate.metrics.gathered import Gathered
from striate.metrics.matching import Bools, Floats, counted

Length = Literal["box"] | tuple[int, int]  # the box's larger side, or the distance between two true points
# Yang and Ramanan 2013, "Articulated Human Detection with Flexible Mixtures of Parts", where it introduces PCK: within
# alpha * max(height, width) of the box, alpha 0.1 for whole bodies (PARSE) and 0.2 for upper ones (Buffy).
# The third is ours.
THRESHOLDS = (0.1, 0.2, 0.05)
# The points of COCO's persons, by the names of its annotations, and their sigmas: pycocotools, Params.setKpParams.
COCO_POINTS = (
    "nose",
    *(
        f"{side}_{part}"
        for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        for side in ("left", "right")
    ),
)
COCO_SIGMAS = tuple(
    sigma / 10
    for sigma in (0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89)
)
UNIFORM_SIGMA = 0.05  # ours, where none are known: between COCO's eyes (0.025) and ankles (0.089)


def sigmas_of(names: Sequence[str]) -> tuple[float, ...] | float:
    """COCO's sigmas where the points are the 17 of its persons, in any order, else the uniform one.

    Args:
        names: of the points; case, and whether words are apart by ``_``, ``-`` or a space, make no difference.
    """
    known = dict(zip(COCO_POINTS, COCO_SIGMAS, strict=True))
    plain = ["_".join(re.split(r"[\s_-]+", name.casefold().strip())) for name in names]
    return tuple(known[name] for name in plain) if sorted(plain) == sorted(known) else UNIFORM_SIGMA


class PointScores(TypedDict):
    """One row of the table by keypoint; None where no object has it labelled."""

    name: str
    PCK: float | None
    NME: float | None
    labelled: int  # how often it is, of objects with a length


class ClassKeypoints(TypedDict):
    """One row of the table by class; a class without objects has no precision."""

    name: str
    OKS_AP: float | None
    OKS_AP50: float | None
    objects: int  # that count: with a labelled point, neither crowd nor to be ignored


class KeypointMetric(Gathered):
    """PCK, NME and OKS of objects that are paired, and COCO's precision over OKS.

    Where every image has as many predictions as truths, row k of both is the same object, and

    - ``PCK``: percentage of correct keypoints (Yang and Ramanan 2013), as a fraction: of all labelled
      points the share whose distance to the truth is at most a threshold times the object's length. ``PCK`` is at the
      first threshold; ``PCK@0.05`` and so on at each.
    - ``NME``: mean over labelled points of distance over length.
    - ``OKS``: mean over objects of the object keypoint similarity, exp(-d^2 / (2 s^2 k^2)) averaged over labelled
      points, with s^2 the object's area and k twice the point's sigma (COCO, "Keypoint Evaluation").

    Where a detector finds any number of objects, these three are left out. In both cases

    - ``OKS_AP``, ``OKS_AP50``, ``OKS_AP75``, ``OKS_APm``, ``OKS_APl`` and ``OKS_AR``, ``OKS_AR50``, ``OKS_AR75``,
      ``OKS_ARm``, ``OKS_ARl``: COCO's metrics with OKS in place of IoU, 20 detections per image and class. A name is
      left out where no object (of that size) is. COCO takes OKS with the area of an object's mask; with ``areas`` None
      it is the box's.

    A point counts where the truth's visibility is above 0. An object without a labelled point is like one to be
    ignored, and so are crowds. An object whose length is 0, or not known because one of the two points is not labelled,
    is left out of PCK and NME.
    """

    def __init__(
        self,
        classes: int,
        *,
        length: Length = "box",
        thresholds: Sequence[float] = THRESHOLDS,
        sigmas: Sequence[float] | float = UNIFORM_SIGMA,
    ):
        super().__init__(classes)
        self.length: Length = length
        self.thresholds = tuple(thresholds)
        self.sigmas = sigmas
        self._curves: tuple[int, Curves] | None = None  # and the number of images that they are of

    def update(self, predictions: InstanceSets, truths: InstanceSets, indices: Tensor | None = None) -> None:
        """Take in one batch; image i of both is the same. On any device.

        Args:
            predictions: objects found in B images, with keypoints; without scores all have the same. The third number
                of a keypoint is not looked at.
            truths: objects of the B images, with keypoints in the same pixels.
            indices: (B,) int64, rows of the data set, as `striate.core.batch.Batch.indices`.

        Raises:
            ValueError: there are no keypoints, their numbers do not fit, or as `Gathered.update`.
            DivergedError: as `Gathered.update`.
        """
        for what, objects in (("predictions", predictions), ("truths", truths)):
            if objects.keypoints is None and len(objects.boxes):
                raise ValueError(f"{what} must have keypoints.")
        shapes = [objects.keypoints.shape[1:] for objects in (predictions, truths) if objects.keypoints is not None]
        if len(set(shapes)) > 1:
            raise ValueError(f"predictions have {shapes[0][0]} keypoints per object and truths {shapes[1][0]}.")
        if isinstance(self.sigmas, Sequence) and shapes and shapes[0][0] != len(self.sigmas):
            raise ValueError(f"{len(self.sigmas)} sigmas do not fit {shapes[0][0]} keypoints per object.")
        if predictions.scores is None:
            predictions = replace(predictions, scores=torch.ones(len(predictions.boxes)))
        super().update(predictions, truths, indices)

    def compute(self) -> dict[str, float]:
        """The numbers that the class describes, under their names.

        Raises:
            DataError: no image was taken in, or no keypoint is labelled in any.
        """
        curves = self.curves()
        predictions, truths = self.whole()
        values: dict[str, float | None] = {}
        if bool((predictions.counts == truths.counts).all()):
            distances, labelled = self._normalised(predictions, truths)
            known = distances[labelled].tolist()
            if known:
                shares = {
                    threshold: sum(value <= threshold for value in known) / len(known) for threshold in self.thresholds
                }
                values["PCK"] = shares[self.thresholds[0]]
                values |= {f"PCK@{threshold:g}": share for threshold, share in shares.items()}
                values["NME"] = math.fsum(known) / len(known)
            similar = self.similarities(predictions, truths)[with_points(truths)].tolist()
            values["OKS"] = math.fsum(similar) / len(similar)
        for name, axis in (("AP", curves.precision), ("AR", curves.recall)):
            values[f"OKS_{name}"] = mean_over(axis[..., 0, 0])
            values[f"OKS_{name}50"] = mean_over(axis[0, ..., 0, 0])
            values[f"OKS_{name}75"] = mean_over(axis[5, ..., 0, 0])
            values[f"OKS_{name}m"] = mean_over(axis[..., 1, 0])
            values[f"OKS_{name}l"] = mean_over(axis[..., 2, 0])
        return {name: value for name, value in values.items() if value is not None}

    def per_class(self, names: list[str] | tuple[str, ...]) -> list[ClassKeypoints]:
        """One row per class, in the order of the labels.

        Args:
            names: K class names.

        Raises:
            DataError: as `compute`.
        """
        precision = self.curves().precision[..., 0, 0]
        _, truths = self.whole()
        counts = np.bincount(truths.labels.numpy()[with_points(truths)], minlength=self.classes)
        return [
            ClassKeypoints(
                name=name,
                OKS_AP=mean_over(precision[..., k]),
                OKS_AP50=mean_over(precision[0, :, k]),
                objects=int(counts[k]),
            )
            for k, name in zip(range(self.classes), names, strict=True)
        ]

    def per_point(self, names: list[str] | tuple[str, ...]) -> list[PointScores]:
        """One row per keypoint, of paired objects.

        Args:
            names: P names of keypoints.

        Raises:
            DataError: as `compute`.
            ValueError: images have more or fewer predictions than truths.
        """
        predictions, truths = self.whole()
        if not bool((predictions.counts == truths.counts).all()):
            raise ValueError("images have more or fewer predictions than truths: nothing says which belong together.")
        distances, labelled = self._normalised(predictions, truths)
        rows: list[PointScores] = []
        for k, name in zip(range(distances.shape[1]), names, strict=True):
            known = distances[labelled[:, k], k].tolist()
            right = sum(value <= self.thresholds[0] for value in known)
            rows.append(
                PointScores(
                    name=name,
                    PCK=right / len(known) if known else None,
                    NME=math.fsum(known) / len(known) if known else None,
                    labelled=len(known),
                )
            )
        return rows

    def similarities(self, predictions: InstanceSets, truths: InstanceSets) -> Floats:
        """(M,) OKS of paired objects; 0 where no point is labelled.

        Args:
            predictions: M objects with keypoints.
            truths: the same M, with ``areas``.
        """
        found, true = _points(predictions), _points(truths)
        assert truths.areas is not None
        labelled = true[..., 2] > 0
        squared = np.square(found[..., :2] - true[..., :2]).sum(2)
        sizes = truths.areas.double().numpy() + np.spacing(1)
        similar = np.exp(-squared / np.square(2 * self._sigmas(true.shape[1])) / sizes[:, None] / 2)
        return (similar * labelled).sum(1) / np.maximum(labelled.sum(1), 1)

    def curves(self) -> Curves:
        """Precision and recall over OKS as COCO accumulates them; raises `DataError` as `compute`."""
        if self._curves is None or self._curves[0] != self.count:
            predictions, truths = self.whole()
            if not with_points(truths).any():
                raise DataError(
                    f"No keypoint is labelled in any of the {len(truths)} images (crowds and objects to be ignored do "
                    "not count), so there is nothing to measure. Choose another split or data set."
                )
            points = _points(truths).shape[1]
            ground = _ground(truths, self.classes)
            evaluation = COCOeval(ground, ground.load_res(_results(predictions)), "keypoints")
            evaluation.params.kpt_oks_sigmas = self._sigmas(points).tolist()
            self._curves = self.count, accumulated(evaluation)
        return self._curves[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_curves": None}

    def _sigmas(self, points: int) -> Floats:
        return np.broadcast_to(np.asarray(self.sigmas, np.float64), (points,))

    def _normalised(self, predictions: InstanceSets, truths: InstanceSets) -> tuple[Floats, Bools]:
        """(M, P) distances over lengths, and which of them count."""
        found, true = _points(predictions), _points(truths)
        labelled = (true[..., 2] > 0) & counted(truths)[:, None]
        if self.length == "box":
            lengths = corner_and_size(truths)[:, 2:].max(1, initial=0)
        else:
            first, second = self.length
            lengths = np.linalg.norm(true[:, first, :2] - true[:, second, :2], axis=1)
            lengths = np.where((true[:, [first, second], 2] > 0).all(1), lengths, 0)
        labelled &= lengths[:, None] > 0
        distances = np.linalg.norm(found[..., :2] - true[..., :2], axis=2)
        return distances / np.where(lengths > 0, lengths, 1)[:, None], labelled


def with_points(truths: InstanceSets) -> Bools:
    """(M,) the objects that count and have a labelled point."""
    return counted(truths) & (_points(truths)[..., 2] > 0).any(1)


def _points(objects: InstanceSets) -> NDArray[np.float64]:
    return np.empty((0, 0, 3)) if objects.keypoints is None else objects.keypoints.double().numpy()


def _ground(truths: InstanceSets, classes: int) -> COCO:
    assert truths.areas is not None
    assert truths.crowd is not None
    # An object to be ignored keeps its points but says that it has none: set aside, and matched once at most.
    numbers = np.where(with_points(truths), (_points(truths)[..., 2] > 0).sum(1), 0)
    return COCO(
        {
            "images": [{"id": image} for image in range(1, len(truths) + 1)],
            "categories": [{"id": label, "name": str(label)} for label in range(1, classes + 1)],
            "annotations": [
                {
                    "id": k,
                    "image_id": image,
                    "category_id": label,
                    "bbox": box,
                    "area": area,
                    "iscrowd": crowd,
                    "keypoints": points,
                    "num_keypoints": number,
                }
                for k, (image, label, box, area, crowd, points, number) in enumerate(
                    zip(
                        (truths.images + 1).tolist(),
                        (truths.labels + 1).tolist(),
                        corner_and_size(truths).tolist(),
                        truths.areas.tolist(),
                        truths.crowd.int().tolist(),
                        _flat(truths),
                        numbers.tolist(),
                        strict=True,
                    ),
                    1,
                )
            ],
        }
    )


def _results(predictions: InstanceSets) -> list[dict[str, Any]]:
    """As in COCO's files of keypoint results, which have no box: its area is that around the points."""
    assert predictions.scores is not None
    return [
        {"image_id": image, "category_id": label, "keypoints": points, "score": score}
        for image, label, points, score in zip(
            (predictions.images + 1).tolist(),
            (predictions.labels + 1).tolist(),
            _flat(predictions),
            predictions.scores.tolist(),
            strict=True,
        )
    ]


def _flat(objects: InstanceSets) -> list[list[float]]:
    points = _points(objects)
    return points.reshape(len(points), -1).tolist() if points.size else []
