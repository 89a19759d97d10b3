"""What a reference bundle says of its own convergence, in numbers that are stored with it."""

from typing import Final

from cgbench.config import Frozen

#: Multiples of the Markov model's lag at which its prediction is compared with the estimate.
TEST_MULTIPLES: Final = (1, 2, 3, 4, 5)


class Spread(Frozen):
    """Mean of an estimate over random divisions or resamples, and percentiles of it."""

    mean: float
    lo: float
    hi: float


class HalfDifference(Frozen):
    """How far apart the two halves of the trajectories are in one statistic.

    Attributes:
        statistic: Name of the statistic: ``w1_tic1``, ``w1_tic2`` (in standard deviations of the
            reference), ``fes_rmse`` (of one half against the other; clipped before the mean
            difference is taken off, unlike the metric of that name), ``folded_population``
            (difference), ``dG_fold`` (difference; not clipped, divisions with an empty basin are
            left out).
        unit: Its unit; empty for pure numbers.
        difference: Over random divisions; of the absolute value where it has a sign. None where no
            division has a finite one.
    """

    statistic: str
    unit: str
    difference: Spread | None


class BlockRow(Frozen):
    """Standard error of the folded population from blocks of one length.

    Attributes:
        block_ps: Length of a block in ps.
        trajectories: Trajectories in a block; 1 where blocks are parts of trajectories.
        n_blocks: Number of blocks.
        standard_error: Standard error of the population, blocks taken as independent.
    """

    block_ps: float
    trajectories: int
    n_blocks: int
    standard_error: float


class ChapmanKolmogorovRow(Frozen):
    """Probability to be in a macrostate after a multiple of the lag, predicted and estimated.

    Attributes:
        multiple: k.
        lag_ps: kτ in ps.
        start: Macrostate at the start.
        end: Macrostate at the end.
        predicted: From the k-th power of the transition matrix at τ.
        predicted_range: Its bootstrap interval.
        estimated: From the transitions counted at kτ.
        estimated_range: Its bootstrap interval.
    """

    multiple: int
    lag_ps: float
    start: int
    end: int
    predicted: float
    predicted_range: tuple[float, float]
    estimated: float
    estimated_range: tuple[float, float]


class TimescaleInterval(Frozen):
    """Bootstrap intervals of the implied timescales at one lag, slowest first.

    Attributes:
        lag_ps: The lag in ps.
        ranges_ps: Lower and upper end for each timescale; None where fewer than half of the
            resamples have one.
    """

    lag_ps: float
    ranges_ps: tuple[tuple[float, float] | None, ...]


class Convergence(Frozen):
    """Diagnostics of a reference simulation and of its Markov state model.

    Attributes:
        n_divisions: Random divisions of the trajectories into halves.
        n_resamples: Bootstrap resamples of the trajectories.
        halves: Differences between halves.
        blocks: Block estimates of the folded population, shortest block first.
        chapman_kolmogorov: The test, by multiple, start and end.
        largest_deviation: Largest absolute difference of prediction and estimate in the test.
        fraction_outside_range: Share of the test's entries, first multiple left out, whose
            intervals do not overlap.
        timescale_ranges: Intervals of the implied timescales.
    """

    n_divisions: int
    n_resamples: int
    halves: tuple[HalfDifference, ...]
    blocks: tuple[BlockRow, ...]
    chapman_kolmogorov: tuple[ChapmanKolmogorovRow, ...]
    largest_deviation: float | None
    fraction_outside_range: float | None
    timescale_ranges: tuple[TimescaleInterval, ...]
