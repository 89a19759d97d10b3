"""A network and its prior compiled for a processor: the path that simulation takes where it can."""

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cgbench.errors import ValidationError
from cgbench.models.chain_model import ChainModel
from cgbench.models.filters import TABLE_TOLERANCE, exact_filters, relative_error
from cgbench.models.graph_network import GraphNetwork
from cgbench.models.potential import ChainResult, NetworkPotential, PotentialSpec
from cgbench.priors import Prior

#: Intervals that are tried, until one is accurate enough.
_INTERVALS: Final = (512, 1024, 2048, 4096, 8192, 16384, 32768)
#: Places within an interval at which tables are compared with the exact filters.
_PLACES: Final = (0.0, 0.2, 0.5, 0.8)


class FusedPotential:
    """A potential as compiled loops over beads and pairs, for replicas of one chain on a processor.

    Filters are looked up in splines, and everything per pair happens in one loop a layer. What it
    computes is what :class:`NetworkPotential` computes, to the accuracy of the splines, which is
    measured when they are made; forces are the exact gradient of its own energy. The weights are
    copied: a potential that changes has to be compiled again. A replica's energies and forces are
    bitwise the same alone, in every batch and with any number of threads.

    Args:
        potential: The potential.
        bead_types: (N,) int64, the chain.
        n_threads: Threads that share the replicas.
        dtype: Precision of positions and forces; that of the network, or single, if None.

    Attributes:
        kernel: The ``ChainKernel`` that computes.
        table_intervals: Intervals of the tables of the filters; None without a network.
        table_error: Their largest relative error of the slopes.

    Raises:
        ValidationError: The chain does not fit the potential, or no table is accurate enough.
    """

    def __init__(
        self,
        potential: NetworkPotential,
        bead_types: Tensor,
        n_threads: int = 1,
        dtype: torch.dtype | None = None,
    ) -> None:
        # Compiled loops take a second to import.
        from cgbench.kernels.chain import ChainKernel

        self.spec: PotentialSpec = potential.spec
        self.bead_types = bead_types.clone()
        self.dtype = dtype or potential.precision
        potential.check_types(bead_types)
        network, prior = potential.network, potential.prior
        if isinstance(network, ChainModel):
            raise ValidationError(f"{potential.spec.name}: a {network.kind} is no graph network")
        if network is not None and network.fused_obstacle is not None:
            raise ValidationError(f"{potential.spec.name}: {network.fused_obstacle}")
        self.table_intervals: int | None = None
        self.table_error: float | None = None
        arrays = None
        if network is not None:
            tables, self.table_intervals, self.table_error = filter_tables(network, potential)
            arrays = _network_arrays(network, bead_types, tables)
        self.kernel = ChainKernel(
            len(bead_types),
            np.float32 if self.dtype == torch.float32 else np.float64,
            arrays,
            None if prior is None else _prior_arrays(Prior(prior, bead_types), self.dtype),
            n_threads,
        )

    def chains(self, bead_types: Tensor, pos: Tensor) -> ChainResult:
        """Return energies and forces of R replicas of the chain.

        Args:
            bead_types: (N,) int64, the chain that this was compiled for.
            pos: (R, N, 3) in Å.

        Raises:
            ValidationError: Another chain, shape or precision.
        """
        if bead_types is not self.bead_types and not torch.equal(bead_types, self.bead_types):
            raise ValidationError(f"{self.spec.name}: compiled for another chain")
        if pos.ndim != 3 or pos.shape[1:] != (len(self.bead_types), 3):
            raise ValidationError(
                f"{self.spec.name}: wrong shape of positions",
                expected=("replicas", len(self.bead_types), 3),
                found=tuple(pos.shape),
            )
        if pos.dtype != self.dtype:
            raise ValidationError(
                f"{self.spec.name}: positions in another precision than the network's",
                expected=self.dtype,
                found=pos.dtype,
            )
        found = self.kernel(np.ascontiguousarray(pos.detach().numpy()))
        return ChainResult(
            network_energy=torch.from_numpy(found.network_energy).to(pos.dtype),
            prior_energy=torch.from_numpy(found.prior_energy).to(pos.dtype),
            forces=torch.from_numpy(found.forces),
        )


