"""The one way from an ensemble and a reference to a scored row."""

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate.bootstrap import multiplicities
from cgbench.evaluate.display import DrawnFrames, display, traces
from cgbench.evaluate.distributions import Distributions, distributions
from cgbench.evaluate.ensemble import Ensemble
from cgbench.evaluate.metrics import METRICS, Comparison, ForceErrors
from cgbench.evaluate.observables import Observables, default_workers
from cgbench.evaluate.reference_bundle import ReferenceBundle
from cgbench.evaluate.resampling import ReferenceStatistics, reference_statistics
from cgbench.evaluate.sampled import subset_weights
from cgbench.evaluate.scored import Scored
from cgbench.evaluate.simulation_convergence import simulation_convergence
from cgbench.evaluate.stopwatch import Stopwatch
from cgbench.evaluate.survey import survey_ensemble
from cgbench.evaluate.tally import Tally
from cgbench.evaluate.values import (
    effective_frames,
    effective_numbers,
    force_values,
    gate,
    metric_columns,
    metric_values,
    own_values,
    remarks,
    unseen_states,
)
from cgbench.evaluate.weighting import weigh
from cgbench.progress import Progress, silent
from cgbench.registry import Protocol
from cgbench.results import MetricValue, SystemResult

Float = NDArray[np.float64]


