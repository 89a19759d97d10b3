"""Terms of a structure-based model of one chain: tables, energies and forces in closed form."""

from typing import Final, NamedTuple

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from torch import Tensor

from cgbench.config import Frozen
from cgbench.priors import terms

#: Distance in Å under which pairs are continued by a parabola.
CLASH_DISTANCE: Final = 0.5


class GoConstants(Frozen):
    """Strengths in units of ε and lengths in Å; the defaults are those of Clementi et al. (2000).

    Attributes:
        bond: Of bonds, in ε/Å².
        angle: Of angles, in ε/rad².
        dihedral: Of the first and the third harmonic of dihedrals, in ε.
        contact: Depth of a native pair in ε.
        repulsion: Energy of any other pair at ``repulsion_distance``, in ε.
        repulsion_distance: Range of the repulsion in Å.
        least_separation: Least |i − j| of pairs.
        contact_distance: Pairs that are closer than this in the native structure are native, Å.
    """

    bond: float = pydantic.Field(default=100.0, gt=0, le=1e4)
    angle: float = pydantic.Field(default=20.0, ge=0, le=1e4)
    dihedral: tuple[float, float] = (1.0, 0.5)
    contact: float = pydantic.Field(default=1.0, ge=0, le=1e3)
    repulsion: float = pydantic.Field(default=1.0, ge=0, le=1e3)
    repulsion_distance: float = pydantic.Field(default=4.0, gt=0, le=20)
    least_separation: int = pydantic.Field(default=4, ge=2, le=100)
    contact_distance: float = pydantic.Field(default=8.0, gt=0, le=50)


class GoTables(NamedTuple):
    """Terms of one chain in units of kcal/mol, tensors of one data type.

    Attributes:
        bonded: Bonds and dihedrals, in the form of a prior's.
        angle_k: (N − 2,) kcal/mol/rad².
        angle_0: (N − 2,) rad.
        squared: (N, N) squared native or repulsion distance in Å²; zero where beads are no pair.
        twelve: (N, N) factor of (r°/r)¹² in kcal/mol.
        ten: (N, N) factor of (r°/r)¹⁰ in kcal/mol.
    """

    bonded: terms.Tables
    angle_k: Tensor
    angle_0: Tensor
    squared: Tensor
    twelve: Tensor
    ten: Tensor


def make_tables(
    native: NDArray[np.float64], scale: float, constants: GoConstants, like: Tensor
) -> GoTables:
    """Return the terms of a chain.

    Args:
        native: (N, 3) in Å.
        scale: ε in kcal/mol.
        constants: Strengths in units of it.
        like: A tensor of the precision and device of the tables.
    """

    def tensor(values: NDArray[np.floating]) -> Tensor:
        return torch.as_tensor(values, dtype=like.dtype, device=like.device)

    bond = np.diff(native, axis=0)
    angle, dihedral = _native_angles(bond)
    cosine, sine = np.zeros((3, len(dihedral))), np.zeros((3, len(dihedral)))
    for n, strength in zip((1, 3), constants.dihedral, strict=True):
        # 1 − cos n(φ − φ°) is 1 + cos(nφ − γ) with γ = nφ° + π.
        cosine[n - 1] = -scale * strength * np.cos(n * dihedral)
        sine[n - 1] = -scale * strength * np.sin(n * dihedral)
    n_beads = len(native)
    bonded = terms.Tables(
        bond_k=tensor(np.full(n_beads - 1, scale * constants.bond)),
        bond_r0=tensor(np.linalg.norm(bond, axis=1)),
        strength=tensor(np.zeros((0, 0))),
        constant=scale * sum(constants.dihedral) * len(dihedral),
        cosine=tensor(cosine),
        sine=tensor(sine),
    )
    index = np.arange(n_beads)
    pairs = np.abs(np.subtract.outer(index, index)) >= constants.least_separation
    squared = ((native[:, None] - native[None]) ** 2).sum(axis=2)
    near = squared < constants.contact_distance**2
    repulsion = constants.repulsion_distance**2
    return GoTables(
        bonded=bonded,
        angle_k=tensor(np.full(n_beads - 2, scale * constants.angle)),
        angle_0=tensor(angle),
        squared=tensor(np.where(pairs, np.where(near, squared, repulsion), 0.0)),
        twelve=tensor(scale * np.where(near, 5.0 * constants.contact, constants.repulsion)),
        ten=tensor(scale * np.where(near, 6.0 * constants.contact, 0.0)),
    )


