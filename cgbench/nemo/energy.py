"""The energy: features of the geometry of a chain, each weighted by what the sequence says.

    U(x; s) = Σ_m Σ_i l_im(s) F_m(x near bead i) + Σ_k Σ_ij l_ijk(s) F_k(x near beads i and j)

with learned functions F that know nothing of the sequence, and weights l that know nothing of the
structure. Local features are harmonics of angles and dihedrals and learned functions of two angles
and the dihedral between them. Features of a pair are learned functions of the distance, of where
either bead is in the local frame of the other, and of how the two frames are turned against each
other. Energies are in units of kT at the temperature of the training data.

All of it is made of lengths, angles and components in right-handed frames that move with the chain:
it does not change when the chain is moved or turned, and does when it is mirrored.

Three terms are there before anything is learned, so that a chain stays a chain: harmonic bonds
(their length and stiffness are learned), a soft repulsion of beads, and walls that keep angles from
0 and π, where a dihedral has no meaning.
"""

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from cgbench.nemo.internal import norm, unit
from cgbench.nemo.settings import EnergySettings

#: Least number of bonds between two beads that interact; nearer ones have angles and dihedrals.
_LEAST_SEPARATION: Final = 3
#: Separations that have a weight of their own; longer ones share the last.
_N_SEPARATIONS: Final = 12
#: Range of angles without a wall, radians, and the stiffness of ½ k (θ − θ₀)² beyond, kT/radian².
_ANGLES: Final = (math.radians(70.0), math.radians(165.0))
_WALL: Final = 200.0
#: Numbers of how two local frames lie to each other: two directions and a rotation.
_N_ORIENTATION: Final = 15
#: Where radial functions begin, Å.
_NEAREST: Final = 3.5


class EnergyWeights(NamedTuple):
    """What the sequence says of the energy of a chain of L beads.

    Attributes:
        bond_lengths: (L − 1) b₀ in Å.
        bond_stiffness: (L − 1) k in kT/Å².
        angles: (L − 2, 2 harmonics).
        dihedrals: (L − 3, 2 harmonics + motif features).
        first: (L, K) of beads that are earlier in the chain.
        second: (L, K) of beads that are later in the chain.
    """

    bond_lengths: Tensor
    bond_stiffness: Tensor
    angles: Tensor
    dihedrals: Tensor
    first: Tensor
    second: Tensor


