"""Rows that stand beside every model: what noise, standing still and knowing nothing score."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.evaluate import geometry
from cgbench.evaluate.bootstrap import effective_number, generator
from cgbench.evaluate.display import display
from cgbench.evaluate.distributions import distributions, trajectory_shares
from cgbench.evaluate.ensemble import Ensemble
from cgbench.evaluate.harness import drawn_frames, missing, score
from cgbench.evaluate.metrics import Comparison
from cgbench.evaluate.observables import default_workers
from cgbench.evaluate.plugins import load_plugins
from cgbench.evaluate.reference_bundle import ReferenceBundle
from cgbench.evaluate.resampling import (
    ReferenceStatistics,
    reference_statistics,
    resampled_weights,
)
from cgbench.evaluate.scored import Scored
from cgbench.evaluate.tally import Tally
from cgbench.evaluate.values import (
    bounded,
    force_values,
    gate,
    metric_columns,
    own_values,
    remarks,
)
from cgbench.progress import Progress, silent
from cgbench.results import MetricValue, SystemResult

Float = NDArray[np.float64]

#: Structures of the ideal chain, for each of as many trajectories as there are start frames.
_IDEAL_FRAMES: Final = 200


def md_split_half(
    bundle: ReferenceBundle,
    *,
    seed: int,
    reference: ReferenceStatistics | None = None,
    n_frames: int | None = None,
    n_resamples: int | None = None,
    progress: Progress = silent,
) -> Scored:
    """Score one half of the reference's trajectories against the other: the noise floor.

    Trajectories are divided at random many times, and each half is weighted by a Markov state
    model of its own. Values are means over the divisions, intervals their percentiles. A single
    trajectory cannot be divided: the row is then missing, with the reason.

    Args:
        bundle: The reference.
        seed: Seed of the divisions.
        reference: What :func:`reference_statistics` returned.
        n_frames: Use only as many trajectories of the scored half as give this many frames, to
            compare with a model that has as many; None for all.
        n_resamples: Number of divisions; the registry's if None.
        progress: Told how far it is.
    """
    statistics = reference or reference_statistics(
        bundle, seed=seed, n_resamples=n_resamples, progress=progress
    )
    counted, number = statistics.tally, statistics.n_resamples
    if counted.n_trajectories < 2:
        return Scored(
            name="md_split_half",
            result=missing(
                bundle.system,
                "the reference is a single trajectory and has no halves: nothing is known of its "
                "own noise",
            ),
            seed=seed,
            n_trajectories=0,
            resamples={},
        )
    workers = default_workers()
    halves = _halves(counted.frames, seed, number, n_frames)
    sides, weights = [], []
    for taken, task in zip(halves, ("second halves", "first halves"), strict=True):
        solved = resampled_weights(
            bundle.counts,
            taken,
            bundle.temperature,
            task=task,
            workers=workers,
            progress=progress,
        )
        sides.append(distributions(counted, taken, solved.weight_of_state, workers))
        weights.append(solved)
    comparison = Comparison(sides[1], sides[0], bundle, np.ones(number))
    plugins = load_plugins()
    told = [*plugins.notes, *statistics.notes]
    columns = metric_columns(
        comparison, float(counted.sums["native_like"].sum()), plugins.metrics, told
    )
    own = own_values(statistics.own, plugins.metrics)
    n_eff = _effective(counted, halves[1], weights[1].weight_of_state)
    remarked = remarks(comparison)
    metrics = {
        name: _mean(name, values, own.get(name), n_eff, remarked.get(name))
        for name, values in columns.items()
    }
    scored_frames = round(float((counted.frames @ halves[1]).mean()))
    told += [
        f"Means over {number} random divisions of the reference's trajectories, "
        f"{scored_frames} frames on average in the scored half; intervals are percentiles of "
        "the divisions."
    ]
    unreliable = sum(solved.n_unreliable for solved in weights)
    if unreliable:
        told.append(
            f"In {unreliable} of {2 * number} halves the weights could not be trusted and every "
            "frame counted the same."
        )
    estimate = statistics.weights.estimate
    return Scored(
        name="md_split_half",
        result=SystemResult(
            system=bundle.system,
            status="ok",
            metrics=metrics | force_values(None, seed, number),
            gates={"handedness": gate(float(np.nanmean(columns["handedness"])), bundle)}
            if np.isfinite(columns["handedness"]).any()
            else {"handedness": "n/a"},
            n_trajectories=int(halves[1][:, 0].sum()),
            n_frames=scored_frames,
            dead_fraction=0.0,
            weights_status=estimate.status,
            weights_reason=estimate.reason,
            weights_lag_ps=bundle.metadata.msm_lag_frames * bundle.frame_interval,
            weights_fraction_outside=estimate.fraction_outside,
            converged=bundle.converged,
            notes=tuple(told),
        ),
        seed=seed,
        # Divisions are no resamples of the model's trajectories, so nothing pairs with them.
        n_trajectories=0,
        resamples=columns,
        display=display(comparison, (), drawn_frames(counted, halves[1], sides[1])),
    )


def _halves(
    frames: Float, seed: int, number: int, n_frames: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the multiplicities (n_trajectories, number) of both halves, the scored one last."""
    n = len(frames)
    first, second = np.zeros((n, number)), np.zeros((n, number))
    for index in range(number):
        order = generator(seed, "halves", n, index).permutation(n)
        scored = order[n // 2 :]
        if n_frames is not None:
            before = np.cumsum(frames[scored]) - frames[scored]
            scored = scored[before < n_frames]
        first[order[: n // 2], index] = 1.0
        second[scored, index] = 1.0
    return first, second


def _effective(counted: Tally, taken: Float, weight_of_state: Float) -> float:
    """Return the effective number of trajectories in a half, averaged over the divisions."""
    found = [
        effective_number(trajectory_shares(counted, weights) * multiplicity)
        for multiplicity, weights in zip(taken.T, weight_of_state.T, strict=True)
    ]
    return float(np.mean(found))


def _mean(
    metric: str, values: Float, own: float | None, n_eff: float, remark: str | None
) -> MetricValue:
    known = values[np.isfinite(values)]
    if not len(known):
        return MetricValue(status="n/a", note=remark or "too few frames to tell")
    if np.ptp(known) == 0.0 and len(known) > 1:
        # As a state that no half has a frame in: a constant says nothing of the error.
        return MetricValue(
            value=float(known[0]),
            n_eff=n_eff,
            target=own if own is not None and np.isfinite(own) else None,
            note="no interval: the same in every division",
        )
    tail = 50.0 * (1.0 - registry.constants().confidence_level)
    lo, hi = np.percentile(known, [tail, 100.0 - tail])
    ends = bounded(metric, (float(lo), float(hi)))
    return MetricValue(
        value=float(known.mean()),
        lo=None if ends is None else ends[0],
        hi=None if ends is None else ends[1],
        n_eff=n_eff,
        target=own if own is not None and np.isfinite(own) else None,
    )


def start_frames(
    bundle: ReferenceBundle,
    *,
    seed: int,
    reference: ReferenceStatistics | None = None,
    n_resamples: int | None = None,
    progress: Progress = silent,
) -> Scored:
    """Score the start frames held still: what a simulation that does not move scores.

    Nothing is dropped. Resampled together with models that start from the same frames.
    """
    ensemble = _samples(bundle, "start_frames", bundle.start_coordinates[:, None])
    return _row(ensemble, bundle, seed, reference, n_resamples, progress)


def native_constant(
    bundle: ReferenceBundle,
    *,
    seed: int,
    reference: ReferenceStatistics | None = None,
    n_resamples: int | None = None,
    progress: Progress = silent,
) -> Scored:
    """Score the native conformer as the only structure: what absolute closeness rewards."""
    copies = np.repeat(bundle.native[None, None], len(bundle.start_coordinates), axis=0)
    ensemble = _samples(bundle, "native_constant", copies)
    return _row(ensemble, bundle, seed, reference, n_resamples, progress)


def ideal_chain(
    bundle: ReferenceBundle,
    *,
    seed: int,
    reference: ReferenceStatistics | None = None,
    n_resamples: int | None = None,
    progress: Progress = silent,
) -> Scored:
    """Score a freely jointed chain: connectivity and nothing else.

    Bond lengths are those of the start frames, drawn for each bond by itself; bond directions are
    independent and uniform on the sphere; beads do not exclude one another.
    """
    bonds = geometry.bond_lengths(bundle.start_coordinates)
    n_chains = len(bundle.start_coordinates)
    chains = freely_jointed(bonds, n_chains * _IDEAL_FRAMES, np.random.default_rng(seed))
    trajectories = chains.reshape(n_chains, _IDEAL_FRAMES, *chains.shape[1:])
    ensemble = _samples(bundle, "ideal_chain", trajectories)
    return _row(ensemble, bundle, seed, reference, n_resamples, progress)


def freely_jointed(
    bonds: NDArray[Any], n_frames: int, random: np.random.Generator
) -> NDArray[np.float32]:
    """Return structures of a freely jointed chain, (n_frames, n_beads, 3) float32 in Å.

    Args:
        bonds: (n_examples, n_beads − 1) bond lengths in Å; each bond draws from its own column.
        n_frames: Number of structures.
        random: Source of lengths and directions.
    """
    n_examples, n_bonds = bonds.shape
    drawn = random.integers(n_examples, size=(n_frames, n_bonds))
    lengths = np.take_along_axis(bonds, drawn, axis=0)
    # A normal vector over its length is uniform on the sphere.
    directions = random.standard_normal((n_frames, n_bonds, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    chains = np.zeros((n_frames, n_bonds + 1, 3))
    np.cumsum(lengths[:, :, None] * directions, axis=1, out=chains[:, 1:])
    return chains.astype(np.float32)


def _samples(bundle: ReferenceBundle, name: str, trajectories: NDArray[Any]) -> Ensemble:
    return Ensemble.from_arrays(
        bundle.system, list(trajectories), name=name, n_beads=len(bundle.native)
    )


def _row(
    ensemble: Ensemble,
    bundle: ReferenceBundle,
    seed: int,
    reference: ReferenceStatistics | None,
    n_resamples: int | None,
    progress: Progress,
) -> Scored:
    return score(
        ensemble,
        bundle,
        seed=seed,
        reference=reference,
        n_resamples=n_resamples,
        progress=progress,
    )


#: The rows that need nothing but a reference, by name.
ROWS: Final[dict[str, Callable[..., Scored]]] = {
    "md_split_half": md_split_half,
    "start_frames": start_frames,
    "native_constant": native_constant,
    "ideal_chain": ideal_chain,
}
