"""Additive statistics of an ensemble: from them any weighted distribution is one matrix product.

The weight of a frame is the multiplicity of its trajectory times the weight of its microstate.
Frames are therefore counted once by cell (trajectory, microstate) and bin, as sparse matrices
(cells, bins); a distribution for each of several hundred resamples is the product of that matrix
with the weights (cells, resamples). Counts of parts of an ensemble add up to those of the whole.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.evaluate.observables import Observables, handedness
from cgbench.evaluate.reference_bundle import ReferenceBundle, dihedral_bins

Float = NDArray[np.float64]

#: Observables whose distribution is kept along one axis.
LINES: Final = ("tic1", "tic2", "rg", "end_to_end", "q", "rmsd")
#: Sums over the frames of a cell: frames, folded frames, and sums of numbers over them.
SUMS: Final = ("frames", "folded", "folded_handedness", "q", "rmsd")


@dataclass(frozen=True)
class Binning:
    """The frozen grids of a reference, and what folded means.

    Attributes:
        edges: (n_bins + 1,) edges for each of ``LINES``.
        fes_edges: (2, n_bins + 1) edges of the plane of the first two slow coordinates.
        n_dihedral_bins: Bins of each dihedral angle over the full turn.
        macrostate: (n_states,) macrostate of each microstate.
        native_dihedrals: (n_beads − 3,) radians.
        folded_q: Fraction of native contacts from which a frame is folded.
    """

    edges: dict[str, Float]
    fes_edges: Float
    n_dihedral_bins: int
    macrostate: NDArray[np.int64]
    native_dihedrals: NDArray[np.float32]
    folded_q: float

    @classmethod
    def of(cls, bundle: ReferenceBundle) -> "Binning":
        """Return the grids of a reference bundle."""
        return cls(
            edges={name: bundle.edges[name] for name in LINES},
            fes_edges=bundle.fes_edges,
            n_dihedral_bins=len(bundle.edges["dihedral"]) - 1,
            macrostate=bundle.macrostate,
            native_dihedrals=bundle.native_dihedrals,
            folded_q=bundle.metadata.basins.folded_q,
        )

    @property
    def n_states(self) -> int:
        """Number of microstates."""
        return len(self.macrostate)

    @property
    def n_macrostates(self) -> int:
        """Number of macrostates."""
        return int(self.macrostate.max()) + 1


@dataclass(frozen=True)
class Tally:
    """Counts of an ensemble, or of a part of one.

    Attributes:
        n_states: Number of microstates.
        cells: (n_cells,) int64, trajectory · n_states + microstate, ascending.
        counts: Sparse (n_cells, n_bins) counts of living frames by name: ``LINES``; ``plane``, a
            flattened grid with one more bin for what lies outside; ``dihedral``, one block of bins
            after the other.
        sums: (n_cells,) sums over living frames: ``SUMS``, and for each of ``LINES``
            ``<name>_below`` and ``<name>_above``, how far frames lie outside the edges in all.
        frames: (n_trajectories,) frames, those lost included.
        dead: (n_trajectories,) frames lost.
        least_rmsd: (n_trajectories, n_macrostates) least RMSD of a living frame, else infinite.
    """

    n_states: int
    cells: NDArray[np.int64]
    counts: dict[str, scipy.sparse.csr_array]
    sums: dict[str, Float]
    frames: Float
    dead: Float
    least_rmsd: Float

    @property
    def n_trajectories(self) -> int:
        """Number of trajectories."""
        return len(self.frames)

    @property
    def trajectory(self) -> NDArray[np.int64]:
        """(n_cells,) trajectory of each cell."""
        return self.cells // self.n_states

    @property
    def microstate(self) -> NDArray[np.int64]:
        """(n_cells,) microstate of each cell."""
        return self.cells % self.n_states

    def __add__(self, other: "Tally") -> "Tally":
        """Add the counts of other frames of the same trajectories.

        Raises:
            ValidationError: The two were made for different grids or trajectories.
        """
        mine = {name: matrix.shape[1] for name, matrix in self.counts.items()}
        theirs = {name: matrix.shape[1] for name, matrix in other.counts.items()}
        if (self.n_states, self.least_rmsd.shape, mine) != (
            other.n_states,
            other.least_rmsd.shape,
            theirs,
        ):
            raise ValidationError("tallies of different grids or trajectories cannot be added")
        cells = np.union1d(self.cells, other.cells)
        both = [
            (part, placement(np.searchsorted(cells, part.cells), len(cells)))
            for part in (self, other)
        ]
        return Tally(
            n_states=self.n_states,
            cells=cells,
            counts={
                name: scipy.sparse.csr_array(sum(place @ part.counts[name] for part, place in both))
                for name in self.counts
            },
            sums={
                name: np.asarray(sum(place @ part.sums[name] for part, place in both))
                for name in self.sums
            },
            frames=self.frames + other.frames,
            dead=self.dead + other.dead,
            least_rmsd=np.minimum(self.least_rmsd, other.least_rmsd),
        )


def placement(rows: NDArray[Any], n_rows: int) -> scipy.sparse.csr_array:
    """Return the sparse matrix (n_rows, len(rows)) that adds entry i to row ``rows[i]``."""
    columns = np.arange(len(rows))
    return scipy.sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(n_rows, len(rows)))


def _bins(values: NDArray[Any], edges: Float) -> NDArray[np.int64]:
    """Return the bin of each value, −1 below and n_bins above; the last edge is inside."""
    n_bins = len(edges) - 1
    found = np.searchsorted(edges, values, side="right") - 1
    return np.where(values == edges[-1], n_bins - 1, found)


def _sparse(
    cell: NDArray[Any], bins: NDArray[Any], weights: Float, n_cells: int, n_bins: int
) -> scipy.sparse.csr_array:
    matrix = scipy.sparse.coo_array((weights, (cell, bins)), shape=(n_cells, n_bins)).tocsr()
    matrix.sum_duplicates()
    return matrix


def tally(observables: Observables, binning: Binning, weights: NDArray[Any] | None = None) -> Tally:
    """Count an ensemble.

    Args:
        observables: Per-frame numbers.
        binning: The reference's grids.
        weights: (n,) weight that each frame brings with it; None for one each.

    Raises:
        ValidationError: The weights have the wrong length.
    """
    given = np.ones(observables.n_frames) if weights is None else np.asarray(weights, np.float64)
    if given.shape != (observables.n_frames,):
        raise ValidationError(
            "the weights do not fit the frames", expected=observables.n_frames, found=given.shape
        )
    n_trajectories, n_states = observables.n_trajectories, binning.n_states
    alive = observables.alive
    living, weight = np.flatnonzero(alive), given[alive]
    owner = observables.trajectory[living].astype(np.int64)
    state = observables.microstate[living].astype(np.int64)
    cells, cell = np.unique(owner * n_states + state, return_inverse=True)
    n_cells = len(cells)

    def total(values: NDArray[Any]) -> Float:
        found = np.bincount(cell, weights=weight * values, minlength=n_cells)
        return found.astype(np.float64)

    rmsd, q = observables.rmsd[living], observables.q[living]
    dihedrals = observables.dihedrals[living]
    folded = q >= binning.folded_q
    same = np.zeros(len(living))
    same[folded] = handedness(dihedrals[folded], binning.native_dihedrals)
    sums = {
        "frames": total(np.ones(len(living))),
        "folded": total(folded),
        "folded_handedness": total(same),
        "q": total(q),
        "rmsd": total(rmsd),
    }
    counts = {}
    tics = observables.tics[living]
    lines = {
        "tic1": tics[:, 0],
        "tic2": tics[:, 1],
        "rg": observables.rg[living],
        "end_to_end": observables.end_to_end[living],
        "q": q,
        "rmsd": rmsd,
    }
    for name, values in lines.items():
        edges = binning.edges[name]
        n_bins = len(edges) - 1
        bins = np.clip(_bins(values, edges), 0, n_bins - 1)
        counts[name] = _sparse(cell, bins, weight, n_cells, n_bins)
        sums[f"{name}_below"] = total(np.maximum(edges[0] - values, 0.0))
        sums[f"{name}_above"] = total(np.maximum(values - edges[-1], 0.0))
    counts["plane"] = _plane(tics, binning.fes_edges, cell, weight, n_cells)
    counts["dihedral"] = _dihedral(dihedrals, binning.n_dihedral_bins, cell, weight, n_cells)
    least = np.full((n_trajectories, binning.n_macrostates), np.inf)
    # A frame without weight is in no macrostate.
    present = weight > 0
    np.minimum.at(
        least,
        (owner[present], binning.macrostate[state[present]]),
        rmsd[present].astype(np.float64),
    )

    def frames(chosen: NDArray[Any]) -> Float:
        owners = observables.trajectory[chosen]
        return np.bincount(owners, given[chosen], n_trajectories).astype(np.float64)

    everyone, lost = frames(np.ones_like(alive)), frames(~alive)
    return Tally(n_states, cells, counts, sums, everyone, lost, least)


def _plane(
    tics: NDArray[Any], edges: Float, cell: NDArray[Any], weight: Float, n_cells: int
) -> scipy.sparse.csr_array:
    shape = tuple(len(axis) - 1 for axis in edges)
    rows, columns = (_bins(tics[:, axis], edges[axis]) for axis in range(2))
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    outside = shape[0] * shape[1]
    flat = np.where(inside, rows * shape[1] + columns, outside)
    return _sparse(cell, flat, weight, n_cells, outside + 1)


def _dihedral(
    dihedrals: NDArray[Any], n_bins: int, cell: NDArray[Any], weight: Float, n_cells: int
) -> scipy.sparse.csr_array:
    if dihedrals.shape[1] == 0:
        return scipy.sparse.csr_array((n_cells, 0), dtype=np.float64)
    # One angle at a time bounds the memory for long chains.
    blocks = [
        _sparse(cell, dihedral_bins(column, n_bins), weight, n_cells, n_bins)
        for column in dihedrals.T
    ]
    return scipy.sparse.csr_array(scipy.sparse.hstack(blocks, format="csr"))
