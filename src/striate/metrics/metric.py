"""What every metric promises."""

from typing import Protocol, Self

from striate.core.annotations import Classifications


class Metric(Protocol):
    """A number over a data set, gathered batch by batch.

    ``update`` and ``merge`` commute: however the data is cut over batches and processes, ``compute`` gives the same.
    """

    def update(self, predictions: Classifications, truths: Classifications) -> None:
        """Take in one batch; row i of both is the same image."""
        ...

    def merge(self, other: Self) -> None:
        """Take in what another process gathered."""
        ...

    def compute(self) -> dict[str, float]:
        """The field's metric names and their values."""
        ...
