"""Formulas of the prior's terms on positions held component by component, (3, R, n_beads).

Neighbours along the chain are slices of one another, so that no term needs an index list. Repulsion
has no cutoff and every pair takes part, so it is evaluated on dense (R, n_beads, n_beads) matrices:
measured, that is two to three times as fast as gathering and scattering half as many pairs.
"""

from typing import Final, NamedTuple

import torch
from torch import Tensor

#: Distance in Å under which repulsion is continued by a parabola; at 0.1 Å two beads of the
#: published force field have 1e10 kcal/mol, which no simulation survives anyway.
CLASH_DISTANCE: Final = 0.1

#: Least squared norm, Å⁴, of the product of two bond vectors: a sine of 7e-5 at 3.8 Å bonds.
LEAST_SQUARED_NORMAL: Final = 1e-6

#: Least length in Å that anything is divided by.
LEAST_LENGTH: Final = 1e-6


class Tables(NamedTuple):
    """Parameters of one chain as tensors of one data type on one device.

    Attributes:
        bond_k: (n_beads − 1,) force constants in kcal/mol/Å².
        bond_r0: (n_beads − 1,) lengths in Å.
        strength: (n_beads, n_beads) ``4 sqrt(ε_i ε_j)`` in kcal·Å⁶/mol, zero for |i − j| < 2.
        constant: Σ k_n over all dihedrals in kcal/mol.
        cosine: (largest n, n_beads − 3) ``k cos γ``.
        sine: (largest n, n_beads − 3) ``k sin γ``.
    """

    bond_k: Tensor
    bond_r0: Tensor
    strength: Tensor
    constant: float
    cosine: Tensor
    sine: Tensor


class Bonds(NamedTuple):
    """Bond vectors (3, R, n_beads − 1), their lengths (R, n_beads − 1) and energy (R,)."""

    vectors: Tensor
    lengths: Tensor
    energy: Tensor


class Dihedrals(NamedTuple):
    """Products of neighbouring bond vectors and what follows from them.

    Attributes:
        normals: (3, R, n_beads − 2) vector products of neighbouring bond vectors.
        squared: (R, n_beads − 2) their squared norms, bounded below.
        slope: (R, n_beads − 3) dE/dφ in kcal/mol.
        energy: (R,) in kcal/mol.
    """

    normals: Tensor
    squared: Tensor
    slope: Tensor
    energy: Tensor


def by_component(positions: Tensor) -> Tensor:
    """Return (R, n_beads, 3) as (3, R, n_beads)."""
    return positions.permute(2, 0, 1).contiguous()


def bonds(components: Tensor, tables: Tables) -> Bonds:
    """Return bond vectors, lengths and the energy ``Σ k (r − r0)²``."""
    vectors = components[..., 1:] - components[..., :-1]
    lengths = vectors.square().sum(0).clamp_min(LEAST_LENGTH**2).sqrt()
    return Bonds(vectors, lengths, (lengths - tables.bond_r0).square() @ tables.bond_k)


def dihedrals(chain: Bonds, tables: Tables) -> Dihedrals:
    """Return energy and slope of ``Σ k_n (1 + cos(n φ − γ_n))`` from bond vectors.

    Multiples of φ come from the addition theorems, so no angle and no branch cut is needed.
    """
    vectors = chain.vectors
    normals = torch.linalg.cross(vectors[..., :-1], vectors[..., 1:], dim=0)
    squared = normals.square().sum(0).clamp_min(LEAST_SQUARED_NORMAL)
    inverse = (squared[:, :-1] * squared[:, 1:]).rsqrt()
    cosine = (normals[..., :-1] * normals[..., 1:]).sum(0) * inverse
    # IUPAC sign: positive when the last bond turns clockwise, seen along the middle one.
    sine = (vectors[..., :-2] * normals[..., 1:]).sum(0) * chain.lengths[:, 1:-1] * inverse
    energy = cosine @ tables.cosine[0] + sine @ tables.sine[0] + tables.constant
    slope = cosine * tables.sine[0] - sine * tables.cosine[0]
    c, s = cosine, sine
    for n in range(2, len(tables.cosine) + 1):
        c, s = c * cosine - s * sine, s * cosine + c * sine
        energy = energy + c @ tables.cosine[n - 1] + s @ tables.sine[n - 1]
        slope = slope + n * (c * tables.sine[n - 1] - s * tables.cosine[n - 1])
    return Dihedrals(normals, squared, slope, energy)


def bond_vector_gradient(chain: Bonds, angles: Dihedrals | None, tables: Tables) -> Tensor:
    """Return dE/d(bond vector) of bonds and dihedrals, (R, n_beads − 1, 3).

    With bond vectors b1, b2, b3 and normals m = b1×b2, n = b2×b3, the gradients of φ with respect
    to them are |b2| m/m², −(b1·b2) m/(|b2| m²) − (b2·b3) n/(|b2| n²) and |b2| n/n²: the forces of
    Blondel and Karplus, J. Comput. Chem. 17, 1132 (1996), written for bond vectors.
    """
    vectors, lengths, _ = chain
    gradient = vectors * ((lengths - tables.bond_r0) * (2.0 * tables.bond_k) / lengths)
    if angles is not None:
        scaled = angles.normals / angles.squared
        products = (vectors[..., :-1] * vectors[..., 1:]).sum(0)
        outer = angles.slope * lengths[:, 1:-1]
        inner = angles.slope / lengths[:, 1:-1]
        gradient[..., :-2] += outer * scaled[..., :-1]
        gradient[..., 2:] += outer * scaled[..., 1:]
        gradient[..., 1:-1] -= inner * (
            products[:, :-1] * scaled[..., :-1] + products[:, 1:] * scaled[..., 1:]
        )
    return gradient.permute(1, 2, 0)


def repulsion_energy(components: Tensor, tables: Tables) -> Tensor:
    """Return the energy of repulsion, (R,), differentiable.

    With s = r² and b = max(s, r_c²) the energy of a pair is ``C b⁻⁴ (4 b − 3 s)``: ``C r⁻⁶``
    outside the clash distance r_c and a parabola of the same value and slope inside.
    """
    squared = (components[..., :, None] - components[..., None, :]).square().sum(0)
    bounded = squared.clamp_min(CLASH_DISTANCE**2)
    return 0.5 * (tables.strength * bounded.pow(-4) * (4.0 * bounded - 3.0 * squared)).sum((1, 2))


def repulsion(components: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
    """Return energy (R,) and forces (R, n_beads, 3) of repulsion, without recording gradients.

    The force on bead i is ``Σ_j w_ij (x_i − x_j)`` with ``w = 6 C b⁻⁴``, which is a row sum and a
    matrix product. Large temporaries are overwritten: the allocator would return them to the
    operating system in every step.
    """
    x, y, z = components
    squared = (x[:, :, None] - x[:, None, :]).square_()
    for component in (y, z):
        difference = component[:, :, None] - component[:, None, :]
        squared.addcmul_(difference, difference)
    bounded = squared.clamp_min(CLASH_DISTANCE**2)
    weights = bounded.reciprocal().square_().square_().mul_(tables.strength)
    # Replicas diffuse; relative to a bead of their own the rounding of the product stays small.
    beads = (components - components[:, :, :1]).permute(1, 2, 0)
    forces = beads * weights.sum(-1, keepdim=True) - weights @ beads
    remainder = bounded.mul_(4.0).sub_(squared, alpha=3.0)
    energy = torch.linalg.vecdot(weights.flatten(1), remainder.flatten(1))
    return 0.5 * energy, forces.mul_(6.0)
