"""Statistics that a reference bundle freezes: events, populations, timescales, grids, starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate.geometry import radius_of_gyration
from cgbench.evaluate.msm import fit_markov_model
from cgbench.evaluate.observables import Observables
from cgbench.evaluate.reference_bundle import (
    Basins,
    Interval,
    TimescaleRow,
)
from cgbench.evaluate.weights import (
    StateWeights,
    TransitionCounts,
    solve_weights,
)
from cgbench.progress import Progress, silent

#: The grids of the components reach this many standard deviations beyond the reference.
TIC_MARGIN: Final = 5.0
#: The slowest timescale is compared over these multiples of the Markov model's lag.
_COMPARED_LAGS: Final = (0.5, 2.0)
#: Folded frames that a trajectory needs to say something about its handedness.
MINIMUM_FOLDED_FRAMES: Final = 10


def count_events(observables: Observables, basins: Basins) -> tuple[int, int]:
    """Count folding and unfolding events within trajectories.

    An event is a passage from one core to the other; excursions between the cores do not count.

    Returns:
        Folding events and unfolding events.
    """
    folded = basins.folded(observables.q, observables.rmsd)
    unfolded = observables.q < basins.unfolded_q
    in_core = np.flatnonzero((folded | unfolded) & observables.alive)
    now, before = in_core[1:], in_core[:-1]
    within = observables.trajectory[now] == observables.trajectory[before]
    folding = within & folded[now] & unfolded[before]
    unfolding = within & unfolded[now] & folded[before]
    return int(folding.sum()), int(unfolding.sum())


@dataclass(frozen=True)
class PopulationBootstrap:
    """Estimates of resamples of the trajectories, the Markov model solved again for each.

    Attributes:
        population: (n_resamples,) weighted fraction of the marked frames.
        slowest_timescale: (n_resamples,) in ps, not-a-number where it does not exist.
        n_unreliable: Resamples whose weights could not be trusted and were uniform.
    """

    population: NDArray[np.float64]
    slowest_timescale: NDArray[np.float64]
    n_unreliable: int


def marked_per_state(
    observables: Observables, n_states: int, marked: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Count the marked frames by trajectory and microstate, (n_trajectories, n_states)."""
    used = marked & observables.alive
    flat = observables.trajectory[used].astype(np.int64) * n_states + observables.microstate[used]
    counts = np.bincount(flat, minlength=observables.n_trajectories * n_states)
    return counts.reshape(observables.n_trajectories, n_states).astype(np.int64)


def bootstrap_population(
    counts: TransitionCounts,
    weights: StateWeights,
    marked: NDArray[np.int64],
    lag_frames: int,
    frame_interval: float,
    temperature: float,
    n_resamples: int,
    seed: int,
    progress: Progress = silent,
) -> PopulationBootstrap:
    """Resample whole trajectories, solve the weights again and sum the marked frames.

    Args:
        counts: Transition counts by trajectory.
        weights: Weights of all trajectories together, a first guess for the resamples.
        marked: (n_trajectories, n_states) marked frames.
        lag_frames: The lag of the counts.
        frame_interval: Time between frames in ps.
        temperature: In K.
        n_resamples: Number of resamples.
        seed: Seed of the resamples.
        progress: Told after each resample.
    """
    generator = np.random.default_rng(seed)
    n = counts.n_trajectories
    population = np.empty(n_resamples)
    slowest = np.empty(n_resamples)
    unreliable = 0
    for index in range(n_resamples):
        taken = np.bincount(generator.integers(n, size=n), minlength=n).astype(np.float64)
        solved = solve_weights(counts, taken, temperature=temperature, start=weights)
        unreliable += solved.status != "ok"
        population[index] = solved.weight_of_state @ (taken @ marked)
        guess = solved.stationary if solved.status == "ok" else None
        model = fit_markov_model(counts.total(taken), taken @ counts.populations, lag_frames, guess)
        slowest[index] = model.timescales(frame_interval, 1)[0]
        progress("bootstrap", index + 1, n_resamples)
    return PopulationBootstrap(population, slowest, unreliable)


def interval(value: float, resamples: NDArray[np.float64]) -> Interval:
    """Return an estimate with the percentile interval of its resamples."""
    outside = 50.0 * (1.0 - registry.constants().confidence_level)
    lo, hi = np.percentile(resamples, [outside, 100.0 - outside])
    return Interval(value=value, lo=float(lo), hi=float(hi))


