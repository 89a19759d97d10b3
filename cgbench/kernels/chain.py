"""Energies and forces of replicas of one chain by compiled loops, on one or several threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from cgbench.kernels.activation import rational
from cgbench.kernels.compiled import aligned_copy
from cgbench.kernels.network import NetworkArrays, network_block, workspace
from cgbench.kernels.prior import PriorTables, prior_block

#: Beads of a block: enough for matrix products at full speed, few enough to stay in the cache.
BLOCK_BEADS: Final = 320


class ChainForces(NamedTuple):
    """Energies and forces of R replicas.

    Attributes:
        network_energy: (R,) float64 in kcal/mol.
        prior_energy: (R,) float64 in kcal/mol.
        forces: (R, N, 3) kcal/mol/Å, of both together.
    """

    network_energy: NDArray[np.float64]
    prior_energy: NDArray[np.float64]
    forces: NDArray[Any]


class ChainKernel:
    """A network, a prior or both for one chain.

    A replica's numbers depend on the replicas in its block by the rounding of matrix products
    alone. Blocks are the same for the same numbers of replicas and threads.

    Args:
        n_beads: Beads of the chain.
        dtype: Precision of positions and forces.
        network: Weights for this chain, or None.
        prior: Parameters of this chain, or None.
        n_threads: Threads that share the replicas.
    """

    def __init__(
        self,
        n_beads: int,
        dtype: Any,
        network: NetworkArrays | None,
        prior: PriorTables | None,
        n_threads: int = 1,
    ) -> None:
        self.n_beads, self.dtype = n_beads, np.dtype(dtype)
        self.n_threads = max(1, n_threads)
        self._network = None if network is None else NetworkArrays(*map(aligned_copy, network))
        self._prior = prior
        self._rational = rational(self.dtype)
        self._blas = ThreadpoolController().select(user_api="blas")
        # The calling thread works, too: one less to be woken in every step.
        self._pool = ThreadPoolExecutor(self.n_threads - 1) if self.n_threads > 1 else None
        self._shares: list[Callable[[NDArray[Any], ChainForces], None]] = []
        self._n_replicas = -1

    def __call__(self, positions: NDArray[Any]) -> ChainForces:
        """Return energies and forces of positions (R, n_beads, 3) in Å, contiguous.

        A replica with a position that is not a number has energies and forces that are not.
        """
        n_replicas = len(positions)
        if n_replicas != self._n_replicas:
            self._divide(n_replicas)
        result = ChainForces(np.zeros(n_replicas), np.zeros(n_replicas), np.zeros_like(positions))
        # Products inside a block are one thread's work: the blocks are what threads share.
        with self._blas.limit(limits=1):
            jobs = []
            if self._pool is not None:
                jobs = [self._pool.submit(share, positions, result) for share in self._shares[1:]]
            for share in self._shares[:1] if jobs else self._shares:
                share(positions, result)
            for job in jobs:
                job.result()
        broken = ~np.isfinite(positions).all(axis=(1, 2))
        if broken.any():
            for array in result:
                array[broken] = np.nan
        return result

    def _divide(self, n_replicas: int) -> None:
        """Divide replicas into blocks of nearly equal size, and the blocks among threads."""
        n_blocks = max(1, -(-n_replicas * self.n_beads // BLOCK_BEADS))
        if n_replicas >= self.n_threads:
            n_blocks = -(-n_blocks // self.n_threads) * self.n_threads
        edges = np.linspace(0, n_replicas, min(n_blocks, n_replicas) + 1).round().astype(int)
        parts = [slice(int(a), int(b)) for a, b in pairwise(edges)]
        per_thread = max(1, -(-len(parts) // self.n_threads))
        self._shares = [
            self._share(parts[first : first + per_thread])
            for first in range(0, len(parts), per_thread)
        ]
        self._n_replicas = n_replicas

    def _share(self, parts: list[slice]) -> Callable[[NDArray[Any], ChainForces], None]:
        """Return a function that works through blocks one after the other, in its own arrays."""
        network, prior, constants = self._network, self._prior, self._rational
        largest = max(part.stop - part.start for part in parts)
        work = None if network is None else workspace(network, largest)
        scratch = np.empty((20, self.n_beads), self.dtype)

        def evaluate(positions: NDArray[Any], result: ChainForces) -> None:
            for part in parts:
                block, forces = positions[part], result.forces[part]
                if network is not None:
                    flat = forces.reshape(-1, 3)
                    energies = result.network_energy[part]
                    network_block(block, network, constants, work, energies, flat)
                if prior is not None:
                    prior_block(block, prior, scratch, result.prior_energy[part], forces)

        return evaluate
