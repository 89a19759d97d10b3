"""Diagnostics of a reference simulation: halves, blocks, Chapman-Kolmogorov test, timescales."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.evaluate.convergence import (
    TEST_MULTIPLES,
    BlockRow,
    ChapmanKolmogorovRow,
    Convergence,
    TimescaleInterval,
)
from cgbench.evaluate.msm import MarkovModel, fit_markov_model
from cgbench.evaluate.observables import Observables
from cgbench.evaluate.reference_bundle import Basins, TimescaleRow
from cgbench.evaluate.reference_halves import half_differences
from cgbench.evaluate.weights import TransitionCounts, count_transitions
from cgbench.progress import Progress

Float = NDArray[np.float64]

#: Implied timescales are told at these multiples of the Markov model's lag.
LAG_MULTIPLES: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0)
N_TIMESCALES: Final = 4
#: Diagnostics take one in so many of the resamples that the populations get.
_RESAMPLES_SHARE: Final = 4
#: Fewest blocks that a standard error is taken from.
_FEWEST_BLOCKS: Final = 8


@dataclass(frozen=True)
class Markovian:
    """The Markov state model that is examined, and what it was made from.

    Attributes:
        observables: Per-frame numbers of the reference.
        weights: (n,) weight of each frame, summing to one.
        macrostate: (n_microstates,) macrostate of each microstate.
        basins: What folded and unfolded mean.
        lag_frames: The model's lag.
        frame_interval: Time between frames in ps.
        temperature: In K.
        edges: Edges of the first two slow coordinates' distributions: ``tic1``, ``tic2``.
        fes_edges: (2, n_bins + 1) edges of the free energy grid.
        tic_sigma: (dimensions,) standard deviations of the slow coordinates.
    """

    observables: Observables
    weights: Float
    macrostate: NDArray[np.int64]
    basins: Basins
    lag_frames: int
    frame_interval: float
    temperature: float
    edges: dict[str, Float]
    fes_edges: Float
    tic_sigma: Float

    @property
    def n_states(self) -> int:
        """Number of microstates."""
        return len(self.macrostate)

    @property
    def longest(self) -> int:
        """Frames of the longest trajectory."""
        return int(np.bincount(self.observables.trajectory).max())

    def counts(self, lag_frames: int) -> TransitionCounts:
        """Return the transition counts by trajectory at a lag."""
        frames = self.observables
        return count_transitions(
            frames.microstate,
            frames.trajectory,
            self.n_states,
            frames.n_trajectories,
            lag_frames,
            frames.alive,
        )


def diagnose(
    source: Markovian, n_resamples: int, seed: int, progress: Progress
) -> tuple[tuple[TimescaleRow, ...], Convergence]:
    """Return implied timescales at several lags, and the diagnostics.

    Args:
        source: The Markov state model.
        n_resamples: Resamples of the populations; the diagnostics take a quarter as many.
        seed: Seed of resamples and divisions.
        progress: Told after each lag and division.
    """
    number = max(2, n_resamples // _RESAMPLES_SHARE)
    n = source.observables.n_trajectories
    generator = np.random.default_rng(np.random.SeedSequence([seed, 2]))
    # The first column is the estimate: every trajectory once.
    drawn = generator.multinomial(n, np.full(n, 1.0 / n), size=number)
    taken = np.concatenate([np.ones((1, n)), drawn]).astype(np.float64)
    tau = source.lag_frames
    shown = {max(1, round(tau * multiple)) for multiple in LAG_MULTIPLES}
    tested = {tau * multiple for multiple in TEST_MULTIPLES}
    # The model at its own lag comes first: the test's predictions are made from it.
    lags = [tau, *sorted((shown | tested) - {tau})]
    lags = [lag for lag in lags if lag < source.longest]
    rows: dict[int, TimescaleRow] = {}
    ranges: dict[int, TimescaleInterval] = {}
    estimated: dict[int, Float] = {}
    prediction: _Prediction | None = None
    for done, lag in enumerate(lags):
        counts = source.counts(lag)
        fitted = [_fitted(counts, multiplicity, lag) for multiplicity in taken]
        if lag in shown and (estimate := fitted[0]) is not None:
            rows[lag] = _timescale_row(estimate, counts, source.frame_interval)
            ranges[lag] = _timescale_ranges(fitted[1:], rows[lag].lag_ps, source.frame_interval)
        if lag == tau:
            prediction = _Prediction.of(fitted, source.macrostate)
        if lag in tested and prediction is not None:
            estimated[lag] = prediction.estimated(counts, taken)
        progress("Markov model tests", done + 1, len(lags))
    tests: list[ChapmanKolmogorovRow] = []
    if prediction is not None:
        tests = prediction.compared(estimated, tau, source.frame_interval)
    later = [row for row in tests if row.multiple > 1]
    return tuple(rows[lag] for lag in sorted(rows)), Convergence(
        n_divisions=number,
        n_resamples=number,
        halves=half_differences(
            source.observables,
            source.counts(tau),
            source.basins,
            source.edges,
            source.fes_edges,
            source.tic_sigma,
            source.temperature,
            number,
            seed,
            progress,
        ),
        blocks=block_estimates(
            source.observables, source.weights, source.basins, source.frame_interval
        ),
        chapman_kolmogorov=tuple(tests),
        largest_deviation=max((abs(row.predicted - row.estimated) for row in tests), default=None),
        fraction_outside_range=float(np.mean([_apart(row) for row in later])) if later else None,
        timescale_ranges=tuple(ranges[lag] for lag in sorted(ranges)),
    )


def _fitted(counts: TransitionCounts, multiplicity: Float, lag: int) -> MarkovModel | None:
    total = counts.total(multiplicity)
    if not total.any():
        return None
    return fit_markov_model(total, multiplicity @ counts.populations, lag)


def _apart(row: ChapmanKolmogorovRow) -> bool:
    return (
        row.predicted_range[0] > row.estimated_range[1]
        or row.estimated_range[0] > row.predicted_range[1]
    )


def _range(values: Float) -> tuple[float, float]:
    outside = 50.0 * (1.0 - registry.constants().confidence_level)
    lo, hi = np.nanpercentile(values, [outside, 100.0 - outside])
    return float(lo), float(hi)


def _timescale_row(model: MarkovModel, counts: TransitionCounts, interval: float) -> TimescaleRow:
    populations = counts.populations.sum(axis=0)
    inside = float(populations[model.states].sum() / populations.sum())
    found = model.timescales(interval, N_TIMESCALES)
    return TimescaleRow(
        lag_ps=model.lag_frames * interval,
        timescales_ps=tuple(float(t) if np.isfinite(t) else None for t in found),
        fraction_outside=max(0.0, 1.0 - inside),
    )


def _timescale_ranges(
    models: Sequence[MarkovModel | None], lag_ps: float, interval: float
) -> TimescaleInterval:
    unknown = np.full(N_TIMESCALES, np.nan)
    found = np.array(
        [unknown if model is None else model.timescales(interval, N_TIMESCALES) for model in models]
    )
    known = np.isfinite(found).mean(axis=0) >= 0.5
    ranges = tuple(
        _range(found[:, index]) if known[index] else None for index in range(N_TIMESCALES)
    )
    return TimescaleInterval(lag_ps=lag_ps, ranges_ps=ranges)


@dataclass(frozen=True)
class _Prediction:
    """What the model at its own lag says of the macrostates, for the estimate and each resample.

    Attributes:
        models: The model of each column; None where no transition was counted.
        start: (n_columns, n_states, n_macrostates) stationary distribution within each macrostate.
        end: (n_states, n_macrostates) which macrostate a microstate is in.
    """

    models: Sequence[MarkovModel | None]
    start: Float
    end: Float

    @classmethod
    def of(
        cls, models: Sequence[MarkovModel | None], macrostate: NDArray[np.int64]
    ) -> "_Prediction":
        end = np.eye(int(macrostate.max()) + 1)[macrostate]
        start = np.zeros((len(models), *end.shape))
        for column, model in enumerate(models):
            if model is not None:
                start[column, model.states] = model.stationary[:, None] * end[model.states]
        return cls(models, start, end)

    def predicted(self, multiple: int) -> Float:
        """Return the macrostates' probabilities after a power of the transition matrix."""
        found = np.full((len(self.models), self.end.shape[1], self.end.shape[1]), np.nan)
        for column, model in enumerate(self.models):
            if model is None:
                continue
            reached = self.end[model.states]
            for _ in range(multiple):
                reached = model.transition_matrix @ reached
            found[column] = _normalised(self.start[column, model.states].T @ reached)
        return found

    def estimated(self, counts: TransitionCounts, taken: Float) -> Float:
        """Return the same from the transitions counted at a longer lag.

        Prinz et al., J. Chem. Phys. 134, 174105 (2011): from each microstate the
        counted share that ends in a macrostate, over the stationary distribution within another.
        """
        found = np.full((len(self.models), self.end.shape[1], self.end.shape[1]), np.nan)
        for column, multiplicity in enumerate(taken):
            total = counts.total(multiplicity)
            left = total.sum(axis=1)
            with np.errstate(invalid="ignore", divide="ignore"):
                reached = np.where(left[:, None] > 0, total @ self.end / left[:, None], 0.0)
            # States that nothing was counted from at this lag have no say.
            found[column] = _normalised(self.start[column].T @ reached)
        return found

    def compared(
        self, estimated: dict[int, Float], lag_frames: int, interval: float
    ) -> list[ChapmanKolmogorovRow]:
        rows = []
        n_sets = self.end.shape[1]
        for multiple in TEST_MULTIPLES:
            if multiple * lag_frames not in estimated:
                continue
            counted, predicted = estimated[multiple * lag_frames], self.predicted(multiple)
            for start in range(n_sets):
                for end in range(n_sets):
                    ours, theirs = predicted[:, start, end], counted[:, start, end]
                    known = np.isfinite(ours) & np.isfinite(theirs)
                    if not known[0] or not known[1:].any():
                        continue
                    rows.append(
                        ChapmanKolmogorovRow(
                            multiple=multiple,
                            lag_ps=multiple * lag_frames * interval,
                            start=start,
                            end=end,
                            predicted=float(ours[0]),
                            predicted_range=_range(ours[1:][known[1:]]),
                            estimated=float(theirs[0]),
                            estimated_range=_range(theirs[1:][known[1:]]),
                        )
                    )
        return rows