def _native_angles(bond: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return angles (N − 2,) and dihedrals (N − 3,) in rad from bond vectors (N − 1, 3)."""
    normal = np.cross(bond[:-1], bond[1:])
    angle = np.arctan2(np.linalg.norm(normal, axis=1), -(bond[:-1] * bond[1:]).sum(axis=1))
    # IUPAC sign, as in the prior.
    length = np.linalg.norm(bond[1:-1], axis=1)
    sine = (bond[:-2] * normal[1:]).sum(axis=1) * length
    return angle, np.arctan2(sine, (normal[:-1] * normal[1:]).sum(axis=1))


def energy_forces(pos: Tensor, tables: GoTables) -> tuple[Tensor, Tensor]:
    """Return energies (R,) in kcal/mol and forces (R, N, 3) in kcal/mol/Å of positions in Å."""
    components = terms.by_component(pos)
    bonds = terms.bonds(components, tables.bonded)
    dihedrals = terms.dihedrals(bonds, tables.bonded) if len(tables.angle_k) > 1 else None
    gradient = terms.bond_vector_gradient(bonds, dihedrals, tables.bonded)
    angle_energy, angle_gradient = _angles(bonds, tables)
    gradient = gradient + angle_gradient
    energy, forces = compiled_or_matrices(pos, tables)
    energy = energy + bonds.energy + angle_energy
    if dihedrals is not None:
        energy = energy + dihedrals.energy
    forces[:, :-1] += gradient
    forces[:, 1:] -= gradient
    return energy, forces


def _angles(bonds: terms.Bonds, tables: GoTables) -> tuple[Tensor, Tensor]:
    """Return the energy of angles (R,) and dE/d(bond vector), (R, N − 1, 3).

    With bond vectors a, b and m = a×b, the angle between −a and b is atan2(|m|, −a·b), and its
    gradients are m×a/(|m| a²) and −m×b/(|m| b²). The norm of m is bounded below: a straight chain
    has no normal.
    """
    vectors, lengths, _ = bonds
    a, b = vectors[..., :-1], vectors[..., 1:]
    normal = torch.linalg.cross(a, b, dim=0)
    size = normal.square().sum(0).clamp_min(terms.LEAST_SQUARED_NORMAL).sqrt()
    stretch = torch.atan2(size, -(a * b).sum(0)) - tables.angle_0
    slope = 2.0 * stretch * tables.angle_k / size
    squared = lengths.square()
    gradient = torch.zeros_like(vectors)
    gradient[..., :-1] += torch.linalg.cross(normal, a, dim=0) * (slope / squared[:, :-1])
    gradient[..., 1:] -= torch.linalg.cross(normal, b, dim=0) * (slope / squared[:, 1:])
    return stretch.square() @ tables.angle_k, gradient.permute(1, 2, 0)


def compiled_or_matrices(pos: Tensor, tables: GoTables) -> tuple[Tensor, Tensor]:
    """Return energy (R,) and forces (R, N, 3) of native and other pairs.

    Compiled loops on a processor, matrices elsewhere.
    """
    if pos.device.type != "cpu":
        return pairs_by_matrices(pos, tables)
    # Compiled loops take a second to import.
    from cgbench.kernels.native_pairs import native_pairs as compiled_pairs

    components = pos.detach().permute(0, 2, 1).contiguous()
    forces, energies = torch.empty_like(components), pos.new_empty(len(pos))
    limits = pos.new_tensor([CLASH_DISTANCE**2, 5.0, 6.0])
    arguments = (components, *tables[3:], limits, energies, forces)
    compiled_pairs(*(tensor.numpy() for tensor in arguments))
    return energies, forces.permute(0, 2, 1)


def pairs_by_matrices(pos: Tensor, tables: GoTables) -> tuple[Tensor, Tensor]:
    """Return energy (R,) and forces (R, N, 3) of native and other pairs, in plain torch.

    With s = r², q = r°²/max(s, r_c²) the energy of a pair is ``A q⁶ − B q⁵``; inside the clash
    distance r_c it goes on linearly in s, with the same value and slope.
    """
    difference = pos[:, :, None] - pos[:, None]
    squared = difference.square().sum(3)
    bounded = squared.clamp_min(CLASH_DISTANCE**2)
    ratio = tables.squared / bounded
    square = ratio * ratio
    fifth = square * square * ratio
    twelve, ten = fifth * ratio * tables.twelve, fifth * tables.ten
    # −dE/ds
    push = (6.0 * twelve - 5.0 * ten) / bounded
    energy = (twelve - ten + push * (bounded - squared)).sum((1, 2))
    return 0.5 * energy, 2.0 * (push[..., None] * difference).sum(2)
