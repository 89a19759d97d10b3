"""Building a reference bundle from a store: projection, microstates, weights, grids, starts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate import geometry
from cgbench.evaluate import reference_statistics as statistics
from cgbench.evaluate.frame_choice import gather_frames, seeded_subset
from cgbench.evaluate.free_energy import free_energy_surface
from cgbench.evaluate.native import read_native
from cgbench.evaluate.observables import Observables
from cgbench.evaluate.reference_analysis import (
    AnalysedSystem,
    Analysis,
    Labour,
    ReferenceInput,
    analyse,
)
from cgbench.evaluate.reference_bundle import (
    Basins,
    Interval,
    ReferenceBundle,
    ReferenceMetadata,
)
from cgbench.evaluate.reference_diagnostics import Markovian, diagnose
from cgbench.evaluate.reference_file import bundle_fingerprint
from cgbench.evaluate.reference_settings import settings_fingerprint
from cgbench.evaluate.stored_trajectories import store_trajectories
from cgbench.progress import Progress, silent
from cgbench.store import SystemStore, find_native
from cgbench.store.scheduling import Scheduler


def build_reference(
    store: SystemStore,
    system: AnalysedSystem,
    *,
    seed: int | None = None,
    n_resamples: int | None = None,
    home: Path | None = None,
    scheduler: Scheduler = "threads",
    workers: int = 1,
    progress: Progress = silent,
) -> ReferenceBundle:
    """Build the reference bundle of a store with the registry's settings.

    Frames are read from the store as they are needed and never held all together: memory is about
    150 bytes a frame beside what each worker holds (:func:`cgbench.evaluate.tica.lagged_moments`).

    Args:
        store: The reference simulation; it must say which frame belongs to which trajectory.
        system: The registry's entry of the system, or a description of one's own.
        seed: Seed of clustering and resampling; by default the registry's.
        n_resamples: Bootstrap resamples of the folded population; by default the registry's.
        home: Data home where the native conformer is looked for; by default the usual one.
        scheduler: Who works on the frames: ``threads``, ``processes``, ``tcp://host:port`` of a
            dask scheduler, or a ``distributed.Client``, whose workers must see the store under
            the same name.
        workers: Groups of frames worked on at a time; the bundle does not depend on it.
        progress: Told what is being done.

    Raises:
        ValidationError: The store has no trajectory index or frame interval, is of another
            system, or is too short for the settings.
        UsageError: The native conformer cannot be found.
    """
    _checked_interval(store, system)
    native = read_native(find_native(system.key, home), system.sequence)
    return build_from_store(
        store,
        system,
        native,
        seed=seed,
        n_resamples=n_resamples,
        scheduler=scheduler,
        workers=workers,
        progress=progress,
    )


def build_from_store(
    store: SystemStore,
    system: AnalysedSystem,
    native: NDArray[np.float32],
    *,
    seed: int | None = None,
    n_resamples: int | None = None,
    scheduler: Scheduler = "threads",
    workers: int = 1,
    progress: Progress = silent,
) -> ReferenceBundle:
    """Build the bundle of a store with a native conformer (n_beads, 3) in Å that is at hand.

    Everything else is as in :func:`build_reference`.
    """
    interval = _checked_interval(store, system)
    return build_from_trajectories(
        ReferenceInput(
            system=system,
            trajectories=store_trajectories(store),
            valid=np.asarray(store.valid),
            native=native,
            frame_interval=interval,
            store_fingerprint=store.fingerprint,
            synthetic=store.metadata.synthetic,
        ),
        seed=seed,
        n_resamples=n_resamples,
        scheduler=scheduler,
        workers=workers,
        progress=progress,
    )


def _checked_interval(store: SystemStore, system: AnalysedSystem) -> float:
    """Return the frame interval of a store that a bundle can be built from."""
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
    return metadata.frame_interval


def build_from_trajectories(
    source: ReferenceInput,
    *,
    seed: int | None = None,
    n_resamples: int | None = None,
    scheduler: Scheduler = "threads",
    workers: int = 1,
    progress: Progress = silent,
) -> ReferenceBundle:
    """Build a reference bundle from trajectories; see :func:`build_reference`."""
    constants = registry.constants()
    seed = source.system.analysis.seed if seed is None else seed
    n_resamples = constants.n_resamples if n_resamples is None else n_resamples
    analysis = analyse(source, seed, Labour(scheduler, workers, progress))
    observables, weights = analysis.observables, analysis.weights
    used = weights > 0
    n_states = len(analysis.centres)
    native = (
        analysis.macrostate == analysis.macrostate[observables.microstate[analysis.native_frame]]
    )
    basins = Basins(
        folded_q=constants.folded_q,
        folded_rmsd=statistics.folded_rmsd(observables, weights, native[observables.microstate]),
        unfolded_q=constants.unfolded_q,
    )
    folded = statistics.marked_per_state(
        observables, n_states, basins.folded(observables.q, observables.rmsd)
    )
    tic_mean, tic_sigma = statistics.weighted_moments(observables.tics, weights)
    tics = observables.tics[used]
    edges = statistics.marginal_edges(source.native, tics, tic_sigma)
    grid = statistics.fes_edges(tics)
    del tics
    probability = statistics.fes_histogram(observables.tics, weights, grid)
    start_frames = statistics.choose_start_frames(
        observables.tics, analysis.native_frame, constants.n_start_frames, used
    )
    subset = seeded_subset(np.flatnonzero(observables.alive), constants.subset_frames, seed)
    markovian = Markovian(
        observables=observables,
        weights=weights,
        macrostate=analysis.macrostate,
        basins=basins,
        lag_frames=analysis.model.lag_frames,
        frame_interval=source.frame_interval,
        temperature=source.system.temperature,
        edges=edges,
        fes_edges=grid,
        tic_sigma=tic_sigma,
    )
    bundle = ReferenceBundle(
        metadata=_metadata(source, analysis, markovian, folded, n_resamples, seed, progress),
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
        start_coordinates=gather_frames(source.trajectories, start_frames),
        start_frames=start_frames,
        observables=observables,
        subset_coordinates=gather_frames(source.trajectories, subset),
        subset_frames=subset,
        macrostate_structures=gather_frames(
            source.trajectories, _macrostate_frames(analysis, observables, used)
        ),
    )
    return replace(bundle, fingerprint=bundle_fingerprint(bundle))


def _metadata(
    source: ReferenceInput,
    analysis: Analysis,
    markovian: Markovian,
    folded: NDArray[np.int64],
    n_resamples: int,
    seed: int,
    progress: Progress,
) -> ReferenceMetadata:
    system, interval = source.system, source.frame_interval
    observables, lag = analysis.observables, analysis.model.lag_frames
    constants, basins = registry.constants(), markovian.basins
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
    rows, convergence = diagnose(markovian, n_resamples, seed, progress)
    native_microstate = int(observables.microstate[analysis.native_frame])
    distances = observables.centre_distance[analysis.weights > 0]
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
        timescale_statement=statistics.timescale_statement(rows, lag * interval),
        handedness_bound=statistics.handedness_bound(observables, basins),
        smoothing=constants.fes_smoothing,
        convergence=convergence,
        settings_fingerprint=settings_fingerprint(
            system, source.store_fingerprint, source.native, interval, seed, n_resamples
        ),
        synthetic=source.synthetic,
    )


def _macrostate_frames(
    analysis: Analysis, observables: Observables, used: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return the frame nearest to the probability-weighted centre of each macrostate."""
    owners = analysis.macrostate[observables.microstate]
    found = []
    for index in range(int(analysis.macrostate.max()) + 1):
        inside = np.flatnonzero((owners == index) & used)
        weights = analysis.weights[inside]
        tics = observables.tics[inside].astype(np.float64)
        centre = weights @ tics / weights.sum()
        found.append(inside[((tics - centre) ** 2).sum(axis=1).argmin()])
    return np.asarray(found, dtype=np.int64)


def _slowest(value: float, resamples: NDArray[np.float64]) -> Interval | None:
    known = resamples[np.isfinite(resamples)]
    if not np.isfinite(value) or not len(known):
        return None
    return statistics.interval(float(value), known)
