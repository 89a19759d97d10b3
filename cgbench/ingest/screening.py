"""Screening of frames: which are sound, and why the others are not.

Frames are never changed or dropped: a store keeps them as they came, and masks them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cgbench.registry import constants
from cgbench.store import BoolArray, FloatArray, FrameBlock

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
        The mask and the number of frames per reason: non-finite numbers, all coordinates zero, a
        bond outside the registry's ``screening_bond_minimum`` to ``screening_bond_maximum``, a
        force component above ``screening_force_maximum``.
    """
    n_frames = len(coordinates)
    limits = constants()
    # Huge coordinates overflow here, and infinite ones give NaN, which is not inside either.
    with np.errstate(over="ignore", invalid="ignore"):
        bonds = _bonds(coordinates)
        inside = (bonds >= limits.screening_bond_minimum) & (bonds <= limits.screening_bond_maximum)
        small = {
            name: np.abs(values) <= limits.screening_force_maximum
            for name, values in forces.items()
        }
    # Whether bonds are sound says all about coordinates, where there is a bond.
    if bonds.size and inside.all() and all(values.all() for values in small.values()):
        return ScreeningBlock(
            valid=np.ones(n_frames, dtype=np.bool_), counts=dict.fromkeys(REASONS, 0)
        )
    bad: dict[str, BoolArray] = {reason: np.zeros(n_frames, dtype=np.bool_) for reason in REASONS}
    finite = _every(np.isfinite(coordinates))
    bad["nonfinite_coordinates"] = ~finite
    bad["all_zero"] = _every(coordinates == 0)
    bad["bond_out_of_range"] = finite & ~inside.all(axis=1)
    for name, values in forces.items():
        finite_forces = _every(np.isfinite(values))
        bad["nonfinite_forces"] |= ~finite_forces
        bad["force_overflow"] |= finite_forces & ~_every(small[name])
    valid = ~np.any(list(bad.values()), axis=0)
    return ScreeningBlock(
        valid=valid, counts={reason: int(bad[reason].sum()) for reason in REASONS}
    )


def _bonds(coordinates: FloatArray) -> FloatArray:
    """Return the lengths (n, beads − 1) of the bonds."""
    steps = coordinates[:, 1:] - coordinates[:, :-1]
    steps *= steps
    lengths = steps[..., 0] + steps[..., 1]
    lengths += steps[..., 2]
    return np.sqrt(lengths, out=lengths)


def screened_block(coordinates: FloatArray, forces: Mapping[str, FloatArray]) -> FrameBlock:
    """Return frames with what screening says of them, as the writer takes them.

    Args:
        coordinates: (n, beads, 3) in Å.
        forces: Per force map (n, beads, 3) in kcal/mol/Å.
    """
    screened = screen(coordinates, forces)
    return FrameBlock(
        coordinates=coordinates, forces=forces, valid=screened.valid, counts=screened.counts
    )


def _every(values: npt.NDArray[np.bool_]) -> BoolArray:
    """Return whether all values of each frame are true."""
    return np.asarray(values.reshape(len(values), -1).all(axis=1), dtype=np.bool_)
