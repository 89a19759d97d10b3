"""Structure scores that need a search over superpositions, on the frames that are searched."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cgbench.evaluate.alignment_search import search_scores
from cgbench.evaluate.frame_choice import gather_frames, searched_subset
from cgbench.evaluate.observables import Observables
from cgbench.evaluate.sampled import SampledFrames, SearchedFrames
from cgbench.evaluate.statistic import ObservableDefinition
from cgbench.evaluate.tica import FrameSequence
from cgbench.progress import Progress, silent

Float = NDArray[np.float64]


def search_ensemble(
    definition: ObservableDefinition,
    trajectories: Sequence[FrameSequence],
    observables: Observables,
    weight: Float,
    drawn: NDArray[np.int64],
    *,
    seed: int,
    workers: int = 1,
    progress: Progress = silent,
) -> SearchedFrames:
    """Search the frames of least RMSD of all, and a seeded part of the subset.

    Args:
        definition: The native conformer.
        trajectories: Coordinates of all frames.
        observables: Per-frame numbers.
        weight: (n,) weight that each frame brings with it.
        drawn: (m,) ascending flat indices of the subset.
        seed: Seed of the choice.
        workers: Threads; the result does not depend on their number.
        progress: Told how far it is.
    """
    present = observables.alive & (weight > 0)
    closest, others = searched_subset(observables.rmsd, present, drawn, seed)
    frames = np.concatenate([closest, others])
    return _searched(
        definition,
        gather_frames(trajectories, frames),
        (observables.trajectory[frames], observables.microstate[frames], weight[frames]),
        len(closest),
        "all",
        workers,
        progress,
    )


def search_subset(
    definition: ObservableDefinition,
    subset: SampledFrames,
    rmsd: NDArray[Any],
    *,
    seed: int,
    workers: int = 1,
    progress: Progress = silent,
) -> SearchedFrames:
    """Search the frames of least RMSD of a subset, and a seeded part of its other frames.

    Args:
        definition: The native conformer.
        subset: The subset.
        rmsd: (m,) RMSD of its frames.
        seed: Seed of the choice.
        workers: Threads; the result does not depend on their number.
        progress: Told how far it is.
    """
    closest, others = searched_subset(rmsd, subset.weight > 0, np.arange(len(subset)), seed)
    frames = np.concatenate([closest, others])
    return _searched(
        definition,
        subset.coordinates[frames],
        (subset.trajectory[frames], subset.microstate[frames], subset.weight[frames]),
        len(closest),
        "subset",
        workers,
        progress,
    )


def _searched(
    definition: ObservableDefinition,
    coordinates: NDArray[np.float32],
    labels: tuple[NDArray[np.int32], NDArray[np.int32], Float],
    n_closest: int,
    population: Literal["all", "subset"],
    workers: int,
    progress: Progress,
) -> SearchedFrames:
    found = search_scores(coordinates, definition.native, progress, workers=workers)
    scores = {"gdt_ts": found.gdt_ts, "gdt_ha": found.gdt_ha}
    if found.tm is not None:
        scores["tm"] = found.tm
    return SearchedFrames(
        *labels, np.arange(len(coordinates)) < n_closest, scores=scores, population=population
    )
