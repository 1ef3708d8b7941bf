"""Annotations: one type for truth and prediction alike.

A truth has no score; a prediction has. Metrics, drawing, formats and pages are therefore written once. What is said of
a whole image is here; what says where, in `striate.core.instances`.

Letters: B images in a batch, K classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from striate.core.instances import InstanceSets


@dataclass(frozen=True, kw_only=True)
class Classification:
    """The class of one image."""

    label: int  # 0-based index into the class names
    score: float | None = None  # probability of the label, 0 to 1; None for a truth
    scores: Tensor | None = None  # (K,) float32, probability of every class; None for a plain truth


@dataclass(frozen=True, kw_only=True)
class Classifications:
    """The classes of many images, in columns: what a batch carries and a metric takes.

    As a truth, ``scores`` is None, or holds the soft targets that mixup and cutmix make. As a prediction it holds the
    probabilities. Indexing gives one `Classification`.
    """

    labels: Tensor  # (B,) int64, 0-based
    scores: Tensor | None = None  # (B, K) float32, rows sum to 1

    def __len__(self) -> int:
        return self.labels.shape[0]

    def __getitem__(self, index: int) -> Classification:
        label = int(self.labels[index])
        if self.scores is None:
            return Classification(label=label)
        return Classification(label=label, score=float(self.scores[index, label]), scores=self.scores[index])

    def __iter__(self) -> Iterator[Classification]:
        labels: list[int] = self.labels.tolist()
        if self.scores is None:
            yield from (Classification(label=label) for label in labels)
            return
        best: list[float] = self.scores.gather(1, self.labels[:, None])[:, 0].tolist()
        for label, score, scores in zip(labels, best, self.scores.unbind(0), strict=True):
            yield Classification(label=label, score=score, scores=scores)

    def select(self, indices: Tensor | slice) -> "Classifications":
        """The rows at ``indices`` ((M,) int64, or a slice), in that order."""
        return Classifications(
            labels=self.labels[indices], scores=None if self.scores is None else self.scores[indices]
        )

    def to(self, device: torch.device | str) -> "Classifications":
        """The same on another device; a copy to a GPU does not wait."""
        return Classifications(
            labels=self.labels.to(device, non_blocking=True),
            scores=None if self.scores is None else self.scores.to(device, non_blocking=True),
        )

    def placed(self, placement: Tensor) -> "Classifications":
        """The same: a class has no place."""
        return self

    def restored(self, placement: Tensor, sizes: Tensor) -> "Classifications":
        """The same: a class has no place."""
        return self

    @staticmethod
    def concatenate(parts: "Sequence[Classifications]") -> "Classifications":
        """All rows of ``parts`` in order; the parts either all have scores or none has."""
        scores = [part.scores for part in parts if part.scores is not None]
        if scores and len(scores) != len(parts):
            raise ValueError("some parts have scores and some have none: concatenate one kind at a time")
        return Classifications(
            labels=torch.cat([part.labels for part in parts]), scores=torch.cat(scores) if scores else None
        )


Annotations = Classifications | InstanceSets


def concatenate(parts: Sequence[Annotations]) -> Annotations:
    """All rows of ``parts``, which are of one kind, in order."""
    if isinstance(parts[0], Classifications):
        return Classifications.concatenate([part for part in parts if isinstance(part, Classifications)])
    return InstanceSets.concatenate([part for part in parts if isinstance(part, InstanceSets)])
