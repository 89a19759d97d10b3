"""The analysis behind a reference bundle: projection, microstates, weights, macrostates."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.evaluate import geometry
from cgbench.evaluate.grouped import Piece, in_order, pieces_in_groups
from cgbench.evaluate.msm import (
    MarkovModel,
    assign,
    cluster,
    count_metastable,
    fit_markov_model,
    metastable_sets,
)
from cgbench.evaluate.observables import PER_FRAME, Observables, measure, usable_frames
from cgbench.evaluate.statistic import ObservableDefinition
from cgbench.evaluate.tica import FrameSequence, TicaModel, fit_tica
from cgbench.evaluate.weights import (
    StateWeights,
    TransitionCounts,
    count_transitions,
    frame_weights,
    solve_weights,
)
from cgbench.progress import Progress
from cgbench.registry import AnalysisSettings
from cgbench.store.scheduling import Scheduler

#: Least number of frames that are measured as one unit of work.
_GROUP_FRAMES: Final = 65_536
#: As many groups as frames ask for: what a group returns is small.
_MANY_GROUPS: Final = 1_000_000


class AnalysedSystem(Protocol):
    """What a bundle takes from the description of a protein: the registry's, or a user's own."""

    @property
    def key(self) -> str:
        """Name of the system."""

    @property
    def sequence(self) -> str:
        """One letter for each bead."""

    @property
    def temperature(self) -> float:
        """Temperature of the simulation in K."""

    @property
    def analysis(self) -> AnalysisSettings:
        """Constants of the slow coordinates and the Markov state model."""


@dataclass(frozen=True)
class ReferenceInput:
    """What a bundle is built from.

    Attributes:
        system: The protein, with the settings of the analysis.
        trajectories: Coordinates (n_frames_i, n_beads, 3) in Å, one each.
        valid: (n_frames,) frames that passed screening.
        native: (n_beads, 3) native conformer in Å.
        frame_interval: Time between frames in ps.
        store_fingerprint: Where the frames come from.
        synthetic: Whether they are of a model made to have known answers.
    """

    system: AnalysedSystem
    trajectories: Sequence[FrameSequence]
    valid: NDArray[np.bool_]
    native: NDArray[np.float32]
    frame_interval: float
    store_fingerprint: str
    synthetic: bool = False


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


@dataclass(frozen=True)
class DistanceFeatures:
    """Makes the distances of all pairs of beads of frames, (n, n_pairs) float32 in Å.

    Attributes:
        native: (n_beads, 3) conformer that takes the place of frames that cannot be used.
    """

    native: NDArray[np.float32]

    def __call__(self, frames: NDArray[Any]) -> NDArray[np.float32]:
        """Return the distances of frames (n, n_beads, 3)."""
        return geometry.pair_distances(usable_frames(frames, self.native)[0])


@dataclass(frozen=True)
class Labour:
    """Who does the work on the frames, and who is told of it; no result depends on it.

    Attributes:
        scheduler: As :func:`cgbench.store.scheduling.run_units`.
        workers: Groups of frames that are worked on at a time.
        progress: Told what is being done.
    """

    scheduler: Scheduler
    workers: int
    progress: Progress


def analyse(source: ReferenceInput, seed: int, labour: Labour) -> Analysis:
    """Fit the projection, the microstates, the Markov model and its macrostates.

    Args:
        source: Trajectories and settings.
        seed: Seed of the clustering.
        labour: Who does the work.

    Raises:
        ValidationError: The trajectories are too short or too few for the settings.
    """
    settings = source.system.analysis
    tica = _fit_projection(
        source, lag_in_frames(settings.tica_lag_ps, source.frame_interval, "TICA"), labour
    )
    observables, centres = _measure(source, tica, seed, labour)
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


def _fit_projection(source: ReferenceInput, lag_frames: int, labour: Labour) -> TicaModel:
    settings = source.system.analysis
    tica = fit_tica(
        source.trajectories,
        lag_frames,
        settings.tica_dimensions,
        settings.tica_epsilon,
        features=DistanceFeatures(source.native),
        used=list(_valid_parts(source)),
        scheduler=labour.scheduler,
        workers=labour.workers,
        progress=labour.progress,
    )
    return tica.oriented(geometry.pair_distances(source.native[None])[0])


@dataclass(frozen=True)
class _Part:
    """A range of frames of a trajectory, as a trajectory of its own."""

    trajectory: FrameSequence
    piece: Piece

    def __len__(self) -> int:
        return len(self.piece)

    def __getitem__(self, frames: slice, /) -> NDArray[Any]:
        first, last, _ = frames.indices(len(self))
        offset = self.piece.start
        return self.trajectory[offset + first : offset + max(first, last)]


@dataclass(frozen=True)
class _Measurement:
    """Measures the frames of one group."""

    trajectories: Sequence[FrameSequence]
    definition: ObservableDefinition
    groups: Sequence[Sequence[Piece]]

    def __call__(self, group: int) -> tuple[int, Observables]:
        parts = [_Part(self.trajectories[piece.trajectory], piece) for piece in self.groups[group]]
        return group, measure(self.definition, parts, workers=1)


def measure_in_groups(
    definition: ObservableDefinition, trajectories: Sequence[FrameSequence], labour: Labour
) -> Observables:
    """Measure every frame, group by group.

    Args:
        definition: Native conformer, projection and microstates.
        trajectories: Coordinates (n_frames_i, n_beads, 3) in Å, one each.
        labour: Who does the work.

    Returns:
        One entry per frame.

    Raises:
        ValidationError: As :func:`cgbench.evaluate.observables.measure`.
    """
    lengths = [len(trajectory) for trajectory in trajectories]
    total = sum(lengths)
    groups = pieces_in_groups(lengths, _GROUP_FRAMES, _MANY_GROUPS)
    result: dict[str, NDArray[Any]] = {}
    start = 0
    task = _Measurement(trajectories, definition, groups)
    for found in in_order(task, len(groups), labour.scheduler, labour.workers):
        stop = start + found.n_frames
        for name in (*PER_FRAME, "alive"):
            values = getattr(found, name)
            if name not in result:
                result[name] = np.empty((total, *values.shape[1:]), dtype=values.dtype)
            result[name][start:stop] = values
        start = stop
        labour.progress("observables", start, total)
    return Observables(
        trajectory=np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
        n_trajectories=len(lengths),
        **result,
    )


def _measure(
    source: ReferenceInput, tica: TicaModel, seed: int, labour: Labour
) -> tuple[Observables, NDArray[np.float64]]:
    """Return the observables of all frames and the microstates' centres."""
    # Microstates are made from the projections, so there is only one until these are known.
    single = np.zeros((1, tica.dimensions))
    definition = ObservableDefinition(source.native, tica, single)
    measured = measure_in_groups(definition, source.trajectories, labour)
    alive = measured.alive & source.valid
    labour.progress("microstates", 0, 2)
    centres = cluster(measured.tics[alive], source.system.analysis.n_microstates, seed)
    labour.progress("microstates", 1, 2)
    microstate, distances = assign(measured.tics, centres)
    labour.progress("microstates", 2, 2)
    kept = replace(measured, alive=alive, microstate=microstate, centre_distance=distances)
    return kept, centres