def filter_tables(
    network: GraphNetwork, potential: NetworkPotential
) -> tuple[NDArray[np.float64], int, float]:
    """Return the smallest table that is accurate enough, its intervals and its error.

    The error is the largest over layers of the difference of the slopes, relative to the slopes,
    over distances within the cutoffs.

    Raises:
        ValidationError: None is.
    """
    from cgbench.kernels.spline import spline_coefficients, spline_values

    tolerance = TABLE_TOLERANCE[potential.precision]
    lower, upper = network.settings.cutoff_lower, network.settings.cutoff_upper
    error = float("nan")
    for n_intervals in _INTERVALS:
        spacing = (upper - lower) / n_intervals
        knots = lower + spacing * np.arange(n_intervals + 1, dtype=np.float64)
        table = [
            spline_coefficients(value, slope[0] * spacing, slope[-1] * spacing)
            for value, slope in exact_filters(network.radial, network.filter_networks, knots)
        ]
        few = np.linspace(0, n_intervals - 1, min(n_intervals, 1024)).astype(np.int64)
        scaled = (few[:, None] + np.array(_PLACES)).reshape(-1)
        exact = exact_filters(network.radial, network.filter_networks, lower + spacing * scaled)
        errors = []
        for one, (_, slope) in zip(table, exact, strict=True):
            # As it will be used: rounded, if the network is in single precision.
            rounded = one.astype(np.float32).astype(np.float64) if tolerance > 1e-9 else one
            found = spline_values(rounded, scaled)[1] / spacing
            errors.append(relative_error(found, slope))
        error = float(max(errors))
        if error < tolerance:
            return np.stack(table), n_intervals, error
    raise ValidationError(
        f"{potential.spec.name}: filters change too fast for a table",
        expected=f"a relative error of the slopes below {tolerance:g}",
        found=f"{error:.2g} with {_INTERVALS[-1]} intervals",
        fix="simulate with --engine torch",
    )


def _network_arrays(network: GraphNetwork, bead_types: Tensor, tables: NDArray[np.float64]) -> Any:
    from cgbench.kernels.network import NetworkArrays
    from cgbench.kernels.products import packed
    from cgbench.kernels.vectors import lanes_of

    dtype = network.embedding.weight.detach().numpy().dtype
    settings = network.settings
    layers = network.interactions

    def array(tensor: Tensor) -> NDArray[Any]:
        return np.ascontiguousarray(tensor.detach().numpy())

    def transposed(matrices: NDArray[Any]) -> NDArray[Any]:
        return packed(np.swapaxes(matrices, -1, -2))

    def filled_up(filters: NDArray[Any], axis: int) -> NDArray[Any]:
        """Add filters that are zero, up to whole vectors of the processor."""
        width = [(0, 0)] * filters.ndim
        width[axis] = (0, -filters.shape[axis] % lanes_of(dtype.itemsize))
        return np.pad(filters, width)

    send = filled_up(np.stack([array(layer.send.weight) for layer in layers]), 1)
    receive = filled_up(np.stack([array(layer.receive.weight) for layer in layers]), 2)
    update = np.stack([array(layer.update.weight) for layer in layers])
    hidden = array(network.readout_hidden.weight)
    embedded = array(network.embedding.weight[bead_types])
    per_spacing = (tables.shape[1] - 3) / (settings.cutoff_upper - settings.cutoff_lower)
    return NetworkArrays(
        cutoffs=np.array([settings.cutoff_lower, settings.cutoff_upper, per_spacing], dtype),
        tables=filled_up(np.ascontiguousarray(tables, dtype), 2),
        embedded=embedded,
        first_sent=np.ascontiguousarray(embedded @ send[0].T),
        send=packed(send),
        receive=packed(receive),
        receive_bias=np.stack([array(layer.receive.bias) for layer in layers]),
        update=packed(update),
        update_bias=np.stack([array(layer.update.bias) for layer in layers]),
        send_forward=transposed(send),
        receive_forward=transposed(receive),
        update_forward=transposed(update),
        hidden=packed(hidden),
        hidden_forward=transposed(hidden),
        hidden_bias=array(network.readout_hidden.bias),
        energy=array(network.readout_energy.weight)[0].copy(),
        energy_bias=array(network.readout_energy.bias),
    )


def _prior_arrays(prior: Prior, dtype: torch.dtype) -> Any:
    from cgbench.kernels.prior import PriorTables
    from cgbench.priors import terms

    tables = prior.tables(dtype, torch.device("cpu"))
    precision = tables.bond_k.numpy().dtype
    limits = [terms.CLASH_DISTANCE**2, terms.LEAST_SQUARED_NORMAL, terms.LEAST_LENGTH]
    return PriorTables(
        bond_k=tables.bond_k.numpy(),
        bond_r0=tables.bond_r0.numpy(),
        strength=tables.strength.numpy(),
        constant=np.array([tables.constant], precision),
        cosine=np.ascontiguousarray(tables.cosine.numpy().T),
        sine=np.ascontiguousarray(tables.sine.numpy().T),
        limits=np.array(limits, precision),
    )
