"""The recurrent baseline: a bidirectional LSTM from the sequence to internal coordinates.

Two layers run along the chain in both directions and give, for each residue, a distribution of its
internal coordinates, from which structures are drawn and built without any simulation. That the
internal coordinates are predicted directly, by two layers, is the baseline of Ingraham et al.
(ICLR 2019). Which distribution it had is not known here; the following one is chosen here, so that
the same network gives an ensemble rather than one structure:

    p(z | s) = Σ_k π_k(s) Π_i Σ_m w_kim N(b_i; μ, σ) M(θ_i; μ, κ) M(φ_i; μ, κ)

with bond lengths b, bond angles θ and dihedrals φ of residue i, normal distributions N and von
Mises distributions M. The K components are of the chain as a whole (its conformations), the M modes
of each residue in one of them (as helix and strand). Bond angles are von Mises distributed on the
full turn: their mass outside 0 to π is negligible at the widths of angles in proteins, and a drawn
one is reflected into the range.
"""

import math
from typing import ClassVar, Final, Literal, NamedTuple

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cgbench.config import Frozen
from cgbench.errors import ValidationError
from cgbench.nemo.features import AMINO_ACIDS, Profile, encode
from cgbench.nemo.internal import InternalCoordinates, to_cartesian

#: Numbers of each mode: weight; bond, mean and width; angle and dihedral, two of the mean, width.
_NUMBERS: Final = 9
#: Length of a bond between neighbouring Cα of a trans peptide bond in Å: where means begin.
_BOND: Final = 3.8
#: Angle at which means begin, radians; between helix and strand.
_ANGLE: Final = 1.9
#: Bounds of a bond's width in Å and of the concentrations of angles: finite whatever is learned.
_WIDTH: Final = (0.01, 1.0)
_CONCENTRATION: Final = (0.1, 2000.0)


class RecurrentSettings(Frozen):
    """Shape of the network.

    Attributes:
        width: Units of each layer in each direction; 100, 300, 500 and 700 were published.
        n_layers: Layers.
        features: What it sees: the ``sequence`` (20 numbers a residue), or with a ``profile`` (40).
        components: Conformations K of the whole chain.
        modes: Modes M of each residue in one of them.
    """

    width: int = pydantic.Field(default=300, ge=1, le=4096)
    n_layers: int = pydantic.Field(default=2, ge=1, le=8)
    features: Literal["sequence", "profile"] = "sequence"
    components: int = pydantic.Field(default=8, ge=1, le=256)
    modes: int = pydantic.Field(default=3, ge=1, le=32)

    @property
    def n_features(self) -> int:
        """Numbers that come with each residue."""
        return len(AMINO_ACIDS) * (2 if self.features == "profile" else 1)


class ChainDistribution(NamedTuple):
    """Distribution of the internal coordinates of one chain of N residues.

    Attributes:
        components: (K,) log π.
        modes: (K, N, M) log w.
        bond: (K, N, M) mean in Å; of residues 1 to N − 1, as for the width.
        bond_width: (K, N, M) standard deviation in Å.
        angle: (K, N, M) mean direction in radians; of residues 2 to N − 1.
        angle_concentration: (K, N, M) κ.
        dihedral: (K, N, M) mean direction in radians; of residues 3 to N − 1.
        dihedral_concentration: (K, N, M) κ.
    """

    components: Tensor
    modes: Tensor
    bond: Tensor
    bond_width: Tensor
    angle: Tensor
    angle_concentration: Tensor
    dihedral: Tensor
    dihedral_concentration: Tensor


