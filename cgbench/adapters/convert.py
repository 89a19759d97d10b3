"""TorchMD-Net graph networks as ``model.pt``: weights, prior and what is said of them."""

from collections.abc import Mapping
from pathlib import Path

import torch

from cgbench.adapters.base import Request
from cgbench.adapters.checkpoint import read_checkpoint
from cgbench.adapters.parts import prior_option, vocabulary_option
from cgbench.adapters.torchmdnet import (
    OPTIONS,
    cap_note,
    native_network,
    native_spec,
)
from cgbench.adapters.torchmdnet_settings import read_settings
from cgbench.adapters.vocabulary import Vocabulary
from cgbench.errors import UsageError, ValidationError
from cgbench.models import GraphNetwork, GraphNetworkSettings, NetworkPotential


def native_potential(
    path: Path, options: Mapping[str, str], name: str | None
) -> tuple[NetworkPotential, tuple[str, ...]]:
    """Return a TorchMD-Net graph network as a potential of our own, and what to know of it.

    Args:
        path: The checkpoint.
        options: ``prior``, ``settings``, ``vocabulary`` and ``drop_constant``, as for the adapter
            ``torchmdnet``. A cap on neighbours is no part of our format.
        name: What it is called.

    Raises:
        UsageError: No such file, or an option that cannot be converted.
        IntegrityError: The file is damaged or holds what no checkpoint needs.
        ValidationError: It is no graph network that ours is the same as.
    """
    request = Request(path, dict(options), trust=False, name=name)
    request.known(*OPTIONS)
    if "max_num_neighbors" in options:
        raise UsageError(
            "--adapter-option max_num_neighbors: a model.pt hears every bead within the cutoff",
            fix="to simulate with a cap, run the checkpoint itself with --adapter torchmdnet",
        )
    checkpoint = read_checkpoint(path)
    settings, _ = read_settings(checkpoint, options.get("settings"))
    if obstacles := settings.obstacles():
        raise ValidationError(
            f"{path}: not a model that can be converted",
            expected="a graph-network without neighbour embedding and prior model of its own",
            found="; ".join(obstacles),
            fix="run it as it is with --adapter torchmdnet --trust",
        )
    network = native_network(checkpoint, settings, drop_constant=request.flag("drop_constant"))
    vocabulary, prior = vocabulary_option(request), prior_option(request)
    if vocabulary is not None:
        network = _renumbered(network, vocabulary)
    notes = [cap_note(settings.max_num_neighbors, None)]
    if network.embedding.weight.dtype == torch.float64:
        notes.append("Weights were rounded from double to single precision.")
    if request.flag("drop_constant"):
        notes.append("A constant energy per system was left out.")
    if vocabulary is not None:
        notes.append(f"Bead types were renumbered from {vocabulary.origin}.")
    if prior is None:
        notes.append(
            "No prior: a network that was trained on what a prior leaves is not a whole potential."
        )
    spec = native_spec(path, network, name)
    told = f"Converted from a TorchMD-Net checkpoint. {' '.join(notes)}"
    spec = spec.model_copy(update={"description": f"{spec.description}\n{told}".strip()})
    return NetworkPotential(network.float(), prior, spec).eval(), tuple(notes)


def _renumbered(network: GraphNetwork, vocabulary: Vocabulary) -> GraphNetwork:
    """Return the network with the rows of its embedding in the order of our bead types.

    Raises:
        ValidationError: The model has no row for some number.
    """
    rows = network.settings.max_bead_type
    if outside := [number for number in vocabulary.numbers.values() if number >= rows]:
        raise ValidationError(
            f"{vocabulary.origin}: numbers that the model has no embedding for",
            expected=f"0 to {rows - 1}",
            found=", ".join(map(str, sorted(outside))),
        )
    vocabulary.require_all()
    settings = network.settings.model_dump() | {"max_bead_type": max(vocabulary.numbers) + 1}
    renumbered = GraphNetwork(GraphNetworkSettings(**settings)).to(network.embedding.weight.dtype)
    state = dict(network.state_dict())
    embedding = torch.zeros_like(renumbered.embedding.weight)
    for ours, theirs in vocabulary.numbers.items():
        embedding[ours] = state["embedding.weight"][theirs]
    renumbered.load_state_dict(state | {"embedding.weight": embedding})
    return renumbered.eval()
