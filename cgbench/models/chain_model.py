"""What takes a graph network's place in a potential: other models with forces in closed form."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from cgbench.config import Frozen


class ChainModel(nn.Module, ABC):
    """A model of whole chains whose energies and forces are written out, not differentiated.

    A subclass keeps its numbers in single or double precision as parameters or buffers, so that
    it moves between precisions and devices as modules do, and is stored in ``model.pt`` under its
    ``kind``.
    """

    kind: ClassVar[str]

    @property
    @abstractmethod
    def settings(self) -> Frozen:
        """Everything about the model that is no weight."""

    @property
    @abstractmethod
    def cutoffs(self) -> tuple[float, ...]:
        """Distances in Å at which an interaction starts or ends."""

    @abstractmethod
    def check_types(self, bead_types: Tensor, name: str) -> None:
        """Check that the model has an energy for a bead of each of these types.

        Args:
            bead_types: Any number of bead types, int64.
            name: What errors call the model.

        Raises:
            ValidationError: It has none for some.
        """

    @abstractmethod
    def energy_forces_chains(self, bead_types: Tensor, pos: Tensor) -> tuple[Tensor, Tensor]:
        """Return energies (R,) and forces (R, N, 3) of R copies of one chain.

        Args:
            bead_types: (N,) int64, the same for every replica.
            pos: (R, N, 3) in Å.

        Raises:
            ValidationError: The model has no energy for this chain.
        """

    @property
    def precision(self) -> torch.dtype:
        """Precision of the model's numbers."""
        return self._a_tensor().dtype

    @property
    def n_parameters(self) -> int:
        """Number of fitted numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    def energy_forces(
        self, bead_types: Tensor, pos: Tensor, batch: Tensor, n_systems: int
    ) -> tuple[Tensor, Tensor]:
        """Return energies (n_systems,) and forces (n_beads, 3) of a flat batch.

        Systems of the same sequence are evaluated together; the beads of each are in chain order.

        Args:
            bead_types: (n_beads,) int64.
            pos: (n_beads, 3) in Å.
            batch: (n_beads,) int64, the system of each bead, below ``n_systems``.
            n_systems: Number of systems.
        """
        energies, forces = pos.new_zeros(n_systems), torch.zeros_like(pos)
        for systems, rows in _by_sequence(bead_types, batch, n_systems):
            energy, force = self.energy_forces_chains(bead_types[rows[0]], pos[rows])
            energies[systems] = energy
            forces[rows.reshape(-1)] = force.reshape(-1, 3)
        return energies, forces

    def _a_tensor(self) -> Tensor:
        for tensors in (self.parameters(), self.buffers()):
            for tensor in tensors:
                return tensor
        raise AssertionError(f"{type(self).__name__} holds no numbers")


def state_of(tensor: Tensor) -> tuple[object, ...]:
    """Return what changes when a tensor's numbers, precision or place do."""
    version = 0 if tensor.is_inference() else tensor._version
    return tensor.data_ptr(), version, tensor.dtype, tensor.device


def _by_sequence(
    bead_types: Tensor, batch: Tensor, n_systems: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield systems (n,) of one sequence each time, and the rows (n, length) of their beads."""
    order = torch.argsort(batch, stable=True)
    lengths = torch.bincount(batch, minlength=n_systems)
    starts = lengths.cumsum(0) - lengths
    for length in torch.unique(lengths).tolist():
        if length == 0:
            continue
        systems = (lengths == length).nonzero()[:, 0]
        rows = order[starts[systems][:, None] + torch.arange(length, device=batch.device)]
        sequences, which = torch.unique(bead_types[rows], dim=0, return_inverse=True)
        for index in range(len(sequences)):
            chosen = (which == index).nonzero()[:, 0]
            yield systems[chosen], rows[chosen]
