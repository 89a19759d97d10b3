"""Weighted histograms of bond lengths, pair distances and dihedral angles, in one pass."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.progress import Progress, silent

#: Bytes of float64 pair distances that are held at once.
_CHUNK_BYTES: Final = 32 * 1024 * 1024

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Histogram:
    """Weighted histograms of several quantities over the same bins.

    Attributes:
        edges: (n_bins + 1,) bin edges in Å or radians.
        mass: (n_quantities, n_bins) sums of frame weights.
        squared: (n_quantities, n_bins) sums of squared frame weights.
    """

    edges: Floats
    mass: Floats
    squared: Floats

    @property
    def centres(self) -> Floats:
        """Middles of the bins, (n_bins,)."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    def pooled(self, quantities: NDArray[np.bool_] | None = None) -> tuple[Floats, Floats]:
        """Return the mass and the effective count of each bin, summed over quantities.

        The effective count of weighted samples is (Σ w)² / Σ w² (Kish, Survey Sampling, 1965).
        """
        chosen = slice(None) if quantities is None else quantities
        mass, squared = self.mass[chosen].sum(0), self.squared[chosen].sum(0)
        count = np.divide(mass**2, squared, out=np.zeros_like(mass), where=squared > 0)
        return mass, count


@dataclass(frozen=True)
class ChainHistograms:
    """Histograms of a chain: a row for each bond, distant pair and dihedral.

    Attributes:
        bonds: n_beads − 1 rows, in chain order.
        distances: One row for each pair with |i − j| ≥ 2, ordered as :attr:`pairs`.
        dihedrals: n_beads − 3 rows, in chain order, over −π to π.
        pairs: (n_pairs, 2) bead indices of the distances.
    """

    bonds: Histogram
    distances: Histogram
    dihedrals: Histogram
    pairs: NDArray[np.int64]


def check_frames(
    coordinates: NDArray[Any], weights: NDArray[Any], n_beads: int
) -> tuple[NDArray[Any], Floats]:
    """Return coordinates and weights that sum to one, of frames with weight alone.

    Raises:
        ValidationError: Shapes disagree, or a value is not a finite number, or no weight is left.
    """
    if coordinates.ndim != 3 or coordinates.shape[1:] != (n_beads, 3):
        raise ValidationError(
            "coordinates do not fit the bead types",
            expected=f"(n_frames, {n_beads}, 3)",
            found=coordinates.shape,
        )
    if weights.shape != coordinates.shape[:1]:
        raise ValidationError(
            "there is not one weight for each frame",
            expected=coordinates.shape[:1],
            found=weights.shape,
        )
    weights = np.asarray(weights, dtype=np.float64)
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.sum() > 0:
        raise ValidationError(
            "frame weights are not a distribution",
            expected="finite, not negative, not all zero",
        )
    used = weights > 0
    if not used.all():
        coordinates, weights = coordinates[used], weights[used]
    if not np.isfinite(coordinates).all():
        raise ValidationError(
            "coordinates hold values that are not finite numbers",
            fix="leave out the frames that the store marks as not valid",
        )
    return coordinates, weights / weights.sum()


def chain_histograms(
    coordinates: NDArray[Any],
    weights: Floats,
    *,
    bond_edges: Floats,
    distance_edges: Floats,
    dihedral_edges: Floats,
    progress: Progress = silent,
) -> ChainHistograms:
    """Histogram bond lengths, distances of |i − j| ≥ 2 and dihedral angles.

    Args:
        coordinates: (n_frames, n_beads, 3) in Å.
        weights: (n_frames,) frame weights.
        bond_edges: Bin edges in Å, evenly spaced.
        distance_edges: Bin edges in Å, evenly spaced.
        dihedral_edges: Bin edges in radians, evenly spaced.
        progress: Told of the frames done.
    """
    n_frames, n_beads = coordinates.shape[:2]
    first, second = np.triu_indices(n_beads, 2)
    edges = (bond_edges, distance_edges, dihedral_edges)
    rows = (n_beads - 1, len(first), max(n_beads - 3, 0))
    sums = [np.zeros((2, n, len(edge) - 1)) for n, edge in zip(rows, edges, strict=True)]
    chunk = max(1, _CHUNK_BYTES // (8 * 4 * max(1, len(first))))
    for start in range(0, n_frames, chunk):
        block = coordinates[start : start + chunk].astype(np.float64)
        vectors = np.diff(block, axis=1)
        values = (
            np.linalg.norm(vectors, axis=-1),
            np.linalg.norm(block[:, first] - block[:, second], axis=-1),
            dihedral_angles(vectors),
        )
        for total, edge, value in zip(sums, edges, values, strict=True):
            _add(total, value, weights[start : start + chunk], edge)
        progress("histograms for the prior", min(start + chunk, n_frames), n_frames)
    bonds, distances, dihedrals = (
        Histogram(edge, total[0], total[1]) for edge, total in zip(edges, sums, strict=True)
    )
    pairs = np.column_stack([first, second]).astype(np.int64)
    return ChainHistograms(bonds, distances, dihedrals, pairs)


def _add(total: Floats, values: Floats, weights: Floats, edges: Floats) -> None:
    """Add values (n_frames, n_quantities) to the sums of weights and of squared weights."""
    n_quantities, n_bins = total.shape[1:]
    width = (edges[-1] - edges[0]) / n_bins
    bins = np.floor((values - edges[0]) / width).astype(np.int64)
    frame, quantity = np.nonzero((bins >= 0) & (bins < n_bins))
    index = quantity * n_bins + bins[frame, quantity]
    for row, weight in zip(total, (weights, weights**2), strict=True):
        counts = np.bincount(index, weights=weight[frame], minlength=n_quantities * n_bins)
        row += counts.reshape(n_quantities, n_bins)


def dihedral_angles(vectors: Floats) -> Floats:
    """Return the dihedral angles of a chain from its bond vectors.

    Args:
        vectors: (n_frames, n_beads − 1, 3).

    Returns:
        (n_frames, n_beads − 3) radians between −π and π, IUPAC sign.
    """
    before, middle, after = vectors[:, :-2], vectors[:, 1:-1], vectors[:, 2:]
    normal = np.cross(middle, after)
    sine = np.linalg.norm(middle, axis=-1) * (before * normal).sum(-1)
    cosine = (np.cross(before, middle) * normal).sum(-1)
    angles: Floats = np.arctan2(sine, cosine)
    return angles
