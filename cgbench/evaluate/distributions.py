"""Weighted distributions of an ensemble for all resamples at once, from its tally."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate.sampled import (
    COLUMN_BLOCK,
    BinnedFrames,
    by_state,
    searched_weights,
    subset_weights,
    weighted_bins,
)
from cgbench.evaluate.tally import Tally

Float = NDArray[np.float64]

#: What is summed over cells beside the counts: no statistic has a name that begins with a blank.
_SUMS: Final = " sums"
_FRAMES: Final = " frames by microstate"
_RMSD: Final = " rmsd by microstate"


@dataclass(frozen=True)
class Distributions:
    """Weighted distributions, one column for each resample.

    Attributes:
        masses: (n_bins, n_columns) by name: those of ``Tally.counts``; statistics of the subset;
            ``gdt_ts``, ``gdt_ha`` and ``tm`` of the searched frames, on equal bins of 0 to 1. Each
            column sums to 1 − ``dead`` for each time that a frame is counted.
        means: (n_columns,) weighted sums per living frame, by the names of ``Tally.sums``, of
            statistics that sum one number, and of the structure scores; (n_numbers, n_columns) for
            statistics that sum several.
        state_mass: (n_states, n_columns) share of the living frames' weight in each microstate.
        state_rmsd: (n_states, n_columns) that share times the mean RMSD in it, Å.
        state_searched: (n_states, n_columns) share of the searched frames' weight in each
            microstate; None where nothing was searched.
        state_gdt_ts: (n_states, n_columns) that share times the mean GDT_TS in it.
        dead: (n_columns,) share of the frames that were lost.
        native_macrostate: (n_columns,) int64 macrostate with the frame of least RMSD, or −1.
    """

    masses: dict[str, Float]
    means: dict[str, Float]
    state_mass: Float
    state_rmsd: Float
    dead: Float
    native_macrostate: NDArray[np.int64]
    state_searched: Float | None = None
    state_gdt_ts: Float | None = None

    @property
    def n_columns(self) -> int:
        """Number of resamples."""
        return len(self.dead)

    def columns(self, chosen: slice) -> "Distributions":
        """Return some of the resamples."""

        def part(values: Any) -> Any:
            return None if values is None else values[..., chosen]

        return Distributions(
            masses={name: part(values) for name, values in self.masses.items()},
            means={name: part(values) for name, values in self.means.items()},
            **{
                item.name: part(getattr(self, item.name))
                for item in fields(self)
                if item.name not in ("masses", "means")
            },
        )


def distributions(
    counted: Tally, multiplicities: NDArray[Any], weight_of_state: NDArray[Any], workers: int = 1
) -> Distributions:
    """Return the weighted distributions for each of several resamples.

    Args:
        counted: The counts.
        multiplicities: (n_trajectories, n_columns) how often each trajectory is taken.
        weight_of_state: (n_states, n_columns) weight of a frame in each microstate, any scale.
        workers: Threads; the result does not depend on their number.

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
    whole = _of_all_frames(counted, taken, np.asarray(weight_of_state, np.float64), workers)
    return _with_searched(_with_subset(whole, counted, taken, workers), counted, taken, workers)


def _of_all_frames(
    counted: Tally, taken: Float, weight_of_state: Float, workers: int
) -> Distributions:
    """Return what is counted of every frame."""
    with np.errstate(invalid="ignore", divide="ignore"):
        dead = (counted.dead @ taken) / (counted.frames @ taken)
    n_cells = len(counted.cells)
    everywhere = np.arange(n_cells + 1)
    parts: dict[str, tuple[Any, Any, Any, int]] = {
        name: (matrix.indptr, matrix.indices, matrix.data, matrix.shape[1])
        for name, matrix in counted.counts.items()
    }
    # All sums together, because the weights of the cells are made anew for every part.
    names = [name for name in counted.sums if name != "squared_weight"]
    columns = [counted.sums[name].reshape(n_cells, -1) for name in names]
    bounds = np.cumsum([0, *(part.shape[1] for part in columns)])
    width = int(bounds[-1])
    rows = np.tile(np.arange(width, dtype=np.int32), n_cells)
    parts[_SUMS] = (everywhere * width, rows, np.concatenate(columns, axis=1).ravel(), width)
    states = (everywhere, counted.microstate)
    parts[_FRAMES] = (*states, counted.sums["frames"], counted.n_states)
    parts[_RMSD] = (*states, counted.sums["rmsd"], counted.n_states)
    with ThreadPoolExecutor(workers) as pool:
        found = pool.map(
            lambda part: _weighted_cells(counted, taken, weight_of_state, *part), parts.values()
        )
        sums = dict(zip(parts, found, strict=True))
    means = {
        name: sums[_SUMS][bounds[index] : bounds[index + 1]] for index, name in enumerate(names)
    }
    total = means["frames"][0]
    scale = np.where(total > 0, 1.0 / np.where(total > 0, total, 1.0), 0.0)
    return Distributions(
        masses={name: sums[name] * (scale * (1.0 - dead)) for name in counted.counts},
        means={
            name: (found[0] if len(found) == 1 else found) * scale for name, found in means.items()
        },
        state_mass=sums[_FRAMES] * scale,
        state_rmsd=sums[_RMSD] * scale,
        dead=dead,
        native_macrostate=_native_macrostate(counted.least_rmsd, taken),
    )


