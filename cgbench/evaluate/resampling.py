"""Equilibrium weights for every resample, and what is computed of a reference only once."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.evaluate.bootstrap import multiplicities
from cgbench.evaluate.distributions import Distributions, distributions
from cgbench.evaluate.metrics import STATISTICS, Comparison
from cgbench.evaluate.observables import default_workers
from cgbench.evaluate.plugins import load_plugins, told
from cgbench.evaluate.reference_bundle import ReferenceBundle
from cgbench.evaluate.sampled import sample
from cgbench.evaluate.searching import search_subset
from cgbench.evaluate.statistic import Statistic
from cgbench.evaluate.stopwatch import Stopwatch
from cgbench.evaluate.tally import Tally, tally
from cgbench.evaluate.threads import threads
from cgbench.evaluate.weights import StateWeights, TransitionCounts, solve_weights
from cgbench.progress import Progress, silent

Float = NDArray[np.float64]


@dataclass(frozen=True)
class ResampledWeights:
    """Weights of a frame in each microstate, one column for each resample.

    Attributes:
        estimate: Of all trajectories, each taken once.
        weight_of_state: (n_states, n_columns).
        n_unreliable: Columns in which uniform weights took the place of the model's although the
            estimate's own can be trusted.
    """

    estimate: StateWeights
    weight_of_state: Float
    n_unreliable: int


def resampled_weights(
    counts: TransitionCounts,
    taken: Float,
    temperature: float,
    *,
    task: str = "resamples",
    workers: int = 1,
    progress: Progress = silent,
) -> ResampledWeights:
    """Solve the Markov state model again for every resample.

    Where the estimate's own weights cannot be trusted, every resample is weighted uniformly, as
    the estimate is.

    Args:
        counts: Transition counts by trajectory.
        taken: (n_trajectories, n_columns) multiplicities.
        temperature: In K.
        task: The name that progress is told.
        workers: Threads; the result does not depend on their number.
        progress: Told after each column.
    """
    n_columns = taken.shape[1]
    estimate = solve_weights(counts, None, temperature=temperature)
    columns = np.ones((counts.n_states, n_columns))
    unreliable = 0

    def solve(index: int) -> StateWeights:
        return solve_weights(counts, taken[:, index], temperature=temperature, start=estimate)

    with threads(workers) as pool:
        indices = range(n_columns if estimate.status == "ok" else 0)
        for index, solved in enumerate(pool.map(solve, indices)):
            columns[:, index] = solved.weight_of_state
            unreliable += solved.status != "ok"
            progress(task, index + 1, n_columns)
    return ResampledWeights(estimate, columns, unreliable)


@dataclass(frozen=True)
class ReferenceStatistics:
    """A reference, counted and resampled: the same for every row that is compared with it.

    Attributes:
        bundle: The reference.
        seed: Seed of the resamples.
        n_resamples: Their number.
        tally: Counts of the reference's usable frames; none of them are dead.
        weights: Weights for each resample.
        distributions: Weighted distributions, the estimate's first.
        notes: Statistics of other packages that could not be measured, and why.
        timings: Seconds by stage.
    """

    bundle: ReferenceBundle
    seed: int
    n_resamples: int
    tally: Tally
    weights: ResampledWeights
    distributions: Distributions
    notes: tuple[str, ...] = ()
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def own(self) -> Comparison:
        """The reference compared with itself, the estimate only."""
        estimate = self.distributions.columns(slice(0, 1))
        return Comparison(estimate, estimate, self.bundle, np.ones(1))


def reference_statistics(
    bundle: ReferenceBundle,
    *,
    seed: int,
    n_resamples: int | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> ReferenceStatistics:
    """Count a reference and resample it; give the result to every call of ``score``.

    Args:
        bundle: The reference.
        seed: Seed of the resamples; that of the rows compared with it.
        n_resamples: Their number; the registry's if None.
        workers: Threads; one for each core that may be used if None. The result is the same.
        progress: Told how far it is.
    """
    number = registry.constants().n_resamples if n_resamples is None else n_resamples
    workers = default_workers() if workers is None else workers
    stopwatch, notes = Stopwatch(), []
    plugins = load_plugins()
    statistics = [*STATISTICS.values(), *plugins.statistics.values()]

    def failed(statistic: Statistic, error: Exception) -> None:
        if statistic.name in STATISTICS:
            raise error
        notes.append(f"Statistic {statistic.name} of the reference failed: {told(error)}.")

    observables = bundle.observables
    with stopwatch.stage("reference counts"):
        counted = tally(observables, bundle.definition)
    with stopwatch.stage("reference subset"):
        frames = bundle.subset_frames
        subset = sample(
            bundle.subset_coordinates,
            observables.trajectory[frames],
            observables.microstate[frames],
            np.ones(len(frames)),
            bundle.definition,
            statistics,
            workers=workers,
            failed=failed,
        )
    with stopwatch.stage("reference superpositions"):
        searched = search_subset(
            bundle.definition,
            subset,
            observables.rmsd[frames],
            seed=bundle.metadata.seed,
            workers=workers,
            progress=progress,
        )
    # Frames that screening refused are missing from a reference; they were not lost by a model.
    counted = replace(
        counted,
        frames=counted.frames - counted.dead,
        dead=np.zeros(counted.n_trajectories),
        subset=subset,
        searched=searched,
    )
    taken = multiplicities(seed, counted.n_trajectories, number, "reference")
    with stopwatch.stage("reference weights"):
        weights = resampled_weights(
            bundle.counts,
            taken,
            bundle.temperature,
            task="reference resamples",
            workers=workers,
            progress=progress,
        )
    with stopwatch.stage("reference distributions"):
        spread = distributions(counted, taken, weights.weight_of_state, workers)
    return ReferenceStatistics(
        bundle=bundle,
        seed=seed,
        n_resamples=number,
        tally=counted,
        weights=weights,
        distributions=spread,
        notes=tuple(notes),
        timings=stopwatch.seconds,
    )
