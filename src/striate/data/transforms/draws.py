"""Random numbers that are a function of their place, not of what was drawn before.

Every number that augmentation uses follows from (seed, epoch, step) and the image's position in the global batch. A run
that is killed and resumed therefore sees the very images that it would have seen, and N processes see what one would.
The random transforms of `torchvision.transforms.v2` cannot do that: they draw from the global generator, and once for a
whole batch. So the drawing is ours, and so are the operations that take one parameter per image.
"""

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Draws:
    """The random numbers of one global batch, of which this process needs some rows.

    Every method draws for the whole batch, on the CPU, and gives the rows of this process; calls must come in the same
    order in every process. Letters: T images in the global batch, B images in this process.

    Args:
        seed: of the run; not negative.
        epoch: from 0.
        step: batch within the epoch, from 0.
        total: T.
        rows: positions in the global batch, (B,) int64, ascending; by default all.
    """

    def __init__(self, *, seed: int, epoch: int, step: int, total: int, rows: Tensor | None = None):
        self.epoch = epoch
        self.total = total
        self.rows = torch.arange(total) if rows is None else rows
        self._place = [seed, epoch, step]

    def __len__(self) -> int:
        return self.rows.shape[0]

    @cached_property
    def _generator(self) -> np.random.Generator:
        return np.random.default_rng(self._place)  # 20 microseconds, which a batch without augmentation need not pay

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """(B, *shape) float32 in [low, high)."""
        values = self._generator.random((self.total, *shape), dtype=np.float32)
        return self._mine(values).mul_(high - low).add_(low)

    def noise(self, *shape: int) -> Tensor:
        """(B, *shape) float32 from -1 to 1 in 256 steps: for large fields, at a fraction of the cost of `uniform`."""
        values = self._generator.integers(0, 256, (self.total, *shape), dtype=np.uint8)
        return self._mine(values).to(torch.float32).sub_(127.5).div_(127.5)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """(B, *shape) int64 in [low, high)."""
        return self._mine(self._generator.integers(low, high, (self.total, *shape)))

    def choose(self, probability: float) -> Tensor:
        """(B,) bool, true with ``probability``."""
        return self.uniform(0, 1) < probability

    def beta(self, alpha: float) -> Tensor:
        """(B,) float32 from the symmetric distribution Beta(alpha, alpha)."""
        return self._mine(self._generator.beta(alpha, alpha, self.total).astype(np.float32))

    def partners(self) -> Tensor:
        """(B,) int64: the row, in this process, of the image that each one is mixed with.

        Neighbours 2i and 2i + 1 of the global batch are partners: its order is random already. An image whose partner
        is not there (the last of an odd batch, or a file that could not be read) is its own.
        """
        if len(self) == 0:
            return self.rows
        wanted = self.rows ^ 1
        found = torch.searchsorted(self.rows, wanted).clamp_(max=len(self) - 1)
        return torch.where(self.rows[found] == wanted, found, torch.arange(len(self)))

    def groups(self, size: int) -> Tensor:
        """(B, size) int64: rows, in this process, of the images that each one may be joined with.

        Images 0 to size - 1 of the global batch are a group, and so on. Each row begins with the image itself and goes
        on with those that follow it in its group, in a circle: where some are not there (at the end of a batch, or
        files that could not be read), others come again.
        """
        group = self.rows // size
        first, end = torch.searchsorted(group, group), torch.searchsorted(group, group, right=True)
        place = (torch.arange(len(self)) - first)[:, None] + torch.arange(size)
        return first[:, None] + place % (end - first)[:, None]

    def keep(self, kept: Tensor) -> None:
        """Go on with the rows at ``kept`` ((M,) int64) only; for images that turn out to be unreadable."""
        self.rows = self.rows[kept]

    def _mine(self, values: NDArray[np.generic]) -> Tensor:
        drawn = torch.from_numpy(values)
        return drawn if len(self) == self.total else drawn[self.rows]
