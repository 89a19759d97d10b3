"""Small simulations for tests: potentials, a system, a protocol and what to compare.

The springs are computed element by element, so they round alike in any batch.
"""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from cgbench import registry
from cgbench.models import (
    ChainResult,
    GraphNetwork,
    GraphNetworkSettings,
    NetworkPotential,
    PotentialSpec,
)
from cgbench.priors import BondTerm, DihedralSet, DihedralTerm, PriorParameters
from cgbench.simulation import SystemInput, simulate
from cgbench.store import TrajectorySet, read_trajectories

Fault = Callable[[ChainResult], ChainResult]

KEY = "chignolin-sample"
SEQUENCE = "YYDPETGTWY"
N_BEADS = len(SEQUENCE)
N_FRAMES = 8


def toy_protocol(**changes: object) -> registry.Protocol:
    """Return a protocol of four replicas, eight frames and five steps between frames."""
    values: dict[str, object] = {
        "id": "toy",
        "version": 1,
        "description": "For tests.",
        "n_replicas": 4,
        "timestep": 0.004,
        "friction": 1.0,
        "temperature": 350.0,
        "length": 0.02 * N_FRAMES,
        "output_interval": 0.02,
        "start": "k-centres",
        "drop_fraction": 0.1,
        "bead_mass": 12.0,
        "lengths_per_system": None,
        "model_msm_lag": 0.02,
        "source": "chosen here",
    }
    return registry.Protocol.model_validate({**values, **changes})


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

    def __init__(self, potential: torch.nn.Module, at: int, fault: Fault) -> None:
        super().__init__()
        self.potential = potential
        self.at = at
        self.fault = fault
        self.count = 0

    def chains(self, bead_types: torch.Tensor, pos: torch.Tensor) -> ChainResult:
        result = self.potential.chains(bead_types, pos)
        self.count += 1
        return self.fault(result) if self.count > self.at else result


def toy_system(n_starts: int = 3) -> SystemInput:
    """Return chains of ten beads: helix-like starts with bonds of 3.8 Å, each a little wider."""
    turn = torch.arange(N_BEADS, dtype=torch.float64)
    starts = []
    for index in range(n_starts):
        chain = torch.stack([torch.cos(1.7 * turn), torch.sin(1.7 * turn), 0.5 * turn], dim=1)
        bond = (chain[1] - chain[0]).norm()
        starts.append(chain * 3.8 / bond * (1 + 0.01 * index))
    return SystemInput(
        key=KEY,
        bead_types=torch.tensor(registry.bead_vocabulary().types(SEQUENCE)),
        starts=torch.stack(starts).float(),
        sequence=SEQUENCE,
    )


def toy_run(potential: torch.nn.Module, out: Path, **options: object) -> TrajectorySet:
    """Simulate in float64 and read the frames back."""
    arguments: dict[str, object] = {"seed": 1, "dtype": torch.float64, "model_hash": "toy"}
    protocol = options.pop("protocol", toy_protocol())
    simulate(potential, toy_system(), protocol, out=out, **{**arguments, **options})  # type: ignore[arg-type]
    return read_trajectories(out, KEY)


def assert_same(found: TrajectorySet, expected: TrajectorySet) -> None:
    """Assert that two sets are bitwise the same, NaN energies included."""
    np.testing.assert_array_equal(found.alive_until, expected.alive_until)
    for name in ("coordinates", "network_energy", "prior_energy"):
        for left, right in zip(getattr(found, name), getattr(expected, name), strict=True):
            np.testing.assert_array_equal(left, right)


def toy_network(seed: int = 0) -> NetworkPotential:
    """Return a graph network in float64 and a prior that keeps the chain whole."""
    torch.manual_seed(seed)
    network = GraphNetwork(
        GraphNetworkSettings(embedding_dimension=32, num_filters=32, num_layers=2, num_rbf=10)
    )
    types = registry.bead_vocabulary().types(SEQUENCE)
    prior = PriorParameters(
        bonds={f"{i}-{j}": BondTerm(k=100.0, r0=3.8) for i, j in itertools.pairwise(types)},
        repulsion=dict.fromkeys(types, 60.0),
        dihedrals=(DihedralSet(types=None, terms=(DihedralTerm(n=1, k=0.3, gamma=40.0),)),),
    )
    return NetworkPotential(network.double(), prior, PotentialSpec(name="toy", cutoff=12.0))


def spoil(
    replica: int, value: float, field: str = "forces"
) -> Callable[[ChainResult], ChainResult]:
    """Return a fault that writes a value over a replica's energy, or the force on its last bead."""

    def fault(result: ChainResult) -> ChainResult:
        spoilt = getattr(result, field).clone()
        spoilt[(replica, -1) if field == "forces" else replica] = value
        return result._replace(**{field: spoilt})

    return fault


def interrupt(result: ChainResult) -> ChainResult:
    """A fault that does what Ctrl-C does."""
    raise KeyboardInterrupt
