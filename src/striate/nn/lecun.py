"""The layers of LeCun's early networks that torch lacks, and their initialisation.

LeCun, Bottou, Bengio, Haffner: "Gradient-Based Learning Applied to Document Recognition", Proceedings of the IEEE
86(11), 1998; the same layers are in LeCun et al., "Handwritten Digit Recognition with a Back-Propagation Network",
NIPS 2, 1990.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Subsampling(nn.Module):
    """Trainable subsampling: the sum of every 2x2 neighbourhood, times one coefficient, plus one bias per map.

    1998, section II-B, layer S2; the squashing function that follows it is a module of its own. An odd last row or
    column is dropped.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.coefficient = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        initialise(self)

    def forward(self, maps: Tensor) -> Tensor:
        """From (B, C, H, W) to (B, C, H // 2, W // 2)."""
        height, width = maps.shape[2] // 2 * 2, maps.shape[3] // 2 * 2
        # On a CPU, forward and backward, these sums of slices take half the time of avg_pool2d.
        rows = maps[:, :, 0:height:2] + maps[:, :, 1:height:2]
        sums = rows[:, :, :, 0:width:2] + rows[:, :, :, 1:width:2]
        return torch.addcmul(self.bias[:, None, None], sums, self.coefficient[:, None, None])


class TableConv2d(nn.Module):
    """A convolution in which each output map reads only the input maps that a table names (1998, table I).

    Only the kernels of the table exist; they are laid into a dense weight that is zero elsewhere at every step.

    Args:
        in_channels: input maps.
        table: for every output map, the 0-based input maps that it reads.
        kernel_size: height and width of the kernels.

    Attributes:
        kernels: (connections, kernel_size, kernel_size), in the order of the table.
        bias: (output maps,).
    """

    def __init__(self, in_channels: int, table: Sequence[Sequence[int]], kernel_size: int):
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = len(table)
        self.kernel_size = kernel_size
        pairs = [(to, source) for to, sources in enumerate(table) for source in sources]
        self.kernels = nn.Parameter(torch.empty(len(pairs), kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(len(table)))
        # Saved with the weights, so that a model built on the meta device is whole once a checkpoint is loaded.
        self.register_buffer("connections", torch.tensor(pairs).T.contiguous())
        self.connections: Tensor  # (2, connections) int64: output map, input map
        self.fan_in = [len(sources) * kernel_size**2 for sources in table]  # per output map
        initialise(self)

    def weight(self) -> Tensor:
        """The (output maps, input maps, k, k) weight of the same convolution without a table."""
        dense = self.kernels.new_zeros(self.out_channels, self.in_channels, self.kernel_size, self.kernel_size)
        return dense.index_put((self.connections[0], self.connections[1]), self.kernels)

    def forward(self, maps: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, output maps, H - k + 1, W - k + 1)."""
        return F.conv2d(maps, self.weight(), self.bias)


def initialise(module: nn.Module) -> None:
    """LeCun's initialisation: uniform between -2.4 / F and 2.4 / F, weights and biases, F the fan-in of the unit.

    1998, appendix A. F counts the connections without the bias; for a subsampling unit it is 4.

    Args:
        module: changed in place, with all its convolutions, linear layers, tables and subsamplings.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            bound = 2.4 / layer.weight[0].numel()
            nn.init.uniform_(layer.weight, -bound, bound)
            if layer.bias is not None:
                nn.init.uniform_(layer.bias, -bound, bound)
        elif isinstance(layer, Subsampling):
            nn.init.uniform_(layer.coefficient, -2.4 / 4, 2.4 / 4)
            nn.init.uniform_(layer.bias, -2.4 / 4, 2.4 / 4)
        elif isinstance(layer, TableConv2d):
            first = 0
            with torch.no_grad():
                for to, fan_in in enumerate(layer.fan_in):
                    bound, count = 2.4 / fan_in, fan_in // layer.kernel_size**2
                    layer.kernels[first : first + count].uniform_(-bound, bound)
                    layer.bias[to].uniform_(-bound, bound)
                    first += count


def plus_minus_codes(count: int, length: int) -> Tensor:
    """Codes of -1 and +1, one per class, drawn once and for all from a fixed seed.

    1998, section II-B: the components "could have been chosen at random with equal probabilities for -1 and +1".

    Returns:
        (count, length) float32 whose rows all differ.

    Raises:
        ValueError: when ``length`` bits cannot tell ``count`` classes apart.
    """
    if count > 2**length:
        raise ValueError(f"{length} bits cannot tell {count} classes apart")
    generator = torch.Generator().manual_seed(1998)
    rows: dict[tuple[int, ...], None] = {}  # a dict keeps the order of drawing
    while len(rows) < count:
        bits = torch.randint(0, 2, (length,), generator=generator, device="cpu")
        rows.setdefault(tuple(int(bit) for bit in bits))
    return torch.tensor(list(rows), dtype=torch.float32) * 2 - 1


class RadialBasis(nn.Module):
    """Euclidean radial basis units with fixed centres (1998, equation 7), as class scores.

    The paper's unit gives y_i = sum_j (x_j - w_ij)^2, a penalty: the smaller, the more likely class i. A score grows
    with the likelihood, so a score here is -y_i, the log-likelihood of a Gaussian of variance 1/2 up to a constant
    (the paper's own reading of it). Cross-entropy on these scores is the paper's discriminative criterion
    (equation 9) without its rubbish class (j to infinity).

    Args:
        codes: (K, N) float32, the centres w; a buffer, not trained.
    """

    def __init__(self, codes: Tensor):
        super().__init__()
        self.register_buffer("codes", codes)
        self.codes: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """From (B, N) to (B, K) scores, 0 at a centre and negative elsewhere."""
        if x.dtype in (torch.bfloat16, torch.float16):
            # Never in half precision: the terms are near 84, and their small differences would be rounded away.
            with torch.autocast(x.device.type, enabled=False):
                return self.forward(x.float())
        # |x - w|^2 = |x|^2 - 2 x.w + |w|^2: one matrix product instead of a (B, K, N) difference.
        squares = x.square().sum(1, keepdim=True) + self.codes.square().sum(1)
        return 2 * F.linear(x, self.codes) - squares