def timescale_statement(rows: Sequence[TimescaleRow], msm_lag_ps: float) -> str:
    """Say in one or two sentences whether the slowest timescale depends on the lag.

    Args:
        rows: Timescales by lag, shortest lag first.
        msm_lag_ps: The Markov model's own lag; half to twice of it is looked at.
    """
    least, most = (multiple * msm_lag_ps for multiple in _COMPARED_LAGS)
    # Half a lag of an odd number of frames is rounded to whole frames.
    known = [
        (row.lag_ps, row.timescales_ps[0]) for row in rows if 0.6 * least < row.lag_ps < 1.1 * most
    ]
    slowest = [(lag, value) for lag, value in known if value is not None]
    if len(slowest) < 2:
        return "The slowest implied timescale is known at fewer than two lags."
    told = ", ".join(f"{value:.0f} ps at lag {lag:g} ps" for lag, value in slowest)
    growth = slowest[-1][1] / slowest[0][1]
    verdict = (
        "it does not depend on the lag by more than a tenth"
        if 0.9 <= growth <= 1.1
        else "it still grows with the lag, so the slowest process is not resolved"
        if growth > 1.1
        else "it shrinks with the lag, so the trajectories are too short for it"
    )
    return f"Slowest implied timescale: {told}; {verdict}."


def handedness_bound(observables: Observables, basins: Basins) -> float | None:
    """Return a low percentile of the handedness of folded frames over trajectories.

    Each trajectory with at least ten folded frames gives the mean over them of the fraction of
    dihedrals with the native sign. Fraction of native contacts and distances are the same for a
    mirror image, so its folded frames score near zero.

    Returns:
        None when no trajectory has enough folded frames.
    """
    # By contacts alone, as for a model: the RMSD of a mirror image would hide it from the gate.
    folded = basins.native_like(observables.q) & observables.alive
    owners = observables.trajectory[folded]
    n = observables.n_trajectories
    frames = np.bincount(owners, minlength=n)
    same = observables.handedness[folded].astype(np.float64)
    total = np.bincount(owners, weights=same, minlength=n)
    enough = frames >= MINIMUM_FOLDED_FRAMES
    if not enough.any():
        return None
    percentile = registry.constants().handedness_percentile
    return float(np.percentile(total[enough] / frames[enough], percentile))


