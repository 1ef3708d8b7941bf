"""Attention over sequences of tokens.

Vaswani et al.: "Attention Is All You Need", NIPS 2017, arXiv 1706.03762, section 3.2.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Multi-head scaled dot-product attention of every token to all tokens (section 3.2.2).

    Queries, keys and values come from one full layer, in this order, each split into the heads.

    Args:
        width: of a token; a multiple of ``heads``.
        heads: that attend side by side, each over width / heads.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, tokens, width) to the same."""
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        queries, keys, values = qkv.unbind(0)
        attended = F.scaled_dot_product_attention(queries, keys, values)
        return self.project(attended.transpose(1, 2).reshape(batch, tokens, width))


class Attention(nn.Module):
    """Multi-head scaled dot-product attention of queries to keys, whose values it adds up (section 3.2.2).

    Args:
        width: of a token; a multiple of ``heads``.
        heads: that attend side by side, each over width / heads.
        dropout: of the attention's weights.
    """

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0):
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.project = nn.Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, *, seen: Tensor | None = None) -> Tensor:
        """From queries (B, N, width), and keys and values (B, M, width), to (B, N, width).

        Args:
            queries: what attends.
            keys: what it is compared with.
            values: what it takes, one for each key.
            seen: (B, M) bool, the keys that count; None: all.
        """
        parts = ((self.query, queries), (self.key, keys), (self.value, values))
        q, k, v = (layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer, x in parts)
        mask = None if seen is None else seen[:, None, None]
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        return self.project(attended.transpose(1, 2).flatten(2))
