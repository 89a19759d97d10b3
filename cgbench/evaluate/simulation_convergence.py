"""Whether a simulation is long enough for its populations to be the model's own."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.evaluate.bootstrap import interval, multiplicities
from cgbench.evaluate.distributions import distributions
from cgbench.evaluate.metrics import METRICS, Comparison
from cgbench.evaluate.observables import Observables, measure
from cgbench.evaluate.reference_bundle import ReferenceBundle
from cgbench.evaluate.reference_statistics import count_events
from cgbench.evaluate.resampling import ReferenceStatistics, resampled_weights
from cgbench.evaluate.tally import tally
from cgbench.evaluate.weights import count_transitions

Float = NDArray[np.float64]

#: Resamples of the difference between the halves; only its standard deviation is needed.
_N_RESAMPLES: Final = 50
#: Standard deviations at which one of four differences is significant at 5 %, two-sided and
#: corrected after Bonferroni.
_SIGNIFICANT: Final = 2.5
#: What averages are divided by.
_FRAMES: Final = "frames"
#: Shorter trajectories are not divided.
_LEAST_FRAMES: Final = 4


@dataclass(frozen=True)
class SimulationConvergence:
    """Whether a simulation has converged.

    Attributes:
        converged: None where it cannot be told.
        reason: Why, or why not.
    """

    converged: bool | None
    reason: str


def simulation_convergence(
    observables: Observables,
    statistics: ReferenceStatistics,
    columns: dict[str, Float],
    *,
    lag_frames: int | None,
    workers: int = 1,
) -> SimulationConvergence:
    """Judge a simulation by its events, by its halves in time and by its start frames.

    It has not converged when there are fewer folding or unfolding events than the registry asks
    for, when the halves in time of its trajectories disagree beyond the noise, or when a primary
    metric cannot be told from that of the start frames held still.

    Args:
        observables: Per-frame numbers of the frames that were scored.
        statistics: The reference.
        columns: Metrics of the simulation, the estimate first and then the resamples.
        lag_frames: Lag of the simulation's Markov state model; None for samples without time order.
        workers: Threads; the result does not depend on their number.
    """
    if lag_frames is None:
        return SimulationConvergence(None, "samples without time order")
    bundle = statistics.bundle
    least = registry.constants().minimum_events
    folding, unfolding = count_events(observables, bundle.metadata.basins)
    told = []
    if min(folding, unfolding) < least:
        told.append(
            f"{folding} folding and {unfolding} unfolding events are fewer than {least} of each"
        )
    apart = disagreeing_halves(
        observables, bundle, lag_frames=lag_frames, seed=statistics.seed, workers=workers
    )
    if apart:
        told.append(f"the halves in time disagree in {' and '.join(apart)}")
    still = unmoved_metrics(columns, observables.n_trajectories, statistics, workers)
    if still:
        told.append(f"{', '.join(still)} cannot be told from the start frames held still")
    if told:
        return SimulationConvergence(False, f"too short to say: {'; '.join(told)}")
    return SimulationConvergence(
        True, f"{folding} folding and {unfolding} unfolding events, and the halves in time agree"
    )


def disagreeing_halves(
    observables: Observables,
    bundle: ReferenceBundle,
    *,
    lag_frames: int,
    seed: int,
    workers: int = 1,
) -> list[str]:
    """Return in what the halves in time of the trajectories disagree beyond the noise.

    Each half is weighted by a Markov state model of its own. The difference of the two averages is
    compared with its standard deviation over resamples of whole trajectories, in which the halves
    of a trajectory stay together.

    Args:
        observables: Per-frame numbers, trajectories in time order.
        bundle: The reference.
        lag_frames: Lag of the Markov state models.
        seed: Seed of the resamples.
        workers: Threads; the result does not depend on their number.

    Returns:
        Names of averages, empty where there is nothing to resample.
    """
    n, n_states = observables.n_trajectories, bundle.n_microstates
    lengths = np.bincount(observables.trajectory, minlength=n)
    if n < 2 or lengths.max() < _LEAST_FRAMES:
        return []
    within = np.arange(observables.n_frames) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    early = 2 * within < np.repeat(lengths, lengths)
    basins = bundle.metadata.basins
    series = {
        _FRAMES: np.ones(observables.n_frames),
        "the folded population": basins.folded(observables.q, observables.rmsd),
        "the mean of TIC 1": observables.tics[:, 0],
        "the mean of TIC 2": observables.tics[:, 1],
        "the mean radius of gyration": observables.rg,
    }
    taken = multiplicities(seed, n, _N_RESAMPLES)
    cell = observables.trajectory.astype(np.int64) * n_states + observables.microstate
    averages: list[dict[str, Float]] = []
    for half in (early, ~early):
        used = half & observables.alive
        if not used.any():
            return []
        counts = count_transitions(
            observables.microstate, observables.trajectory, n_states, n, lag_frames, used
        )
        solved = resampled_weights(counts, taken, bundle.temperature, workers=workers)
        weights = solved.weight_of_state

        found = {}
        for name, values in series.items():
            sums = np.bincount(cell[used], values[used], n * n_states).reshape(n, n_states)
            found[name] = ((sums.T @ taken) * weights).sum(axis=0)
        total = found.pop(_FRAMES)
        if not (total > 0).all():
            return []
        averages.append({name: values / total for name, values in found.items()})
    apart = []
    for name in averages[0]:
        difference = averages[1][name] - averages[0][name]
        noise = float(difference[1:].std())
        if abs(difference[0]) > _SIGNIFICANT * noise and noise > 0:
            apart.append(name)
    return apart


def unmoved_metrics(
    columns: dict[str, Float],
    n_trajectories: int,
    statistics: ReferenceStatistics,
    workers: int = 1,
) -> list[str]:
    """Return the primary metrics that cannot be told from those of the start frames held still.

    Replicas and start frames are resampled together, so that what they have in common cancels.

    Args:
        columns: Metrics of a simulation, the estimate first and then the resamples.
        n_trajectories: Its trajectories; unless there are as many as start frames they cannot be
            paired, and none is returned.
        statistics: The reference, with the seed of the resamples.
        workers: Threads; the result does not depend on their number.
    """
    bundle = statistics.bundle
    starts = bundle.start_coordinates
    if n_trajectories != len(starts):
        return []
    frozen = measure(bundle.definition, list(starts[:, None]), workers=workers)
    taken = multiplicities(statistics.seed, len(starts), statistics.n_resamples)
    uniform = np.ones((bundle.n_microstates, taken.shape[1]))
    still = Comparison(
        model=distributions(tally(frozen, bundle.definition), taken, uniform, workers),
        reference=statistics.distributions,
        bundle=bundle,
        surviving=np.ones(taken.shape[1]),
    )
    found = []
    for metric in METRICS:
        if metric not in columns or not registry.metric(metric).primary:
            continue
        difference = columns[metric] - METRICS[metric](still)
        ends = interval(float(difference[0]), difference[1:])
        if ends is not None and ends[0] <= 0.0 <= ends[1]:
            found.append(metric)
    return found
