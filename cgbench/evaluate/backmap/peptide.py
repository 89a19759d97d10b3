"""Ideal geometry of a peptide unit, and how likely a residue's backbone angles are."""

from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Kind = Literal["general", "glycine", "proline"]

#: Bond lengths in Å and angles in degrees (Engh and Huber, Acta Cryst. A47, 392, 1991). The two
#: angles around the carbonyl carbon's oxygen follow from the third, as the unit is planar.
CA_C: Final = 1.525
C_N: Final = 1.329
N_CA: Final = 1.458
C_O: Final = 1.231
CA_C_N: Final = 116.2
C_N_CA: Final = 121.7
CA_C_O: Final = 120.8
N_CA_C: Final = 111.2
CA_CB: Final = 1.530
#: Angle of Cα–Cβ to the line that halves N–Cα–C from behind; half a tetrahedron's.
CB_TILT: Final = 54.75
#: Angles of a cis unit that differ, chosen here so that its Cα are 2.95 Å apart.
CIS_CA_C_N: Final = 118.2
CIS_C_N_CA: Final = 127.0

#: Neighbouring Cα nearer than this are cis: between the 2.95 Å of cis and 3.80 Å of trans.
CIS_DISTANCE: Final = 3.4
#: Largest change, in degrees, of both chain angles that fits a unit to the distance of its Cα;
#: what is still missing is taken up by the bonds to the Cα.
LARGEST_BEND: Final = 8.0

KINDS: Final[tuple[Kind, ...]] = ("general", "glycine", "proline")
#: Regions of the Ramachandran map as (φ, ψ, spread of φ, spread of ψ, weight), degrees; chosen
#: here, after the maps of Lovell et al., Proteins 50, 437, 2003: right-handed helix and its
#: surroundings, extended strands, polyproline II, the bridge, left-handed helix.
_GENERAL: Final = (
    (-63.0, -42.0, 9.0, 9.0, 0.34),
    (-72.0, -32.0, 18.0, 18.0, 0.12),
    (-118.0, 132.0, 24.0, 20.0, 0.22),
    (-68.0, 143.0, 13.0, 14.0, 0.17),
    (-92.0, -2.0, 16.0, 16.0, 0.06),
    (-140.0, 158.0, 18.0, 16.0, 0.05),
    (57.0, 40.0, 9.0, 12.0, 0.03),
)
_PROLINE: Final = (
    (-61.0, -35.0, 9.0, 13.0, 0.4),
    (-66.0, 148.0, 11.0, 13.0, 0.6),
)
_GLYCINE_ALONE: Final = (
    (82.0, 5.0, 15.0, 18.0, 0.3),
    (180.0, 180.0, 30.0, 20.0, 0.2),
)
#: Probability density, per square degree, of what no region holds, for φ < 0 and for φ > 0.
_ELSEWHERE: Final = (3e-7, 3e-8)


def ramachandran_energy(kind: Kind, step: float = 5.0) -> Float:
    """Return −ln of the density of (φ, ψ) on a grid from −180° in steps, (n, n).

    Args:
        kind: Glycine's map is that of all others and its mirror image together.
        step: Spacing of the grid in degrees.
    """
    centres = np.arange(-180.0, 180.0, step)
    phi, psi = np.meshgrid(centres, centres, indexing="ij")
    density: Float = np.where(phi < 0.0, *_ELSEWHERE)
    if kind == "proline":
        density = density + _density(_PROLINE, phi, psi)
    elif kind == "general":
        density = density + _density(_GENERAL, phi, psi)
    else:
        both = _density(_GENERAL, phi, psi) + _density(_GENERAL, -phi, -psi)
        density = density.max() + 0.25 * both + _density(_GLYCINE_ALONE, phi, psi)
    energy: Float = -np.log(density)
    energy -= energy.min()
    return energy


def _density(regions: tuple[tuple[float, ...], ...], phi: Float, psi: Float) -> Float:
    total = np.zeros_like(phi)
    for centre_phi, centre_psi, spread_phi, spread_psi, weight in regions:
        x = _turn(phi - centre_phi) / spread_phi
        y = _turn(psi - centre_psi) / spread_psi
        total += weight * np.exp(-0.5 * (x * x + y * y)) / (2 * np.pi * spread_phi * spread_psi)
    return total


def _turn(angle: Float) -> Float:
    result: Float = (angle + 180.0) % 360.0 - 180.0
    return result


def unit_shapes(n_bends: int = 65) -> tuple[Float, Float]:
    """Return flat peptide units by the bend of their chain angles.

    Args:
        n_bends: Bends from −``LARGEST_BEND`` to ``LARGEST_BEND``.

    Returns:
        Distances of their two Cα, (2, n_bends) for trans and cis, growing, in Å; and places of C,
        O and N, (2, n_bends, 3, 2) in Å: along the axis from the first Cα to the second, and
        across it on the side of C.
    """
    bends = np.linspace(-LARGEST_BEND, LARGEST_BEND, n_bends)
    distances = np.empty((2, n_bends))
    places = np.empty((2, n_bends, 3, 2))
    for row, (at_carbon, at_nitrogen, turn) in enumerate(
        [(CA_C_N, C_N_CA, -1.0), (CIS_CA_C_N, CIS_C_N_CA, 1.0)]
    ):
        for column, bend in enumerate(bends):
            shape = _flat_unit(at_carbon + bend, at_nitrogen + bend, turn)
            distances[row, column], places[row, column] = shape
    return distances, places


def _flat_unit(at_carbon: float, at_nitrogen: float, turn: float) -> tuple[float, Any]:
    """Return the distance of the Cα, and C, O and N along and across their axis."""
    carbon = np.zeros(2)
    first = np.array([-CA_C, 0.0])
    away = np.pi - np.radians(at_carbon)
    nitrogen = C_N * np.array([np.cos(away), np.sin(away)])
    # Trans turns back at the nitrogen, cis on in the same sense.
    onward = away + turn * (np.pi - np.radians(at_nitrogen))
    last = nitrogen + N_CA * np.array([np.cos(onward), np.sin(onward)])
    # O halves what the chain leaves of the full turn as in the ideal unit.
    to_oxygen = np.pi + np.radians(CA_C_O - 0.5 * (at_carbon - CA_C_N))
    oxygen = C_O * np.array([np.cos(to_oxygen), np.sin(to_oxygen)])
    axis = last - first
    distance = float(np.linalg.norm(axis))
    axis /= distance
    across = np.array([-axis[1], axis[0]])
    if across @ (carbon - first) < 0.0:
        across = -across
    places = [
        [(atom - first) @ axis, (atom - first) @ across] for atom in (carbon, oxygen, nitrogen)
    ]
    return distance, np.array(places)
