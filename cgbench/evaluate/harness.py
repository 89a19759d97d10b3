"""The one way from an ensemble and a reference to a scored row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate.bootstrap import effective_number, interval, multiplicities
from cgbench.evaluate.display import display, traces
from cgbench.evaluate.ensemble import Ensemble
from cgbench.evaluate.metrics import COMPARED, FORCE_METRICS, METRICS, Comparison, ForceErrors
from cgbench.evaluate.observables import Observables, observe
from cgbench.evaluate.reference_bundle import ReferenceBundle
from cgbench.evaluate.reference_statistics import MINIMUM_FOLDED_FRAMES
from cgbench.evaluate.resampling import (
    ReferenceStatistics,
    reference_statistics,
    resampled_weights,
)
from cgbench.evaluate.scored import Scored
from cgbench.evaluate.tally import Tally, distributions, tally, trajectory_shares
from cgbench.evaluate.weights import count_transitions
from cgbench.progress import Progress, silent
from cgbench.registry import Protocol
from cgbench.results import GateStatus, MetricValue, SystemResult, WeightsStatus

Float = NDArray[np.float64]

#: The lag of the model's Markov state model is at most this share of the longest trajectory.
_LONGEST_LAG: Final = 0.25


@dataclass(frozen=True)
class _Weighting:
    """How the frames of an ensemble are weighted.

    Attributes:
        status: As in :class:`SystemResult`.
        reason: Why not by a Markov state model.
        lag_ps: Lag of that model.
        fraction_outside: Share of frames outside its connected set.
        weight_of_state: (n_states, n_columns).
        notes: What else to know.
    """

    status: WeightsStatus
    reason: str | None
    lag_ps: float | None
    fraction_outside: float | None
    weight_of_state: Float
    notes: tuple[str, ...] = ()


def score(
    ensemble: Ensemble,
    bundle: ReferenceBundle,
    *,
    protocol: Protocol | None = None,
    force_errors: ForceErrors | None = None,
    seed: int,
    reference: ReferenceStatistics | None = None,
    n_resamples: int | None = None,
    progress: Progress = silent,
) -> Scored:
    """Score an ensemble against a reference.

    A model whose trajectories all broke is a failed row with the registry's penalties, never an
    exception; only input that is not an ensemble of this system raises.

    Args:
        ensemble: What is scored.
        bundle: The reference.
        protocol: How it was simulated; None for samples and for trajectories of other origin,
            which use the system's constants.
        force_errors: Errors on the test part, from wherever forces are predicted.
        seed: Seed of the resamples; the same for all rows that are compared.
        reference: What :func:`reference_statistics` returned, to save doing it for every row.
        n_resamples: Number of resamples; the registry's if None.
        progress: Told how far it is.

    Raises:
        ValidationError: The ensemble is of another system or chain length, or ``reference`` of
            another bundle or seed.
    """
    _check(ensemble, bundle, reference, seed, n_resamples)
    drop = registry.constants().drop_fraction if protocol is None else protocol.drop_fraction
    kept = ensemble.kept(drop)
    statistics = reference or reference_statistics(
        bundle, seed=seed, n_resamples=n_resamples, progress=progress
    )
    if not kept.alive_until.any():
        why = "no frames" if not kept.n_frames else "no frame without a broken or colliding bond"
        return _failed(
            ensemble.name,
            bundle,
            f"{why} after the dropped start" if ensemble.time_ordered else why,
            seed,
            force_errors,
            kept if kept.n_trajectories else None,
        )
    observables = observe(bundle, kept.trajectories, kept.alive_until, progress)
    given = None if kept.weights is None else np.concatenate(kept.weights)
    if given is not None and not given[observables.alive].any():
        why = "no living frame has weight"
        return _failed(ensemble.name, bundle, why, seed, force_errors, kept)
    taken = multiplicities(seed, kept.n_trajectories, statistics.n_resamples)
    weighting = _weighting(kept, observables, bundle, protocol, taken, progress)
    counted = tally(observables, statistics.binning, given)
    lengths = ensemble.lengths - kept.lengths
    return score_tally(
        ensemble.name,
        statistics,
        counted,
        taken,
        weighting,
        time_ordered=kept.time_ordered,
        force_errors=force_errors,
        traced=(observables, lengths, kept.frame_interval) if kept.frame_interval else None,
    )


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


def _weighting(
    ensemble: Ensemble,
    observables: Observables,
    bundle: ReferenceBundle,
    protocol: Protocol | None,
    taken: Float,
    progress: Progress,
) -> _Weighting:
    uniform = np.ones((bundle.n_microstates, taken.shape[1]))
    if ensemble.frame_interval is None:
        if ensemble.weights is not None:
            return _Weighting("given", None, None, None, uniform)
        return _Weighting("uniform", "samples without time order", None, None, uniform)
    settings = bundle.metadata.analysis
    wanted = settings.model_msm_lag_ps if protocol is None else protocol.model_msm_lag
    longest = int(ensemble.alive_until.max())
    most = max(1, int(longest * _LONGEST_LAG))
    lag = min(max(1, round(wanted / ensemble.frame_interval)), most)
    lag_ps = lag * ensemble.frame_interval
    notes = []
    if abs(lag_ps - wanted) > 1e-6 * wanted:
        notes.append(
            f"The lag of the Markov state model is {lag_ps:g} ps instead of {wanted:g} ps: the "
            f"longest trajectory has {longest} frames, {ensemble.frame_interval:g} ps apart."
        )
    counts = count_transitions(
        observables.microstate,
        observables.trajectory,
        bundle.n_microstates,
        observables.n_trajectories,
        lag,
        observables.alive,
    )
    solved = resampled_weights(
        counts, taken, bundle.temperature, task=f"resamples of {ensemble.name}", progress=progress
    )
    if solved.n_unreliable:
        notes.append(
            f"In {solved.n_unreliable} of {taken.shape[1] - 1} resamples the weights could not be "
            "trusted and every frame counted the same."
        )
    estimate = solved.estimate
    return _Weighting(
        estimate.status,
        estimate.reason,
        lag_ps,
        estimate.fraction_outside,
        solved.weight_of_state,
        tuple(notes),
    )


def score_tally(
    name: str,
    statistics: ReferenceStatistics,
    counted: Tally,
    taken: Float,
    weighting: _Weighting,
    *,
    time_ordered: bool,
    force_errors: ForceErrors | None,
    traced: tuple[Observables, NDArray[np.int64], float] | None,
) -> Scored:
    """Score what was counted and weighted; the part of :func:`score` without geometry."""
    bundle = statistics.bundle
    whole = counted.dead == 0
    comparison = Comparison(
        model=distributions(counted, taken, weighting.weight_of_state),
        reference=statistics.distributions,
        bundle=bundle,
        surviving=(whole @ taken) / taken.sum(axis=0),
    )
    own = Comparison(
        statistics.distributions, statistics.distributions, bundle, np.ones(taken.shape[1])
    )
    columns = {metric: function(comparison) for metric, function in METRICS.items()}
    folded = float(counted.sums["folded"].sum())
    if folded < MINIMUM_FOLDED_FRAMES:
        columns["handedness"] = np.full(taken.shape[1], np.nan)
    gate = _gate(columns["handedness"][0], bundle)
    metrics: dict[str, MetricValue] = {}
    for metric, values in columns.items():
        spec = registry.metric(metric)
        if "time_order" in spec.needs and not time_ordered:
            metrics[metric] = MetricValue(status="n/a", note="frames without time order")
            continue
        over = "folded" if metric == "handedness" else "frames"
        beside = spec.direction == "target" or spec.group == "structure"
        metrics[metric] = _value(
            metric,
            values,
            n_eff=_effective(counted, weighting.weight_of_state[:, 0], over),
            target=float(METRICS[metric](own)[0]) if beside else None,
            void=gate == "failed" and metric in COMPARED,
        )
    metrics |= _force_values(force_errors, statistics.seed, taken.shape[1] - 1)
    return Scored(
        name=name,
        result=SystemResult(
            system=bundle.system,
            status="ok",
            metrics=metrics,
            gates={"handedness": gate},
            n_trajectories=counted.n_trajectories,
            n_frames=bundle_frames(counted),
            dead_fraction=float(comparison.model.dead[0]),
            weights_status=weighting.status,
            weights_reason=weighting.reason,
            weights_lag_ps=weighting.lag_ps,
            weights_fraction_outside=weighting.fraction_outside,
            converged=bundle.converged,
            notes=(*weighting.notes, *_notes(counted.n_trajectories, statistics)),
        ),
        seed=statistics.seed,
        n_trajectories=counted.n_trajectories,
        resamples={metric: values[1:] for metric, values in columns.items()},
        force_errors=force_errors,
        display=display(comparison, () if traced is None else traces(*traced)),
    )
