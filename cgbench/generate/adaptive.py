"""Adaptive sampling: where the next trajectories start.

Frames are described by the distances between Cα atoms at least three residues apart, divided
among k-centres (Gonzalez, Theor. Comput. Sci. 38, 293, 1985), and counted; the next trajectories
start from the clusters with the fewest frames (least counts; Bowman, Ensign and Pande, J. Chem.
Theory Comput. 6, 787, 2010).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import ValidationError

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

#: Residues that are nearer along the chain have nearly constant distances.
SEPARATION: Final = 3
#: Frames that centres are looked for among; more are thinned evenly, and all are counted.
_MAXIMUM_FRAMES: Final = 50_000
#: Numbers of a block of distances, about 64 MB.
_BLOCK_NUMBERS: Final = 16_000_000


@dataclass(frozen=True)
class Clusters:
    """Frames divided among k-centres.

    Attributes:
        centres: (n_clusters,) number of the frame that is the centre of each.
        assignment: (n_frames,) cluster of each frame.
    """

    centres: IntArray
    assignment: IntArray

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return len(self.centres)

    def counts(self, counted: NDArray[np.bool_] | None = None) -> IntArray:
        """Return how many frames (n_clusters,) each cluster has.

        Args:
            counted: (n_frames,) which frames count; all by default.
        """
        chosen = self.assignment if counted is None else self.assignment[counted]
        return np.bincount(chosen, minlength=self.n_clusters).astype(np.int64)


def pair_distances(positions: FloatArray) -> FloatArray:
    """Return the distances (n_frames, n_pairs) in Å of beads at least three residues apart.

    Args:
        positions: (n_frames, n_beads, 3), Å.

    Raises:
        ValidationError: The chain is too short to have such a pair.
    """
    n_beads = positions.shape[1]
    first, second = np.triu_indices(n_beads, k=SEPARATION)
    if not len(first):
        raise ValidationError(
            "adaptive sampling: the chain is too short",
            expected=f"at least {SEPARATION + 1} residues",
            found=n_beads,
        )
    distances = np.empty((len(positions), len(first)), dtype=np.float32)
    step = max(1, _BLOCK_NUMBERS // (3 * len(first)))
    for start in range(0, len(positions), step):
        block = positions[start : start + step]
        distances[start : start + step] = np.linalg.norm(block[:, first] - block[:, second], axis=2)
    return distances


def k_centres(features: FloatArray, n_clusters: int, *, seed: int) -> Clusters:
    """Divide frames among centres, each the frame furthest from all centres before it.

    The first centre is random. Frames belong to the nearest centre, the earlier at equal
    distance. Fewer clusters are returned where there are fewer distinct frames.

    Args:
        features: (n_frames, n_features).
        n_clusters: How many, at most.
        seed: Of the first centre.
    """
    n_frames = len(features)
    stride = -(-n_frames // _MAXIMUM_FRAMES)
    candidates = features[::stride]
    generator = np.random.default_rng(np.random.SeedSequence(seed))
    chosen = [int(generator.integers(len(candidates)))]
    nearest = _squares(candidates, candidates[chosen[0]])
    while len(chosen) < n_clusters:
        furthest = int(np.argmax(nearest))
        if nearest[furthest] == 0.0:
            break
        chosen.append(furthest)
        nearest = np.minimum(nearest, _squares(candidates, candidates[furthest]))
    assignment = np.zeros(n_frames, dtype=np.int64)
    best = np.full(n_frames, np.inf, dtype=np.float32)
    for cluster, centre in enumerate(chosen):
        squares = _squares(features, candidates[centre])
        nearer = squares < best
        assignment[nearer] = cluster
        best[nearer] = squares[nearer]
    return Clusters(np.array(chosen, dtype=np.int64) * stride, assignment)


def least_counts(
    clusters: Clusters,
    usable: NDArray[np.bool_],
    n_starts: int,
    *,
    seed: int,
    counted: NDArray[np.bool_] | None = None,
) -> IntArray:
    """Draw frames to start from: one from each cluster, those with the fewest frames first.

    Clusters without a usable frame are passed over; when all have been drawn from, it begins
    anew. Clusters with equal counts come in random order.

    Args:
        clusters: Of all frames.
        usable: (n_frames,) which frames can be started from.
        n_starts: How many to draw.
        seed: Of the order and of the frame within a cluster.
        counted: (n_frames,) which frames count; all by default.

    Returns:
        (n_starts,) numbers of frames.

    Raises:
        ValidationError: No frame is usable.
    """
    if not usable.any():
        raise ValidationError("adaptive sampling: no frame that can be started from")
    generator = np.random.default_rng(np.random.SeedSequence(seed))
    order = np.lexsort((generator.permutation(clusters.n_clusters), clusters.counts(counted)))
    members = [np.flatnonzero(usable & (clusters.assignment == cluster)) for cluster in order]
    members = [frames for frames in members if len(frames)]
    return np.array(
        [generator.choice(members[index % len(members)]) for index in range(n_starts)],
        dtype=np.int64,
    )


def _squares(features: FloatArray, centre: FloatArray) -> FloatArray:
    squares = np.empty(len(features), dtype=np.float32)
    step = max(1, _BLOCK_NUMBERS // features.shape[1])
    for start in range(0, len(features), step):
        difference = features[start : start + step] - centre
        squares[start : start + step] = np.einsum("fd,fd->f", difference, difference)
    return squares
