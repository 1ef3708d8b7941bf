"""Training curves for TensorBoard (extra ``tensorboard``)."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from striate.errors import UsageError


def require_tensorboard() -> None:
    """Raise `UsageError` where the extra is not installed."""
    if find_spec("tensorboard") is None:
        raise UsageError("--tensorboard needs the extra of that name: pip install 'striate[tensorboard]'.")


class TensorBoard:
    """Writes every number of the record as a scalar; see `striate.engine.log.Sink`."""

    def __init__(self, folder: Path):
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def record(self, event: Mapping[str, Any]) -> None:
        """Losses and rates by step, metrics by epoch."""
        kind = event["event"]
        if kind == "step":
            for name in ("loss", "lr", "gradient_norm"):
                self._writer.add_scalar(f"step/{name}", event[name], event["step"])
        elif kind == "epoch":
            self._writer.add_scalar("epoch/train_loss", event["train_loss"], event["epoch"])
            for name, value in event.get("val", {}).items():
                self._writer.add_scalar(f"val/{name}", value, event["epoch"])

    def close(self) -> None:
        """Write out what is left."""
        self._writer.close()
