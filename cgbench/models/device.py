"""A network and its prior compiled for a device: what graphics processors simulate with."""

import torch
from torch import Tensor

from cgbench.errors import ValidationError
from cgbench.kernels.device.arrays import Operations, PriorArrays
from cgbench.kernels.device.chain import DeviceChain, DeviceNetwork
from cgbench.kernels.device.choice import choose_operations
from cgbench.kernels.device.graph import Recorded
from cgbench.models.chain_model import ChainModel
from cgbench.models.fused import filter_tables
from cgbench.models.graph_network import GraphNetwork
from cgbench.models.potential import ChainResult, NetworkPotential, PotentialSpec
from cgbench.priors import Prior, terms


class DevicePotential:
    """A potential for a fixed number of replicas of one chain, without allocation or waiting.

    It computes what :class:`FusedPotential` computes, in the same splines, with the same bound on
    their error; forces are the exact gradient of its own energy. All shapes are known, so that an
    evaluation is recorded once on a graphics processor and replayed from then on. The weights are
    copied: a potential that changes has to be compiled again.

    Args:
        potential: The potential.
        bead_types: (N,) int64, the chain.
        n_replicas: Replicas of every evaluation.
        dtype: Precision of positions and forces; that of the network, or single, if None.
        device: Where to compute; where the network's weights are, or the CPU, if None.
        operations: Implementation of the operations; the device's own if None.
        tensor32: Let matrix products round their factors to ten bits on devices with units for it.

    Raises:
        ValidationError: The chain does not fit the potential, or no table is accurate enough.
    """

    def __init__(
        self,
        potential: NetworkPotential,
        bead_types: Tensor,
        n_replicas: int,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        operations: Operations | None = None,
        tensor32: bool = False,
    ) -> None:
        self.spec: PotentialSpec = potential.spec
        self.dtype = dtype or potential.precision
        self.n_replicas = n_replicas
        self.bead_types = bead_types.clone()
        potential.check_types(bead_types)
        network, prior = potential.network, potential.prior
        if isinstance(network, ChainModel):
            raise ValidationError(f"{potential.spec.name}: a {network.kind} is no graph network")
        if network is not None and network.fused_obstacle is not None:
            raise ValidationError(f"{potential.spec.name}: {network.fused_obstacle}")
        if device is None:
            device = torch.device("cpu")
            device = device if network is None else network.readout_energy.weight.device
        self.device = device
        #: What computes, for people.
        self.implementation = "as given"
        if operations is None:
            operations, self.implementation = choose_operations(device)
        self.operations = operations
        self.table_intervals: int | None = None
        self.table_error: float | None = None
        arrays = None
        if network is not None:
            tables, self.table_intervals, self.table_error = filter_tables(network, potential)
            coefficients = torch.from_numpy(tables)
            arrays = _network_arrays(network, bead_types, coefficients, self.dtype, device)
        self.chain = DeviceChain(
            operations,
            n_replicas,
            len(bead_types),
            arrays,
            None if prior is None else _prior_arrays(Prior(prior, bead_types), self.dtype, device),
            tensor32=tensor32,
        )
        new = torch.zeros((), dtype=self.dtype, device=device).new_zeros
        self._positions = new(n_replicas, len(bead_types), 3)
        self._energies, self._forces = new(2, n_replicas), torch.zeros_like(self._positions)
        self._recorded: Recorded | None = None

    def chains(self, bead_types: Tensor, pos: Tensor) -> ChainResult:
        """Return energies and forces of the replicas.

        Args:
            bead_types: (N,) int64, the chain that this was compiled for.
            pos: (n_replicas, N, 3) in Å.

        Raises:
            ValidationError: Another chain, shape, precision or device.
        """
        if bead_types is not self.bead_types and not torch.equal(
            bead_types.cpu(), self.bead_types.cpu()
        ):
            raise ValidationError(f"{self.spec.name}: compiled for another chain")
        for what, found, expected in (
            ("shape of positions", tuple(pos.shape), tuple(self._positions.shape)),
            ("precision of positions", pos.dtype, self.dtype),
            ("device of positions", pos.device.type, self.device.type),
        ):
            if found != expected:
                raise ValidationError(
                    f"{self.spec.name}: compiled for another {what}", expected=expected, found=found
                )
        self._positions.copy_(pos)
        if self._recorded is None:
            self._recorded = Recorded(self._evaluate, self.device)
        self._recorded()
        # Copies, because the next evaluation writes to the same places.
        network_energy, prior_energy = self._energies.clone()
        return ChainResult(network_energy, prior_energy, self._forces.clone())

    def _evaluate(self) -> None:
        self.chain.evaluate(self._positions, self._energies, self._forces)


@torch.no_grad()
def _network_arrays(
    network: GraphNetwork,
    bead_types: Tensor,
    tables: Tensor,
    dtype: torch.dtype,
    device: torch.device,
) -> DeviceNetwork:
    settings, layers = network.settings, network.interactions

    def stacked(weights: list[Tensor]) -> Tensor:
        # Constants are made in double precision and rounded once.
        return torch.stack([weight.detach().to(device, torch.float64) for weight in weights])

    send = stacked([layer.send.weight for layer in layers])
    update_bias = stacked([layer.update.bias for layer in layers])
    before = update_bias.cumsum(0) - update_bias
    weights = network.embedding.weight
    embedded = weights[bead_types.to(weights.device)].to(device, torch.float64)
    hidden = network.readout_hidden.weight.to(device, torch.float64)
    hidden_bias = network.readout_hidden.bias.to(device, torch.float64)
    lower, upper = settings.cutoff_lower, settings.cutoff_upper
    per_spacing = (tables.shape[1] - 3) / (upper - lower)
    arrays = DeviceNetwork(
        cutoffs=torch.tensor([lower, upper, per_spacing], dtype=torch.float64),
        tables=tables,
        embedded=embedded,
        first_sent=embedded @ send[0].T,
        send=send,
        send_bias=torch.einsum("lk,lfk->lf", before, send),
        receive=stacked([layer.receive.weight for layer in layers]),
        receive_bias=stacked([layer.receive.bias for layer in layers]),
        update=stacked([layer.update.weight for layer in layers]),
        hidden=hidden,
        hidden_bias=hidden_bias + hidden @ update_bias.sum(0),
        energy=network.readout_energy.weight[0],
        energy_bias=network.readout_energy.bias,
    )
    # Copies also of what is on the device in this precision already.
    return DeviceNetwork(*(array.to(device, dtype).contiguous().clone() for array in arrays))


def _prior_arrays(prior: Prior, dtype: torch.dtype, device: torch.device) -> PriorArrays:
    tables = prior.tables(dtype, device)
    n_beads = prior.n_beads

    def padded(values: Tensor) -> Tensor:
        missing = values.new_zeros(n_beads - len(values), *values.shape[1:])
        return torch.cat([values, missing]).contiguous()

    constants = [
        terms.CLASH_DISTANCE**2,
        terms.LEAST_SQUARED_NORMAL,
        terms.LEAST_LENGTH,
        tables.constant,
    ]
    return PriorArrays(
        bond_k=padded(tables.bond_k),
        bond_r0=padded(tables.bond_r0),
        strength=tables.strength.contiguous(),
        cosine=padded(tables.cosine.T),
        sine=padded(tables.sine.T),
        constants=torch.tensor(constants, dtype=dtype, device=device),
    )
