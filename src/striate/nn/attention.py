"""Self-attention over a sequence of tokens.

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