class Energy(nn.Module):
    """The functions F of the geometry, and the sum.

    Args:
        settings: Their shape.
    """

    def __init__(self, settings: EnergySettings) -> None:
        super().__init__()
        self.settings = settings
        n = settings.n_radial
        self.width = (settings.cutoff - _NEAREST) / (n - 1)
        self.pair = nn.Sequential(
            nn.Linear(n + _N_ORIENTATION, settings.hidden),
            nn.SiLU(),
            nn.Linear(settings.hidden, settings.n_features),
            nn.Tanh(),
        )
        self.motif = nn.Sequential(
            nn.Linear(5, settings.hidden),
            nn.SiLU(),
            nn.Linear(settings.hidden, settings.n_motif_features),
            nn.Tanh(),
        )
        self.separation = nn.Parameter(torch.zeros(_N_SEPARATIONS, settings.n_features))

    def forward(self, x: Tensor, weights: EnergyWeights) -> Tensor:
        """Return energies (B,) in kT of chains (B, L, 3) in Å."""
        bonds = x[:, 1:] - x[:, :-1]
        local = self.bonded(bonds, weights) + self.local(bonds, weights)
        if x.shape[1] <= _LEAST_SEPARATION:
            return local
        return local + self.pairs(x, bonds, weights)

    def bonded(self, bonds: Tensor, weights: EnergyWeights) -> Tensor:
        """Return the energies (B,) of bonds (B, L − 1, 3) as springs."""
        stretch = norm(bonds) - weights.bond_lengths
        return 0.5 * (weights.bond_stiffness * stretch**2).sum(dim=-1)

    def local(self, bonds: Tensor, weights: EnergyWeights) -> Tensor:
        """Return the energies (B,) of angles and dihedrals of chains with these bonds."""
        normals = torch.linalg.cross(bonds[:, :-1], bonds[:, 1:], dim=-1)
        angle = torch.atan2(norm(normals), -(bonds[:, :-1] * bonds[:, 1:]).sum(dim=-1))
        low, high = _ANGLES
        outside = torch.relu(low - angle) + torch.relu(angle - high)
        energy = 0.5 * _WALL * (outside**2).sum(dim=-1)
        energy = energy + (weights.angles * self._harmonics(angle)).sum(dim=(-1, -2))
        if bonds.shape[1] < 3:
            return energy
        along = unit(bonds[:, 1:-1])
        sine = (torch.linalg.cross(normals[:, :-1], normals[:, 1:], dim=-1) * along).sum(dim=-1)
        cosine = (normals[:, :-1] * normals[:, 1:]).sum(dim=-1)
        dihedral = torch.atan2(sine, cosine)
        # A dihedral fades out where it loses its meaning: at straight angles beside it.
        fade = (torch.sin(angle[:, :-1]) * torch.sin(angle[:, 1:])) ** 2
        motif = torch.stack(
            [
                torch.cos(angle[:, :-1]),
                torch.cos(angle[:, 1:]),
                torch.cos(dihedral),
                torch.sin(dihedral),
                torch.cos(2.0 * dihedral),
            ],
            dim=-1,
        )
        features = torch.cat([self._harmonics(dihedral), self.motif(motif)], dim=-1)
        return energy + (weights.dihedrals * features * fade.unsqueeze(-1)).sum(dim=(-1, -2))

    def pairs(self, x: Tensor, bonds: Tensor, weights: EnergyWeights) -> Tensor:
        """Return the energies (B,) of pairs of beads, three bonds or more apart.

        Only pairs that are near enough to have one are computed: of long chains they are few.
        """
        settings, n_beads = self.settings, x.shape[1]
        first, second = torch.triu_indices(
            n_beads, n_beads, offset=_LEAST_SEPARATION, device=x.device
        )
        with torch.no_grad():
            reach = max(settings.cutoff, settings.contact_distance)
            near = ((x[:, second] - x[:, first]) ** 2).sum(dim=-1) < reach**2
        chain, pair = near.nonzero(as_tuple=True)
        # Rows of all beads of all chains.
        earlier, later = chain * n_beads + first[pair], chain * n_beads + second[pair]
        beads = x.flatten(end_dim=1)
        between = beads.index_select(0, later) - beads.index_select(0, earlier)
        distance = norm(between)
        close = torch.relu(settings.contact_distance - distance)
        repulsion = 0.5 * settings.contact_stiffness * close**2
        scaled = (distance / settings.cutoff).clamp(max=1.0)
        envelope = (1.0 - scaled**2) ** 3
        centres = torch.linspace(
            _NEAREST, settings.cutoff, settings.n_radial, dtype=x.dtype, device=x.device
        )
        radial = torch.exp(-0.5 * ((distance.unsqueeze(-1) - centres) / self.width) ** 2)
        frames = local_frames(bonds).flatten(end_dim=1)
        own, other = frames.index_select(0, earlier), frames.index_select(0, later)
        towards = (between / distance.unsqueeze(-1)).unsqueeze(-1)
        seen = torch.matmul(own.mT, towards).squeeze(-1)
        back = torch.matmul(other.mT, towards).squeeze(-1)
        turned = torch.matmul(own.mT, other).flatten(start_dim=-2)
        features = self.pair(torch.cat([radial, seen, back, turned], dim=-1))
        apart = (second - first).clamp(max=_LEAST_SEPARATION + _N_SEPARATIONS - 1)
        strength = (
            weights.first[first] * weights.second[second]
            + self.separation[apart - _LEAST_SEPARATION]
        ).index_select(0, pair)
        each = repulsion + (strength * features).sum(dim=-1) * envelope
        return x.new_zeros(len(x)).index_add(0, chain, each)

    def _harmonics(self, angle: Tensor) -> Tensor:
        """Return cosines and sines of the multiples of angles (…,), (…, 2 harmonics)."""
        n = torch.arange(1, self.settings.harmonics + 1, dtype=angle.dtype, device=angle.device)
        multiples = angle.unsqueeze(-1) * n
        return torch.cat([torch.cos(multiples), torch.sin(multiples)], dim=-1)


def local_frames(bonds: Tensor) -> Tensor:
    """Return the local frame of each bead, (B, L, 3, 3) with the axes as columns.

    The first axis bisects the outward directions of the two bonds of a bead, the second is the
    normal of their plane, the third completes a right-handed frame. The two ends have the frames of
    their neighbours.

    Args:
        bonds: (B, L − 1, 3), L ≥ 3.
    """
    directions = unit(bonds)
    before, after = directions[:, :-1], directions[:, 1:]
    outward = unit(before - after)
    normal = unit(torch.linalg.cross(before, after, dim=-1))
    third = torch.linalg.cross(outward, normal, dim=-1)
    inner = torch.stack([outward, normal, third], dim=-1)
    return torch.cat([inner[:, :1], inner, inner[:, -1:]], dim=1)
