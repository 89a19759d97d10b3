"""Chains, weights and priors of ``benchmarks/simulation.py``."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
import torch
from numpy.typing import NDArray

from cgbench import registry
from cgbench.models import NetworkPotential, PotentialSpec
from cgbench.models.torchmdnet_weights import from_torchmdnet
from cgbench.priors import read_published_prior
from cgbench.simulation import SystemInput
from cgbench.units import ANGSTROM_PER_NANOMETRE

sys.path.insert(0, str(Path(__file__).parent / "peers"))
from graph_network_torchmdnet import draw_weights

Array = NDArray[Any]
CASES = ("chignolin", "proteing", "lambda")
CUTOFF = 12.0
#: Of the last layer, so that forces of the network are small beside those of the prior.
SCALE = 0.02


@dataclass(frozen=True)
class Case:
    """A chain with its start structure, and the files that the peer reads."""

    name: str
    sequence: str
    native: Array  # (n_beads, 3) float32, Å
    topology: Path
    force_field: Path

    @property
    def n_beads(self) -> int:
        """Number of beads."""
        return len(self.sequence)

    def pairs_within_cutoff(self, positions: torch.Tensor) -> float:
        """Return the share of the pairs that are within the cutoff."""
        n_beads = positions.shape[1]
        i, j = torch.triu_indices(n_beads, n_beads, 1)
        return float(((positions[:, i] - positions[:, j]).norm(dim=2) < CUTOFF).double().mean())

    def potential(self) -> NetworkPotential:
        """Return the network with the published prior, in single precision."""
        network = from_torchmdnet(
            {name: torch.tensor(array, dtype=torch.float32) for name, array in weights().items()}
        )
        spec = PotentialSpec(name="reference architecture", cutoff=CUTOFF)
        return NetworkPotential(network, read_published_prior(self.force_field), spec)

    def system(self) -> SystemInput:
        """Return the chain as a simulation takes it; every replica starts from one structure."""
        types = registry.bead_vocabulary().types(self.sequence)
        return SystemInput(
            key=self.name,
            bead_types=torch.tensor(types),
            starts=torch.tensor(self.native)[None],
            sequence=self.sequence,
        )


def weights() -> dict[str, Array]:
    """Return the weights of both programs under TorchMD-Net's names."""
    found: dict[str, Array] = draw_weights()
    for kind in ("weight", "bias"):
        found[f"output_model.output_network.layers.2.{kind}"] *= SCALE
    return found


def read_case(folder: Path, name: str) -> Case:
    """Return a protein with its native structure."""
    system = registry.system(name)
    native = folder / "native" / f"{system.published_key}_{system.native.pdb_id}_ca.pdb"
    return Case(
        name=name,
        sequence=system.sequence,
        native=(mdtraj.load(native).xyz[0] * ANGSTROM_PER_NANOMETRE).astype(np.float32),
        topology=folder / "topology" / f"{system.published_key}.psf",
        force_field=folder / "prior_force_field.yaml",
    )


def extended(case: Case, n_beads: int) -> Case:
    """Return the first beads of a chain, or the chain with compact further ones behind it."""
    generator = np.random.default_rng(n_beads)
    native, sequence = case.native[:n_beads].astype(np.float64), case.sequence
    while len(native) < n_beads:
        steps = generator.normal(size=(2000, 3))
        tried = native[-1] + 3.8 * steps / np.linalg.norm(steps, axis=1, keepdims=True)
        free = np.linalg.norm(tried[:, None] - native[None, :-1], axis=2).min(axis=1) > 4.8
        away = np.linalg.norm(tried - native.mean(axis=0), axis=1)
        native = np.concatenate([native, tried[[np.where(free, away, np.inf).argmin()]]])
        sequence += sequence[len(native) - case.n_beads]
    return replace(case, sequence=sequence[:n_beads], native=native.astype(np.float32))
