"""How weights start, by the function that follows them.

LeCun's own rule of 1998 lives with his layers, in `nn/lecun.py`.
"""

import math
from typing import Literal

from torch import nn

from striate.nn.activations import LEAKY_SLOPE, PARAMETRIC_SLOPE

Follower = Literal["rectifier", "leaky", "parametric", "saturating", "nothing", "softmax"]


def initialise(layer: nn.Conv2d | nn.Linear, follower: Follower) -> None:
    """Draw the weight of ``layer`` in place and set its bias to zero.

    Args:
        layer: the layer.
        follower: what its output goes through next.
            rectifier (ReLU, ELU, softplus), leaky, parametric: normal with variance 2 / ((1 + a^2) fan-in), a the
            slope below zero (He et al. 2015, "Delving Deep into Rectifiers", equation 15).
            saturating (tanh, logistic): uniform with variance 2 / (fan-in + fan-out) (Glorot and Bengio 2010,
            equation 16).
            nothing (another layer of weights): normal with variance 1 / fan-in (LeCun et al. 1998, "Efficient
            BackProp", section 4.6).
            softmax: normal with standard deviation 0.01 (Krizhevsky, Sutskever, Hinton 2012, section 5), so that the
            first loss is near ln K whatever the layers before it give.
    """
    if layer.weight.is_meta:
        return  # there is nothing to draw, and torch would load its compiler, for seconds, to find that out
    slope = {"leaky": LEAKY_SLOPE, "parametric": PARAMETRIC_SLOPE}.get(follower, 0.0)
    fan_in = layer.weight[0].numel()
    if follower == "saturating":
        nn.init.xavier_uniform_(layer.weight)
    elif follower == "nothing":
        nn.init.normal_(layer.weight, std=1 / math.sqrt(fan_in))
    elif follower == "softmax":
        nn.init.normal_(layer.weight, std=0.01)
    else:
        nn.init.kaiming_normal_(layer.weight, a=slope, nonlinearity="leaky_relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