def choose_start_frames(
    points: NDArray[Any], first: int, n_starts: int, used: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Choose frames that are spread over all points by the k-centres rule.

    Beginning with one frame, each next one is the frame furthest from all chosen ones (the lowest
    index among equals): Gonzalez, Theor. Comput. Sci. 38, 293 (1985).

    Args:
        points: (n, d) positions of the frames.
        first: Index of the first choice.
        n_starts: Number of frames to choose.
        used: (n,) frames that may be chosen.

    Returns:
        (n_starts,) distinct indices in the order of choice.

    Raises:
        ValidationError: Fewer frames that may be chosen than asked for.
    """
    allowed = np.ones(len(points), dtype=bool) if used is None else used
    if allowed.sum() < n_starts:
        raise ValidationError(
            "too few frames to start from", expected=n_starts, found=int(allowed.sum())
        )
    squared = np.where(allowed, np.inf, -1.0)
    chosen = [int(first)]
    for _ in range(n_starts - 1):
        np.minimum(squared, _squared_distances(points, chosen[-1]), out=squared)
        # A chosen frame is never chosen again, even where all others coincide with it.
        squared[chosen[-1]] = -1.0
        chosen.append(int(squared.argmax()))
    return np.asarray(chosen, dtype=np.int64)


def _squared_distances(points: NDArray[Any], index: int) -> NDArray[np.float64]:
    """Return the squared distance of each point to one of them, (n,), one column at a time."""
    squared = np.zeros(len(points))
    for column in points.T:
        gap = column.astype(np.float64)
        gap -= float(column[index])
        squared += np.square(gap, out=gap)
    return squared


def weighted_moments(
    points: NDArray[np.float32], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weighted means and standard deviations of columns, each (d,).

    Args:
        points: (n, d).
        weights: (n,) summing to one.
    """
    mean = np.array([float(weights @ column) for column in points.T])
    spread = [
        float(weights @ np.square(column - centre))
        for column, centre in zip(points.T, mean, strict=True)
    ]
    return mean, np.sqrt(spread)


def marginal_edges(
    native: NDArray[np.float32],
    tics: NDArray[np.float32],
    tic_sigma: NDArray[np.float64],
) -> dict[str, NDArray[np.float64]]:
    """Return the bin edges of each observable's distribution.

    Distances start at zero and end where a chain of the longest bonds, stretched out, would be: no
    intact frame lies outside. The deviation from the native conformer is at most the root of the
    summed squares of both radii of gyration.

    Args:
        native: (n_beads, 3) native conformer in Å.
        tics: (n, dimensions) projections of the reference.
        tic_sigma: (dimensions,) their standard deviations.
    """
    constants = registry.constants()
    n_beads, n_bins = len(native), constants.marginal_bins
    longest_bond = constants.bond_maximum
    largest_rg = longest_bond * np.sqrt((n_beads**2 - 1) / 12.0)
    native_rg = float(radius_of_gyration(native[None])[0])
    edges = {
        "rg": np.linspace(0.0, largest_rg, n_bins + 1),
        "end_to_end": np.linspace(0.0, longest_bond * (n_beads - 1), n_bins + 1),
        "rmsd": np.linspace(0.0, np.hypot(largest_rg, native_rg), n_bins + 1),
        "q": np.linspace(0.0, 1.0, constants.q_bins + 1),
        "dihedral": np.linspace(-np.pi, np.pi, constants.dihedral_bins + 1),
    }
    for index, sigma in enumerate(tic_sigma):
        low = float(tics[:, index].min()) - TIC_MARGIN * sigma
        high = float(tics[:, index].max()) + TIC_MARGIN * sigma
        edges[f"tic{index + 1}"] = np.linspace(low, high, n_bins + 1)
    return edges


def fes_edges(tics: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the (2, 81) edges of the free energy grid on the first two components."""
    constants = registry.constants()
    return np.stack(
        [
            np.linspace(
                float(tics[:, axis].min()) - constants.fes_grid_margin,
                float(tics[:, axis].max()) + constants.fes_grid_margin,
                constants.fes_grid_size + 1,
            )
            for axis in range(2)
        ]
    )


def fes_histogram(
    tics: NDArray[np.float32], weights: NDArray[np.float64], edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the weight in each cell of the free energy grid, (80, 80)."""
    first, second = tics[:, 0].astype(np.float64), tics[:, 1].astype(np.float64)
    cells = np.histogram2d(first, second, bins=(edges[0], edges[1]), weights=weights)[0]
    return np.asarray(cells)


def weighted_histograms(
    observables: Observables, weights: NDArray[np.float64], edges: dict[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    """Return the weighted distribution (n_bins,) of each observable, each summing to one."""
    series = {
        "rg": observables.rg,
        "end_to_end": observables.end_to_end,
        "rmsd": observables.rmsd,
        "q": observables.q,
        **{f"tic{i + 1}": observables.tics[:, i] for i in range(observables.tics.shape[1])},
    }
    return {
        name: np.histogram(values, bins=edges[name], weights=weights)[0]
        for name, values in series.items()
    }


def folded_rmsd(
    observables: Observables, weights: NDArray[np.float64], native: NDArray[np.bool_]
) -> float:
    """Return the largest RMSD of a folded frame in Å.

    A high weighted percentile of the RMSD over the frames of the native macrostate with enough
    native contacts, and at least a least value; the registry has both.

    Args:
        observables: Per-frame numbers of the reference.
        weights: (n,) weight of each frame.
        native: (n,) frames of the native macrostate.
    """
    constants = registry.constants()
    chosen = np.flatnonzero(native & (observables.q >= constants.folded_q) & (weights > 0))
    if not len(chosen):
        return constants.folded_rmsd_minimum
    order = chosen[np.argsort(observables.rmsd[chosen], kind="stable")]
    cumulative = np.cumsum(weights[order])
    place = np.searchsorted(cumulative, constants.folded_rmsd_percentile / 100 * cumulative[-1])
    found = float(observables.rmsd[order[min(int(place), len(order) - 1)]])
    return max(constants.folded_rmsd_minimum, found)