def score(
    ensemble: Ensemble,
    bundle: ReferenceBundle,
    *,
    protocol: Protocol | None = None,
    force_errors: ForceErrors | None = None,
    seed: int,
    reference: ReferenceStatistics | None = None,
    n_resamples: int | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> Scored:
    """Score an ensemble against a reference.

    A model whose trajectories all broke is a failed row with the registry's penalties, never an
    exception; only input that is not an ensemble of this system raises.

    Args:
        ensemble: What is scored.
        bundle: The reference.
        protocol: How it was simulated; None for samples and for trajectories of other origin,
            which use the system's own constants.
        force_errors: Errors on the test part, from wherever forces are predicted.
        seed: Seed of the resamples; the same for all rows that are compared.
        reference: What :func:`reference_statistics` returned, to save doing it for every row.
        n_resamples: Number of resamples; the registry's if None.
        workers: Threads; one for each core that may be used if None. The result is the same.
        progress: Told how far it is.

    Raises:
        ValidationError: The ensemble is of another system or chain length, or ``reference`` of
            another bundle, seed or number of resamples.
    """
    _check(ensemble, bundle, reference, seed, n_resamples)
    drop = registry.constants().drop_fraction if protocol is None else protocol.drop_fraction
    kept = ensemble.kept(drop)
    number = registry.constants().n_resamples if n_resamples is None else n_resamples
    if reference is not None:
        number = reference.n_resamples
    reason = _unusable(kept)
    if reason is not None:
        return failed(
            ensemble.name,
            bundle.system,
            reason,
            seed=seed,
            ensemble=kept,
            force_errors=force_errors,
            n_resamples=number,
            converged=bundle.converged,
            synthetic=bundle.metadata.synthetic,
        )
    workers = default_workers() if workers is None else workers
    statistics = reference or reference_statistics(
        bundle, seed=seed, n_resamples=number, workers=workers, progress=progress
    )
    stopwatch = Stopwatch()
    surveyed = survey_ensemble(
        kept, bundle, seed=seed, workers=workers, stopwatch=stopwatch, progress=progress
    )
    observables, counted, plugins = surveyed.observables, surveyed.tally, surveyed.plugins
    taken = multiplicities(seed, kept.n_trajectories, number)
    with stopwatch.stage("weights"):
        weighting = weigh(kept, observables, bundle, protocol, taken, workers, progress)
    with stopwatch.stage("distributions"):
        spread = distributions(counted, taken, weighting.weight_of_state, workers)
    comparison = Comparison(
        model=spread,
        reference=statistics.distributions,
        bundle=bundle,
        surviving=((counted.dead == 0) @ taken) / taken.sum(axis=0),
    )
    told = [*surveyed.notes, *statistics.notes]
    with stopwatch.stage("metrics"):
        columns = metric_columns(
            comparison, _native_like_frames(kept, observables, bundle), plugins.metrics, told
        )
        gate_status = gate(float(columns["handedness"][0]), bundle)
        metrics = metric_values(
            columns,
            own_values(statistics.own, plugins.metrics),
            effective_numbers(counted, weighting.weight_of_state[:, 0]),
            remarks(comparison),
            unseen_states(comparison),
            time_ordered=kept.time_ordered,
            gate_status=gate_status,
            single=kept.n_trajectories < 2,
            plugins=plugins.metrics,
        )
    with stopwatch.stage("convergence"):
        verdict = simulation_convergence(
            observables, statistics, columns, lag_frames=weighting.lag_frames, workers=workers
        )
    with stopwatch.stage("display"):
        drawn = []
        if kept.frame_interval is not None:
            drawn = traces(observables, ensemble.lengths - kept.lengths, kept.frame_interval)
        shown = display(comparison, drawn, drawn_frames(counted, taken, spread))
    return Scored(
        name=ensemble.name,
        result=SystemResult(
            system=bundle.system,
            status="ok",
            metrics=metrics | force_values(force_errors, seed, number),
            gates={"handedness": gate_status},
            n_trajectories=kept.n_trajectories,
            n_frames=kept.n_frames,
            effective_frames=effective_frames(counted, weighting.weight_of_state[:, 0]),
            dead_fraction=float(np.clip(comparison.model.dead[0], 0.0, 1.0)),
            weights_status=weighting.status,
            weights_reason=weighting.reason,
            weights_lag_ps=weighting.lag_ps,
            weights_fraction_outside=weighting.fraction_outside,
            converged=bundle.converged,
            simulation_converged=verdict.converged,
            simulation_converged_reason=verdict.reason,
            synthetic=bundle.metadata.synthetic,
            notes=(*weighting.notes, *notes(kept.n_trajectories, statistics), *told),
        ),
        seed=seed,
        n_trajectories=kept.n_trajectories,
        resamples={metric: values[1:] for metric, values in columns.items()},
        force_errors=force_errors,
        display=shown,
        timings=statistics.timings | stopwatch.seconds if reference is None else stopwatch.seconds,
    )


def drawn_frames(counted: Tally, taken: Float, spread: Distributions) -> DrawnFrames | None:
    """Return the frames that a report may draw: the subset with the weights of the first column.

    Args:
        counted: The counts of an ensemble.
        taken: (n_trajectories, n_columns) multiplicities.
        spread: The distributions made from both.
    """
    subset = counted.subset
    if subset is None:
        return None
    weights = subset_weights(subset, taken[:, :1], spread.state_mass[:, :1])[:, 0]
    return DrawnFrames(subset.coordinates, subset.microstate, weights)


def _native_like_frames(kept: Ensemble, observables: Observables, bundle: ReferenceBundle) -> int:
    """Return how many living frames with weight are native-like, whatever scale weights have."""
    counted = bundle.metadata.basins.native_like(observables.q) & observables.alive
    if kept.weights is not None:
        counted &= np.concatenate(kept.weights) > 0
    return int(counted.sum())


def _unusable(kept: Ensemble) -> str | None:
    """Return why nothing can be scored, or None."""
    after = " after the dropped start" if kept.time_ordered else ""
    if not kept.n_frames:
        return f"there are no frames{after}"
    if not kept.alive_until.any():
        return f"every frame{after} is lost: not finite, or a bond is outside its limits"
    if kept.weights is not None:
        alive = zip(kept.weights, kept.alive_until, strict=True)
        if not any(weights[:until].any() for weights, until in alive):
            return "no frame that is intact has weight"
    return None


def notes(n_trajectories: int, statistics: ReferenceStatistics) -> list[str]:
    """Return what a reader has to know of the resamples."""
    told = []
    least = registry.constants().minimum_trajectories
    if n_trajectories < least:
        told.append(f"{n_trajectories} trajectories: too few for a rank, which takes {least}.")
    if statistics.tally.n_trajectories < 2:
        told.append(
            "The reference is a single trajectory, which cannot be resampled: intervals leave its "
            "own error out."
        )
    weights = statistics.weights
    if weights.estimate.status != "ok":
        told.append(f"The reference is not in equilibrium: {weights.estimate.reason}.")
    elif weights.n_unreliable:
        told.append(
            f"In {weights.n_unreliable} of {statistics.n_resamples} resamples the reference's "
            "weights could not be trusted and every frame counted the same."
        )
    return told


def failed(
    name: str,
    system: str,
    reason: str,
    *,
    seed: int,
    ensemble: Ensemble | None = None,
    force_errors: ForceErrors | None = None,
    n_resamples: int | None = None,
    converged: bool | None = None,
    synthetic: bool = False,
) -> Scored:
    """Return the row of a model that gave nothing to score: the registry's penalties.

    Args:
        name: Name of the row.
        system: Registry key.
        reason: What happened.
        seed: Seed of the resamples of the force errors, which a failed model still has.
        ensemble: What there is of the ensemble.
        force_errors: Errors on the test part.
        n_resamples: Number of resamples; the registry's if None.
        converged: Whether the reference is.
        synthetic: Whether the reference is of data with known answers.
    """
    number = registry.constants().n_resamples if n_resamples is None else n_resamples
    metrics: dict[str, MetricValue] = {}
    for metric in METRICS:
        spec = registry.metric(metric)
        metrics[metric] = MetricValue(value=spec.penalty, status="failed", note=reason)
    if ensemble is not None and ensemble.time_ordered and ensemble.n_trajectories:
        metrics["replicas_alive"] = MetricValue(value=0.0, note=reason)
    return Scored(
        name=name,
        result=SystemResult(
            system=system,
            status="failed",
            reason=reason,
            metrics=metrics | force_values(force_errors, seed, number),
            gates={"handedness": "n/a"},
            n_trajectories=None if ensemble is None else ensemble.n_trajectories,
            n_frames=None if ensemble is None else ensemble.n_frames,
            dead_fraction=1.0 if ensemble is not None and ensemble.n_frames else None,
            converged=converged,
            synthetic=synthetic,
        ),
        seed=seed,
        n_trajectories=0,
        resamples={},
        force_errors=force_errors,
    )


def missing(system: str, reason: str) -> SystemResult:
    """Return the result of a system that could not be scored here.

    Args:
        system: Registry key.
        reason: What is missing, with the command that gets it.
    """
    return SystemResult(system=system, status="missing", reason=reason)


def _check(
    ensemble: Ensemble,
    bundle: ReferenceBundle,
    reference: ReferenceStatistics | None,
    seed: int,
    n_resamples: int | None,
) -> None:
    if ensemble.system != bundle.system:
        raise ValidationError(
            f"{ensemble.name}: not an ensemble of the reference's system",
            expected=bundle.system,
            found=ensemble.system,
        )
    for index, trajectory in enumerate(ensemble.trajectories):
        if trajectory.shape[1:] != bundle.native.shape:
            raise ValidationError(
                f"{ensemble.name}: trajectory {index} has the wrong shape",
                expected=("n_frames", *bundle.native.shape),
                found=trajectory.shape,
            )
    if reference is not None and (
        reference.bundle.fingerprint != bundle.fingerprint
        or reference.seed != seed
        or n_resamples not in (None, reference.n_resamples)
    ):
        raise ValidationError(
            "the resampled reference is of another bundle, seed or number of resamples",
            expected=f"{bundle.fingerprint}, seed {seed}",
            found=f"{reference.bundle.fingerprint}, seed {reference.seed}",
        )
