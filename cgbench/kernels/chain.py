"""Energies, forces and steps of replicas of one chain by compiled loops, on one or more threads."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cgbench.kernels.activation import rational
from cgbench.kernels.compiled import aligned_copy
from cgbench.kernels.network import NetworkArrays, Workspace, workspace
from cgbench.kernels.prior import PriorTables
from cgbench.kernels.steps import Replicas, advance_block, part_of

#: Beads of a block: enough for matrix products at full speed, few enough to stay in the cache.
BLOCK_BEADS: Final = 160


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


class Motion(NamedTuple):
    """What moves replicas besides their forces.

    Attributes:
        constants: (3,) of :func:`cgbench.kernels.steps.advance_block`.
        noise: (n, R, N, 3) standard normals of steps.
        within: The first step's place in it.
        prepare: Called with some of the replicas before they move, by the thread that moves them;
            fills their noise.
    """

    constants: NDArray[Any]
    noise: NDArray[Any]
    within: int
    prepare: Callable[[slice], None]


class _Own(NamedTuple):
    """Arrays that one thread works in."""

    work: Workspace | None
    scratch: NDArray[Any]


class ChainKernel:
    """A network, a prior or both for one chain.

    A replica's numbers are bitwise the same alone, in every batch and with any number of threads.
    Threads take block after block of replicas until none is left.

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
        # The calling thread works, too: one less to be woken.
        self._pool = ThreadPoolExecutor(self.n_threads - 1) if self.n_threads > 1 else None
        self._parts: list[slice] = []
        self._owns: list[_Own] = []
        self._n_replicas = -1
        self._still = Motion(
            np.empty(3, self.dtype),
            np.empty((0, 0, n_beads, 3), self.dtype),
            0,
            lambda part: None,
        )

    def __call__(self, positions: NDArray[Any]) -> ChainForces:
        """Return energies and forces of positions (R, n_beads, 3) in Å, contiguous.

        A replica with a position that is not a number has energies and forces that are not.
        """
        n_replicas = len(positions)
        result = ChainForces(np.zeros(n_replicas), np.zeros(n_replicas), np.empty_like(positions))
        replicas = Replicas(
            positions=positions,
            velocities=result.forces,
            forces=result.forces,
            alive=np.empty(n_replicas, np.bool_),
            spread=np.empty(n_replicas, self.dtype),
            network_energy=result.network_energy,
            prior_energy=result.prior_energy,
        )
        self._work_off(0, replicas, self._still)
        return result

    def advance(self, n_steps: int, replicas: Replicas, motion: Motion) -> None:
        """Do steps of replicas; every thread moves its blocks through all of them.

        Args:
            n_steps: Steps to do, at least one and no more than ``motion`` has noise for.
            replicas: Changed in place; contiguous. Energies are those of the last step.
            motion: What moves them besides their forces.
        """
        self._work_off(n_steps, replicas, motion)

    def _work_off(self, n_steps: int, replicas: Replicas, motion: Motion) -> None:
        if len(replicas.alive) != self._n_replicas:
            self._divide(len(replicas.alive))
        waiting = deque(self._parts)

        def work(own: _Own) -> None:
            while True:
                try:
                    part = waiting.popleft()
                except IndexError:
                    return
                motion.prepare(part)
                advance_block(
                    n_steps,
                    part_of(replicas, part),
                    motion.constants,
                    motion.noise,
                    (motion.within, part.start),
                    self._network,
                    self._prior,
                    self._rational,
                    *own,
                )

        jobs = []
        if self._pool is not None:
            jobs = [self._pool.submit(work, own) for own in self._owns[1:]]
        try:
            work(self._owns[0])
        finally:
            # After an interrupt the other threads stop when their blocks are done.
            waiting.clear()
            for job in jobs:
                job.result()

    def _divide(self, n_replicas: int) -> None:
        """Divide replicas into blocks of nearly equal size, as many for each thread."""
        n_blocks = max(1, -(-n_replicas * self.n_beads // BLOCK_BEADS))
        if n_replicas >= self.n_threads:
            n_blocks = -(-n_blocks // self.n_threads) * self.n_threads
        edges = np.linspace(0, n_replicas, min(n_blocks, n_replicas) + 1).round().astype(int)
        self._parts = [slice(int(a), int(b)) for a, b in pairwise(edges)]
        largest = max((part.stop - part.start for part in self._parts), default=0)
        network = self._network
        self._owns = [
            _Own(
                None if network is None else workspace(network, largest),
                np.empty((20, self.n_beads), self.dtype),
            )
            for _ in range(max(1, min(self.n_threads, len(self._parts))))
        ]
        self._n_replicas = n_replicas
