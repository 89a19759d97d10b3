"""Models of one sequence, clustered by structural similarity; one of them stands for all.

The number of clusters is a measure of confidence: a sampler that is sure of a structure draws the
same one again and again. Similarity is the TM-score of two models at their best superposition, a
lower bound of the one that a search finds, and for short chains their RMSD. Clusters are those of
average linkage, cut at the registry's threshold.
"""

from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate.alignment_search import tm_scale
from cgbench.evaluate.superposition import rmsd, superpose

Float = NDArray[np.float64]
Measure = Literal["tm_score", "rmsd"]

#: Models that are compared with one another; more would take quadratic time.
LARGEST: Final = 2000


class Clusters(NamedTuple):
    """Clusters of the models of one sequence.

    Attributes:
        measure: What similarity is measured by.
        threshold: Where clusters end, in the measure's unit (Å for the RMSD).
        labels: (n_models,) number of the cluster of each model, largest cluster 0; −1 for models
            that are not finite.
        sizes: (n_clusters,) models in each, largest first.
        representative: The model that is most similar to the others of the largest cluster.
    """

    measure: Measure
    threshold: float
    labels: NDArray[np.int64]
    sizes: tuple[int, ...]
    representative: int

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return len(self.sizes)


def cluster_models(coordinates: NDArray[Any]) -> Clusters:
    """Cluster the models of one sequence by structural similarity.

    Args:
        coordinates: (n_models, n_beads, 3) in Å.

    Raises:
        ValidationError: No model is finite, there are too many, or fewer than three beads.
    """
    models = np.asarray(coordinates, dtype=np.float64)
    if models.ndim != 3 or models.shape[2] != 3 or models.shape[1] < 3:
        raise ValidationError(
            "models of a sequence: wrong shape",
            expected="(n_models, n_beads, 3), three beads or more",
            found=models.shape,
        )
    if len(models) > LARGEST:
        raise ValidationError(
            "models of a sequence: too many to compare with one another",
            expected=f"at most {LARGEST}",
            found=len(models),
        )
    finite = np.flatnonzero(np.isfinite(models).all(axis=(1, 2)))
    if not len(finite):
        raise ValidationError("models of a sequence: none is finite", found=len(models))
    constants = registry.sampler_constants().clustering
    by_score = models.shape[1] >= constants.shortest_chain_of_tm_score
    distances = model_distances(models[finite], by_score=by_score)
    threshold = 1.0 - constants.tm_score if by_score else constants.rmsd
    found = np.zeros(len(finite), dtype=np.int64)
    if len(finite) > 1:
        tree = linkage(squareform(distances, checks=False), method="average")
        found = fcluster(tree, t=threshold, criterion="distance").astype(np.int64) - 1
    counts = np.bincount(found)
    # Largest first; of equal ones the one that begins first, whatever the tree calls it.
    first = [int(np.flatnonzero(found == one)[0]) for one in range(len(counts))]
    order = sorted(range(len(counts)), key=lambda one: (-int(counts[one]), first[one]))
    place = np.empty(len(counts), dtype=np.int64)
    place[order] = np.arange(len(counts))
    labels = np.full(len(models), -1, dtype=np.int64)
    labels[finite] = place[found]
    members = np.flatnonzero(place[found] == 0)
    central = members[int(distances[np.ix_(members, members)].sum(axis=1).argmin())]
    return Clusters(
        measure="tm_score" if by_score else "rmsd",
        threshold=constants.tm_score if by_score else constants.rmsd,
        labels=labels,
        sizes=tuple(int(counts[one]) for one in order),
        representative=int(finite[central]),
    )


def model_distances(models: NDArray[Any], *, by_score: bool) -> Float:
    """Return how far models are from one another, (n, n): 1 − TM-score, or the RMSD in Å.

    Args:
        models: (n, n_beads, 3) in Å, finite.
        by_score: Whether by the TM-score (Zhang and Skolnick, Proteins 57, 702, 2004).
    """
    n = len(models)
    result = np.zeros((n, n))
    for index in range(n - 1):
        others = models[index + 1 :]
        if by_score:
            moved = superpose(others, models[index])
            squared = ((moved - models[index]) ** 2).sum(axis=2)
            scale = tm_scale(models.shape[1])
            row = 1.0 - (1.0 / (1.0 + squared / scale**2)).mean(axis=1)
        else:
            row = rmsd(others, models[index])
        result[index, index + 1 :] = row
    # Beside rounding of the diagonal, which has to be zero.
    symmetric: Float = result + result.T
    return symmetric
