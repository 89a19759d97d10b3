"""The graph network of Majewski et al. (TorchMD-GN), with forces in closed form.

Continuous-filter convolutions as in SchNet (Schütt et al., J. Chem. Phys. 148, 241722, 2018) in the
arrangement of TorchMD-Net's ``graph-network``, which Majewski et al., Nat. Commun. 14, 5739 (2023)
trained on coarse-grained proteins. Given the same weights it gives the same energies and forces.

A filter is a function of one distance, so each undirected pair is listed once, its filter is
computed once, and it carries both messages. Forces are written out rather than left to automatic
differentiation: in inference nothing is recorded, in training one backward pass over the forces
replaces a double one. The same expressions are differentiable, so higher derivatives work too.
"""

from typing import Literal, NamedTuple

import pydantic
import torch
from torch import Tensor, nn

from cgbench.config import Frozen
from cgbench.models.activations import ACTIVATIONS, ActivationName
from cgbench.models.filters import (
    FilterNetwork,
    Filters,
    FilterSource,
    FilterTable,
    radial_input,
)
from cgbench.models.pairs import (
    Pairs,
    add_to_both,
    all_chain_pairs,
    batch_pairs_within,
    chain_pairs_within,
)
from cgbench.models.radial import ExponentialNormalBasis, GaussianBasis, RadialBasis

#: Chains up to this many beads use all pairs: most lie inside the cutoff, and shapes stay fixed.
DENSE_BEADS = 16

#: Pairs handled at a time in inference on a CPU.
_PAIRS_PER_BLOCK = 4096


class GraphNetworkSettings(Frozen):
    """Shape of a graph network; the defaults are the settings of Majewski et al. (2023).

    Attributes:
        embedding_dimension: Features per bead.
        num_layers: Interaction layers.
        num_filters: Width of the continuous filters.
        num_rbf: Radial functions.
        rbf_type: Kind of radial functions.
        trainable_rbf: Whether their centres and widths are trained.
        activation: Non-linearity.
        cutoff_lower: Å; closer pairs do not interact.
        cutoff_upper: Å; farther pairs do not interact.
        max_bead_type: Rows of the embedding table; bead types are below this number.
        aggregation: How messages are combined.
    """

    embedding_dimension: int = pydantic.Field(default=128, ge=2, le=4096)
    num_layers: int = pydantic.Field(default=4, ge=1, le=64)
    num_filters: int = pydantic.Field(default=128, ge=1, le=4096)
    num_rbf: int = pydantic.Field(default=18, ge=2, le=1024)
    rbf_type: Literal["expnorm", "gauss"] = "expnorm"
    trainable_rbf: bool = True
    activation: ActivationName = "tanh"
    cutoff_lower: float = pydantic.Field(default=3.0, ge=0.0, allow_inf_nan=False)
    cutoff_upper: float = pydantic.Field(default=12.0, gt=0.0, le=1000.0, allow_inf_nan=False)
    max_bead_type: int = pydantic.Field(default=100, ge=1, le=100_000)
    aggregation: Literal["add"] = "add"

    @pydantic.model_validator(mode="after")
    def _cutoffs_in_order(self) -> "GraphNetworkSettings":
        if self.cutoff_lower >= self.cutoff_upper:
            raise ValueError("cutoff_lower must be below cutoff_upper")
        return self


class _Trace(NamedTuple):
    """Results of the forward sweep, layer by layer where there are lists."""

    energy: Tensor  # (n_beads,) kcal/mol
    readout: Tensor  # after the non-linearity, as ``active``
    readout_inner: Tensor  # before it, as ``inner``
    first_sent: list[Tensor]  # (n_pairs, num_filters), what the first bead of each pair sends
    second_sent: list[Tensor]
    active: list[Tensor]  # (n_beads, embedding_dimension), after the non-linearity
    inner: list[Tensor]


class InteractionLayer(nn.Module):
    """Weights of one interaction: the filter network and three maps of bead features."""

    def __init__(self, settings: GraphNetworkSettings) -> None:
        super().__init__()
        features, filters = settings.embedding_dimension, settings.num_filters
        self.filter = FilterNetwork(settings.num_rbf, filters, settings.activation)
        self.send = nn.Linear(features, filters, bias=False)
        self.receive = nn.Linear(filters, features)
        self.update = nn.Linear(features, features)


