"""Energies of a residue's backbone angles by the rotations of the two peptide units beside it."""

from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cgbench.evaluate.backmap.peptide import KINDS, ramachandran_energy, unit_shapes

Float = NDArray[np.float64]

#: Rotations of a peptide unit that are tried.
N_ROTATIONS: Final = 36
#: Bins of the rotation of the unit before a residue: its zero differs from the grid's.
N_FINE: Final = 72
#: Bond angles of the Cα in degrees: first, spacing, number.
FIRST_ANGLE: Final = 70.0
ANGLE_STEP: Final = 4.0
N_ANGLES: Final = 27


class Tables(NamedTuple):
    """What reconstruction looks up.

    Attributes:
        distances: (2, n_bends) distance of the Cα of trans and cis units, growing, Å.
        shapes: (2, n_bends, 3, 2) C, O and N along and across the axis, Å.
        ramachandran: (3, n, n) energy of (φ, ψ) for each kind of residue on a grid from −180°.
        pairs: (3, 2, 2, N_ANGLES, N_FINE, N_ROTATIONS) float32 the same by kind, whether the unit
            before and the unit after is cis, the Cα's angle, and the rotations of both units.
    """

    distances: Float
    shapes: Float
    ramachandran: Float
    pairs: NDArray[np.float32]


@cache
def tables() -> Tables:
    """Return the tables, made once in a process, a fraction of a second."""
    distances, shapes = unit_shapes()
    ramachandran = np.stack([ramachandran_energy(kind) for kind in KINDS])
    pairs = np.empty((len(KINDS), 2, 2, N_ANGLES, N_FINE, N_ROTATIONS), dtype=np.float32)
    middle = distances.shape[1] // 2
    for before in range(2):
        for after in range(2):
            phi, psi = _backbone_angles(
                distances[before, middle], shapes[before, middle], shapes[after, middle]
            )
            step = 2 * np.pi / ramachandran.shape[1]
            rows = np.rint((phi + np.pi) / step).astype(int) % ramachandran.shape[1]
            columns = np.rint((psi + np.pi) / step).astype(int) % ramachandran.shape[1]
            pairs[:, before, after] = ramachandran[:, rows, columns]
    return Tables(distances, shapes, ramachandran, pairs)


def _backbone_angles(distance: float, before: Float, after: Float) -> tuple[Float, Float]:
    """Return φ and ψ in radians, (N_ANGLES, N_FINE, N_ROTATIONS).

    The residue's Cα is the origin, the next one lies on the x axis and the one before in the xy
    plane. Both units' rotations are counted from that plane, the zero being the side of the other
    neighbour, in the right-handed sense about the axis from the earlier to the later Cα.
    """
    angle = np.radians(FIRST_ANGLE + ANGLE_STEP * np.arange(N_ANGLES))[:, None, None, None]
    first = (2 * np.pi / N_FINE * np.arange(N_FINE))[None, :, None, None]
    second = (2 * np.pi / N_ROTATIONS * np.arange(N_ROTATIONS))[None, None, :, None]
    x, y, z = np.eye(3)
    onward = -(np.cos(angle) * x + np.sin(angle) * y)
    start = -distance * onward
    # The side of the next Cα seen from the unit before, and of the one before from the unit after.
    side = np.sin(angle) * x - np.cos(angle) * y
    first_across = np.cos(first) * side + np.sin(first) * np.cross(onward, side)
    second_across = np.cos(second) * y + np.sin(second) * z

    def place(shape: Any, origin: Any, axis: Any, across: Any) -> Any:
        return origin + shape[0] * axis + shape[1] * across

    carbon_before = place(before[0], start, onward, first_across)
    nitrogen = place(before[2], start, onward, first_across)
    carbon = place(after[0], np.zeros(3), x, second_across)
    nitrogen_after = place(after[2], np.zeros(3), x, second_across)
    phi = _dihedral(nitrogen - carbon_before, -nitrogen, carbon)
    psi = _dihedral(-nitrogen, carbon, nitrogen_after - carbon)
    return phi, psi


def _dihedral(first: Float, second: Float, third: Float) -> Float:
    """Return the dihedral angle of three bond vectors in radians, IUPAC sign."""
    near, far = np.cross(first, second), np.cross(second, third)
    sine = np.linalg.norm(second, axis=-1) * np.sum(first * far, axis=-1)
    result: Float = np.arctan2(sine, np.sum(near * far, axis=-1))
    return result
