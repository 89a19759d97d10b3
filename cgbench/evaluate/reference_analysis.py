"""The analysis behind a reference bundle: projection, microstates, weights, macrostates."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate import geometry
from cgbench.evaluate.msm import (
    MarkovModel,
    assign,
    cluster,
    count_metastable,
    fit_markov_model,
    metastable_sets,
)
from cgbench.evaluate.observables import (
    ObservableDefinition,
    Observables,
    chunk_frames,
    measure,
    usable_frames,
)
from cgbench.evaluate.reference_bundle import dihedral_bins, dihedral_centres
from cgbench.evaluate.tica import FrameSequence, TicaModel, fit_tica
from cgbench.evaluate.weights import (
    StateWeights,
    TransitionCounts,
    count_transitions,
    frame_weights,
    solve_weights,
)
from cgbench.progress import Progress


@dataclass(frozen=True)
class ReferenceInput:
    """What a bundle is built from.

    Attributes:
        system: The registry's entry, with the settings of the analysis.
        trajectories: Coordinates (n_frames_i, n_beads, 3) in Å, one each.
        valid: (n_frames,) frames that passed screening.
        native: (n_beads, 3) native conformer in Å.
        frame_interval: Time between frames in ps.
        store_fingerprint: Where the frames come from.
    """

    system: registry.System
    trajectories: Sequence[FrameSequence]
    valid: NDArray[np.bool_]
    native: NDArray[np.float32]
    frame_interval: float
    store_fingerprint: str


@dataclass(frozen=True)
class Analysis:
    """Projection, microstates and weights, from which everything else follows.

    Attributes:
        tica: Projection of the pair distances, native positive.
        observables: Numbers of every frame of the reference.
        centres: (n_microstates, dimensions) centres of the microstates.
        counts: Transition counts at the Markov model's lag.
        state_weights: Weight of a frame by microstate.
        weights: (n_frames,) weight of each frame, summing to one.
        model: Markov model on the largest connected set.
        macrostate: (n_microstates,) macrostate of each microstate.
        native_frame: Flat index of the frame of least deviation from the native conformer.
        native_dihedrals: (n_beads − 3,) of the native conformer in radians.
    """

    tica: TicaModel
    observables: Observables
    centres: NDArray[np.float64]
    counts: TransitionCounts
    state_weights: StateWeights
    weights: NDArray[np.float64]
    model: MarkovModel
    macrostate: NDArray[np.int64]
    native_frame: int
    native_dihedrals: NDArray[np.float32]


def analyse(source: ReferenceInput, seed: int, progress: Progress) -> Analysis:
    """Fit the projection, the microstates, the Markov model and its macrostates.

    Args:
        source: Trajectories and settings.
        seed: Seed of the clustering.
        progress: Told what is being done.

    Raises:
        ValidationError: The trajectories are too short or too few for the settings.
    """
    settings = source.system.analysis
    tica = _fit_projection(
        source, lag_in_frames(settings.tica_lag_ps, source.frame_interval, "TICA"), progress
    )
    observables, centres = _measure(source, tica, seed, progress)
    lag = lag_in_frames(settings.msm_lag_ps, source.frame_interval, "Markov model")
    counts = count_transitions(
        observables.microstate,
        observables.trajectory,
        len(centres),
        observables.n_trajectories,
        lag,
        observables.alive,
    )
    everything = np.ones(counts.n_trajectories)
    model = fit_markov_model(counts.total(everything), everything @ counts.populations, lag)
    state_weights = solve_weights(counts, None, temperature=source.system.temperature)
    weights = frame_weights(
        state_weights, observables.microstate, observables.trajectory, None, observables.alive
    )
    wanted = settings.n_macrostates
    macrostates = metastable_sets(
        model, count_metastable(model.eigenvalues) if wanted is None else wanted
    )
    return Analysis(
        tica=tica,
        observables=observables,
        centres=centres,
        counts=counts,
        state_weights=state_weights,
        weights=weights,
        model=model,
        macrostate=macrostates[assign(centres, centres[model.states])[0]],
        native_frame=int(np.where(weights > 0, observables.rmsd, np.inf).argmin()),
        native_dihedrals=geometry.dihedrals(source.native[None])[0].astype(np.float32),
    )


def lag_in_frames(lag_ps: float, frame_interval: float, name: str) -> int:
    """Return a lag in frames.

    Raises:
        ValidationError: The lag is no whole number of frames.
    """
    frames = round(lag_ps / frame_interval)
    if frames < 1 or abs(frames * frame_interval - lag_ps) > 1e-6 * lag_ps:
        raise ValidationError(
            f"the {name} lag is no whole number of frames",
            expected=f"a multiple of {frame_interval:g} ps",
            found=f"{lag_ps:g} ps",
        )
    return frames


def _valid_parts(source: ReferenceInput) -> Iterator[NDArray[np.bool_]]:
    first = 0
    for trajectory in source.trajectories:
        yield source.valid[first : first + len(trajectory)]
        first += len(trajectory)


def _fit_projection(source: ReferenceInput, lag_frames: int, progress: Progress) -> TicaModel:
    settings = source.system.analysis

    def features(block: NDArray[Any]) -> NDArray[np.float32]:
        return geometry.pair_distances(usable_frames(block, source.native)[0])

    tica = fit_tica(
        source.trajectories,
        lag_frames,
        settings.tica_dimensions,
        settings.tica_epsilon,
        features=features,
        used=list(_valid_parts(source)),
        chunk_frames=max(chunk_frames(len(source.native)), lag_frames),
        progress=progress,
    )
    return tica.oriented(geometry.pair_distances(source.native[None])[0])


def _measure(
    source: ReferenceInput, tica: TicaModel, seed: int, progress: Progress
) -> tuple[Observables, NDArray[np.float64]]:
    """Return the observables of all frames and the microstates' centres."""
    # Microstates are made from the projections, so there is only one until these are known.
    single = np.zeros((1, tica.dimensions))
    definition = ObservableDefinition(source.native, tica, single)
    measured = measure(definition, source.trajectories, progress=progress)
    alive = measured.alive & source.valid
    progress("microstates", 0, 1)
    centres = cluster(measured.tics[alive], source.system.analysis.n_microstates, seed)
    microstate = assign(measured.tics, centres)[0]
    progress("microstates", 1, 1)
    # The bundle keeps dihedrals as bins; it must not depend on whether it was written and read.
    n_bins = registry.constants().dihedral_bins
    dihedrals = dihedral_centres(dihedral_bins(measured.dihedrals, n_bins), n_bins)
    kept = replace(measured, alive=alive, microstate=microstate, dihedrals=dihedrals)
    return kept, centres
