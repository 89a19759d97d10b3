"""Equilibrium weights of frames from a Markov state model, re-solved for every resample.

A frame weighs the stationary probability of its microstate over the number of frames in it. The
transition counts are kept per trajectory, so that a resample, a half or the training part is a
sum of them; only then is the stationary distribution solved.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate.msm import largest_connected_set, solve_reversible
from cgbench.units import thermal_energy

#: Every system of the reference work was simulated at this temperature, K.
_USUAL_TEMPERATURE: Final = 350.0

WeightStatus = Literal["ok", "weights_unreliable", "uniform"]


@dataclass(frozen=True)
class TransitionCounts:
    """Additive counts of trajectories: those of several are their sum.

    Attributes:
        per_trajectory: Sparse (n_trajectories, n_states²) int64; row t, reshaped to
            (n_states, n_states), counts the transitions of trajectory t at the lag.
        populations: (n_trajectories, n_states) int64 frames in each state.
    """

    per_trajectory: scipy.sparse.csr_array
    populations: NDArray[np.int64]

    @property
    def n_states(self) -> int:
        """Number of microstates."""
        return int(self.populations.shape[1])

    @property
    def n_trajectories(self) -> int:
        """Number of trajectories."""
        return int(self.populations.shape[0])

    def total(self, multiplicities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (n_states, n_states) counts with each trajectory taken so many times."""
        summed = np.asarray(self.per_trajectory.T @ multiplicities, dtype=np.float64)
        return summed.reshape(self.n_states, self.n_states)


@dataclass(frozen=True)
class StateWeights:
    """What one frame in each microstate weighs.

    Attributes:
        weight_of_state: (n_states,) stationary probability over the number of frames in the
            state; one over the number of all frames where the status is not ``ok``.
        stationary: (n_states,) stationary probabilities, zero outside the connected set.
        connected: (n_states,) mask of the largest connected set.
        fraction_outside: Fraction of frames outside that set.
        status: ``ok``; ``weights_unreliable`` when the model's weights cannot be trusted and
            uniform ones took their place; ``uniform`` when those were asked for.
        reason: Why the weights are uniform.
    """

    weight_of_state: NDArray[np.float64]
    stationary: NDArray[np.float64]
    connected: NDArray[np.bool_]
    fraction_outside: float
    status: WeightStatus
    reason: str | None


def count_transitions(
    microstate: NDArray[np.integer],
    trajectory: NDArray[np.integer],
    n_states: int,
    n_trajectories: int,
    lag_frames: int,
    alive: NDArray[np.bool_] | None = None,
) -> TransitionCounts:
    """Count transitions at a lag within trajectories, every start frame counted.

    Args:
        microstate: (n,) microstate of each frame.
        trajectory: (n,) trajectory of each frame; the frames of one lie together, in time order.
        n_states: Number of microstates.
        n_trajectories: Number of trajectories.
        lag_frames: The lag, at least one frame.
        alive: (n,) frames that count; a transition counts when both its ends do.

    Raises:
        ValidationError: Lengths differ, a label is out of range, a trajectory's frames do not lie
            together, or the lag is below one.
    """
    states, owners = np.asarray(microstate, np.int64), np.asarray(trajectory, np.int64)
    used = np.ones(len(states), dtype=bool) if alive is None else np.asarray(alive, dtype=bool)
    _check_labels(states, owners, used, n_states, n_trajectories)
    if lag_frames < 1:
        raise ValidationError("the lag is too short", expected="at least 1", found=lag_frames)
    early, late = states[:-lag_frames], states[lag_frames:]
    pairs = (owners[:-lag_frames] == owners[lag_frames:]) & used[:-lag_frames] & used[lag_frames:]
    columns = early[pairs] * n_states + late[pairs]
    rows = owners[:-lag_frames][pairs]
    counts = scipy.sparse.coo_array(
        (np.ones(len(rows), dtype=np.int64), (rows, columns)),
        shape=(n_trajectories, n_states * n_states),
    )
    flat = np.bincount(owners[used] * n_states + states[used], minlength=n_trajectories * n_states)
    populations = flat.reshape(n_trajectories, n_states).astype(np.int64)
    # Conversion to rows adds up the entries of equal position.
    return TransitionCounts(counts.tocsr(), populations)


def _check_labels(
    states: NDArray[np.int64],
    owners: NDArray[np.int64],
    used: NDArray[np.bool_],
    n_states: int,
    n_trajectories: int,
) -> None:
    if not len(states) == len(owners) == len(used):
        raise ValidationError(
            "per-frame arrays differ in length",
            found=f"microstate {len(states)}, trajectory {len(owners)}, alive {len(used)}",
        )
    for name, labels, bound in (
        ("microstate", states, n_states),
        ("trajectory", owners, n_trajectories),
    ):
        if len(labels) and not (labels.min() >= 0 and labels.max() < bound):
            raise ValidationError(
                f"a {name} index is out of range",
                expected=f"0 to {bound - 1}",
                found=f"{labels.min()} to {labels.max()}",
            )
    starts = owners[np.flatnonzero(np.diff(owners, prepend=-1))]
    if len(np.unique(starts)) != len(starts):
        raise ValidationError("the frames of a trajectory do not lie together")


def _multiplicities(
    counts: TransitionCounts, multiplicities: NDArray[np.integer | np.floating] | None
) -> NDArray[np.float64]:
    if multiplicities is None:
        return np.ones(counts.n_trajectories)
    taken = np.asarray(multiplicities, dtype=np.float64)
    if taken.shape != (counts.n_trajectories,) or not (taken >= 0).all():
        raise ValidationError(
            "trajectory multiplicities do not fit",
            expected=f"({counts.n_trajectories},) numbers, none negative",
            found=f"shape {taken.shape}",
        )
    return taken


