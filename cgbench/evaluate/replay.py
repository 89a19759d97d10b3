"""The row of a sampler that learned by heart: training frames played back."""

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cgbench.evaluate.ensemble import Ensemble
from cgbench.evaluate.harness import score
from cgbench.evaluate.novelty import TrainingFrames, novelty
from cgbench.evaluate.reference_bundle import ReferenceBundle, frame_weights
from cgbench.evaluate.resampling import ReferenceStatistics
from cgbench.evaluate.scored import Scored
from cgbench.progress import Progress, silent

NAME: Final = "md_replay"


def md_replay(
    bundle: ReferenceBundle,
    training: TrainingFrames,
    frames: NDArray[np.int64],
    *,
    seed: int,
    reference: ReferenceStatistics | None = None,
    progress: Progress = silent,
) -> Scored:
    """Score training frames as if a sampler had made them.

    They have the equilibrium weights that a Markov state model of all trajectories gives them, and
    are resampled by their own trajectories. Thermodynamic metrics cannot tell them from a good
    sampler; ``novelty`` can.

    Args:
        bundle: The reference.
        training: Frames of the training part.
        frames: (n,) flat indices of those frames in the store that the bundle was built from.
        seed: Seed of the resamples.
        reference: What :func:`reference_statistics` returned.
        progress: Told how far it is.
    """
    weights = frame_weights(bundle)[frames]
    order = np.argsort(training.trajectory, kind="stable")
    _, counts = np.unique(training.trajectory, return_counts=True)
    edges = np.cumsum(counts)[:-1]
    ensemble = Ensemble.from_arrays(
        bundle.system,
        np.split(training.coordinates[order], edges),
        weights=np.split(weights[order], edges),
        name=NAME,
        n_beads=len(bundle.native),
    )
    row = score(ensemble, bundle, seed=seed, reference=reference, progress=progress)
    value = novelty(ensemble, training, seed=seed, progress=progress)
    result = row.result.model_copy(update={"metrics": row.result.metrics | {"novelty": value}})
    return replace(row, result=result)
