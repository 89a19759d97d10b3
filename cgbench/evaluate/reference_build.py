"""Building a reference bundle from a store: projection, microstates, weights, grids, starts."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate import geometry
from cgbench.evaluate import reference_statistics as statistics
from cgbench.evaluate.free_energy import free_energy_surface
from cgbench.evaluate.msm import (
    assign,
)
from cgbench.evaluate.native import read_native
from cgbench.evaluate.reference_analysis import Analysis, ReferenceInput, analyse
from cgbench.evaluate.reference_bundle import (
    Basins,
    Interval,
    ReferenceBundle,
    ReferenceMetadata,
)
from cgbench.evaluate.reference_file import bundle_fingerprint
from cgbench.evaluate.stored_trajectories import store_trajectories
from cgbench.evaluate.tica import FrameSequence
from cgbench.progress import Progress, silent
from cgbench.store import SystemStore, find_native


def build_reference(
    store: SystemStore,
    system: registry.System,
    *,
    seed: int | None = None,
    n_resamples: int | None = None,
    home: Path | None = None,
    progress: Progress = silent,
) -> ReferenceBundle:
    """Build the reference bundle of a store with the registry's settings.

    Args:
        store: The reference simulation; it must say which frame belongs to which trajectory.
        system: The registry's entry of the system.
        seed: Seed of clustering and resampling; by default the registry's.
        n_resamples: Bootstrap resamples of the folded population; by default the registry's.
        home: Data home where the native conformer is looked for; by default the usual one.
        progress: Told what is being done.

    Raises:
        ValidationError: The store has no trajectory index or frame interval, is of another
            system, or is too short for the settings.
        UsageError: The native conformer cannot be found.
    """
    metadata = store.metadata
    if metadata.sequence != system.sequence:
        raise ValidationError(
            f"{store.path}: not the sequence of {system.key}",
            expected=system.sequence,
            found=metadata.sequence,
        )
    if not metadata.trajectories_known or metadata.frame_interval is None:
        raise ValidationError(
            f"{store.path}: a reference bundle needs trajectories with a known frame interval",
            found="frames without trajectory index"
            if not metadata.trajectories_known
            else "no frame interval",
            fix="preprocess the system again with its trajectory lengths and frame interval",
        )
    return build_from_trajectories(
        ReferenceInput(
            system=system,
            trajectories=store_trajectories(store),
            valid=np.asarray(store.valid),
            native=read_native(find_native(system.key, home), system.sequence),
            frame_interval=metadata.frame_interval,
            store_fingerprint=store.fingerprint,
        ),
        seed=seed,
        n_resamples=n_resamples,
        progress=progress,
    )


def build_from_trajectories(
    source: ReferenceInput,
    *,
    seed: int | None = None,
    n_resamples: int | None = None,
    progress: Progress = silent,
) -> ReferenceBundle:
    """Build a reference bundle from trajectories; see :func:`build_reference`."""
    constants = registry.constants()
    seed = source.system.analysis.seed if seed is None else seed
    n_resamples = constants.n_resamples if n_resamples is None else n_resamples
    analysis = analyse(source, seed, progress)
    observables, weights = analysis.observables, analysis.weights
    used = weights > 0
    n_states = len(analysis.centres)
    folded = statistics.marked_per_state(observables, n_states, observables.q >= constants.folded_q)
    tic_mean = weights @ observables.tics
    tic_sigma = np.sqrt(weights @ (observables.tics - tic_mean) ** 2)
    edges = statistics.marginal_edges(source.native, observables.tics[used], tic_sigma)
    grid = statistics.fes_edges(observables.tics[used])
    probability = statistics.fes_histogram(observables.tics, weights, grid)
    start_frames = statistics.choose_start_frames(
        observables.tics, analysis.native_frame, constants.n_start_frames, used
    )
    bundle = ReferenceBundle(
        metadata=_metadata(source, analysis, folded, n_resamples, seed, progress),
        fingerprint="",
        native=source.native,
        tica=analysis.tica,
        centres=analysis.centres,
        macrostate=analysis.macrostate,
        folded_microstate=folded.sum(axis=0) * 2 > analysis.counts.populations.sum(axis=0),
        stationary=analysis.state_weights.stationary,
        native_tics=analysis.tica.transform(geometry.pair_distances(source.native[None]))[0],
        native_dihedrals=analysis.native_dihedrals,
        tic_mean=tic_mean,
        tic_sigma=tic_sigma,
        fes_edges=grid,
        fes_probability=probability,
        fes=free_energy_surface(
            probability, grid, constants.fes_smoothing * tic_sigma[:2], source.system.temperature
        ),
        edges=edges,
        histograms=statistics.weighted_histograms(observables, weights, edges),
        start_coordinates=_frames(source.trajectories, start_frames),
        start_frames=start_frames,
        observables=observables,
    )
    return replace(bundle, fingerprint=bundle_fingerprint(bundle))


def _metadata(
    source: ReferenceInput,
    analysis: Analysis,
    folded: NDArray[np.int64],
    n_resamples: int,
    seed: int,
    progress: Progress,
) -> ReferenceMetadata:
    system, interval = source.system, source.frame_interval
    observables, lag = analysis.observables, analysis.model.lag_frames
    constants = registry.constants()
    basins = Basins(folded_q=constants.folded_q, unfolded_q=constants.unfolded_q)
    resamples = statistics.bootstrap_population(
        analysis.counts,
        analysis.state_weights,
        folded,
        lag,
        interval,
        system.temperature,
        n_resamples,
        seed,
        progress,
    )
    n_folding, n_unfolding = statistics.count_events(observables, basins)
    rows = statistics.timescale_rows(observables, len(analysis.centres), lag, interval)
    native_microstate = int(observables.microstate[analysis.native_frame])
    distances = assign(observables.tics[analysis.weights > 0], analysis.centres)[1]
    return ReferenceMetadata(
        system=system.key,
        sequence=system.sequence,
        store_fingerprint=source.store_fingerprint,
        temperature=system.temperature,
        frame_interval=interval,
        n_frames=observables.n_frames,
        n_trajectories=observables.n_trajectories,
        analysis=system.analysis,
        seed=seed,
        tica_lag_frames=analysis.tica.lag_frames,
        tica_rank=analysis.tica.rank,
        tica_pairs=analysis.tica.n_pairs,
        msm_lag_frames=lag,
        n_microstates=len(analysis.centres),
        n_macrostates=int(analysis.macrostate.max()) + 1,
        macrostates_source="registry"
        if system.analysis.n_macrostates is not None
        else "largest spectral gap",
        native_microstate=native_microstate,
        native_macrostate=int(analysis.macrostate[native_microstate]),
        outside_distance=float(np.percentile(distances, constants.outside_percentile)),
        basins=basins,
        folded_population=statistics.interval(
            float(analysis.state_weights.weight_of_state @ folded.sum(axis=0)),
            resamples.population,
        ),
        n_folding=n_folding,
        n_unfolding=n_unfolding,
        converged=min(n_folding, n_unfolding) >= constants.minimum_events,
        n_resamples=n_resamples,
        n_unreliable_resamples=resamples.n_unreliable,
        fraction_outside=analysis.state_weights.fraction_outside,
        weights_status=analysis.state_weights.status,
        weights_reason=analysis.state_weights.reason,
        slowest_timescale_ps=_slowest(
            float(analysis.model.timescales(interval, 1)[0]), resamples.slowest_timescale
        ),
        timescales=rows,
        timescale_statement=statistics.timescale_statement(rows),
        handedness_bound=statistics.handedness_bound(
            observables, analysis.native_dihedrals, basins
        ),
        smoothing=constants.fes_smoothing,
    )


def _slowest(value: float, resamples: NDArray[np.float64]) -> Interval | None:
    known = resamples[np.isfinite(resamples)]
    if not np.isfinite(value) or not len(known):
        return None
    return statistics.interval(float(value), known)


def _frames(
    trajectories: Sequence[FrameSequence], frames: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return single frames by their flat index, (n, n_beads, 3)."""
    starts = np.cumsum([0, *(len(trajectory) for trajectory in trajectories)])
    owners = np.searchsorted(starts, frames, side="right") - 1
    chosen = []
    for owner, frame in zip(owners, frames - starts[owners], strict=True):
        chosen.append(trajectories[owner][slice(int(frame), int(frame) + 1)][0])
    return np.asarray(chosen, dtype=np.float32)