def _normalised(flow: Float) -> Float:
    left = flow.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(left > 0, flow / left, np.nan)


def block_estimates(
    observables: Observables, weights: Float, basins: Basins, frame_interval: float
) -> tuple[BlockRow, ...]:
    """Return standard errors of the folded population from blocks of growing length.

    The population is a ratio of sums over blocks; with r the sum of weight·(folded − population)
    over a block, its standard error is √(n/(n−1)·Σr²), for blocks taken as independent (Flyvbjerg
    and Petersen, J. Chem. Phys. 91, 461, 1989). It grows with the length until blocks are longer
    than correlations last. Blocks longer than a trajectory are several that follow each other.

    Args:
        observables: Per-frame numbers of the reference.
        weights: (n,) weight of each frame, summing to one.
        basins: What folded means.
        frame_interval: Time between frames in ps.
    """
    folded = basins.folded(observables.q, observables.rmsd)
    residual = weights * (folded - weights[folded].sum())
    starts = np.flatnonzero(np.diff(observables.trajectory, prepend=-1))
    lengths = np.diff(starts, append=observables.n_frames)
    rows = []
    length = 1
    while length < lengths.max():
        pieces = -(-lengths // length)
        within = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        sums = np.add.reduceat(residual, np.repeat(starts, pieces) + within * length)
        rows.append(_block_row(sums, length * frame_interval, 1))
        length *= 2
    sums, taken = np.add.reduceat(residual, starts), 1
    mean_length = float(lengths.mean()) * frame_interval
    while len(sums) >= _FEWEST_BLOCKS:
        rows.append(_block_row(sums, taken * mean_length, taken))
        sums, taken = np.add.reduceat(sums, np.arange(0, len(sums), 2)), 2 * taken
    return tuple(row for row in rows if row.n_blocks >= _FEWEST_BLOCKS)


def _block_row(sums: Float, block_ps: float, trajectories: int) -> BlockRow:
    n = len(sums)
    error = float(np.sqrt(n / max(n - 1, 1) * (sums**2).sum()))
    return BlockRow(block_ps=block_ps, trajectories=trajectories, n_blocks=n, standard_error=error)