class RecurrentNetwork(nn.Module):
    """The network; see the module's text.

    Args:
        settings: Its shape.
    """

    kind: ClassVar[str] = "recurrent"

    def __init__(self, settings: RecurrentSettings) -> None:
        super().__init__()
        self.settings = settings
        self.layers = nn.LSTM(
            settings.n_features,
            settings.width,
            settings.n_layers,
            batch_first=True,
            bidirectional=True,
        )
        self.residue = nn.Linear(
            2 * settings.width, settings.components * settings.modes * _NUMBERS
        )
        self.chain = nn.Linear(2 * settings.width, settings.components)

    def distribution(self, features: Tensor) -> ChainDistribution:
        """Return the distribution of a chain.

        Args:
            features: (N, n_features).

        Raises:
            ValidationError: Another number of features.
        """
        settings = self.settings
        if features.ndim != 2 or features.shape[1] != settings.n_features:
            raise ValidationError(
                "recurrent network: wrong features of a chain",
                expected=f"(n_residues, {settings.n_features}), of a {settings.features}",
                found=tuple(features.shape),
            )
        hidden, _ = self.layers(features[None])
        shape = (len(features), settings.components, settings.modes, _NUMBERS)
        numbers = self.residue(hidden[0]).reshape(shape).permute(3, 1, 0, 2)
        weight, bond, width, cos_a, sin_a, wide_a, cos_d, sin_d, wide_d = numbers
        cos_a, sin_a = cos_a + math.cos(_ANGLE), sin_a + math.sin(_ANGLE)
        return ChainDistribution(
            components=functional.log_softmax(self.chain(hidden[0]).mean(dim=0), dim=0),
            modes=functional.log_softmax(weight, dim=-1),
            bond=_BOND + bond,
            bond_width=_bounded(width - 2.5, _WIDTH),
            angle=torch.atan2(sin_a, cos_a),
            angle_concentration=_bounded(wide_a + 3.0, _CONCENTRATION),
            dihedral=torch.atan2(sin_d, cos_d + 1e-6),
            dihedral_concentration=_bounded(wide_d + 1.0, _CONCENTRATION),
        )

    def log_likelihood(
        self, features: Tensor, z: InternalCoordinates, intact: Tensor | None = None
    ) -> Tensor:
        """Return log p(z | s) of structures, (B,), of densities in Å and radians.

        Args:
            features: (N, n_features) of the chain.
            z: Internal coordinates of B structures of it.
            intact: (N − 1,) which bonds are there: what spans a gap of the chain has no
                likelihood. All of them if None.
        """
        given = self.distribution(features)
        bond = (z.lengths[:, None, :, None] - given.bond[:, 1:]) / given.bond_width[:, 1:]
        bonds = -0.5 * bond**2 - given.bond_width[:, 1:].log() - 0.5 * math.log(2.0 * math.pi)
        angles = _von_mises(
            z.angles[:, None, :, None], given.angle[:, 2:], given.angle_concentration[:, 2:]
        )
        dihedrals = _von_mises(
            z.dihedrals[:, None, :, None],
            given.dihedral[:, 3:],
            given.dihedral_concentration[:, 3:],
        )
        if intact is not None:
            there = intact.to(bonds)[:, None]
            bonds = bonds * there
            angles = angles * there[:-1] * there[1:]
            dihedrals = dihedrals * there[:-2] * there[1:-1] * there[2:]
        own = bonds + functional.pad(angles, (0, 0, 1, 0)) + functional.pad(dihedrals, (0, 0, 2, 0))
        residues = torch.logsumexp(given.modes[:, 1:] + own, dim=-1).sum(dim=-1)
        return torch.logsumexp(given.components + residues, dim=-1)

    @torch.no_grad()
    def draw(
        self,
        sequence: str,
        n: int,
        *,
        profile: Profile | None,
        temperature: float | None,
        generator: torch.Generator,
    ) -> Tensor:
        """Return structures (n, N, 3) in Å; see :class:`~cgbench.samplers.SamplerNetwork`.

        The temperature is that of the training data, whatever is asked for.

        Raises:
            ValidationError: The sequence cannot be used, or a profile is needed and missing.
        """
        del temperature
        weight = self.chain.weight
        features = torch.from_numpy(self.features(sequence, profile)).to(weight)
        given = ChainDistribution(*(part.double().cpu() for part in self.distribution(features)))
        component = torch.multinomial(
            given.components.exp(), n, replacement=True, generator=generator
        )
        chosen = given.modes[component].exp()
        n_residues, n_modes = chosen.shape[1:]
        mode = torch.multinomial(
            chosen.reshape(-1, n_modes), 1, replacement=True, generator=generator
        ).reshape(n, n_residues, 1)

        def picked(part: Tensor) -> Tensor:
            return part[component].gather(2, mode)[..., 0]

        normal = torch.randn(n, n_residues, generator=generator, dtype=torch.float64)
        lengths = picked(given.bond) + normal * picked(given.bond_width)
        angles = picked(given.angle) + von_mises_deviations(
            picked(given.angle_concentration), generator
        )
        dihedrals = picked(given.dihedral) + von_mises_deviations(
            picked(given.dihedral_concentration), generator
        )
        # Into (−π, π], and then by reflection to the half turn that an angle has.
        angles = torch.atan2(angles.sin(), angles.cos()).abs()
        z = InternalCoordinates(lengths[:, 1:], angles[:, 2:], dihedrals[:, 3:])
        return to_cartesian(z).to(weight)

    def features(self, sequence: str, profile: Profile | None) -> NDArray[np.float32]:
        """Return the features of a chain, (N, n_features) float32.

        Raises:
            ValidationError: The sequence cannot be used, or a profile is needed and missing.
        """
        if self.settings.features == "sequence":
            return encode(sequence)
        if profile is None:
            raise ValidationError(
                "recurrent network: made for sequences with a profile",
                expected=f"a profile of {len(sequence)} residues",
                found="none",
                fix="give one with --profile, or take a network of the sequence alone",
            )
        return encode(sequence, profile)


