"""The graph network with a cap on the neighbours that a bead hears, as some programs have it.

A search for neighbours with a cap drops edges without a word, and energies then depend on the
order of the beads and jump where a neighbour is dropped. This is here to compare with models that
were trained that way, not to be simulated with.
"""

import torch
from torch import Tensor, nn

from cgbench.models import GraphNetwork
from cgbench.models.filters import radial_input


class CappedGraphNetwork(nn.Module):
    """A graph network in which a bead hears no more than so many others.

    Kept are the first of those within the upper cutoff in the order of the chain. The bead itself
    takes a place in the list where its turn comes, so that beads late in a dense chain hear one
    more. That is what torch-cluster's ``radius_graph`` does on a graphics processor, which the
    reference work used (its search on a processor keeps others); closer than the lower cutoff,
    beads count and say nothing. Messages are directed: one bead may hear another that does not
    hear it.

    Args:
        network: The network; its weights are shared.
        max_num_neighbors: The cap.
    """

    def __init__(self, network: GraphNetwork, max_num_neighbors: int) -> None:
        super().__init__()
        self.network = network
        self.max_num_neighbors = max_num_neighbors

    def forward(self, bead_types: Tensor, pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return energies (n_systems,) and forces (n_beads, 3) of a flat batch.

        Args:
            bead_types: (n_beads,) int64.
            pos: (n_beads, 3) in Å.
            batch: (n_beads,) int64 from 0, the system of each bead.
        """
        with torch.enable_grad():
            pos = pos.detach().requires_grad_(True)
            energy = self.energy(bead_types, pos, batch)
            (gradient,) = torch.autograd.grad(energy.sum(), pos)
        return energy.detach(), -gradient

    def energy(self, bead_types: Tensor, pos: Tensor, batch: Tensor) -> Tensor:
        """Return the energies (n_systems,), differentiable in ``pos``."""
        network, settings = self.network, self.network.settings
        activation = network.activation.value
        hears, heard = self.edges(pos.detach(), batch)
        difference = pos.index_select(0, hears) - pos.index_select(0, heard)
        lower = max(settings.cutoff_lower, 1e-6)
        squared = (difference * difference).sum(-1)
        # Outside the cutoffs the envelope is zero; held there, roots and exponentials are finite.
        distance = squared.clamp(lower**2, settings.cutoff_upper**2).sqrt()
        shared = radial_input(network.radial, distance)
        features = nn.functional.embedding(bead_types, network.embedding.weight)
        for layer in network.interactions:
            sent = layer.send(features)
            messages = layer.filter.value(shared) * sent.index_select(0, heard)
            received = torch.zeros_like(sent).index_add(0, hears, messages)
            features = features + layer.update(activation(layer.receive(received)))
        beads: Tensor = network.readout_energy(activation(network.readout_hidden(features)))
        total = beads.new_zeros(int(batch.max()) + 1)
        return total.index_add(0, batch, beads[:, 0])

    def edges(self, pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return who hears (n_edges,) and who is heard (n_edges,)."""
        hears, heard = [], []
        for system in torch.unique(batch):
            beads = torch.nonzero(batch == system)[:, 0]
            chain = pos[beads]
            squared = (chain[:, None] - chain[None]).square().sum(-1)
            within = squared < self.network.settings.cutoff_upper**2
            kept = within & (within.long().cumsum(1) <= self.max_num_neighbors + 1)
            kept.fill_diagonal_(False)
            first, second = torch.nonzero(kept, as_tuple=True)
            hears.append(beads[first])
            heard.append(beads[second])
        return torch.cat(hears), torch.cat(heard)
