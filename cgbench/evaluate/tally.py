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
from cgbench.evaluate.observables import Observables, handedness
from cgbench.evaluate.reference_bundle import N_DIHEDRAL_BINS, ReferenceBundle, dihedral_bins

Float = NDArray[np.float64]

#: Observables whose distribution is kept along one axis.
LINES: Final = ("tic1", "tic2", "rg", "end_to_end", "q", "rmsd")
#: Sums over the frames of a cell: frames, folded frames, and sums of numbers over them.
SUMS: Final = ("frames", "folded", "folded_handedness", "q", "rmsd")
#: Entries of the matrix of weights that are held at once.
_WEIGHT_ENTRIES: Final = 16 * 1024 * 1024


@dataclass(frozen=True)
class Binning:
    """The frozen grids of a reference, and what folded means.

    Attributes:
        edges: (n_bins + 1,) edges for each of ``LINES``.
        fes_edges: (2, n_bins + 1) edges of the plane of the first two slow coordinates.
        macrostate: (n_states,) macrostate of each microstate.
        native_dihedrals: (n_beads − 3,) radians.
        folded_q: Fraction of native contacts from which a frame is folded.
    """

    edges: dict[str, Float]
    fes_edges: Float
    macrostate: NDArray[np.int64]
    native_dihedrals: NDArray[np.float32]
    folded_q: float

    @classmethod
    def of(cls, bundle: ReferenceBundle) -> "Binning":
        """Return the grids of a reference bundle."""
        return cls(
            edges={name: bundle.edges[name] for name in LINES},
            fes_edges=bundle.fes_edges,
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
            (part, _placement(np.searchsorted(cells, part.cells), len(cells)))
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


def _placement(rows: NDArray[Any], n_rows: int) -> scipy.sparse.csr_array:
    """Return the matrix (n_rows, len(rows)) that moves entry i to row ``rows[i]``."""
    columns = np.arange(len(rows))
    return scipy.sparse.csr_array(
        (np.ones(len(rows)), (rows, columns)), shape=(n_rows, len(rows))
    )


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


def tally(
    observables: Observables, binning: Binning, weights: NDArray[Any] | None = None
) -> Tally:
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
        return np.bincount(cell, weights=weight * values, minlength=n_cells)[:n_cells]

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
    counts["dihedral"] = _dihedral(dihedrals, cell, weight, n_cells)
    least = np.full((n_trajectories, binning.n_macrostates), np.inf)
    # A frame without weight is in no macrostate.
    present = weight > 0
    np.minimum.at(
        least, (owner[present], binning.macrostate[state[present]]), rmsd[present].astype(np.float64)
    )
    everyone = np.bincount(observables.trajectory, weights=given, minlength=n_trajectories)
    lost = np.bincount(
        observables.trajectory[~alive], weights=given[~alive], minlength=n_trajectories
    )
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
    dihedrals: NDArray[Any], cell: NDArray[Any], weight: Float, n_cells: int
) -> scipy.sparse.csr_array:
    if dihedrals.shape[1] == 0:
        return scipy.sparse.csr_array((n_cells, 0), dtype=np.float64)
    # One angle at a time bounds the memory for long chains.
    blocks = [
        _sparse(cell, dihedral_bins(column), weight, n_cells, N_DIHEDRAL_BINS)
        for column in dihedrals.T
    ]
    return scipy.sparse.csr_array(scipy.sparse.hstack(blocks, format="csr"))


@dataclass(frozen=True)
class Distributions:
    """Weighted distributions, one column for each resample.

    Attributes:
        masses: (n_bins, n_columns) by the names of ``Tally.counts``; each column of a one-
            dimensional distribution, of the plane, or of one dihedral sums to 1 − ``dead``.
        means: (n_columns,) weighted sums per living frame, by the names of ``Tally.sums``.
        state_mass: (n_states, n_columns) share of the living frames' weight in each microstate.
        state_rmsd: (n_states, n_columns) that share times the mean RMSD in it, Å.
        dead: (n_columns,) share of the frames that were lost.
        native_macrostate: (n_columns,) int64 macrostate with the frame of least RMSD, or −1.
    """

    masses: dict[str, Float]
    means: dict[str, Float]
    state_mass: Float
    state_rmsd: Float
    dead: Float
    native_macrostate: NDArray[np.int64]

    @property
    def n_columns(self) -> int:
        """Number of resamples."""
        return len(self.dead)


