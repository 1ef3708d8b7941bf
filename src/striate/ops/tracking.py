"""Following objects from frame to frame: Bewley et al. 2016, "Simple online and realtime tracking" (SORT).

A Kalman filter says where each object should be now, the assignment with the greatest sum of overlaps says which
detection is which object, and objects are born and die by counting. From the paper: the state (cx, cy, area, ratio and
the velocities of the first three: section 3.2, equation 1), the assignment by IoU with a least one (section 3.3), birth
after a probation and death after frames without a detection (section 3.4). Three things differ, and are named where
they are done: the noise grows with the object, what overlaps too little is worth nothing to the assignment instead of
being refused after it, and boxes are given out as they were detected.

Letters: T tracks, N detections of a frame. Boxes are x1, y1, x2, y2 in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from striate.core.instances import Instances
from striate.ops.boxes import area, iou
from striate.ops.matching import assign

# Standard deviations. The paper gives none. As in the code of Wojke et al. 2017, "Simple online and realtime tracking
# with a deep association metric", they are shares of the object's size: 1/20 for places, 1/160 for velocities, of the
# height there and of the area's root here; twice that for an area, whose root is a length. A ratio is a share itself.
_PLACE, _VELOCITY = 1 / 20, 1 / 160
_RATIO_MEASURED, _RATIO_MOVED = 1 / 10, 1 / 100
_NEW_PLACE, _NEW_VELOCITY = 2, 10  # times the above for what has just been seen, in the same code
_STATE, _MEASURED = 7, 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Motion:
    """Where T objects are and how they move, and how sure that is."""

    mean: Tensor  # (T, 7) float64: cx, cy, area, width / height; and per frame: of cx, of cy, of the area
    covariance: Tensor  # (T, 7, 7) float64

    def select(self, rows: Tensor) -> "Motion":
        """Those at ``rows``, (K,) int64 or (T,) bool."""
        return Motion(mean=self.mean[rows], covariance=self.covariance[rows])

    @property
    def boxes(self) -> Tensor:
        """(T, 4) float32."""
        place, size, ratio = self.mean[:, :2], self.mean[:, 2], self.mean[:, 3]
        width = (size * ratio).sqrt()
        half = torch.stack((width, size / width), dim=1) / 2
        return torch.cat((place - half, place + half), dim=1).float()


def begun(boxes: Tensor) -> Motion:
    """Objects seen for the first time, at rest.

    Args:
        boxes: (T, 4) with areas above 0.
    """
    measured = _measured(boxes)
    rest = torch.zeros(len(boxes), _STATE - _MEASURED, dtype=torch.float64)
    mean = torch.cat((measured, rest), dim=1)
    place, velocity = _measurement_deviations(measured), _velocity_deviations(measured)
    deviations = torch.cat((_NEW_PLACE * place, _NEW_VELOCITY * velocity), dim=1)
    return Motion(mean=mean, covariance=deviations.square().diag_embed())


def moved(motion: Motion) -> Motion:
    """One frame later: x <- F x, P <- F P F^T + Q (the filter's prediction). No area falls to 0."""
    transition = torch.eye(_STATE, dtype=torch.float64)
    transition[[0, 1, 2], [4, 5, 6]] = 1.0
    mean = motion.mean.clone()
    mean[:, 6] = torch.where(mean[:, 2] + mean[:, 6] > 0, mean[:, 6], 0.0)
    place = _measurement_deviations(mean)
    place = torch.cat((place[:, :3], _RATIO_MOVED * mean[:, 3:4]), dim=1)
    noise = torch.cat((place, _velocity_deviations(mean)), dim=1).square().diag_embed()
    return Motion(mean=mean @ transition.T, covariance=transition @ motion.covariance @ transition.T + noise)


def corrected(motion: Motion, boxes: Tensor) -> Motion:
    """After a detection of each: K = P H^T (H P H^T + R)^-1, x <- x + K (z - H x), P <- (1 - K H) P.

    Args:
        motion: of T objects, moved to this frame.
        boxes: (T, 4), their detections, with areas above 0.
    """
    measured = _measured(boxes)
    covariance = motion.covariance
    spread = covariance[:, :_MEASURED, :_MEASURED] + _measurement_deviations(motion.mean).square().diag_embed()
    gain = torch.linalg.solve(spread, covariance[:, :_MEASURED]).mT  # P H^T (H P H^T + R)^-1, both symmetric
    mean = motion.mean + (gain @ (measured - motion.mean[:, :_MEASURED])[:, :, None])[:, :, 0]
    mean[:, 2:4] = torch.where(mean[:, 2:4] > 0, mean[:, 2:4], measured[:, 2:])
    covariance = covariance - gain @ covariance[:, :_MEASURED]
    return Motion(mean=mean, covariance=(covariance + covariance.mT) / 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class Tracked:
    """The objects of a frame that are being followed."""

    objects: Instances  # N of the detections, as they were given
    ids: Tensor  # (N,) int64, from 1: the same for an object as long as it is followed


@dataclass
class _Track:
    label: int
    hits: int = 1  # detections in a row since its birth
    missed: int = 0  # frames in a row without one
    id: int = 0  # 0: on probation


@dataclass(kw_only=True)
class Tracker:
    """Follows the objects of a video; give it the frames in order.

    A detection that is no known object begins a track on probation, which gets its number with the ``min_hits``-th
    detection in a row, and goes at the first frame without one. In the first ``min_hits`` frames of a video there is
    no probation. A track with a number goes after more than ``max_age`` frames without a detection.
    """

    min_hits: int = 3  # the published code of both papers
    max_age: int = 30  # frames: Wojke et al. 2017; Bewley et al. 2016 take 1, which ends a track at every gap
    least: float = 0.3  # IoU with where the object should be; the published code of Bewley et al.
    per_class: bool = True  # an object keeps its class
    _motion: Motion = field(default_factory=lambda: begun(torch.empty(0, 4)), init=False)
    _tracks: list[_Track] = field(default_factory=list, init=False)
    _frames: int = field(default=0, init=False)
    _given: int = field(default=0, init=False)  # the last number

    def update(self, objects: Instances) -> Tracked:
        """The objects of the next frame that are followed, with their numbers.

        Args:
            objects: detections; the weak ones are best left out. Boxes without an area are not followed.
        """
        self._frames += 1
        objects = objects.to("cpu")
        usable = ((area(objects.boxes) > 0) & objects.boxes.isfinite().all(1)).nonzero()[:, 0]
        objects = objects.select(usable)
        self._motion = moved(self._motion)
        tracks, detections = self._matched(objects)
        self._correct(objects.boxes, tracks, detections)
        new = sorted(set(range(len(objects))) - set(detections))
        rows = dict(zip(tracks, detections, strict=True)) | {
            len(self._tracks) + place: row for place, row in enumerate(new)
        }
        self._tracks += [_Track(label=int(objects.labels[row])) for row in new]
        started = begun(objects.boxes[new])
        self._motion = Motion(
            mean=torch.cat((self._motion.mean, started.mean)),
            covariance=torch.cat((self._motion.covariance, started.covariance)),
        )
        seen = [(self._number(self._tracks[place]), rows[place]) for place in sorted(rows)]
        self._bury()
        known = [(number, row) for number, row in seen if number]
        return Tracked(
            objects=objects.select(torch.tensor([row for _, row in known], dtype=torch.int64)),
            ids=torch.tensor([number for number, _ in known], dtype=torch.int64),
        )

    def _matched(self, objects: Instances) -> tuple[list[int], list[int]]:
        """Tracks and the detection of each."""
        gains = iou(self._motion.boxes, objects.boxes)
        if self.per_class:
            labels = torch.tensor([track.label for track in self._tracks], dtype=torch.int64)
            gains = gains * (labels[:, None] == objects.labels[None])
        gains = torch.where(gains >= self.least, gains, 0.0)
        tracks, detections = assign(-gains)
        worth = gains[tracks, detections] > 0
        return tracks[worth].tolist(), detections[worth].tolist()

    def _correct(self, boxes: Tensor, tracks: Sequence[int], detections: Sequence[int]) -> None:
        if tracks:
            better = corrected(self._motion.select(torch.tensor(tracks)), boxes[list(detections)])
            self._motion.mean[list(tracks)] = better.mean
            self._motion.covariance[list(tracks)] = better.covariance
        found = set(tracks)
        for place, track in enumerate(self._tracks):
            track.missed = 0 if place in found else track.missed + 1
            track.hits += place in found

    def _number(self, track: _Track) -> int:
        """The track's number, given now if its probation is over; 0 if not."""
        if not track.id and (track.hits >= self.min_hits or self._frames <= self.min_hits):
            self._given += 1
            track.id = self._given
        return track.id

    def _bury(self) -> None:
        alive = torch.tensor(
            [track.missed <= (self.max_age if track.id else 0) for track in self._tracks], dtype=torch.bool
        )
        self._motion = self._motion.select(alive)
        self._tracks = [track for track, lives in zip(self._tracks, alive.tolist(), strict=True) if lives]


def _measured(boxes: Tensor) -> Tensor:
    """(T, 4) float64: cx, cy, area, width / height."""
    boxes = boxes.double()
    sides = boxes[:, 2:] - boxes[:, :2]
    return torch.cat(
        ((boxes[:, :2] + boxes[:, 2:]) / 2, sides.prod(1, keepdim=True), sides[:, :1] / sides[:, 1:]), dim=1
    )


def _measurement_deviations(mean: Tensor) -> Tensor:
    """(T, 4) of a measured cx, cy, area and ratio; the first three are those of the motion between frames, too."""
    size, ratio = mean[:, 2], mean[:, 3]
    place = _PLACE * size.sqrt()
    return torch.stack((place, place, 2 * _PLACE * size, _RATIO_MEASURED * ratio), dim=1)


def _velocity_deviations(mean: Tensor) -> Tensor:
    """(T, 3) of the velocities of cx, cy and the area."""
    size = mean[:, 2]
    velocity = _VELOCITY * size.sqrt()
    return torch.stack((velocity, velocity, 2 * _VELOCITY * size), dim=1)
