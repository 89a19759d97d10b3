"""Screening of frames: which are sound, and why the others are not.

Frames are never changed or dropped: a store keeps them as they came, and masks them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cgbench.store import BoolArray, FloatArray

#: Distances of neighbouring Cα in Å that no covalent chain reaches: a trans bond is 3.8 Å, a cis
#: bond 2.9 Å, and thermal motion moves either by a few tenths.
SHORTEST_BOND: Final = 2.0
LONGEST_BOND: Final = 6.0
#: Largest force component in kcal/mol/Å; sound all-atom forces on a bead reach a few hundred.
LARGEST_FORCE: Final = 1.0e4

REASONS: Final = (
    "nonfinite_coordinates",
    "nonfinite_forces",
    "all_zero",
    "bond_out_of_range",
    "force_overflow",
)


@dataclass(frozen=True)
class ScreeningBlock:
    """Which frames of a block are sound: ``valid`` (n,) bool, and frames per reason.

    A frame counts under every reason that applies to it.
    """

    valid: BoolArray
    counts: Mapping[str, int]


def screen(coordinates: FloatArray, forces: Mapping[str, FloatArray]) -> ScreeningBlock:
    """Mask frames that cannot be used.

    Args:
        coordinates: (n, beads, 3) in Å.
        forces: Per force map (n, beads, 3) in kcal/mol/Å.

    Returns:
        The mask and the number of frames per reason: non-finite numbers, all coordinates zero,
        a bond outside 2 to 6 Å, a force component above 10⁴ kcal/mol/Å.
    """
    n_frames = len(coordinates)
    bad: dict[str, BoolArray] = {reason: np.zeros(n_frames, dtype=np.bool_) for reason in REASONS}
    finite = _every(np.isfinite(coordinates))
    bad["nonfinite_coordinates"] = ~finite
    bad["all_zero"] = _every(coordinates == 0)
    if coordinates.shape[1] > 1:
        # Huge coordinates overflow here, and infinite ones give NaN, which is not inside either.
        with np.errstate(over="ignore", invalid="ignore"):
            bonds = np.linalg.norm(np.diff(coordinates, axis=1), axis=-1)
            inside = _every((bonds >= SHORTEST_BOND) & (bonds <= LONGEST_BOND))
        bad["bond_out_of_range"] = finite & ~inside
    for values in forces.values():
        finite_forces = _every(np.isfinite(values))
        bad["nonfinite_forces"] |= ~finite_forces
        with np.errstate(invalid="ignore"):
            inside = _every(np.abs(values) <= LARGEST_FORCE)
        bad["force_overflow"] |= finite_forces & ~inside
    valid = ~np.any(list(bad.values()), axis=0)
    return ScreeningBlock(
        valid=valid, counts={reason: int(bad[reason].sum()) for reason in REASONS}
    )


def _every(values: npt.NDArray[np.bool_]) -> BoolArray:
    """Return whether all values of each frame are true."""
    return np.asarray(values.reshape(len(values), -1).all(axis=1), dtype=np.bool_)
