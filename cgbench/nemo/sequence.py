"""The sequence network: what the sequence says of the start, the energy and the simulator."""

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from cgbench.errors import ValidationError
from cgbench.nemo.energy import EnergyWeights
from cgbench.nemo.internal import InternalCoordinates
from cgbench.nemo.settings import NemoSettings

#: Cα of neighbouring residues with a trans peptide bond, Å, and how far means are learned from it.
_BOND: Final = (3.8, 0.1)
#: Range of mean angles, radians: everything between tight turns and strands.
_ANGLE: Final = (1.9, 0.7)
#: Standard deviations of the initial structure before anything is learned: Å, radian, radian.
_SPREAD: Final = (0.04, 0.2, 0.6)
#: They are learned within this factor in either direction.
_SPREAD_RANGE: Final = 4.0
#: Convolutions reach 2⁰, 2¹, … residues apart, up to this power.
_LARGEST_POWER: Final = 3


class Conditions(NamedTuple):
    """Everything that a sequence of L residues decides.

    Attributes:
        mean: Mean internal coordinates of the initial structure, of one chain (1, …).
        spread: Their standard deviations.
        weights: Of the energy.
        variance: C, of each internal coordinate, of one chain (1, …), in Å² and radian².
        step_size: ε, a number.
    """

    mean: InternalCoordinates
    spread: InternalCoordinates
    weights: EnergyWeights
    variance: InternalCoordinates
    step_size: Tensor

    def tensors(self) -> list[Tensor]:
        """Return all tensors, in a fixed order."""
        return [*self.mean, *self.spread, *self.weights, *self.variance, self.step_size]

    @classmethod
    def from_tensors(cls, tensors: list[Tensor]) -> "Conditions":
        """Return what ``tensors`` gave."""
        return cls(
            InternalCoordinates(*tensors[0:3]),
            InternalCoordinates(*tensors[3:6]),
            EnergyWeights(*tensors[6:12]),
            InternalCoordinates(*tensors[12:15]),
            tensors[15],
        )


class _Block(nn.Module):
    """A residual convolution along the chain, beside what the whole chain is like."""

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.normalise = nn.LayerNorm(width)
        self.convolution = nn.Conv1d(width, width, kernel, padding="same", dilation=dilation)
        self.chain = nn.Linear(width, width)
        self.mix = nn.Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        found = self.normalise(hidden)
        near = self.convolution(found.T.unsqueeze(0)).squeeze(0).T
        change: Tensor = self.mix(functional.silu(near + self.chain(found.mean(dim=0))))
        return hidden + change


class SequenceNetwork(nn.Module):
    """Residual convolutions over the residues, and linear maps to everything that is wanted.

    Args:
        settings: Shape of the model.
    """

    def __init__(self, settings: NemoSettings) -> None:
        super().__init__()
        self.settings = settings
        width, energy = settings.width, settings.energy
        self.embedding = nn.Linear(settings.n_features, width)
        self.blocks = nn.ModuleList(
            _Block(width, settings.kernel, 2 ** min(index, _LARGEST_POWER))
            for index in range(settings.n_blocks)
        )
        self.normalise = nn.LayerNorm(width)
        # Initial mean and spread, C, and the energy, of each kind of coordinate.
        self.bond = nn.Linear(width, 3 + 2)
        self.angle = nn.Linear(width, 3 + 2 * energy.harmonics)
        self.dihedral = nn.Linear(width, 4 + 2 * energy.harmonics + energy.n_motif_features)
        self.beads = nn.Linear(width, 2 * energy.n_features)
        self.step = nn.Linear(width, 1)
        for head in (self.bond, self.angle, self.dihedral, self.step):
            # A start near the priors above: small weights of everything.
            nn.init.normal_(head.weight, std=0.1 / math.sqrt(width))
            nn.init.zeros_(head.bias)

    def forward(self, features: Tensor) -> Conditions:
        """Return what a sequence decides.

        Args:
            features: (L, n_features) of one chain.

        Raises:
            ValidationError: Another number of features.
        """
        settings = self.settings
        if features.dim() != 2 or features.shape[1] != settings.n_features:
            raise ValidationError(
                "sequence network: wrong features of a chain",
                expected=f"(n_residues, {settings.n_features}), of a {settings.features}",
                found=tuple(features.shape),
            )
        hidden = self.embedding(features)
        for block in self.blocks:
            hidden = block(hidden)
        hidden = self.normalise(hidden)
        neighbours = 0.5 * (hidden[1:] + hidden[:-1])
        bond = self.bond(neighbours).T
        angle = self.angle(hidden[1:-1]).T
        dihedral = self.dihedral(neighbours[1:-1]).T
        beads = self.beads(hidden)
        mean = InternalCoordinates(
            _BOND[0] + _BOND[1] * torch.tanh(bond[0]),
            _ANGLE[0] + _ANGLE[1] * torch.tanh(angle[0]),
            # Never at the origin, where a direction has no gradient.
            torch.atan2(dihedral[0], dihedral[1] + 1.0),
        )
        spread = _scaled(_SPREAD, (bond[1], angle[1], dihedral[2]), _SPREAD_RANGE)
        simulator = settings.simulator
        scales = (
            simulator.length_variance,
            simulator.angle_variance,
            simulator.dihedral_variance,
        )
        variance = _scaled(scales, (bond[2], angle[2], dihedral[3]), simulator.learned_range)
        n = settings.energy.n_features
        weights = EnergyWeights(
            _BOND[0] + _BOND[1] * torch.tanh(bond[3]),
            settings.energy.bond_stiffness * _factor(bond[4], 4.0),
            angle[3:].T,
            dihedral[4:].T,
            beads[:, :n],
            beads[:, n:],
        )
        pooled = self.step(hidden.mean(dim=0)).squeeze(-1)
        step = simulator.step_size * _factor(pooled, simulator.learned_range)
        return Conditions(_chain(mean), _chain(spread), weights, _chain(variance), step)


def _factor(numbers: Tensor, limit: float) -> Tensor:
    """Return factors between 1/limit and limit, one at zero."""
    return torch.exp(math.log(limit) * torch.tanh(numbers))


def _scaled(
    scales: tuple[float, float, float], numbers: tuple[Tensor, Tensor, Tensor], limit: float
) -> InternalCoordinates:
    """Return scales times learned factors."""
    pairs = zip(scales, numbers, strict=True)
    return InternalCoordinates(*(scale * _factor(own, limit) for scale, own in pairs))


def _chain(z: InternalCoordinates) -> InternalCoordinates:
    """Return coordinates of residues as those of one chain, (1, …)."""
    return InternalCoordinates(*(part.unsqueeze(0) for part in z))
