"""Other heads than a network's own: on an earlier stage, or of the nearest neighbours."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import nn

from striate.errors import UsageError
from striate.models.contract import Classifier
from striate.models.features import last_layer
from striate.nn.nearest import NearestNeighbours
from striate.nn.pooled_head import PooledHead


@dataclass(frozen=True, kw_only=True)
class Head:
    """What stands in the place of a network's own head, or of its last layer."""

    kind: Literal["linear", "knn"]
    stage: str | None  # that it reads, averaged over its positions; None: the network's head but for its last layer
    examples: int = 0  # of the nearest neighbours
    neighbours: int = 0

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; `from_json` reads it back."""
        return asdict(self)

    @staticmethod
    def from_json(document: dict[str, Any]) -> "Head":
        """Read what `to_json` wrote; raises `UsageError` on anything else."""
        try:
            head = Head(**document)
        except TypeError as error:
            raise UsageError(f"this is not a head: {error}") from error
        counts: tuple[Any, ...] = (head.examples, head.neighbours)
        fits = head.kind == "linear" or (head.kind == "knn" and all(isinstance(count, int) for count in counts))
        if not fits or (head.kind == "knn" and not 0 < head.neighbours <= head.examples):
            raise UsageError(f"this is not a head: {document}")
        return head


def replace_head(network: Classifier, head: Head) -> None:
    """Give a network another head, with fresh weights or no examples yet.

    Raises:
        UsageError: a stage that the network does not have, or a last layer that takes no vectors.
    """
    if head.stage is None:
        last = network.get_submodule(last_layer(network))
        if not isinstance(last, nn.Linear):
            raise UsageError(f"the last layer is a {type(last).__name__}: take the features of a stage.")
        if head.kind == "knn":
            network.set_submodule(last_layer(network), _nearest(head, last.in_features, network.classes))
        return
    found = {stage.name: (place, stage) for place, stage in enumerate(network.backbone.stages)}
    if head.stage not in found:
        raise UsageError(f"there is no stage {head.stage!r}; there are {', '.join(found)}.")
    network.reads, stage = found[head.stage]
    new = PooledHead(stage.channels, network.classes)
    if not stage.stride:  # a vector already
        new.set_submodule("pool", nn.Identity())
    if head.kind == "knn":
        new.set_submodule("fc", _nearest(head, stage.channels, network.classes))
    network.head = new


def _nearest(head: Head, features: int, classes: int) -> NearestNeighbours:
    return NearestNeighbours(head.examples, features, classes, neighbours=head.neighbours)
