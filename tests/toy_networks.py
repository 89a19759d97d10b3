"""Small graph networks, and the reference formula bead by bead."""

import numpy as np
import torch
from numpy.typing import NDArray

from cgbench.models import GraphNetwork, GraphNetworkSettings, NetworkPotential, PotentialSpec
from cgbench.priors import BondTerm, DihedralSet, DihedralTerm, PriorParameters

SMALL = GraphNetworkSettings(
    embedding_dimension=12, num_layers=2, num_filters=10, num_rbf=6, max_bead_type=23
)
TYPES = (4, 4, 5, 8, 6, 13, 2, 13, 7, 4)


def small_network(
    seed: int = 0,
    settings: GraphNetworkSettings = SMALL,
    dtype: torch.dtype = torch.float64,
) -> GraphNetwork:
    """A network with every weight, biases included, away from its initial value."""
    generator = np.random.default_rng(seed)
    network = GraphNetwork(settings)
    with torch.no_grad():
        for name, weight in sorted(network.named_parameters()):
            noise = torch.from_numpy(generator.random(tuple(weight.shape)) - 0.5)
            if name == "radial.centres":
                weight.copy_((noise + 0.5).sort().values)
            elif name == "radial.widths":
                weight.copy_(20.0 + 20.0 * noise)
            else:
                weight.copy_(3.0 * noise / weight.shape[-1] ** 0.5)
    return network.to(dtype)


def small_prior() -> PriorParameters:
    kinds = sorted(set(TYPES))
    return PriorParameters(
        bonds={f"{i}-{j}": BondTerm(k=60.0 + i + j, r0=3.8) for i in kinds for j in kinds},
        repulsion={kind: 90.0 + kind for kind in kinds},
        dihedrals=(DihedralSet(types=None, terms=(DihedralTerm(n=1, k=0.7, gamma=30.0),)),),
        temperature=350.0,
        source="made up",
    )


def small_potential(
    seed: int = 0, *, prior: bool = True, dtype: torch.dtype = torch.float32
) -> NetworkPotential:
    spec = PotentialSpec(name="small", cutoff=SMALL.cutoff_upper, licence="MIT")
    network = small_network(seed, dtype=dtype)
    return NetworkPotential(network, small_prior() if prior else None, spec)


def slow_energy(
    network: GraphNetwork, types: list[int], chain: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Energy of one structure and features of its beads, directed pair by directed pair."""
    settings = network.settings
    w = {name: tensor.detach().double().numpy() for name, tensor in network.state_dict().items()}
    low, high = settings.cutoff_lower, settings.cutoff_upper
    x = np.stack([w["embedding.weight"][kind] for kind in types])
    for layer in range(settings.num_layers):
        part = {
            name.removeprefix(f"layers.{layer}."): value
            for name, value in w.items()
            if name.startswith(f"layers.{layer}.")
        }
        sent = x @ part["send.weight"].T
        received = np.zeros_like(sent)
        for i in range(len(types)):
            for j in range(len(types)):
                r = float(np.linalg.norm(chain[i] - chain[j]))
                if i == j or not low < r < high:
                    continue
                basis = (0.5 * (np.cos(np.pi * r / high) + 1)) * np.exp(
                    -w["radial.widths"]
                    * (np.exp(5.0 / (high - low) * (low - r)) - w["radial.centres"]) ** 2
                )
                hidden = np.tanh(part["filter.hidden.weight"] @ basis + part["filter.hidden.bias"])
                filter_ = part["filter.output.weight"] @ hidden + part["filter.output.bias"]
                if low > 0:
                    envelope = 0.5 * (np.cos(np.pi * (2 * (r - low) / (high - low) + 1)) + 1)
                else:
                    envelope = 0.5 * (np.cos(np.pi * r / high) + 1)
                received[i] += envelope * filter_ * sent[j]
        active = np.tanh(received @ part["receive.weight"].T + part["receive.bias"])
        x = x + active @ part["update.weight"].T + part["update.bias"]
    hidden = np.tanh(x @ w["readout_hidden.weight"].T + w["readout_hidden.bias"])
    return float((hidden @ w["readout_energy.weight"].T + w["readout_energy.bias"]).sum()), x
