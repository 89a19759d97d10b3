"""Equilibrium weights for every resample, and what is computed of a reference only once."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.evaluate.bootstrap import multiplicities
from cgbench.evaluate.distributions import Distributions, distributions
from cgbench.evaluate.metrics import Comparison
from cgbench.evaluate.reference_bundle import ReferenceBundle
from cgbench.evaluate.tally import Binning, Tally, tally
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
        progress: Told after each column.
    """
    n_columns = taken.shape[1]
    estimate = solve_weights(counts, None, temperature=temperature)
    columns = np.ones((counts.n_states, n_columns))
    unreliable = 0
    for index in range(n_columns if estimate.status == "ok" else 0):
        solved = solve_weights(counts, taken[:, index], temperature=temperature, start=estimate)
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
        binning: The reference's grids.
        tally: Counts of the reference's usable frames; none of them are dead.
        weights: Weights for each resample.
        distributions: Weighted distributions, the estimate's first.
    """

    bundle: ReferenceBundle
    seed: int
    n_resamples: int
    binning: Binning
    tally: Tally
    weights: ResampledWeights
    distributions: Distributions

    @property
    def own(self) -> Comparison:
        """The reference compared with itself."""
        alive = np.ones(self.distributions.n_columns)
        return Comparison(self.distributions, self.distributions, self.bundle, alive)


def reference_statistics(
    bundle: ReferenceBundle,
    *,
    seed: int,
    n_resamples: int | None = None,
    progress: Progress = silent,
) -> ReferenceStatistics:
    """Count a reference and resample it; give the result to every call of ``score``.

    Args:
        bundle: The reference.
        seed: Seed of the resamples; that of the rows compared with it.
        n_resamples: Their number; the registry's if None.
        progress: Told how far it is.
    """
    number = registry.constants().n_resamples if n_resamples is None else n_resamples
    binning = Binning.of(bundle)
    counted = tally(bundle.observables, binning)
    # Frames that screening refused are missing from a reference; they were not lost by a model.
    counted = replace(
        counted, frames=counted.frames - counted.dead, dead=np.zeros(counted.n_trajectories)
    )
    taken = multiplicities(seed, counted.n_trajectories, number, "reference")
    weights = resampled_weights(
        bundle.counts, taken, bundle.temperature, task="reference resamples", progress=progress
    )
    return ReferenceStatistics(
        bundle=bundle,
        seed=seed,
        n_resamples=number,
        binning=binning,
        tally=counted,
        weights=weights,
        distributions=distributions(counted, taken, weights.weight_of_state),
    )
