"""Weighted distributions of an ensemble for all resamples at once, from its tally."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.evaluate.tally import Tally, placement

Float = NDArray[np.float64]

#: Entries of the matrix of weights that are held at once.
_WEIGHT_ENTRIES: Final = 16 * 1024 * 1024


@dataclass(frozen=True)
class Distributions:
    """Weighted distributions, one column for each resample.

    Attributes:
        masses: (n_bins, n_columns) by the names of ``Tally.counts``; each column of a one-
            dimensional distribution, of the plane, or of one dihedral sums to 1 − ``dead``.
        means: (n_columns,) weighted sums per living frame, by the names of ``Tally.sums``.
        state_mass: (n_states, n_columns) share of the living frames' weight in each microstate.
        state_rmsd: (n_states, n_columns) that share times the mean RMSD in it, Å.
        dead: (n_columns,) share of the frames that were lost.
        native_macrostate: (n_columns,) int64 macrostate with the frame of least RMSD, or −1.
    """

    masses: dict[str, Float]
    means: dict[str, Float]
    state_mass: Float
    state_rmsd: Float
    dead: Float
    native_macrostate: NDArray[np.int64]

    @property
    def n_columns(self) -> int:
        """Number of resamples."""
        return len(self.dead)


def distributions(
    counted: Tally, multiplicities: NDArray[Any], weight_of_state: NDArray[Any]
) -> Distributions:
    """Return the weighted distributions for each of several resamples.

    Args:
        counted: The counts.
        multiplicities: (n_trajectories, n_columns) how often each trajectory is taken.
        weight_of_state: (n_states, n_columns) weight of a frame in each microstate, any scale.

    Returns:
        Distributions that are zero in columns where no living frame has weight.

    Raises:
        ValidationError: The shapes disagree.
    """
    taken = np.asarray(multiplicities, dtype=np.float64)
    expected = ((counted.n_trajectories, taken.shape[-1]), (counted.n_states, taken.shape[-1]))
    if (taken.shape, weight_of_state.shape) != expected:
        raise ValidationError(
            "multiplicities and weights do not fit the tally",
            expected=expected,
            found=(taken.shape, weight_of_state.shape),
        )
    step = max(1, _WEIGHT_ENTRIES // max(1, len(counted.cells)))
    parts = [
        _block(counted, taken[:, start : start + step], weight_of_state[:, start : start + step])
        for start in range(0, taken.shape[1], step)
    ]
    return parts[0] if len(parts) == 1 else _joined(parts)


def _block(counted: Tally, taken: Float, weight_of_state: NDArray[Any]) -> Distributions:
    with np.errstate(invalid="ignore", divide="ignore"):
        dead = (counted.dead @ taken) / (counted.frames @ taken)
        weights = taken[counted.trajectory] * weight_of_state[counted.microstate]
        total = counted.sums["frames"] @ weights
        weights = np.where(total > 0, weights / total, 0.0)
    masses = {name: matrix.T @ weights * (1.0 - dead) for name, matrix in counted.counts.items()}
    means = {name: values @ weights for name, values in counted.sums.items()}
    to_state = placement(counted.microstate, counted.n_states)
    return Distributions(
        masses=masses,
        means=means,
        state_mass=to_state @ (counted.sums["frames"][:, None] * weights),
        state_rmsd=to_state @ (counted.sums["rmsd"][:, None] * weights),
        dead=dead,
        native_macrostate=_native_macrostate(counted.least_rmsd, taken),
    )


def _native_macrostate(least_rmsd: Float, taken: Float) -> NDArray[np.int64]:
    found = np.full(taken.shape[1], -1, dtype=np.int64)
    for column, multiplicity in enumerate(taken.T):
        chosen = least_rmsd[multiplicity > 0]
        if chosen.size and np.isfinite(chosen).any():
            found[column] = chosen.min(axis=0).argmin()
    return found


def _joined(parts: Sequence[Distributions]) -> Distributions:
    return Distributions(
        masses={
            name: np.concatenate([part.masses[name] for part in parts], axis=1)
            for name in parts[0].masses
        },
        means={
            name: np.concatenate([part.means[name] for part in parts]) for name in parts[0].means
        },
        state_mass=np.concatenate([part.state_mass for part in parts], axis=1),
        state_rmsd=np.concatenate([part.state_rmsd for part in parts], axis=1),
        dead=np.concatenate([part.dead for part in parts]),
        native_macrostate=np.concatenate([part.native_macrostate for part in parts]),
    )


def trajectory_shares(counted: Tally, weight_of_state: NDArray[Any], over: str = "frames") -> Float:
    """Return the share of each trajectory in a weighted sum over living frames.

    Args:
        counted: The counts.
        weight_of_state: (n_states,) weight of a frame in each microstate.
        over: A name in ``Tally.sums``: of which frames.

    Returns:
        (n_trajectories,) summing to one; zeros where nothing has weight.
    """
    weights = counted.sums[over] * weight_of_state[counted.microstate]
    shares = np.bincount(counted.trajectory, weights=weights, minlength=counted.n_trajectories)
    total = shares.sum()
    return np.asarray(shares / total if total > 0 else np.zeros(counted.n_trajectories))
