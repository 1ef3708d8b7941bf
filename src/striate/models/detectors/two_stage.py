"""How many regions a two-stage detector looks at and learns from: what its time hangs on.

The papers' numbers are for images of 600 to 800 pixels. Each region passes the head by itself, so that on images of a
hundred pixels a thousand proposals cost several times what all convolutions do.
"""

from dataclasses import replace
from typing import Any

from striate.errors import UsageError
from striate.models.contract import Detector
from striate.models.heads.box import Sampling
from striate.models.heads.rpn import RPN, Counts
from striate.models.proposals import SelectiveSearch


def learn_from(detector: Detector, regions: int) -> None:
    """Let a two-stage detector learn from ``regions`` regions of an image; raises `UsageError` for any other."""
    network: Any = detector  # torch's modules declare their attributes as tensors and modules
    sampling = getattr(network, "sampling", None)
    if not isinstance(sampling, Sampling):
        raise UsageError(
            "--regions is for two-stage detectors, which learn from some of their proposals: leave it out."
        )
    network.sampling = replace(sampling, count=regions)


def look_at(detector: Detector, proposals: int) -> None:
    """Let a two-stage detector look at ``proposals`` proposals of an image.

    Raises:
        UsageError: it makes no proposals, or as many as its windows are.
    """
    network: Any = detector
    rpn, proposer = getattr(network, "rpn", None), getattr(network, "proposer", None)
    if isinstance(rpn, RPN):
        before = max(proposals, rpn.numbers.testing.before)
        rpn.numbers = replace(rpn.numbers, testing=Counts(before=before, after=proposals))
    elif isinstance(proposer, SelectiveSearch):
        network.proposer = replace(proposer, limit=proposals)
    else:
        raise UsageError("--proposals is for detectors with a proposal network or selective search: leave it out.")


def looked_at(network: Detector) -> int | None:
    """How many proposals of an image a detector looks at; None: it makes none, or does not choose among them."""
    rpn, proposer = getattr(network, "rpn", None), getattr(network, "proposer", None)
    if isinstance(rpn, RPN):
        return rpn.numbers.testing.after
    return proposer.limit if isinstance(proposer, SelectiveSearch) else None
