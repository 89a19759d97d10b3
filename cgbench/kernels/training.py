"""Force losses of batches of systems and their gradients, on one or several threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cgbench.kernels.activation import rational
from cgbench.kernels.compiled import aligned, aligned_copy
from cgbench.kernels.products import packed
from cgbench.kernels.training_arrays import (
    Matrices,
    TrainingWorkspace,
    Weights,
    training_workspace,
)
from cgbench.kernels.training_block import training_block

#: Beads of a block: enough for matrix products at full speed, few enough to stay in the cache.
BLOCK_BEADS: Final = 320


class LossAndGradient(NamedTuple):
    """What a batch gives.

    Attributes:
        squares: Sum of squared differences of the forces, (kcal/mol/Å)².
        forces: (n_beads, 3) kcal/mol/Å.
        gradient: Gradient of the loss by the weights, or None.
    """

    squares: float
    forces: NDArray[Any]
    gradient: Weights | None


class _Share(NamedTuple):
    """Consecutive blocks of a batch, and what one thread needs for them."""

    blocks: list[tuple[slice, NDArray[np.int64]]]
    workspace: TrainingWorkspace


class TrainingKernel:
    """Loss and gradient of batches whose systems have beads one after the other.

    Blocks and threads depend on the sizes of the systems and the number of threads alone, and sums
    are taken in their order: the same batch gives the same bits.

    Args:
        cutoffs: Lower and upper cutoff in Å.
        n_threads: Threads that share the systems.
    """

    def __init__(self, cutoffs: tuple[float, float], n_threads: int = 1) -> None:
        self.cutoffs = cutoffs
        self.n_threads = max(1, n_threads)
        self._pool = ThreadPoolExecutor(self.n_threads) if self.n_threads > 1 else None
        self._division: tuple[Any, list[_Share]] | None = None

    def __call__(
        self,
        positions: NDArray[Any],
        kinds: NDArray[np.int64],
        edges: NDArray[np.int64],
        target: NDArray[Any],
        weights: Weights,
        *,
        gradient: bool,
    ) -> LossAndGradient:
        """Return the forces of a batch and, if asked for, the gradient of their mean square error.

        The gradient is that of the mean over components. Forces of a system with a position that is
        not finite are not numbers, and the loss and the gradient then are not either.

        Args:
            positions: (n_beads, 3) in Å, contiguous, as all arrays.
            kinds: (n_beads,) rows of ``weights.embedded``.
            edges: (n_systems + 1,) first bead of each system, and the end.
            target: (n_beads, 3) forces to match, kcal/mol/Å.
            weights: Weights of the network.
            gradient: Whether the gradient is wanted.
        """
        dtype = positions.dtype
        n_intervals = weights.tables.shape[1] - 3
        lower, upper = self.cutoffs
        cutoffs = np.array([lower, upper, n_intervals / (upper - lower)], dtype)
        weights = Weights(*map(aligned_copy, weights))
        arrays = (weights, *_matrices(weights), rational(dtype))
        forces = np.empty_like(positions)
        scale = dtype.type(2.0 / max(1, positions.size))

        def work(share: _Share) -> tuple[float, Weights]:
            total = Weights(*map(_zeros_like, weights))
            squares = 0.0
            for rows, starts in share.blocks:
                squares += training_block(
                    positions[rows], kinds[rows], starts, cutoffs, arrays, share.workspace,
                    target[rows], scale, forces[rows], total, gradient,
                )  # fmt: skip
            return squares, total

        found = self._map(work, self._shares(edges, weights))
        squares = float(sum(part[0] for part in found))
        sums = found[0][1] if found else Weights(*map(_zeros_like, weights))
        for _, part in found[1:]:
            for total, other in zip(sums, part, strict=True):
                total += other
        if not np.isfinite(positions).all():
            broken = ~np.isfinite(positions).all(axis=1)
            for first, end in pairwise(edges):
                if broken[first:end].any():
                    forces[first:end] = np.nan
            squares = float("nan")
        if not np.isfinite(squares):
            for total in sums:
                total.fill(np.nan)
        return LossAndGradient(squares, forces, sums if gradient else None)

    def _map(
        self, work: Callable[[_Share], tuple[float, Weights]], shares: list[_Share]
    ) -> list[tuple[float, Weights]]:
        if self._pool is None:
            return [work(share) for share in shares]
        return list(self._pool.map(work, shares))

    def _shares(self, edges: NDArray[np.int64], weights: Weights) -> list[_Share]:
        """Return the blocks of each thread; kept for the next batch of the same sizes."""
        key = (edges.tobytes(), weights.embedded.dtype, weights.receive.shape, weights.hidden.shape)
        if self._division is None or self._division[0] != key:
            blocks = _blocks(edges)
            n_shares = min(self.n_threads, len(blocks))
            cuts = np.linspace(0, len(blocks), n_shares + 1).round().astype(int)
            shares = []
            for first, end in pairwise(cuts):
                mine = blocks[first:end]
                n_rows = max(int(starts[-1]) for _, starts in mine)
                n_pairs = max(_most_pairs(starts) for _, starts in mine)
                shares.append(_Share(mine, training_workspace(weights, n_rows, n_pairs)))
            self._division = (key, shares)
        return self._division[1]


def _blocks(edges: NDArray[np.int64]) -> list[tuple[slice, NDArray[np.int64]]]:
    """Divide a batch into whole systems of about as many beads; starts count from each block's."""
    n_blocks = max(1, round(int(edges[-1]) / BLOCK_BEADS))
    wanted = np.linspace(0, int(edges[-1]), n_blocks + 1)
    cuts = np.unique(np.searchsorted(edges, wanted))
    return [
        (slice(int(edges[first]), int(edges[end])), edges[first : end + 1] - edges[first])
        for first, end in pairwise(cuts)
        if edges[end] > edges[first]
    ]


def _most_pairs(starts: NDArray[np.int64]) -> int:
    sizes = np.diff(starts)
    return int((sizes * (sizes - 1) // 2).sum())


def _zeros_like(array: NDArray[Any]) -> NDArray[Any]:
    zeros = aligned(array.shape, array.dtype)
    zeros.fill(0)
    return zeros


def _matrices(weights: Weights) -> tuple[Matrices, Matrices]:
    """Return the matrices of the way forward and of the way back."""
    matrices = (weights.send, weights.receive, weights.update, weights.hidden)
    forward = Matrices(*(packed(np.swapaxes(matrix, -1, -2)) for matrix in matrices))
    return forward, Matrices(*map(packed, matrices))