def uniform_weights(
    counts: TransitionCounts, multiplicities: NDArray[np.integer | np.floating] | None
) -> StateWeights:
    """Return equal weights for all frames, as for samples without time order.

    Args:
        counts: Counts of the trajectories; only the populations are used.
        multiplicities: (n_trajectories,) how often each trajectory is taken; None for once each.
    """
    populations = _multiplicities(counts, multiplicities) @ counts.populations
    n_frames = populations.sum()
    weight = 1.0 / n_frames if n_frames > 0 else 0.0
    return StateWeights(
        weight_of_state=np.full(counts.n_states, weight),
        stationary=populations * weight,
        connected=populations > 0,
        fraction_outside=0.0,
        status="uniform",
        reason="every frame counts the same",
    )


def solve_weights(
    counts: TransitionCounts,
    multiplicities: NDArray[np.integer | np.floating] | None,
    *,
    temperature: float = _USUAL_TEMPERATURE,
    start: StateWeights | None = None,
) -> StateWeights:
    """Solve the stationary distribution and turn it into the weight of a frame in each state.

    The weights are replaced by uniform ones when too many frames lie outside the largest connected
    set, or when stationary and empirical populations differ too much; the registry has both
    limits. That difference is the root mean square over the stationary distribution of
    k_B·T·ln(stationary/empirical): the largest single one is decided by the rarest microstate.

    Args:
        counts: Counts of the trajectories.
        multiplicities: (n_trajectories,) how often each trajectory is taken; None for once each.
        temperature: In K.
        start: Weights of a similar problem, such as the one that is being resampled; a better
            first guess, the same result.
    """
    limits = registry.constants()
    taken = _multiplicities(counts, multiplicities)
    populations = taken @ counts.populations
    total = counts.total(taken)
    n_frames = float(populations.sum())
    if not total.any():
        return _replaced(
            counts, taken, populations > 0, 0.0, "no transition was counted at this lag"
        )
    connected = largest_connected_set(total, populations)
    states = np.flatnonzero(connected)
    empirical = populations[states] / n_frames
    outside = max(0.0, 1.0 - float(empirical.sum()))
    if outside > limits.unreliable_disconnected_fraction:
        reason = f"{outside:.0%} of the frames lie outside the largest connected set"
        return _replaced(counts, taken, connected, outside, reason)
    inside = total[np.ix_(states, states)]
    guess = None
    if start is not None:
        # The weight of a frame changes less between resamples than the number of frames does;
        # states that the start does not know get the weight of an average frame.
        known = start.weight_of_state[states]
        guess = populations[states] * np.where(known > 0, known, 1.0 / n_frames)
    solved = solve_reversible(inside, guess)
    logarithm = np.log(solved / (empirical / empirical.sum()))
    deviation = thermal_energy(temperature) * float(np.sqrt(solved @ logarithm**2))
    if deviation > limits.unreliable_population_error:
        reason = f"stationary and empirical populations differ by {deviation:.1f} kcal/mol"
        return _replaced(counts, taken, connected, outside, reason)
    stationary = np.zeros(counts.n_states)
    stationary[states] = solved
    weight = np.zeros(counts.n_states)
    weight[states] = solved / populations[states]
    return StateWeights(weight, stationary, connected, outside, "ok", None)


def _replaced(
    counts: TransitionCounts,
    taken: NDArray[np.float64],
    connected: NDArray[np.bool_],
    outside: float,
    reason: str,
) -> StateWeights:
    uniform = uniform_weights(counts, taken)
    return StateWeights(
        uniform.weight_of_state,
        uniform.stationary,
        connected,
        outside,
        "weights_unreliable",
        f"{reason}; every frame counts the same",
    )


def frame_weights(
    state_weights: StateWeights,
    microstate: NDArray[np.integer],
    trajectory: NDArray[np.integer],
    multiplicities: NDArray[np.integer | np.floating] | None = None,
    alive: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Return the weight of each frame, (n,), summing to one.

    Args:
        state_weights: Weight of a frame in each state.
        microstate: (n,) microstate of each frame.
        trajectory: (n,) trajectory of each frame.
        multiplicities: (n_trajectories,) how often each trajectory is taken; None for once each.
        alive: (n,) frames that count; the others weigh nothing.

    Returns:
        Zeros when no frame has weight.
    """
    weights = state_weights.weight_of_state[microstate]
    if multiplicities is not None:
        weights = weights * np.asarray(multiplicities, dtype=np.float64)[trajectory]
    if alive is not None:
        weights = np.where(alive, weights, 0.0)
    total = weights.sum()
    return np.asarray(weights / total if total > 0 else weights)


def multiplicities_of(trajectories: Sequence[int], n_trajectories: int) -> NDArray[np.float64]:
    """Return how often each trajectory occurs in a list, (n_trajectories,).

    Raises:
        ValidationError: An index is out of range.
    """
    indices = np.asarray(trajectories, dtype=np.int64)
    if len(indices) and not (indices.min() >= 0 and indices.max() < n_trajectories):
        raise ValidationError(
            "a trajectory index is out of range",
            expected=f"0 to {n_trajectories - 1}",
            found=f"{indices.min()} to {indices.max()}",
        )
    return np.bincount(indices, minlength=n_trajectories).astype(np.float64)
