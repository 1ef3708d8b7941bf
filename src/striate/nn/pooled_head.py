"""The head that most networks since GoogLeNet have: the average of the last map, and one full layer."""

from torch import Tensor, nn


class PooledHead(nn.Module):
    """Global average pooling (Lin, Chen, Yan 2014, "Network in Network", section 3.2), dropout, and a full layer.

    Args:
        channels: of the last map.
        classes: K.
        dropout: share of the averages that training drops; 0: none.
    """

    def __init__(self, channels: int, classes: int, *, dropout: float = 0.0):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, channels, H, W) to (B, classes)."""
        return self.fc(self.dropout(self.flatten(self.pool(x))))
