"""Activation functions with their derivatives in closed form: what a study plots and compares.

x is a tensor of any shape; a value and a derivative have the shape and dtype of x. Where a function has a kink the
derivative is the one that autograd uses, from the left.

Sources:
    scaled tanh: LeCun, Bottou, Bengio, Haffner 1998, appendix A; f(1) = 1, f(-1) = -1, and |f''| is greatest there.
    ReLU: Nair and Hinton 2010; Krizhevsky, Sutskever, Hinton 2012, section 3.1.
    leaky ReLU: Maas, Hannun, Ng 2013, section 2 (slope 0.01).
    parametric ReLU: He, Zhang, Ren, Sun 2015, "Delving Deep into Rectifiers", section 2.1 (slope learned, from 0.25).
    ELU: Clevert, Unterthiner, Hochreiter 2015, section 3 (alpha = 1).
    softplus: Dugas, Bengio, Belisle, Nadeau, Garcia 2001, section 3.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

AMPLITUDE = 1.7159  # A of LeCun et al. 1998, appendix A
GAIN = 2 / 3  # S of the same appendix
LEAKY_SLOPE = 0.01
PARAMETRIC_SLOPE = 0.25


class ScaledTanh(nn.Module):
    """LeCun's squashing function, 1.7159 tanh(2x/3) (LeCun et al. 1998, equation 6 and appendix A)."""

    def forward(self, x: Tensor) -> Tensor:
        """Squash ``x``, of any shape, element by element."""
        return AMPLITUDE * torch.tanh(GAIN * x)


@dataclass(frozen=True, kw_only=True)
class Activation:
    """One activation function."""

    name: str  # in words, as the field says it
    formula: str
    derivative_formula: str
    value: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]
    module: Callable[[], nn.Module]  # a fresh layer that computes the same
    range: tuple[float, float]  # infimum and supremum of the values


def _scaled_tanh_derivative(x: Tensor) -> Tensor:
    return AMPLITUDE * GAIN * (1 - torch.tanh(GAIN * x) ** 2)


def _logistic_derivative(x: Tensor) -> Tensor:
    return torch.sigmoid(x) * torch.sigmoid(-x)  # the second factor is 1 - sigmoid(x) without its cancellation


def _rectifier(x: Tensor, slope: float) -> Tensor:
    return torch.where(x > 0, x, slope * x)


def _rectifier_derivative(x: Tensor, slope: float) -> Tensor:
    return torch.where(x > 0, 1.0, slope).to(x.dtype)


def _elu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.expm1(torch.clamp(x, max=0)))


def _elu_derivative(x: Tensor) -> Tensor:
    return torch.exp(torch.clamp(x, max=0))


def _softplus(x: Tensor) -> Tensor:
    return torch.clamp(x, min=0) + torch.log1p(torch.exp(-torch.abs(x)))


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(
        name="identity",
        formula="x",
        derivative_formula="1",
        value=torch.clone,
        derivative=torch.ones_like,
        module=nn.Identity,
        range=(-math.inf, math.inf),
    ),
    "logistic": Activation(
        name="logistic sigmoid",
        formula="1 / (1 + exp(-x))",
        derivative_formula="f(x) (1 - f(x))",
        value=torch.sigmoid,
        derivative=_logistic_derivative,
        module=nn.Sigmoid,
        range=(0, 1),
    ),
    "tanh": Activation(
        name="hyperbolic tangent",
        formula="(exp(x) - exp(-x)) / (exp(x) + exp(-x))",
        derivative_formula="1 - f(x)^2",
        value=torch.tanh,
        derivative=lambda x: 1 - torch.tanh(x) ** 2,
        module=nn.Tanh,
        range=(-1, 1),
    ),
    "scaled_tanh": Activation(
        name="scaled hyperbolic tangent",
        formula="1.7159 tanh(2x/3)",
        derivative_formula="1.7159 (2/3) (1 - tanh(2x/3)^2)",
        value=lambda x: AMPLITUDE * torch.tanh(GAIN * x),
        derivative=_scaled_tanh_derivative,
        module=ScaledTanh,
        range=(-AMPLITUDE, AMPLITUDE),
    ),
    "relu": Activation(
        name="rectified linear unit",
        formula="max(0, x)",
        derivative_formula="1 if x > 0 else 0",
        value=lambda x: torch.clamp(x, min=0),
        derivative=lambda x: _rectifier_derivative(x, 0.0),
        module=nn.ReLU,
        range=(0, math.inf),
    ),
    "leaky_relu": Activation(
        name="leaky rectified linear unit",
        formula="x if x > 0 else 0.01 x",
        derivative_formula="1 if x > 0 else 0.01",
        value=lambda x: _rectifier(x, LEAKY_SLOPE),
        derivative=lambda x: _rectifier_derivative(x, LEAKY_SLOPE),
        module=lambda: nn.LeakyReLU(LEAKY_SLOPE),
        range=(-math.inf, math.inf),
    ),
    "parametric_relu": Activation(
        name="parametric rectified linear unit, at its first slope",
        formula="x if x > 0 else a x, a learned from 0.25",
        derivative_formula="1 if x > 0 else a",
        value=lambda x: _rectifier(x, PARAMETRIC_SLOPE),
        derivative=lambda x: _rectifier_derivative(x, PARAMETRIC_SLOPE),
        module=lambda: nn.PReLU(init=PARAMETRIC_SLOPE),
        range=(-math.inf, math.inf),
    ),
    "elu": Activation(
        name="exponential linear unit",
        formula="x if x > 0 else exp(x) - 1",
        derivative_formula="1 if x > 0 else exp(x)",
        value=_elu,
        derivative=_elu_derivative,
        module=nn.ELU,
        range=(-1, math.inf),
    ),
    "softplus": Activation(
        name="softplus",
        formula="log(1 + exp(x))",
        derivative_formula="1 / (1 + exp(-x))",
        value=_softplus,
        derivative=torch.sigmoid,
        module=nn.Softplus,
        range=(0, math.inf),
    ),
}
