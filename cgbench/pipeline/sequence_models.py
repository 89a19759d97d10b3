"""Models of a sequence against its native structure: clusters, the representative, its accuracy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgbench.evaluate.alignment_search import search_scores
from cgbench.evaluate.superposition import rmsd
from cgbench.results.sequence_models import SequenceModels
from cgbench.samplers import cluster_models


def sequence_models(
    coordinates: NDArray[Any],
    native: NDArray[Any],
    *,
    seconds_per_sample: float | None = None,
    workers: int = 1,
) -> SequenceModels:
    """Cluster models, choose who stands for the largest cluster, compare with the native.

    Args:
        coordinates: (n_models, n_residues, 3) in Å.
        native: (n_residues, 3) in Å.
        seconds_per_sample: Wall time of one model.
        workers: Threads of the search for TM-scores.

    Raises:
        ValidationError: No model is finite, or shapes disagree.
    """
    clusters = cluster_models(coordinates)
    kept = np.flatnonzero(clusters.labels >= 0)
    models = np.asarray(coordinates)[kept]
    place = int(np.flatnonzero(kept == clusters.representative)[0])
    distances = rmsd(models, native)
    scores = search_scores(models, native, workers=workers).tm
    return SequenceModels(
        n_models=len(coordinates),
        n_finite=len(kept),
        n_clusters=clusters.n_clusters,
        measure=clusters.measure,
        threshold=clusters.threshold,
        largest=clusters.sizes[0] / len(kept),
        representative_rmsd=float(distances[place]),
        representative_tm=None if scores is None else float(scores[place]),
        mean_rmsd=float(distances.mean()),
        mean_tm=None if scores is None else float(scores.mean()),
        best_tm=None if scores is None else float(scores.max()),
        seconds_per_sample=seconds_per_sample,
    )