def _weighted_cells(
    counted: Tally,
    taken: Float,
    weight_of_state: Float,
    bounds: NDArray[Any],
    rows: NDArray[Any],
    values: NDArray[Any],
    n_rows: int,
) -> Float:
    """Return the sums (n_rows, n_columns) over cells of their entries times their weights."""
    from cgbench.evaluate.histogram_kernel import add_cells

    owners = (counted.trajectory.astype(np.int32), counted.microstate.astype(np.int32))
    entries = (bounds.astype(np.int64), rows.astype(np.int32), values)
    result = np.empty((n_rows, taken.shape[1]))
    for start in range(0, taken.shape[1], COLUMN_BLOCK):
        block = slice(start, start + COLUMN_BLOCK)
        chosen = np.ascontiguousarray(taken[:, block])
        weights = np.ascontiguousarray(weight_of_state[:, block])
        part = np.zeros((n_rows, chosen.shape[1]))
        add_cells(*entries, *owners, chosen, weights, part)
        result[:, block] = part
    return result


def _mean(values: Float, weights: Float) -> Float:
    found = values.T @ weights
    return np.asarray(found[0] if found.ndim == 2 and len(found) == 1 else found)


def _with_subset(whole: Distributions, counted: Tally, taken: Float, workers: int) -> Distributions:
    """Add the statistics of the subset."""
    subset = counted.subset
    if subset is None or not len(subset):
        return whole
    weights = subset_weights(subset, taken, whole.state_mass)
    means = {name: _mean(values, weights) for name, values in subset.sums.items()}
    weights = weights * np.where(np.isfinite(whole.dead), 1.0 - whole.dead, 0.0)
    masses: dict[str, Any] = {
        name: weighted_bins(bins, weights, workers) for name, bins in subset.bins.items()
    }
    return replace(whole, masses=whole.masses | masses, means=whole.means | means)


def _with_searched(
    whole: Distributions, counted: Tally, taken: Float, workers: int
) -> Distributions:
    """Add the structure scores of the searched frames."""
    searched = counted.searched
    if searched is None or not len(searched.trajectory):
        return whole
    if searched.population == "subset" and counted.subset is not None:
        drawn = counted.subset.weight[:, None] * taken[counted.subset.trajectory]
        population = by_state(counted.subset.microstate, drawn, counted.n_states)
    else:
        drawn = counted.sums["frames"][:, None] * taken[counted.trajectory]
        population = by_state(counted.microstate, drawn, counted.n_states)
    weights = searched_weights(searched, taken, whole.state_mass, population)
    alive = np.where(np.isfinite(whole.dead), 1.0 - whole.dead, 0.0)
    n_bins = registry.constants().score_bins
    masses: dict[str, Any] = {}
    means = {}
    for name, values in searched.scores.items():
        bins = np.clip((values * n_bins).astype(np.int32), 0, n_bins - 1)
        masses[name] = weighted_bins(BinnedFrames.of(bins[None], n_bins), weights * alive, workers)
        means[name] = values @ weights
    scored = searched.scores["gdt_ts"][:, None] * weights
    return replace(
        whole,
        masses=whole.masses | masses,
        means=whole.means | means,
        state_searched=by_state(searched.microstate, weights, counted.n_states),
        state_gdt_ts=by_state(searched.microstate, scored, counted.n_states),
    )


def _native_macrostate(least_rmsd: Float, taken: Float) -> NDArray[np.int64]:
    found = np.full(taken.shape[1], -1, dtype=np.int64)
    for column, multiplicity in enumerate(taken.T):
        chosen = least_rmsd[multiplicity > 0]
        if chosen.size and np.isfinite(chosen).any():
            found[column] = chosen.min(axis=0).argmin()
    return found


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