class GraphNetwork(nn.Module):
    """Energy of coarse-grained chains from bead types and distances.

    Energies are kcal/mol, positions Å, forces kcal/mol/Å. The network sees distances only, so
    mirror images have the same energy.

    Args:
        settings: Shape of the network.
    """

    def __init__(self, settings: GraphNetworkSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or GraphNetworkSettings()
        features = self.settings.embedding_dimension
        self.embedding = nn.Embedding(self.settings.max_bead_type, features)
        basis = GaussianBasis if self.settings.rbf_type == "gauss" else ExponentialNormalBasis
        self.activation = ACTIVATIONS[self.settings.activation]
        self.radial: RadialBasis = basis(
            self.settings.num_rbf,
            self.settings.cutoff_lower,
            self.settings.cutoff_upper,
            trainable=self.settings.trainable_rbf,
        )
        self.layers = nn.ModuleList(
            InteractionLayer(self.settings) for _ in range(self.settings.num_layers)
        )
        self.readout_hidden = nn.Linear(features, features // 2)
        self.readout_energy = nn.Linear(features // 2, 1)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def n_parameters(self) -> int:
        """Number of weights, trained or not."""
        return sum(parameter.numel() for parameter in self.parameters())

    def energy(
        self,
        bead_types: Tensor,
        pos: Tensor,
        batch: Tensor,
        n_systems: int,
        pairs: Pairs | None = None,
    ) -> Tensor:
        """Return the energies (n_systems,) of a flat batch; differentiable in ``pos``.

        Args:
            bead_types: (n_beads,) int64.
            pos: (n_beads, 3) in Å.
            batch: (n_beads,) int64, the system of each bead, below ``n_systems``.
            n_systems: Number of systems.
            pairs: Pairs to consider, if known; must hold every pair inside the cutoffs.
        """
        pairs = self.pairs_of_batch(pos, batch) if pairs is None else pairs
        _, distance = self._distances(pos, pairs)
        bead_energy = self._forward(bead_types, pairs, self._filter_values(distance)).energy
        return bead_energy.new_zeros(n_systems).index_add(0, batch, bead_energy)

    def energy_chains(self, bead_types: Tensor, pos: Tensor) -> Tensor:
        """Return the energies (R,) of R copies of one chain; differentiable in ``pos``.

        Args:
            bead_types: (N,) int64, the same for every replica.
            pos: (R, N, 3) in Å.
        """
        pairs = self.pairs_of_chains(pos)
        _, distance = self._distances(pos.reshape(-1, 3), pairs)
        types = bead_types.repeat(pos.shape[0])
        bead_energy = self._forward(types, pairs, self._filter_values(distance)).energy
        return bead_energy.reshape(pos.shape[:2]).sum(1)

    def energy_forces(
        self,
        bead_types: Tensor,
        pos: Tensor,
        batch: Tensor,
        n_systems: int,
        pairs: Pairs | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return energies (n_systems,) and forces (n_beads, 3) of a flat batch.

        The arguments are those of ``energy``. Both results are differentiable in the weights, so a
        loss on forces needs no ``create_graph``; call under ``torch.no_grad()`` for inference.
        """
        pairs = self.pairs_of_batch(pos, batch) if pairs is None else pairs
        bead_energy, forces = self._bead_energy_and_forces(bead_types, pos, pairs, None)
        return bead_energy.new_zeros(n_systems).index_add(0, batch, bead_energy), forces

    def energy_forces_chains(
        self, bead_types: Tensor, pos: Tensor, table: FilterTable | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return energies (R,) and forces (R, N, 3) of R copies of one chain.

        Args:
            bead_types: (N,) int64, the same for every replica.
            pos: (R, N, 3) in Å.
            table: Filters to look up instead of evaluating them, from ``table``. Where grad is
                enabled, results are then differentiable in the weights but not in ``pos``.
        """
        if torch.is_grad_enabled() or pos.device.type != "cpu":
            return self._chains(bead_types, pos, table)
        # Temporaries that stay in the processor's cache: two to three times faster.
        n_beads = pos.shape[1]
        likely_pairs = max(1, min(n_beads * (n_beads - 1) // 2, 10 * n_beads))
        blocks = torch.split(pos, max(1, _PAIRS_PER_BLOCK // likely_pairs))
        energies, forces = zip(
            *(self._chains(bead_types, block, table) for block in blocks), strict=True
        )
        return torch.cat(energies), torch.cat(forces)

    def _chains(
        self, bead_types: Tensor, pos: Tensor, table: FilterTable | None
    ) -> tuple[Tensor, Tensor]:
        types = bead_types.repeat(pos.shape[0])
        pairs = self.pairs_of_chains(pos)
        bead_energy, forces = self._bead_energy_and_forces(types, pos.reshape(-1, 3), pairs, table)
        return bead_energy.reshape(pos.shape[:2]).sum(1), forces.reshape(pos.shape)

    def table(self, n_intervals: int = 512) -> FilterTable:
        """Return a table of all filters for ``energy_forces_chains``.

        Made under enabled grad it carries gradients back to the weights, so in training it is made
        anew for each step; that pays as soon as a batch has more pairs than the table intervals.
        512 intervals give forces and gradients of a reference network to about 2e-6.
        """
        return FilterTable(self.radial, self.filter_networks, n_intervals)

    @property
    def fused_obstacle(self) -> str | None:
        """Why compiled loops cannot compute this network; None where they can."""
        if self.settings.activation == "tanh":
            return None
        return f"compiled loops have tanh, and the network has {self.settings.activation}"

    @property
    def interactions(self) -> list[InteractionLayer]:
        """The interaction layers in order."""
        return [layer for layer in self.layers if isinstance(layer, InteractionLayer)]

    @property
    def filter_networks(self) -> list[FilterNetwork]:
        """The filter network of each layer."""
        return [layer.filter for layer in self.interactions]

    def forces(
        self, bead_types: Tensor, pos: Tensor, pairs: Pairs, filters: FilterSource | None = None
    ) -> Tensor:
        """Return the forces (n_beads, 3) of a flat batch whose pairs are known.

        Args:
            bead_types: (n_beads,) int64.
            pos: (n_beads, 3) in Å.
            pairs: Every pair inside the cutoffs at least.
            filters: Where filters are looked up; they are evaluated if None.
        """
        return self._bead_energy_and_forces(bead_types, pos, pairs, filters)[1]

    def pairs_of_batch(self, pos: Tensor, batch: Tensor) -> Pairs:
        """Return the pairs of a flat batch, as ``energy`` takes it."""
        settings = self.settings
        return batch_pairs_within(pos, batch, settings.cutoff_lower, settings.cutoff_upper)

    def pairs_of_chains(self, pos: Tensor) -> Pairs:
        """Return the pairs of chains (R, N, 3) in Å as indices into all their beads, in order."""
        n_replicas, n_beads, _ = pos.shape
        if n_beads <= DENSE_BEADS:
            return all_chain_pairs(n_replicas, n_beads, pos.device)
        return chain_pairs_within(pos, self.settings.cutoff_lower, self.settings.cutoff_upper)

    def _distances(self, pos: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return difference vectors (n_pairs, 3) and distances held within the cutoffs.

        Outside the cutoffs the envelope is zero, so holding the distance there changes nothing but
        keeps the square root and the exponentials finite for coincident and for far beads.
        """
        difference = pos.index_select(0, pairs.first) - pos.index_select(0, pairs.second)
        # 1e-6 Å stands in for a lower cutoff of zero: coincident beads have no direction.
        lower = max(self.settings.cutoff_lower, 1e-6)
        squared = (difference * difference).sum(-1)
        return difference, squared.clamp(lower**2, self.settings.cutoff_upper**2).sqrt()

    def _bead_energy_and_forces(
        self, bead_types: Tensor, pos: Tensor, pairs: Pairs, table: FilterSource | None
    ) -> tuple[Tensor, Tensor]:
        difference, distance = self._distances(pos, pairs)
        filters = self._filters(distance) if table is None else table.filters(distance)
        trace = self._forward(bead_types, pairs, filters.values)
        slope = self._pair_slopes(trace, pairs, filters)
        pull = difference * (slope / distance)[:, None]
        return trace.energy, add_to_both(-pull, pull, pairs, len(pos))

    def _filter_values(self, distance: Tensor) -> list[Tensor]:
        shared = radial_input(self.radial, distance)
        return [network.value(shared) for network in self.filter_networks]

    def _filters(self, distance: Tensor) -> Filters:
        shared = radial_input(self.radial, distance)
        both = [network(shared) for network in self.filter_networks]
        return Filters([value for value, _ in both], [slope for _, slope in both])

    def _forward(self, bead_types: Tensor, pairs: Pairs, filters: list[Tensor]) -> _Trace:
        """Return the energy of each bead and what the backward sweep needs."""
        features = nn.functional.embedding(bead_types, self.embedding.weight)
        first_sent, second_sent, actives, inners = [], [], [], []
        for layer, value in zip(self.interactions, filters, strict=True):
            sent = layer.send(features)
            first = sent.index_select(0, pairs.first)
            second = sent.index_select(0, pairs.second)
            received = add_to_both(value * second, value * first, pairs, len(bead_types))
            inner = layer.receive(received)
            active = self.activation.value(inner)
            features = features + layer.update(active)
            first_sent.append(first)
            second_sent.append(second)
            actives.append(active)
            inners.append(inner)
        readout_inner = self.readout_hidden(features)
        readout = self.activation.value(readout_inner)
        energy = self.readout_energy(readout)[:, 0]
        return _Trace(energy, readout, readout_inner, first_sent, second_sent, actives, inners)

    def _pair_slopes(self, trace: _Trace, pairs: Pairs, filters: Filters) -> Tensor:
        """Return dE/dr of each pair (n_pairs,); ``gradient`` is dE/d(features) throughout."""
        slope = self.activation.slope
        gradient = self.readout_energy.weight * slope(trace.readout_inner, trace.readout)
        gradient = gradient @ self.readout_hidden.weight
        slopes = []
        for index in reversed(range(len(filters.values))):
            layer, active = self.interactions[index], trace.active[index]
            gain = slope(trace.inner[index], active)
            gradient_active = (gradient @ layer.update.weight) * gain
            gradient_received = gradient_active @ layer.receive.weight
            first = gradient_received.index_select(0, pairs.first)
            second = gradient_received.index_select(0, pairs.second)
            gradient_filter = torch.addcmul(
                first * trace.second_sent[index], second, trace.first_sent[index]
            )
            slopes.append((gradient_filter * filters.slopes[index]).sum(-1))
            if index > 0:
                value = filters.values[index]
                gradient_sent = add_to_both(value * second, value * first, pairs, len(gradient))
                gradient = gradient + gradient_sent @ layer.send.weight
        return torch.stack(slopes).sum(0)
