"""Internal coordinates of Cα chains: bond lengths, angles and dihedrals, and their Jacobian.

A chain of L beads has L − 1 bond lengths, L − 2 angles and L − 3 dihedrals, in the conventions of
:mod:`cgbench.evaluate.geometry`: angles at the middle bead, dihedrals with the sign of the IUPAC
rule. Everything is batched and differentiable, any number of times.

The Jacobian ∂x/∂z is never built. Turning an angle or a dihedral turns all later bonds about one
axis, and stretching a bond shifts all later beads, so that its product with a vector is two
cumulative sums along the chain and the transposed product is two from the far end: linear in L.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from cgbench.errors import ValidationError

#: Least square of a length by which a direction is divided, Å² or Å⁴: collinear beads have no
#: plane, and take a gradient of zero instead of one that is not finite.
_LEAST_SQUARE = 1e-12


class InternalCoordinates(NamedTuple):
    """Internal coordinates of B chains of L beads, or changes of such.

    Attributes:
        lengths: (B, L − 1) in Å; bond i is from bead i to bead i + 1.
        angles: (B, L − 2) in radians; angle i is at bead i + 1.
        dihedrals: (B, L − 3) in radians; dihedral i is about bond i + 1.
    """

    lengths: Tensor
    angles: Tensor
    dihedrals: Tensor

    @property
    def n_beads(self) -> int:
        """L."""
        return self.lengths.shape[-1] + 1

    def flat(self) -> Tensor:
        """Return all in a row, (B, 3 L − 6): lengths, angles, dihedrals."""
        return torch.cat(self, dim=-1)

    @classmethod
    def from_flat(cls, flat: Tensor) -> "InternalCoordinates":
        """Split rows of (B, 3 L − 6) into lengths, angles and dihedrals.

        Raises:
            ValidationError: No chain of three beads or more has so many coordinates.
        """
        n = flat.shape[-1]
        if n < 3 or n % 3:
            raise ValidationError(
                "internal coordinates in a row", expected="3 L − 6 of L beads, L ≥ 3", found=n
            )
        n_beads = n // 3 + 2
        return cls(*torch.split(flat, [n_beads - 1, n_beads - 2, n_beads - 3], dim=-1))

    def plus(self, change: "InternalCoordinates", factor: float = 1.0) -> "InternalCoordinates":
        """Return these coordinates and a multiple of a change of them."""
        pairs = zip(self, change, strict=True)
        return InternalCoordinates(*(own + factor * other for own, other in pairs))


def _check(x: Tensor) -> None:
    if x.dim() != 3 or x.shape[2] != 3 or x.shape[1] < 3:
        raise ValidationError(
            "coordinates of chains",
            expected="(n_chains, n_beads, 3) with three beads or more",
            found=tuple(x.shape),
        )


def norm(vectors: Tensor) -> Tensor:
    """Return lengths along the last dimension, with a gradient of zero for vectors of zero."""
    return (vectors * vectors).sum(dim=-1).clamp(min=_LEAST_SQUARE).sqrt()


def unit(vectors: Tensor) -> Tensor:
    """Return directions along the last dimension; zero stays zero."""
    result: Tensor = vectors / norm(vectors).unsqueeze(-1)
    return result


def to_internal(x: Tensor) -> InternalCoordinates:
    """Return the internal coordinates of chains.

    Args:
        x: (B, L, 3) in Å, L ≥ 3.

    Returns:
        Lengths in Å, angles in [0, π] and dihedrals in (−π, π]. Dihedrals: Blondel and Karplus, J.
        Comput. Chem. 17, 1132, 1996, equation 2 in its two-argument form.

    Raises:
        ValidationError: The shape is another one.
    """
    _check(x)
    bonds = x[:, 1:] - x[:, :-1]
    normals = torch.linalg.cross(bonds[:, :-1], bonds[:, 1:], dim=-1)
    cosine = -(bonds[:, :-1] * bonds[:, 1:]).sum(dim=-1)
    angles = torch.atan2(norm(normals), cosine)
    middle = norm(bonds[:, 1:-1])
    sine = middle * (bonds[:, :-2] * normals[:, 1:]).sum(dim=-1)
    dihedrals = torch.atan2(sine, (normals[:, :-1] * normals[:, 1:]).sum(dim=-1))
    return InternalCoordinates(norm(bonds), angles, dihedrals)


def _turns(z: InternalCoordinates) -> Tensor:
    """Return the rotation from each bond's frame to the next one's, (B, L − 2, 3, 3).

    A bond's frame has the bond as its first axis and the normal of the plane with the bond before
    as its third.
    """
    first = torch.zeros_like(z.angles[:, :1])
    phi = torch.cat([first, z.dihedrals], dim=1)
    s, c = torch.sin(phi), torch.cos(phi)
    sin_angle, cos_angle = torch.sin(z.angles), torch.cos(z.angles)
    rows = (
        torch.stack([-cos_angle, -sin_angle, torch.zeros_like(s)], dim=-1),
        torch.stack([sin_angle * c, -cos_angle * c, -s], dim=-1),
        torch.stack([sin_angle * s, -cos_angle * s, c], dim=-1),
    )
    return torch.stack(rows, dim=-2)


def _running_products(matrices: Tensor) -> Tensor:
    """Return M₀, M₀M₁, M₀M₁M₂, … along dimension 1 in log₂ L passes."""
    reach = 1
    while reach < matrices.shape[1]:
        joined = torch.matmul(matrices[:, :-reach], matrices[:, reach:])
        matrices = torch.cat([matrices[:, :reach], joined], dim=1)
        reach *= 2
    return matrices


def to_cartesian(z: InternalCoordinates) -> Tensor:
    """Return chains with given internal coordinates by natural extension.

    The first bead is at the origin, the first bond along x, the third bead in the plane of x and y
    with y ≥ 0 for angles in [0, π]. Any real numbers are taken: an angle beyond π or a length
    below zero is placed as trigonometry has it, so that a simulation may pass through.

    Returns:
        (B, L, 3) in Å.
    """
    frames = _running_products(_turns(z))
    ahead = torch.zeros_like(frames[:, :1, :, 0])
    ahead = torch.cat([torch.ones_like(ahead[..., :1]), ahead[..., 1:]], dim=-1)
    directions = torch.cat([ahead, frames[..., 0]], dim=1)
    return _placed(directions * z.lengths.unsqueeze(-1))


def to_cartesian_in_turn(z: InternalCoordinates) -> Tensor:
    """Return the same as ``to_cartesian`` bead after bead: L steps in a row instead of log₂ L."""
    turns = _turns(z)
    frame = torch.eye(3, dtype=turns.dtype, device=turns.device).expand(len(turns), 3, 3)
    directions = [frame[:, :, 0]]
    for turn in turns.unbind(dim=1):
        frame = torch.matmul(frame, turn)
        directions.append(frame[:, :, 0])
    return _placed(torch.stack(directions, dim=1) * z.lengths.unsqueeze(-1))


def _placed(bonds: Tensor) -> Tensor:
    """Return beads from bonds (B, L − 1, 3), the first at the origin."""
    return torch.cat([torch.zeros_like(bonds[:, :1]), torch.cumsum(bonds, dim=1)], dim=1)


class Axes(NamedTuple):
    """What the Jacobian of chains needs of them.

    Attributes:
        bonds: (B, L − 1, 3) in Å.
        directions: Of the bonds.
        normals: (B, L − 2, 3) unit normals of the planes of three beads.
    """

    bonds: Tensor
    directions: Tensor
    normals: Tensor


def axes(x: Tensor) -> Axes:
    """Return the axes about which internal coordinates turn chains (B, L, 3)."""
    _check(x)
    bonds = x[:, 1:] - x[:, :-1]
    normals = torch.linalg.cross(bonds[:, :-1], bonds[:, 1:], dim=-1)
    return Axes(bonds, unit(bonds), unit(normals))


def jacobian_product(x: Tensor | Axes, change: InternalCoordinates) -> Tensor:
    """Return (∂x/∂z) Δz: how beads move when internal coordinates change.

    The first bead, the direction of the first bond and the plane of the first three beads stay.

    Args:
        x: (B, L, 3) in Å, or the axes of chains.
        change: Δz.

    Returns:
        (B, L, 3) in Å.
    """
    known = x if isinstance(x, Axes) else axes(x)
    # Angular velocity that begins at beads 1 to L − 2: an opening angle turns against its normal.
    begins = -change.angles.unsqueeze(-1) * known.normals
    about = change.dihedrals.unsqueeze(-1) * known.directions[:, 1:-1]
    begins = torch.cat([begins[:, :1], begins[:, 1:] + about], dim=1)
    turning = _placed(begins)
    moving = torch.linalg.cross(turning, known.bonds, dim=-1)
    return _placed(moving + change.lengths.unsqueeze(-1) * known.directions)


def jacobian_transpose_product(x: Tensor | Axes, vectors: Tensor) -> InternalCoordinates:
    """Return (∂x/∂z)ᵀ v: forces on beads as forces on internal coordinates.

    Args:
        x: (B, L, 3) in Å, or the axes of chains.
        vectors: (B, L, 3), as the gradient of an energy.

    Returns:
        One number for each internal coordinate.
    """
    known = x if isinstance(x, Axes) else axes(x)
    beyond = _from_end(vectors[:, 1:])
    torque = _from_end(torch.linalg.cross(known.bonds, beyond, dim=-1)[:, 1:])
    return InternalCoordinates(
        (known.directions * beyond).sum(dim=-1),
        -(known.normals * torque).sum(dim=-1),
        (known.directions[:, 1:-1] * torque[:, 1:]).sum(dim=-1),
    )


def _from_end(vectors: Tensor) -> Tensor:
    """Return for each place the sum over it and all later ones."""
    return vectors.flip(1).cumsum(dim=1).flip(1)
