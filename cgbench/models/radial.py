"""Functions of one distance: cosine envelopes and two kinds of radial functions.

Every function can return its derivative beside its value, so that forces follow in closed form.
"""

import math

import torch
from torch import Tensor, nn


def envelope(distance: Tensor, lower: float, upper: float) -> tuple[Tensor, Tensor]:
    """Return the cosine envelope and its derivative.

    With a lower cutoff ``(cos(π(2(r−lower)/(upper−lower)+1))+1)/2``, zero with zero slope at both
    cutoffs; without one ``(cos(πr/upper)+1)/2``. As in TorchMD-Net, the networks of Majewski et
    al., Nat. Commun. 14, 5739 (2023).

    Args:
        distance: (n,) in Å.
        lower: Lower cutoff in Å; 0 for none.
        upper: Upper cutoff in Å.

    Returns:
        Value (n,) and derivative (n,) in 1/Å; both zero outside the cutoffs.
    """
    if lower > 0:
        slope = 2 * math.pi / (upper - lower)
        phase = slope * (distance - lower) + math.pi
        inside = (distance < upper) & (distance > lower)
    else:
        slope = math.pi / upper
        phase = slope * distance
        inside = distance < upper
    # A distance that is not a number compares false but must stay not a number.
    inside = inside | distance.isnan()
    value = torch.where(inside, 0.5 * (torch.cos(phase) + 1.0), 0.0)
    derivative = torch.where(inside, (-0.5 * slope) * torch.sin(phase), 0.0)
    return value, derivative


class RadialBasis(nn.Module):
    """Radial functions between two cutoffs.

    Calling it with distances (n,) in Å returns values and derivatives, (n, n_functions) each.

    Args:
        lower: Lower cutoff in Å.
        upper: Upper cutoff in Å.
    """

    def __init__(self, lower: float, upper: float) -> None:
        super().__init__()
        self.lower = lower
        self.upper = upper


class GaussianBasis(RadialBasis):
    """Radial functions ``exp(c (r − μ_k)²)``, evenly spaced between the cutoffs.

    At the start ``c = −1/(2d²)`` with the distance d between centres: Schütt et al., J. Chem. Phys.
    148, 241722 (2018), sec. II C, as TorchMD-Net's ``gauss`` has them, without an envelope of their
    own.

    Args:
        n_functions: Number of radial functions.
        lower: Lower cutoff in Å.
        upper: Upper cutoff in Å.
        trainable: Whether centres μ and the exponent c are parameters or fixed.
    """

    def __init__(self, n_functions: int, lower: float, upper: float, *, trainable: bool) -> None:
        super().__init__(lower, upper)
        centres = torch.linspace(lower, upper, n_functions)
        exponent = -0.5 / (centres[1] - centres[0]) ** 2
        self.centres = nn.Parameter(centres, requires_grad=trainable)
        self.exponent = nn.Parameter(exponent, requires_grad=trainable)

    def forward(self, distance: Tensor) -> tuple[Tensor, Tensor]:
        """Return values and derivatives, (n, n_functions) each, at distances (n,) in Å."""
        offset = distance[:, None] - self.centres
        value = torch.exp(self.exponent * offset * offset)
        return value, 2.0 * self.exponent * offset * value


class ExponentialNormalBasis(RadialBasis):
    """Radial functions ``c(r) exp(−β_k (exp(α(lower−r)) − μ_k)²)`` with ``α = 5/(upper−lower)``.

    The envelope ``c`` reaches from 0 to the upper cutoff. Unke & Meuwly, J. Chem. Theory Comput.
    15, 3678 (2019), eq. 7, with the decay constant that TorchMD-Net uses.

    Args:
        n_functions: Number of radial functions.
        lower: Lower cutoff in Å.
        upper: Upper cutoff in Å.
        trainable: Whether centres μ and widths β are parameters or fixed.
    """

    def __init__(self, n_functions: int, lower: float, upper: float, *, trainable: bool) -> None:
        super().__init__(lower, upper)
        self.alpha = 5.0 / (upper - lower)
        start = math.exp(lower - upper)
        centres = torch.linspace(start, 1.0, n_functions)
        widths = torch.full((n_functions,), (2.0 / n_functions * (1.0 - start)) ** -2)
        self.centres = nn.Parameter(centres, requires_grad=trainable)
        self.widths = nn.Parameter(widths, requires_grad=trainable)

    def forward(self, distance: Tensor) -> tuple[Tensor, Tensor]:
        """Return values and derivatives, (n, n_functions) each, at distances (n,) in Å."""
        cutoff, cutoff_slope = envelope(distance, 0.0, self.upper)
        decay = torch.exp(self.alpha * (self.lower - distance))[:, None]
        offset = decay - self.centres
        gaussian = torch.exp(-self.widths * offset * offset)
        value = cutoff[:, None] * gaussian
        slope = (2.0 * self.alpha) * decay * self.widths * offset
        return value, cutoff_slope[:, None] * gaussian + slope * value