def distributions(
    counted: Tally, multiplicities: NDArray[Any], weight_of_state: NDArray[Any]
) -> Distributions:
    """Return the weighted distributions for each of several resamples.

    Args:
        counted: The counts.
        multiplicities: (n_trajectories, n_columns) how often each trajectory is taken.
        weight_of_state: (n_states, n_columns) weight of a frame in each microstate, any scale.

    Returns:
        Distributions whose columns are not-a-number where no frame has weight.

    Raises:
        ValidationError: The shapes disagree.
    """
    taken = np.asarray(multiplicities, dtype=np.float64)
    expected = ((counted.n_trajectories, taken.shape[-1]), (counted.n_states, taken.shape[-1]))
    if (taken.shape, weight_of_state.shape) != expected:
        raise ValidationError(
            "multiplicities and weights do not fit the tally",
            expected=expected,
            found=(taken.shape, weight_of_state.shape),
        )
    step = max(1, _WEIGHT_ENTRIES // max(1, len(counted.cells)))
    parts = [
        _block(counted, taken[:, start : start + step], weight_of_state[:, start : start + step])
        for start in range(0, taken.shape[1], step)
    ]
    return parts[0] if len(parts) == 1 else _joined(parts)


def _block(counted: Tally, taken: Float, weight_of_state: NDArray[Any]) -> Distributions:
    with np.errstate(invalid="ignore", divide="ignore"):
        dead = (counted.dead @ taken) / (counted.frames @ taken)
        weights = taken[counted.trajectory] * weight_of_state[counted.microstate]
        weights /= counted.sums["frames"] @ weights
    masses = {name: matrix.T @ weights * (1.0 - dead) for name, matrix in counted.counts.items()}
    means = {name: values @ weights for name, values in counted.sums.items()}
    to_state = _placement(counted.microstate, counted.n_states)
    return Distributions(
        masses=masses,
        means=means,
        state_mass=to_state @ (counted.sums["frames"][:, None] * weights),
        state_rmsd=to_state @ (counted.sums["rmsd"][:, None] * weights),
        dead=dead,
        native_macrostate=_native_macrostate(counted.least_rmsd, taken),
    )


def _native_macrostate(least_rmsd: Float, taken: Float) -> NDArray[np.int64]:
    found = np.full(taken.shape[1], -1, dtype=np.int64)
    for column, multiplicity in enumerate(taken.T):
        chosen = least_rmsd[multiplicity > 0]
        if chosen.size and np.isfinite(chosen).any():
            found[column] = chosen.min(axis=0).argmin()
    return found


def _joined(parts: Sequence[Distributions]) -> Distributions:
    return Distributions(
        masses={
            name: np.concatenate([part.masses[name] for part in parts], axis=1)
            for name in parts[0].masses
        },
        means={
            name: np.concatenate([part.means[name] for part in parts]) for name in parts[0].means
        },
        state_mass=np.concatenate([part.state_mass for part in parts], axis=1),
        state_rmsd=np.concatenate([part.state_rmsd for part in parts], axis=1),
        dead=np.concatenate([part.dead for part in parts]),
        native_macrostate=np.concatenate([part.native_macrostate for part in parts]),
    )


def trajectory_shares(
    counted: Tally, weight_of_state: NDArray[Any], over: str = "frames"
) -> Float:
    """Return the share of each trajectory in a weighted sum over living frames.

    Args:
        counted: The counts.
        weight_of_state: (n_states,) weight of a frame in each microstate.
        over: A name in ``Tally.sums``: of which frames.

    Returns:
        (n_trajectories,) summing to one; zeros where nothing has weight.
    """
    weights = counted.sums[over] * weight_of_state[counted.microstate]
    shares = np.bincount(counted.trajectory, weights=weights, minlength=counted.n_trajectories)
    total = shares.sum()
    return np.asarray(shares / total if total > 0 else np.zeros(counted.n_trajectories))
