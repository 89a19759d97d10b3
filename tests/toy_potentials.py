"""Potentials for tests of the simulation: element by element, so they round alike in any batch."""

import torch

from cgbench.models import ChainResult


class SpringChain(torch.nn.Module):
    """U = Σ k (r − 3.8)² over bonds, plus Σ 0.05 (r − 5.5)² over beads two bonds apart.

    Args:
        stiffness: k in kcal/mol/Å².
    """

    def __init__(self, stiffness: float = 40.0, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.stiffness = torch.nn.Parameter(torch.tensor(stiffness, dtype=dtype))
        self.calls = 0

    @torch.no_grad()
    def chains(self, bead_types: torch.Tensor, pos: torch.Tensor) -> ChainResult:
        self.calls += 1
        forces = torch.zeros_like(pos)
        energies = []
        for separation, k, rest in ((1, self.stiffness, 3.8), (2, 0.05, 5.5)):
            difference = pos[:, separation:] - pos[:, :-separation]
            x, y, z = difference.unbind(2)
            length = (x * x + y * y + z * z).sqrt()
            energies.append(k * (length - rest).square().sum(dim=1))
            pull = (2 * k * (length - rest) / length)[:, :, None] * difference
            forces[:, :-separation] += pull
            forces[:, separation:] -= pull
        return ChainResult(network_energy=energies[1], prior_energy=energies[0], forces=forces)


class FlatSprings:
    """The bonds of ``SpringChain`` behind the flat calling convention."""

    def __init__(self, chain: SpringChain, *, column: bool = False) -> None:
        self.chain = chain
        self.column = column

    def __call__(
        self, bead_types: torch.Tensor, pos: torch.Tensor, batch: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        n_systems = int(batch.max()) + 1
        result = self.chain.chains(bead_types, pos.reshape(n_systems, -1, 3))
        energy = result.network_energy + result.prior_energy
        return energy[:, None] if self.column else energy, result.forces.reshape(-1, 3)


class Faulty(torch.nn.Module):
    """Another potential with something done to one of its evaluations.

    Args:
        potential: What is disturbed.
        at: Number of the evaluation, from 0, at and after which ``fault`` is applied.
        fault: Gets the result and returns what is returned instead; may raise or end the process.
    """

    def __init__(self, potential, at: int, fault) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.potential = potential
        self.at = at
        self.fault = fault
        self.count = 0

    def chains(self, bead_types: torch.Tensor, pos: torch.Tensor) -> ChainResult:
        result = self.potential.chains(bead_types, pos)
        self.count += 1
        return self.fault(result) if self.count > self.at else result
