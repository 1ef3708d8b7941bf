"""How good a classifier is: the field's numbers, the table by class, and how far to trust them.

Everything is gathered as whole numbers, so that the result is the same to the last bit however the images are cut
over batches and processes.

Letters: B images in a batch, N images in all, K classes.
"""

from dataclasses import dataclass
from typing import Self, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from striate.core.annotations import Classifications
from striate.errors import DataError, DivergedError

BINS = 15  # Guo et al. 2017, table 1: "Expected calibration error, M = 15 bins"
RESAMPLES = 10_000
# Sums of losses and confidences are kept in units of 2^-32, rounded per image: integers add up to the same in any
# order. The rounding is under 2e-10 per image, and 2e7 images fit even at the greatest loss there is.
UNIT = 2**32
TINY = float(np.finfo(np.float32).tiny)  # the least probability that counts: the loss of one image is at most 87.3


class ClassScores(TypedDict):
    """One row of the table by class."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int  # images whose truth is this class


@dataclass(frozen=True, kw_only=True, eq=False)
class Reliability:
    """Confidence against accuracy: what a reliability diagram shows and the calibration error sums up.

    Bin m holds the images whose confidence is in (m / 15, (m + 1) / 15].
    """

    counts: NDArray[np.int64]  # (15,) images
    confidence: NDArray[np.float64]  # (15,) mean probability given to the predicted class; 0 in an empty bin
    accuracy: NDArray[np.float64]  # (15,) share of right predictions; 0 in an empty bin


class ClassificationMetric:
    """Top-1, top-5, loss, precision, recall, F1 and calibration of a classifier with K classes.

    - ``top1``: share of images whose predicted label is the truth.
    - ``top5``: share whose truth is among the five highest scores; only where K > 5. Among equal scores the lower
      label comes first, as for ``argmax`` (scikit-learn's ``top_k_accuracy_score`` takes the higher first).
    - ``loss``: mean negative log-likelihood of the truth in nats; probabilities below float32's smallest normal number
      count as that number.
    - ``precision``, ``recall``, ``f1``: plain means over classes (macro). 0/0 counts as 0. As scikit-learn does by
      default, the means run over the classes that occur as truth or as prediction: a class that was predicted but has
      no image counts with recall 0, one that neither has images nor was predicted is left out.
    - ``ece``: expected calibration error (Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3)
      with 15 bins of equal width.
    """

    def __init__(self, classes: int):
        self.classes = classes
        self._confusion = torch.zeros(classes, classes, dtype=torch.int64)  # rows truth, columns prediction
        self._top5 = torch.zeros((), dtype=torch.int64)
        self._loss = torch.zeros((), dtype=torch.int64)  # units of 2^-32 nats
        self._bin_counts = torch.zeros(BINS, dtype=torch.int64)
        self._bin_correct = torch.zeros(BINS, dtype=torch.int64)
        self._bin_confidence = torch.zeros(BINS, dtype=torch.int64)  # units of 2^-32

    def update(self, predictions: Classifications, truths: Classifications, indices: Tensor | None = None) -> None:
        """Take in one batch; row i of both is the same image.

        Args:
            predictions: B labels with their (B, K) scores, on any device.
            truths: B labels; soft targets are not looked at.
            indices: of the images; the result does not depend on their order.

        Raises:
            ValueError: lengths, K or labels do not fit, or predictions have no scores.
            DivergedError: scores are not finite.
        """
        scores = predictions.scores
        if scores is None or scores.shape != (len(truths), self.classes) or len(predictions) != len(truths):
            raise ValueError(
                f"predictions must be {len(truths)} labels with scores of shape ({len(truths)}, {self.classes}); got "
                f"{len(predictions)} labels and {'no scores' if scores is None else f'scores {tuple(scores.shape)}'}."
            )
        truth = truths.labels.to(scores.device, non_blocking=True)
        # Clamping keeps a wrong label from reading outside of `scores`; it is refused below, after the one transfer.
        own = scores.gather(1, truth.clamp(0, self.classes - 1)[:, None])
        chosen = scores.gather(1, predictions.labels.clamp(0, self.classes - 1)[:, None])
        rows = [truth.double(), predictions.labels.double(), own[:, 0].double(), chosen[:, 0].double()]
        if self.classes > 5:
            lower = torch.arange(self.classes, device=scores.device) < truth[:, None]
            rows.append(((scores > own) | ((scores == own) & lower)).count_nonzero(1).double())
        rows = list(torch.stack(rows).cpu())  # one wait for the device per batch

        truth, label = rows[0].long(), rows[1].long()
        for what, labels in (("true", truth), ("predicted", label)):
            outside = labels[(labels < 0) | (labels >= self.classes)]
            if len(outside):
                raise ValueError(f"{what} label {int(outside[0])} is outside of 0..{self.classes - 1}.")
        finite = torch.isfinite(rows[2]) & torch.isfinite(rows[3])
        if not bool(finite.all()):
            raise DivergedError(
                f"The scores of {int((~finite).sum())} of {len(truth)} images are not finite numbers, so nothing can "
                "be measured: the weights have diverged. Train again with a lower learning rate."
            )

        self._confusion.view(-1).index_add_(0, truth * self.classes + label, torch.ones_like(truth))
        if self.classes > 5:
            self._top5 += (rows[4] < 5).sum()
        self._loss += _units(-rows[2].clamp(min=TINY).log()).sum()
        confidence = rows[3]
        edges = torch.arange(1, BINS, dtype=torch.float64) / BINS
        bins = torch.bucketize(confidence, edges)
        self._bin_counts.index_add_(0, bins, torch.ones_like(truth))
        self._bin_correct.index_add_(0, bins, (truth == label).long())
        self._bin_confidence.index_add_(0, bins, _units(confidence))

    def merge(self, other: Self) -> None:
        """Take in what another process gathered; exact."""
        state = other.state()
        for name, total in self.state().items():
            total += state[name]

    def state(self) -> dict[str, Tensor]:
        """Everything gathered so far: int64 tensors on the CPU, of the same shapes in every process.

        Adding up the states of several processes, tensor by tensor, is `merge`. The tensors are the metric's own.
        """
        return {
            "confusion": self._confusion,
            "top5": self._top5,
            "loss": self._loss,
            "bin_counts": self._bin_counts,
            "bin_correct": self._bin_correct,
            "bin_confidence": self._bin_confidence,
        }

    @property
    def count(self) -> int:
        """N, the number of images taken in."""
        return int(self._bin_counts.sum())

    @property
    def confusion(self) -> NDArray[np.int64]:
        """(K, K) int64 copy: images of truth i (row) that were predicted as j (column)."""
        return self._confusion.numpy().copy()

    def compute(self) -> dict[str, float]:
        """The numbers that the class describes, under their names; raises `DataError` when no image was taken in."""
        count = self._require_images()
        table = self._table()
        occurring = (self._confusion.sum(0) + self._confusion.sum(1)).numpy() > 0
        precision, recall, f1 = table[:, occurring].mean(1)
        metrics = {"top1": self._correct() / count}
        if self.classes > 5:
            metrics["top5"] = int(self._top5) / count
        metrics["loss"] = int(self._loss) / UNIT / count
        metrics |= {"precision": float(precision), "recall": float(recall), "f1": float(f1)}
        reliability = self.reliability()
        gaps = np.abs(reliability.accuracy - reliability.confidence)
        metrics["ece"] = float((reliability.counts / count * gaps).sum())
        return metrics

    def per_class(self, names: list[str] | tuple[str, ...]) -> list[ClassScores]:
        """One row per class, in the order of the labels; 0/0 counts as 0.

        Args:
            names: K class names.
        """
        table = self._table().tolist()
        support = self._confusion.sum(1).tolist()
        return [
            ClassScores(name=name, precision=precision, recall=recall, f1=f1, support=images)
            for name, precision, recall, f1, images in zip(names, *table, support, strict=True)
        ]

    def reliability(self) -> Reliability:
        """Confidence and accuracy by bin of confidence."""
        counts = self._bin_counts.numpy().copy()
        some = np.maximum(counts, 1)
        return Reliability(
            counts=counts,
            confidence=self._bin_confidence.numpy() / UNIT / some,
            accuracy=self._bin_correct.numpy() / some,
        )

    def interval(self, seed: int = 0) -> tuple[float, float]:
        """95% percentile bootstrap interval of ``top1`` (Efron 1979), from 10,000 resamples.

        Drawing N images with replacement, each right or wrong, and counting the right ones is drawing once from a
        binomial distribution with N trials and probability ``top1``; so it is done that way, which is exact and quick.
        It speaks of the choice of test images only, not of the seed of the training. Where all images are right (or
        all wrong) every resample is alike and the interval has no width.

        Args:
            seed: of the draw.

        Returns:
            Low and high end.

        Raises:
            DataError: no image was taken in.
        """
        count = self._require_images()
        draws = np.random.default_rng(seed).binomial(count, self._correct() / count, RESAMPLES) / count
        low, high = np.percentile(draws, (2.5, 97.5))
        return float(low), float(high)

    def _require_images(self) -> int:
        if not self.count:
            raise DataError("There is no image to measure on: the split is empty. Choose another split or data set.")
        return self.count

    def _correct(self) -> int:
        return int(self._confusion.trace())

    def _table(self) -> NDArray[np.float64]:
        """(3, K): precision, recall and F1 by class."""
        correct = self._confusion.diagonal().numpy().astype(np.float64)
        predicted, support = self._confusion.sum(0).numpy(), self._confusion.sum(1).numpy()
        return np.stack(
            [
                correct / np.maximum(predicted, 1),
                correct / np.maximum(support, 1),
                2 * correct / np.maximum(predicted + support, 1),
            ]
        )


def _units(values: Tensor) -> Tensor:
    return (values * UNIT).round().long()
