"""Stochastic depth: residual branches left out at random while training.

Huang, Sun, Liu, Sedra, Weinberger: "Deep Networks with Stochastic Depth", ECCV 2016, arXiv 1603.09382.
"""

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Sets the branch of each sample to zero with a probability while training; passes it on in eval.

    The paper drops a branch for the whole batch and scales it by its survival probability when testing (sections 3
    and 4). Here each sample draws for itself, and what survives is divided by that probability while training, as in
    the published code of EfficientNet and since: the expectation is the same.

    Args:
        probability: of dropping, 0 <= probability < 1.
    """

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """From (B, ...) to the same."""
        if not self.training or self.probability == 0:
            return x
        survival = 1 - self.probability
        kept = torch.rand(x.shape[0], *[1] * (x.dim() - 1), device=x.device) < survival
        return x * (kept.to(x.dtype) / survival)

    def extra_repr(self) -> str:
        """What `print` shows of it."""
        return f"probability={self.probability:g}"
