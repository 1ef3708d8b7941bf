"""What every metric promises."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

from torch import Tensor


class Metric(Protocol):
    """A number over a data set, gathered batch by batch.

    ``update`` and ``merge`` commute: however the data is cut over batches and processes, ``compute`` gives the same.
    """

    def update(self, predictions: Any, truths: Any, indices: Tensor | None = None) -> None:
        """Take in one batch of the task's annotations; row i of both is the same image.

        Args:
            predictions: of B images.
            truths: of the same images.
            indices: (B,) int64, rows of the data set, for a metric whose result depends on the order of the images.
        """
        ...

    def merge(self, other: Self) -> None:
        """Take in what another process gathered."""
        ...

    def compute(self) -> dict[str, float]:
        """The field's metric names and their values."""
        ...

    def per_class(self, names: tuple[str, ...], /) -> Sequence[Mapping[str, Any]]:
        """A row of figures per class, the same columns in each; ``name`` is the class's."""
        ...
