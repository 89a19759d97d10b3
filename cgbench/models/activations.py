"""Non-linearities with their derivatives, so that forces follow in closed form."""

import math
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

ActivationName = Literal["tanh", "silu", "ssp", "sigmoid"]


class Activation(NamedTuple):
    """A non-linearity.

    Attributes:
        value: y(x), element by element.
        slope: dy/dx from x and y; both are given because one or the other is cheaper.
    """

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]


def _tanh_slope(x: Tensor, y: Tensor) -> Tensor:
    return 1.0 - y * y


def _silu_slope(x: Tensor, y: Tensor) -> Tensor:
    gate = torch.sigmoid(x)
    return gate + y * (1.0 - gate)


def _ssp(x: Tensor) -> Tensor:
    return functional.softplus(x) - math.log(2.0)


def _ssp_slope(x: Tensor, y: Tensor) -> Tensor:
    return torch.sigmoid(x)


def _sigmoid_slope(x: Tensor, y: Tensor) -> Tensor:
    return y * (1.0 - y)


#: ``ssp`` is the shifted softplus ln(½eˣ + ½) of SchNet (Schütt et al. 2018, sec. II C), ``silu``
#: x·σ(x). The names are those of TorchMD-Net.
ACTIVATIONS: Final[dict[str, Activation]] = {
    "tanh": Activation(torch.tanh, _tanh_slope),
    "silu": Activation(functional.silu, _silu_slope),
    "ssp": Activation(_ssp, _ssp_slope),
    "sigmoid": Activation(torch.sigmoid, _sigmoid_slope),
}
