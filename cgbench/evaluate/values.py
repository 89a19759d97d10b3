"""From columns of metric values to values with intervals, statuses and notes."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate.bootstrap import effective_number, interval, multiplicities
from cgbench.evaluate.distributions import trajectory_shares
from cgbench.evaluate.metrics import (
    COMPARED,
    FORCE_METRICS,
    METRICS,
    Comparison,
    ForceErrors,
    Metric,
)
from cgbench.evaluate.plugins import told as describe
from cgbench.evaluate.reference_bundle import ReferenceBundle
from cgbench.evaluate.reference_statistics import MINIMUM_FOLDED_FRAMES
from cgbench.evaluate.tally import Tally
from cgbench.results import GateStatus, MetricValue

Float = NDArray[np.float64]


def metric_columns(
    comparison: Comparison,
    n_native_like: float,
    plugins: Mapping[str, Metric] | None = None,
    told: list[str] | None = None,
) -> dict[str, Float]:
    """Return every metric of an ensemble, one value a column.

    Args:
        comparison: Model and reference.
        n_native_like: Native-like frames; below the least number they say nothing about handedness.
        plugins: Metrics of other packages; one that raises is left out.
        told: Gets a note for each that was left out.
    """
    columns = {metric: function(comparison) for metric, function in METRICS.items()}
    if n_native_like < MINIMUM_FOLDED_FRAMES:
        columns["handedness"] = np.full(comparison.model.n_columns, np.nan)
    for name, function in (plugins or {}).items():
        try:
            values = np.asarray(function(comparison), dtype=np.float64)
            if values.shape != (comparison.model.n_columns,):
                raise ValidationError(
                    "the metric has the wrong shape",
                    expected=(comparison.model.n_columns,),
                    found=values.shape,
                )
        # Whatever another package raises is told, not passed on.
        except Exception as error:  # noqa: BLE001 - foreign code may raise anything
            if told is not None:
                told.append(f"Metric {name} of another package failed: {describe(error)}.")
            continue
        columns[name] = values
    return columns


def own_values(
    reference: Comparison, plugins: Mapping[str, Metric] | None = None
) -> dict[str, float]:
    """Return the reference's own values, where they are a target or are shown beside.

    Args:
        reference: The reference compared with itself.
        plugins: Metrics of other packages.
    """
    columns = metric_columns(reference, np.inf, plugins)
    return {
        metric: float(values[0])
        for metric, values in columns.items()
        for spec in (registry.metric(metric),)
        if spec.direction == "target" or spec.group in ("structure", "gate")
    }


def remarks(comparison: Comparison) -> dict[str, str]:
    """Return how values are to be read, by metric."""
    found = {
        name: metric.note(comparison) for name, metric in METRICS.items() if metric.note is not None
    }
    return {name: text for name, text in found.items() if text is not None}


def unseen_states(comparison: Comparison) -> dict[str, str]:
    """Return which state no frame of the model is in, by metric that rests on it."""
    found = {
        name: metric.unseen(comparison)
        for name, metric in METRICS.items()
        if metric.unseen is not None
    }
    return {name: text for name, text in found.items() if text is not None}


def gate(handedness: float, bundle: ReferenceBundle) -> GateStatus:
    """Return whether native-like frames are of the native hand, where that can be told."""
    bound = bundle.metadata.handedness_bound
    if bound is None or not np.isfinite(handedness):
        return "n/a"
    return "passed" if handedness >= bound else "failed"


def metric_values(
    columns: dict[str, Float],
    own: dict[str, float],
    effective: dict[str, float],
    remarked: dict[str, str] | None = None,
    unseen: dict[str, str] | None = None,
    *,
    time_ordered: bool,
    gate_status: GateStatus,
    single: bool,
    plugins: Mapping[str, Metric] | None = None,
) -> dict[str, MetricValue]:
    """Return values with intervals.

    Args:
        columns: By metric, the estimate first and then the resamples.
        own: The reference's own values.
        effective: Effective number of trajectories: of all frames, and of
            ``native_like`` ones.
        remarked: How values are to be read, where there is nothing more pressing to say.
        unseen: Which state no frame is in: such values have no interval.
        time_ordered: Whether frames follow one another in time.
        gate_status: A failed gate makes every metric that compares distributions void.
        single: A single trajectory cannot be resampled: no intervals.
        plugins: Metrics of other packages.
    """
    result = {}
    remarked, unseen, plugins = remarked or {}, unseen or {}, plugins or {}
    for metric, values in columns.items():
        if "time_order" in registry.metric(metric).needs and not time_ordered:
            result[metric] = MetricValue(status="n/a", note="frames without time order")
            continue
        value = float(values[0])
        if not np.isfinite(value):
            result[metric] = MetricValue(
                status="n/a",
                target=_finite(own.get(metric)),
                note=unseen.get(metric) or remarked.get(metric, "too few frames to tell"),
            )
            continue
        compared = metric in COMPARED or (metric in plugins and plugins[metric].compared)
        void = gate_status == "failed" and compared
        # What no frame was in, no resample has a frame in either: that is no interval. Nor is one
        # of a share that all trajectories have whole, or not at all.
        why = "a single trajectory cannot be resampled" if single else unseen.get(metric)
        if why is None and np.all(values[1:] == value):
            why = "the same in every resample"
        found = bounded(metric, interval(value, values[1:])) if why is None else None
        result[metric] = MetricValue(
            value=value,
            lo=None if found is None else found[0],
            hi=None if found is None else found[1],
            n_eff=effective["native_like" if metric == "handedness" else "frames"],
            target=_finite(own.get(metric)),
            status="void" if void else "ok",
            note="void: native-like frames are not of the native hand"
            if void
            else _note(why, unseen.get(metric), remarked.get(metric)),
        )
    return result


def _note(why: str | None, unseen: str | None, remark: str | None) -> str | None:
    """Return why there is no interval, and how the value is to be read."""
    told = [] if why is None else [f"no interval: {why}"]
    told += [text for text in (unseen, remark) if text is not None and text != why]
    return "; ".join(told) or None


def bounded(metric: str, found: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return an interval within the range of a metric: few are negative, some end at one."""
    if found is None:
        return None
    spec = registry.metric(metric)
    # Free energies of folding, and what another package computes, may have any sign.
    if ":" in metric or (spec.direction == "target" and spec.unit != "1"):
        return found
    # Shares and divergences have the unit 1 and lie between 0 and 1; all others have no upper end.
    top = 1.0 if spec.unit == "1" else np.inf
    return float(np.clip(found[0], 0.0, top)), float(np.clip(found[1], 0.0, top))


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def effective_numbers(counted: Tally, weight_of_state: Float) -> dict[str, float]:
    """Return the effective number of trajectories behind all and behind native-like frames.

    Args:
        counted: The counts; a trajectory's lost frames are part of its share.
        weight_of_state: (n_states,) weight of a frame in each microstate.
    """
    total = counted.frames.sum()
    lost = counted.dead / total if total > 0 else counted.dead
    alive = trajectory_shares(counted, weight_of_state) * (1.0 - lost.sum())
    return {
        "frames": effective_number(alive + lost),
        "native_like": effective_number(trajectory_shares(counted, weight_of_state, "native_like")),
    }


