"""One pass over an ensemble: per-frame numbers, counts, the subset, and the searched frames."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.evaluate.ensemble import Ensemble
from cgbench.evaluate.frame_choice import seeded_subset
from cgbench.evaluate.metrics import STATISTICS
from cgbench.evaluate.observables import Chunk, Observables, survey
from cgbench.evaluate.plugins import Plugins, load_plugins, told
from cgbench.evaluate.reference_bundle import ReferenceBundle
from cgbench.evaluate.sampled import SampledFrames, sample
from cgbench.evaluate.searching import search_ensemble
from cgbench.evaluate.statistic import Definition, Frames, Statistic
from cgbench.evaluate.stopwatch import Stopwatch
from cgbench.evaluate.tally import CountedChunk, Tally, joined, tally
from cgbench.progress import Progress, silent

Float = NDArray[np.float64]


@dataclass(frozen=True)
class SurveyedEnsemble:
    """What one pass over an ensemble gave.

    Attributes:
        observables: Per-frame numbers.
        tally: Counts, with the subset and the searched frames.
        plugins: Metrics of other packages.
        notes: What went wrong with these.
    """

    observables: Observables
    tally: Tally
    plugins: Plugins
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Visited:
    """What was taken from one chunk.

    Attributes:
        coordinates: Frames of the subset.
        counted: Statistics of all frames; an exception where one failed.
    """

    coordinates: NDArray[np.float32]
    counted: dict[str, CountedChunk | Exception]


def survey_ensemble(
    ensemble: Ensemble,
    bundle: ReferenceBundle,
    *,
    seed: int,
    workers: int = 1,
    stopwatch: Stopwatch | None = None,
    progress: Progress = silent,
) -> SurveyedEnsemble:
    """Measure and count an ensemble; the result is the same whatever the workers.

    Args:
        ensemble: The ensemble, its start dropped; at least one frame is intact.
        bundle: The reference.
        seed: Seed of the subset.
        workers: Threads.
        stopwatch: Gets the seconds of each stage.
        progress: Told how far it is.
    """
    stopwatch = stopwatch or Stopwatch()
    definition, plugins = bundle.definition, load_plugins()
    statistics = [*STATISTICS.values(), *plugins.statistics.values()]
    everywhere = [one for one in statistics if one.frames == "all"]
    weight = (
        np.ones(ensemble.n_frames) if ensemble.weights is None else np.concatenate(ensemble.weights)
    )
    drawn = seeded_subset(_living(ensemble, weight), registry.constants().subset_frames, seed)
    errors: dict[str, Exception] = {}

    def failed(statistic: Statistic, error: Exception) -> None:
        if statistic.name in STATISTICS:
            raise error
        errors[statistic.name] = error

    def visit(chunk: Chunk, observables: Observables) -> _Visited:
        first, last = np.searchsorted(drawn, [chunk.place.start, chunk.place.stop])
        chosen = drawn[first:last] - chunk.place.start
        counted = _counted(chunk, observables, weight, definition, everywhere)
        return _Visited(chunk.frames.coordinates[chosen], counted)

    with stopwatch.stage("observables"):
        observables, visited = survey(
            definition,
            ensemble.trajectories,
            ensemble.alive_until,
            progress,
            visit=visit,
            workers=workers,
        )
    with stopwatch.stage("counts"):
        whole = tally(observables, definition, weight)
        whole = _with_everywhere(whole, everywhere, [one.counted for one in visited], failed)
    with stopwatch.stage("subset"):
        # A frame that only the measurement found to be damaged.
        intact = observables.alive[drawn]
        frames = drawn[intact]
        subset: SampledFrames = sample(
            np.concatenate([one.coordinates for one in visited])[intact],
            observables.trajectory[frames],
            observables.microstate[frames],
            weight[frames],
            definition,
            [one for one in statistics if one.frames == "subset"],
            workers=workers,
            failed=failed,
        )
    with stopwatch.stage("superpositions"):
        searched = search_ensemble(
            definition,
            ensemble.trajectories,
            observables,
            weight,
            frames,
            seed=seed,
            workers=workers,
            progress=progress,
        )
    notes = tuple(
        f"Statistic {name} of another package failed: {told(error)}."
        for name, error in errors.items()
    )
    whole = replace(whole, subset=subset, searched=searched)
    return SurveyedEnsemble(observables, whole, plugins, (*plugins.notes, *notes))


def _living(ensemble: Ensemble, weight: Float) -> NDArray[np.int64]:
    """Return the flat indices of frames that are alive and have weight."""
    lengths = ensemble.lengths
    within = np.arange(ensemble.n_frames) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.flatnonzero((within < np.repeat(ensemble.alive_until, lengths)) & (weight > 0))


def _counted(
    chunk: Chunk,
    observables: Observables,
    weight: Float,
    definition: Definition,
    statistics: list[Statistic],
) -> dict[str, CountedChunk | Exception]:
    """Count the statistics of all frames over the living frames of a chunk."""
    if not statistics:
        return {}
    frames, place, alive = chunk.frames, chunk.place, chunk.alive
    if not alive.all():
        frames = Frames(frames.coordinates[alive], definition)
    owner = observables.trajectory[place][alive].astype(np.int64)
    cells = owner * definition.n_microstates + observables.microstate[place][alive]
    found: dict[str, CountedChunk | Exception] = {}
    for statistic in statistics:
        try:
            measured = statistic.measured(frames, definition)
        # A statistic may come from another package: whatever it raises is reported.
        except Exception as error:  # noqa: BLE001 - foreign code may raise anything
            found[statistic.name] = error
            continue
        width = statistic.n_columns(definition)
        found[statistic.name] = CountedChunk.of(
            cells, weight[place][alive], measured, width, statistic.kind
        )
    return found


def _with_everywhere(
    whole: Tally,
    statistics: list[Statistic],
    chunks: list[dict[str, CountedChunk | Exception]],
    failed: Callable[[Statistic, Exception], None],
) -> Tally:
    """Add the statistics of all frames to the counts of an ensemble."""
    counts, sums = dict(whole.counts), dict(whole.sums)
    for statistic in statistics:
        parts = [chunk[statistic.name] for chunk in chunks]
        error = next((part for part in parts if isinstance(part, Exception)), None)
        if error is not None:
            failed(statistic, error)
            continue
        counted = [part for part in parts if isinstance(part, CountedChunk)]
        into = counts if statistic.kind == "bins" else sums
        into[statistic.name] = joined(counted, whole.cells)
    return replace(whole, counts=counts, sums=sums)
