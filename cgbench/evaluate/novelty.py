"""Are samples new? How far they are from what a sampler was trained on, against the data's own."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.evaluate.bootstrap import effective_number, interval, multiplicities
from cgbench.evaluate.ensemble import Ensemble
from cgbench.evaluate.frame_choice import gather_frames
from cgbench.evaluate.geometry import pair_distances
from cgbench.progress import Progress, silent
from cgbench.registry import constants
from cgbench.results import MetricValue

Float = NDArray[np.float64]

#: Frames that are compared, a seeded choice where there are more.
TRAINING_FRAMES: Final = 10_000
SAMPLES: Final = 5_000
_BLOCK: Final = 1000
#: The share of the training frames that are further from the others than the threshold.
TARGET: Final = 0.5


@dataclass(frozen=True, eq=False)
class TrainingFrames:
    """Frames that a sampler may have been trained on.

    Attributes:
        coordinates: (n, n_beads, 3) float32 in Å.
        trajectory: (n,) trajectory of each.
        split: Id of the split.
        n_total: Frames of the part that these were chosen from.
    """

    coordinates: NDArray[np.float32]
    trajectory: NDArray[np.int64]
    split: str
    n_total: int


def nearest_distances(
    samples: NDArray[Any],
    training: NDArray[Any],
    *,
    apart: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    task: str = "nearest training frames",
    progress: Progress = silent,
) -> Float:
    """Return how far each structure is from the nearest of others, (n,), in Å.

    The distance is the root mean square difference of all pairwise bead distances, which needs no
    superposition and is blind to mirror images; gates look at those.

    Args:
        samples: (n, n_beads, 3) in Å.
        training: (m, n_beads, 3) in Å.
        apart: Group of each sample (n,) and training frame (m,); those of one group do not count.
        task: What ``progress`` is told.
        progress: Called with samples done.
    """
    known = pair_distances(training)
    known_squares = np.einsum("ij,ij->i", known, known)
    result = np.empty(len(samples))
    for start in range(0, len(samples), _BLOCK):
        block = pair_distances(samples[start : start + _BLOCK])
        squares = np.einsum("ij,ij->i", block, block)
        between = squares[:, None] + known_squares - 2.0 * (block @ known.T)
        if apart is not None:
            own, others = apart
            between[own[start : start + _BLOCK, None] == others] = np.inf
        # Rounding leaves the difference of equal structures slightly below zero.
        least = np.maximum(between.min(axis=1), 0.0)
        result[start : start + len(block)] = np.sqrt(least / known.shape[1])
        progress(task, start + len(block), len(samples))
    return result


def chosen_frames(n_frames: int, at_most: int, seed: int, stream: int) -> NDArray[np.int64]:
    """Return a seeded choice of frames in ascending order; all where there are no more."""
    if n_frames <= at_most:
        return np.arange(n_frames)
    random = np.random.default_rng(np.random.SeedSequence([seed, stream, n_frames]))
    return np.sort(random.choice(n_frames, at_most, replace=False))


def novelty(
    ensemble: Ensemble, training: TrainingFrames, *, seed: int, progress: Progress = silent
) -> MetricValue:
    """Return the share of samples whose nearest training frame is further than usual.

    Usual is the median distance of a training frame from the nearest one of another trajectory,
    among as many frames. Intervals are those of a bootstrap over the ensemble's trajectories; the
    threshold stays.

    Args:
        ensemble: Samples without time order; lost ones are left out.
        training: Frames of the training part.
        seed: Seed of the samples that are looked at and of the resamples.
        progress: Told how far it is.
    """
    if ensemble.time_ordered:
        return MetricValue(status="n/a", note="for samples without time order")
    if len(np.unique(training.trajectory)) < 2:
        return MetricValue(
            status="n/a", note="the training part has a single trajectory to compare with itself"
        )
    frames, owner, weights = _samples(ensemble, seed)
    if not len(frames) or not weights.sum() > 0.0:
        return MetricValue(status="n/a", note="no sample is intact")
    groups = (training.trajectory, training.trajectory)
    usual = float(
        np.median(
            nearest_distances(
                training.coordinates,
                training.coordinates,
                apart=groups,
                task="training frames among themselves",
                progress=progress,
            )
        )
    )
    new = nearest_distances(frames, training.coordinates, progress=progress) > usual
    taken = multiplicities(seed, ensemble.n_trajectories, constants().n_resamples)
    mass = np.bincount(owner, weights, ensemble.n_trajectories).astype(np.float64)
    share = np.bincount(owner, weights * new, ensemble.n_trajectories)
    total = mass @ taken
    with np.errstate(invalid="ignore", divide="ignore"):
        values = (share @ taken) / total
    found = float(values[0])
    ends = interval(found, values[1:]) if ensemble.n_trajectories > 1 else None
    return MetricValue(
        value=found,
        lo=None if ends is None else float(np.clip(ends[0], 0.0, 1.0)),
        hi=None if ends is None else float(np.clip(ends[1], 0.0, 1.0)),
        n_eff=effective_number(mass),
        target=TARGET,
        note=_note(len(frames), training, usual),
    )


def _note(n_samples: int, training: TrainingFrames, usual: float) -> str:
    return (
        f"{n_samples} samples against {len(training.coordinates)} of {training.n_total} training "
        f"frames of {training.split}; new from {usual:.2f} Å (pair-distance RMS) on. Near 0: "
        "training frames played back; near 1: unlike any of them, right or wrong."
    )


def _samples(ensemble: Ensemble, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64], Float]:
    """Return living samples, the trajectory of each, and their weights."""
    counts = ensemble.alive_until
    ends = np.cumsum(counts)
    chosen = chosen_frames(int(ends[-1]) if len(ends) else 0, SAMPLES, seed, 1)
    owner = np.searchsorted(ends, chosen, side="right")
    if not len(chosen):
        return np.empty((0, 0, 3), dtype=np.float32), owner, np.empty(0)
    # Lost frames follow the living ones of each trajectory.
    place = chosen + (np.cumsum(ensemble.lengths) - ensemble.lengths - ends + counts)[owner]
    weights = np.ones(len(chosen))
    if ensemble.weights is not None:
        weights = np.concatenate(ensemble.weights)[place].astype(np.float64)
    return gather_frames(ensemble.trajectories, place), owner, weights
