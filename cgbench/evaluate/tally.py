"""Additive statistics of an ensemble: from them any weighted distribution is one matrix product.

The weight of a frame is the multiplicity of its trajectory times the weight of its microstate.
Frames are therefore counted once by cell (trajectory, microstate) and bin, as sparse matrices
(cells, bins); a distribution for each of several hundred resamples is the product of that matrix
with the weights (cells, resamples). Counts of parts of an ensemble add up to those of the whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.evaluate.observables import Observables
from cgbench.evaluate.sampled import SampledFrames, SearchedFrames
from cgbench.evaluate.statistic import Definition

Float = NDArray[np.float64]

#: Observables whose distribution is kept along one axis.
LINES: Final = ("tic1", "tic2", "rg", "end_to_end", "q", "rmsd")
#: Sums over the frames of a cell: frames, folded frames, and sums of numbers over them, each frame
#: with the weight that it brings with it; ``squared_weight`` is the sum of the squares of these.
#: Native-like frames have the native contacts, whatever their RMSD: those of a mirror image do.
SUMS: Final = (
    "frames",
    "squared_weight",
    "folded",
    "native_like",
    "native_like_handedness",
    "q",
    "rmsd",
)


@dataclass(frozen=True)
class Tally:
    """Counts of an ensemble, or of a part of one.

    Attributes:
        n_states: Number of microstates.
        cells: (n_cells,) int64, trajectory · n_states + microstate, ascending.
        counts: Sparse (n_cells, n_bins) counts of living frames by name: ``LINES``; ``plane``, a
            flattened grid with one more bin for what lies outside; ``macrostate``, with one more
            bin for frames outside all microstates; and statistics of all frames.
        sums: (n_cells,) sums over living frames: ``SUMS``, and for each of ``LINES``
            ``<name>_below`` and ``<name>_above``, how far frames lie outside the edges in all;
            (n_cells, n_columns) sums of statistics of all frames.
        frames: (n_trajectories,) frames, those lost included.
        dead: (n_trajectories,) frames lost.
        least_rmsd: (n_trajectories, n_macrostates) least RMSD of a living frame, else infinite.
        subset: The seeded subset of the living frames, with the statistics measured on it.
        searched: The frames whose superposition was searched, with their scores.
    """

    n_states: int
    cells: NDArray[np.int64]
    counts: dict[str, scipy.sparse.csr_array]
    sums: dict[str, Float]
    frames: Float
    dead: Float
    least_rmsd: Float
    subset: SampledFrames | None = None
    searched: SearchedFrames | None = None

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
            subset=_both(self.subset, other.subset),
            searched=_both(self.searched, other.searched),
        )


def _both(first: Any, second: Any) -> Any:
    return second if first is None else first if second is None else first + second


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
    # Whole numbers below 2²⁴ are exact in single precision.
    exact = len(weights) < 2**24 and bool((weights == 1.0).all())
    values: NDArray[Any] = weights.astype(np.float32 if exact else np.float64)
    place = (cell.astype(np.int32), bins.astype(np.int32))
    shape = (n_cells, n_bins)
    matrix: scipy.sparse.csr_array = scipy.sparse.coo_array((values, place), shape=shape).tocsr()
    matrix.sum_duplicates()
    return matrix


def tally(
    observables: Observables, definition: Definition, weights: NDArray[Any] | None = None
) -> Tally:
    """Count an ensemble.

    Args:
        observables: Per-frame numbers.
        definition: The reference's grids, and what folded means.
        weights: (n,) weight that each frame brings with it; None for one each.

    Raises:
        ValidationError: The weights have the wrong length.
    """
    given = np.ones(observables.n_frames) if weights is None else np.asarray(weights, np.float64)
    if given.shape != (observables.n_frames,):
        raise ValidationError(
            "the weights do not fit the frames", expected=observables.n_frames, found=given.shape
        )
    n_trajectories, n_states = observables.n_trajectories, definition.n_microstates
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
    folded, native_like = definition.basins.folded(q, rmsd), definition.basins.native_like(q)
    sums = {
        "frames": total(np.ones(len(living))),
        "squared_weight": total(weight),
        "folded": total(folded),
        "native_like": total(native_like),
        "native_like_handedness": total(np.where(native_like, observables.handedness[living], 0.0)),
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
        edges = definition.edges[name]
        n_bins = len(edges) - 1
        bins = np.clip(_bins(values, edges), 0, n_bins - 1)
        counts[name] = _sparse(cell, bins, weight, n_cells, n_bins)
        sums[f"{name}_below"] = total(np.maximum(edges[0] - values, 0.0))
        sums[f"{name}_above"] = total(np.maximum(values - edges[-1], 0.0))
    counts["plane"] = _plane(tics, definition.fes_edges, cell, weight, n_cells)
    outside = observables.centre_distance[living] > definition.outside_distance
    macrostate = np.where(outside, definition.n_macrostates, definition.macrostate[state])
    counts["macrostate"] = _sparse(cell, macrostate, weight, n_cells, definition.n_macrostates + 1)
    least = np.full((n_trajectories, definition.n_macrostates), np.inf)
    # A frame without weight is in no macrostate.
    present = weight > 0
    np.minimum.at(
        least,
        (owner[present], definition.macrostate[state[present]]),
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


@dataclass(frozen=True)
class CountedChunk:
    """A statistic of all frames, counted over one chunk of living frames.

    Attributes:
        cells: (n_cells,) int64 cells that occur in the chunk, ascending.
        values: Sparse (n_cells, n_bins) counts, or (n_cells, n_columns) sums.
    """

    cells: NDArray[np.int64]
    values: scipy.sparse.csr_array | Float

    @classmethod
    def of(
        cls, cells: NDArray[np.int64], weight: Float, measured: NDArray[Any], width: int, kind: str
    ) -> "CountedChunk":
        """Count a chunk.

        Args:
            cells: (n,) cell of each frame.
            weight: (n,) weight that each frame brings with it.
            measured: What the statistic returned.
            width: Number of its columns.
            kind: ``bins`` or ``sums``.
        """
        known, cell = np.unique(cells, return_inverse=True)
        if kind == "sums":
            return cls(
                known, np.asarray(placement(cell, len(known)) @ (measured * weight[:, None]))
            )
        present = measured >= 0
        repeated = np.broadcast_to(cell[:, None], measured.shape)[present]
        weights = np.broadcast_to(weight[:, None], measured.shape)[present]
        return cls(known, _sparse(repeated, measured[present], weights, len(known), width))


def joined(chunks: Sequence[CountedChunk], cells: NDArray[np.int64]) -> Any:
    """Return the sum of chunks, (n_cells, …), in their order.

    Args:
        chunks: At least one.
        cells: (n_cells,) all cells, ascending.
    """
    total: Any = 0
    for chunk in chunks:
        total = total + placement(np.searchsorted(cells, chunk.cells), len(cells)) @ chunk.values
    return total