def effective_frames(counted: Tally, weight_of_state: Float) -> float:
    """Return how many frames of equal weight are as uneven as these; see `effective_number`.

    It says what the weights cost, not how much frames that follow one another have in common.

    Args:
        counted: The counts.
        weight_of_state: (n_states,) weight of a frame in each microstate.
    """
    weights = weight_of_state[counted.microstate]
    squares = float(counted.sums["squared_weight"] @ weights**2)
    return float((counted.sums["frames"] @ weights) ** 2 / squares) if squares > 0 else 0.0


def force_values(errors: ForceErrors | None, seed: int, n_resamples: int) -> dict[str, MetricValue]:
    """Return the force metrics, resampled over test trajectories.

    Args:
        errors: The sums, or None.
        seed: Seed of the resamples.
        n_resamples: Their number.
    """
    if errors is None or not errors.n_trajectories:
        none = MetricValue(status="n/a", note="no forces were compared")
        return dict.fromkeys(FORCE_METRICS, none)
    taken = multiplicities(seed, errors.n_trajectories, n_resamples, "forces")
    n_eff = effective_number(errors.count.astype(np.float64))
    result = {}
    for metric, function in FORCE_METRICS.items():
        values = function(errors, taken)
        value = float(values[0])
        if not np.isfinite(value):
            result[metric] = MetricValue(status="failed", note="forces that are not finite")
            continue
        found = interval(value, values[1:]) if errors.n_trajectories > 1 else None
        found = bounded(metric, found)
        result[metric] = MetricValue(
            value=value,
            lo=None if found is None else found[0],
            hi=None if found is None else found[1],
            n_eff=n_eff,
            note=f"force map {errors.force_map}",
        )
    return result
