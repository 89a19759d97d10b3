"""Energies and forces of a prior: all replicas of a chain in one batch, analytic and vectorised.

What happens where the formulas have no value:

- A bond of no length has no direction: its force is zero, its energy ``k r0²``.
- Repulsion below ``CLASH_DISTANCE`` (0.1 Å) is continued by a parabola of the same value and slope,
  so that energy and force stay finite down to r = 0, where the force is zero.
- A dihedral with two collinear bonds has no angle: its energy is the constant ``Σ k_n``. Close to
  that the force grows with the inverse sine of the bond angle; it is the exact gradient down to a
  sine of about 1e-4 and falls to zero below.
- Positions that are not numbers give energies and forces that are not numbers, in their own
  replica alone.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cgbench.errors import ValidationError
from cgbench.priors import terms
from cgbench.priors.parameters import PriorParameters

#: Matrix elements of a block of replicas: bounds the memory of large batches.
_BLOCK_ELEMENTS: Final = 2**19

#: The terms of a prior, in the order in which their energies are added.
TERMS: Final = ("bonds", "repulsion", "dihedrals")


class Prior(nn.Module):
    """The prior of one chain, evaluated for any number of replicas, data type and device.

    Tables are kept in double precision and rounded to the data type of the positions on first use,
    so that moving a module between precisions loses nothing.

    Args:
        parameters: Tables keyed by bead type.
        bead_types: (n_beads,) bead types from the first to the last residue.

    Raises:
        ValidationError: The parameters lack a pair or bead of the chain.
    """

    def __init__(
        self, parameters: PriorParameters, bead_types: Tensor | NDArray[Any] | Sequence[int]
    ) -> None:
        super().__init__()
        self.prior_parameters = parameters
        self.bead_types = tuple(int(item) for item in bead_types)
        self.n_beads = len(self.bead_types)
        chain = parameters.for_chain(self.bead_types)
        self._bond_k = np.array(chain.bond_k, dtype=np.float64)
        self._bond_r0 = np.array(chain.bond_r0, dtype=np.float64)
        epsilon = np.array(chain.epsilon, dtype=np.float64)
        index = np.arange(self.n_beads)
        distant = np.abs(np.subtract.outer(index, index)) >= parameters.minimum_separation
        self._strength = np.where(distant, 4.0 * np.sqrt(np.outer(epsilon, epsilon)), 0.0)
        largest = max((term.n for item in chain.dihedrals for term in item), default=0)
        self._cosine = np.zeros((largest, len(chain.dihedrals)))
        self._sine = np.zeros((largest, len(chain.dihedrals)))
        for position, item in enumerate(chain.dihedrals):
            for term in item:
                self._cosine[term.n - 1, position] += term.k * np.cos(np.deg2rad(term.gamma))
                self._sine[term.n - 1, position] += term.k * np.sin(np.deg2rad(term.gamma))
        self._constant = sum(term.k for item in chain.dihedrals for term in item)
        self._cache: dict[tuple[torch.dtype, torch.device], terms.Tables] = {}

    def forward(self, pos: Tensor) -> tuple[Tensor, Tensor]:
        """Return energies and forces; see :meth:`energy_forces`."""
        return self.energy_forces(pos)

    def energy(self, pos: Tensor) -> Tensor:
        """Return energies (R,) in kcal/mol of positions (R, n_beads, 3) in Å, differentiable."""
        by_term = self.energies_by_term(pos)
        return by_term["bonds"] + by_term["repulsion"] + by_term["dihedrals"]

    def energies_by_term(self, pos: Tensor) -> dict[str, Tensor]:
        """Return the energies of bonds, repulsion and dihedrals.

        Args:
            pos: (R, n_beads, 3) in Å.

        Returns:
            ``bonds``, ``repulsion`` and ``dihedrals``: (R,) kcal/mol each, differentiable.

        Raises:
            ValidationError: The shape is not that of this chain.
        """
        self._check(pos)
        tables = self.tables(pos.dtype, pos.device)
        blocks = [self._block_energies(block, tables) for block in self._blocks(pos)]
        return {
            name: torch.cat(parts)
            for name, parts in zip(TERMS, zip(*blocks, strict=True), strict=True)
        }

    def energy_forces(self, pos: Tensor) -> tuple[Tensor, Tensor]:
        """Return energies and forces of all replicas.

        Forces are analytic. Where gradients are recorded and ``pos`` requires one, both results are
        computed by automatic differentiation instead, so that they can be differentiated again.

        Args:
            pos: (R, n_beads, 3) in Å, float32 or float64.

        Returns:
            Energies (R,) in kcal/mol and forces (R, n_beads, 3) in kcal/mol/Å.

        Raises:
            ValidationError: The shape is not that of this chain.
        """
        if torch.is_grad_enabled() and pos.requires_grad:
            energy = self.energy(pos)
            (gradient,) = torch.autograd.grad(energy.sum(), pos, create_graph=True)
            return energy, -gradient
        self._check(pos)
        tables = self.tables(pos.dtype, pos.device)
        with torch.no_grad():
            blocks = [self._block_forces(block, tables) for block in self._blocks(pos)]
        if len(blocks) == 1:
            return blocks[0]
        energies, forces = zip(*blocks, strict=True)
        return torch.cat(energies), torch.cat(forces)

    def _check(self, pos: Tensor) -> None:
        if pos.ndim != 3 or pos.shape[1] != self.n_beads or pos.shape[2] != 3:
            raise ValidationError(
                "positions do not fit the chain of this prior",
                expected=f"(n_replicas, {self.n_beads}, 3)",
                found=tuple(pos.shape),
            )
        if not pos.dtype.is_floating_point:
            raise ValidationError(
                "positions are not floating-point numbers",
                expected="float32 or float64",
                found=pos.dtype,
            )

    def _blocks(self, pos: Tensor) -> tuple[Tensor, ...]:
        return torch.split(pos, max(1, _BLOCK_ELEMENTS // max(1, self.n_beads**2)))

    def tables(self, dtype: torch.dtype, device: torch.device) -> terms.Tables:
        """Return the parameters of the chain, rounded to a precision; made once for each."""
        key = (dtype, device)
        if key not in self._cache:

            def tensor(values: NDArray[np.float64]) -> Tensor:
                return torch.as_tensor(values, dtype=dtype, device=device)

            self._cache[key] = terms.Tables(
                bond_k=tensor(self._bond_k),
                bond_r0=tensor(self._bond_r0),
                strength=tensor(self._strength),
                constant=self._constant,
                cosine=tensor(self._cosine),
                sine=tensor(self._sine),
            )
        return self._cache[key]

    def _bonded(
        self, components: Tensor, tables: terms.Tables
    ) -> tuple[terms.Bonds, terms.Dihedrals | None]:
        bonds = terms.bonds(components, tables)
        return bonds, terms.dihedrals(bonds, tables) if self._cosine.size else None

    def _block_energies(self, pos: Tensor, tables: terms.Tables) -> tuple[Tensor, Tensor, Tensor]:
        components = terms.by_component(pos)
        bonds, dihedrals = self._bonded(components, tables)
        angular = torch.zeros_like(bonds.energy) if dihedrals is None else dihedrals.energy
        return bonds.energy, terms.repulsion_energy(components, tables), angular

    def _block_forces(self, pos: Tensor, tables: terms.Tables) -> tuple[Tensor, Tensor]:
        components = terms.by_component(pos)
        bonds, dihedrals = self._bonded(components, tables)
        energy, forces = terms.repulsion(components, tables)
        energy += bonds.energy
        if dihedrals is not None:
            energy += dihedrals.energy
        gradient = terms.bond_vector_gradient(bonds, dihedrals, tables)
        forces[:, :-1] += gradient
        forces[:, 1:] -= gradient
        return energy, forces


@lru_cache(maxsize=64)
def _specialised(parameters: PriorParameters, bead_types: tuple[int, ...]) -> Prior:
    return Prior(parameters, bead_types)


def prior_energy_forces(
    parameters: PriorParameters, bead_types: Tensor, pos: Tensor, batch: Tensor
) -> tuple[Tensor, Tensor]:
    """Return energies and forces of a flat batch of chains, of any lengths and sequences.

    Systems of the same sequence are evaluated together. The beads of a system are in chain order;
    systems need not be in the order of their numbers.

    Args:
        parameters: Tables keyed by bead type.
        bead_types: (n_beads,) int64 over all systems.
        pos: (n_beads, 3) in Å.
        batch: (n_beads,) int64, the system of each bead, counted from zero without gaps.

    Returns:
        Energies (n_systems,) in kcal/mol and forces (n_beads, 3) in kcal/mol/Å.

    Raises:
        ValidationError: Shapes disagree, or the parameters lack a pair or bead of a chain.
    """
    n = len(pos)
    if pos.shape != (n, 3) or bead_types.shape != (n,) or batch.shape != (n,):
        raise ValidationError(
            "a flat batch has arrays of different lengths",
            expected="bead_types (n,), pos (n, 3), batch (n,)",
            found=f"{tuple(bead_types.shape)}, {tuple(pos.shape)}, {tuple(batch.shape)}",
        )
    if n == 0:
        return pos.new_zeros(0), pos.new_zeros(0, 3)
    order = torch.argsort(batch, stable=True)
    lengths = torch.bincount(batch)
    starts = torch.cumsum(lengths, 0) - lengths
    energies = pos.new_zeros(len(lengths))
    forces = torch.zeros_like(pos)
    for length in torch.unique(lengths).tolist():
        if length == 0:
            continue
        systems = torch.nonzero(lengths == length).squeeze(1)
        beads = order[starts[systems][:, None] + torch.arange(length, device=pos.device)]
        sequences, sequence_of = torch.unique(bead_types[beads], dim=0, return_inverse=True)
        for index, sequence in enumerate(sequences.tolist()):
            chosen = torch.nonzero(sequence_of == index).squeeze(1)
            rows = beads[chosen]
            energy, force = _specialised(parameters, tuple(sequence)).energy_forces(pos[rows])
            energies = energies.index_copy(0, systems[chosen], energy)
            forces = forces.index_copy(0, rows.reshape(-1), force.reshape(-1, 3))
    return energies, forces
