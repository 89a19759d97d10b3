"""Screening of frames: which are sound, and why the others are not.

Frames are never changed or dropped: a store keeps them as they came, and masks them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from cgbench.store import BoolArray, FloatArray

#: Distances of neighbouring Cα in Å that no covalent chain reaches: a trans bond is 3.8 Å, a cis
#: bond 2.9 Å, and thermal motion moves either by a few tenths.
SHORTEST_BOND: Final = 2.0
LONGEST_BOND: Final = 6.0
#: Largest force component in kcal/mol/Å; a sound all-atom force on a bead stays below a few hundred.
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
    bad = {reason: np.zeros(n_frames, dtype=np.bool_) for reason in REASONS}
    finite = np.isfinite(coordinates).all(axis=(1, 2))
    bad["nonfinite_coordinates"] = ~finite
    bad["all_zero"] = (coordinates == 0).all(axis=(1, 2))
    if coordinates.shape[1] > 1:
        # Huge or infinite coordinates overflow here; comparing the other way round catches NaN.
        with np.errstate(over="ignore", invalid="ignore"):
            bonds = np.linalg.norm(np.diff(coordinates, axis=1), axis=-1)
            inside = ((bonds >= SHORTEST_BOND) & (bonds <= LONGEST_BOND)).all(axis=1)
        bad["bond_out_of_range"] = finite & ~inside
    for values in forces.values():
        finite_forces = np.isfinite(values).all(axis=(1, 2))
        bad["nonfinite_forces"] |= ~finite_forces
        with np.errstate(invalid="ignore"):
            overflow = (np.abs(values) > LARGEST_FORCE).any(axis=(1, 2))
        bad["force_overflow"] |= finite_forces & overflow
    valid = ~np.any(list(bad.values()), axis=0)
    return ScreeningBlock(valid=valid, counts={reason: int(bad[reason].sum()) for reason in REASONS})