def _bounded(numbers: Tensor, limits: tuple[float, float]) -> Tensor:
    """Return positive numbers between limits; their logarithm passes smoothly into either."""
    low, high = (math.log(limit) for limit in limits)
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    return torch.exp(middle + half * torch.tanh((numbers - middle) / half))


def _von_mises(values: Tensor, mean: Tensor, concentration: Tensor) -> Tensor:
    """Return the logarithm of von Mises densities; the scaled Bessel function is always finite."""
    result: Tensor = (
        concentration * (torch.cos(values - mean) - 1.0)
        - math.log(2.0 * math.pi)
        - torch.special.i0e(concentration).log()
    )
    return result


def von_mises_deviations(concentration: Tensor, generator: torch.Generator) -> Tensor:
    """Draw deviations from the mean of von Mises distributions, in radians.

    Rejection from a wrapped Cauchy distribution (Best and Fisher, Appl. Stat. 28, 152, 1979).

    Args:
        concentration: κ > 0, of any shape, in double precision.
        generator: All randomness comes from it.
    """
    kappa = concentration
    tau = 1.0 + torch.sqrt(1.0 + 4.0 * kappa**2)
    rho = (tau - torch.sqrt(2.0 * tau)) / (2.0 * kappa)
    r = (1.0 + rho**2) / (2.0 * rho)
    result = torch.zeros_like(kappa)
    waiting = torch.ones_like(kappa, dtype=torch.bool)
    while bool(waiting.any()):
        u = torch.rand((3, *kappa.shape), generator=generator, dtype=kappa.dtype)
        z = torch.cos(math.pi * u[0])
        f = (1.0 + r * z) / (r + z)
        c = kappa * (r - f)
        good = (c * (2.0 - c) > u[1]) | (torch.log(c / u[1]) + 1.0 >= c)
        drawn = torch.sign(u[2] - 0.5) * torch.acos(f.clamp(-1.0, 1.0))
        result = torch.where(waiting & good, drawn, result)
        waiting = waiting & ~good
    return result
