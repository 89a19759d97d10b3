"""Energies and forces of replicas of one chain on a device, in tensors that are allocated once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from cgbench.kernels.device.arrays import Operations, PairLists, PriorArrays


class DeviceNetwork(NamedTuple):
    """Weights of a network for one chain, tensors of one precision; layers come first.

    Features of the beads carry no biases: those of the updates are constants of a layer, and are
    added where features are read.

    Attributes:
        cutoffs: (3,) lower and upper cutoff in Å, intervals of the tables per Å.
        tables: (n_layers, n_intervals + 3, n_filters) spline coefficients of the filters.
        embedded: (n_beads, n_features) features of the beads before the first layer.
        first_sent: (n_beads, n_filters) what they send in it.
        send: (n_layers, n_filters, n_features).
        send_bias: (n_layers, n_filters) what the biases of earlier layers send.
        receive: (n_layers, n_features, n_filters).
        receive_bias: (n_layers, n_features).
        update: (n_layers, n_features, n_features).
        hidden: (n_hidden, n_features) of the energy's read-out.
        hidden_bias: (n_hidden,) with the biases of all layers in it.
        energy: (n_hidden,) kcal/mol.
        energy_bias: (1,) kcal/mol for each bead.
    """

    cutoffs: Tensor
    tables: Tensor
    embedded: Tensor
    first_sent: Tensor
    send: Tensor
    send_bias: Tensor
    receive: Tensor
    receive_bias: Tensor
    update: Tensor
    hidden: Tensor
    hidden_bias: Tensor
    energy: Tensor
    energy_bias: Tensor


class _Sweep(NamedTuple):
    """What a sweep through a network works in; ``n_rows`` are the beads of all replicas."""

    lists: PairLists
    parts: Tensor  # (n_parts, n_rows, 3) forces
    features: Tensor  # (n_rows, n_features), on the way back the gradient by them
    sent: Tensor  # (n_layers − 1, n_rows, n_filters), from the second layer on
    received: Tensor  # (n_rows, n_filters), on the way back the gradient by it
    active: Tensor  # (n_layers, n_rows, n_features)
    change: Tensor  # (n_rows, n_features)
    pulled: Tensor  # (n_rows, n_filters)
    readout: Tensor  # (n_rows, n_hidden)
    slope: Tensor  # (n_rows, n_hidden)


class DeviceChain:
    """A network, a prior or both for a number of replicas of one chain.

    Products of features with weights are the device's library's, one for all beads of all
    replicas; everything per pair and per bead is one of the operations. A call launches work and
    returns; it can be recorded in a graph.

    Args:
        operations: Triton kernels or their twins.
        n_replicas: Replicas of every call.
        n_beads: Beads of the chain.
        network: Weights for this chain, or None.
        prior: Parameters of this chain, or None.
        tensor32: Let products round their factors to ten bits, where the device has such units.
    """

    def __init__(
        self,
        operations: Operations,
        n_replicas: int,
        n_beads: int,
        network: DeviceNetwork | None,
        prior: PriorArrays | None,
        *,
        tensor32: bool = False,
    ) -> None:
        self._operations, self._network, self._prior = operations, network, prior
        self._precision = "high" if tensor32 else "highest"
        self._shape = (n_replicas, n_beads)
        one = (network or prior)[0]  # type: ignore[index]  # one of them is there
        self._bead_energy = one.new_zeros(2, n_replicas * n_beads)
        self._parts = one.new_zeros(0, n_replicas * n_beads, 3)
        if network is not None:
            self._sweep = self._allocate(network)
            self._parts = self._sweep.parts

    @torch.no_grad()
    def evaluate(self, positions: Tensor, energies: Tensor, forces: Tensor) -> None:
        """Fill energies and forces.

        A replica with a position that is not a number has energies and forces that are not.

        Args:
            positions: (n_replicas, n_beads, 3) in Å, contiguous.
            energies: (2, n_replicas) of network and prior in kcal/mol; filled.
            forces: (n_replicas, n_beads, 3) in kcal/mol/Å, of both together; filled.
        """
        if self._network is not None:
            with _precision(self._precision):
                self._sweep_network(self._network, positions)
        if self._prior is not None:
            self._operations.prior_forces(
                positions, self._prior, self._parts, self._bead_energy[1], forces
            )
        else:
            torch.sum(self._parts, 0, out=forces.view(-1, 3))
        torch.sum(self._bead_energy.view(2, *self._shape), 2, out=energies)

    def _allocate(self, network: DeviceNetwork) -> _Sweep:
        n_replicas, n_beads = self._shape
        n_rows = n_replicas * n_beads
        n_layers, _, n_filters = network.tables.shape
        n_features = network.embedded.shape[1]
        new = network.embedded.new_zeros
        return _Sweep(
            lists=PairLists(
                new(n_rows, dtype=torch.int32),
                new(n_rows, n_beads, dtype=torch.int32),
                new(n_rows, n_beads),
            ),
            parts=new(self._operations.n_parts(n_filters), n_rows, 3),
            features=new(n_rows, n_features),
            sent=new(n_layers - 1, n_rows, n_filters),
            received=new(n_rows, n_filters),
            active=new(n_layers, n_rows, n_features),
            change=new(n_rows, n_features),
            pulled=new(n_rows, n_filters),
            readout=new(n_rows, len(network.hidden)),
            slope=new(n_rows, len(network.hidden)),
        )

    def _sweep_network(self, network: DeviceNetwork, positions: Tensor) -> None:
        operations, sweep = self._operations, self._sweep
        lists, cutoffs, features = sweep.lists, network.cutoffs, sweep.features
        n_layers = len(network.tables)
        operations.place_pairs(
            positions, cutoffs, lists, network.energy_bias, self._bead_energy[0], sweep.parts
        )
        features.view(*self._shape, -1).copy_(network.embedded)
        for layer in range(n_layers):
            active = sweep.active[layer]
            if layer > 0:
                torch.addmm(
                    network.send_bias[layer],
                    features,
                    network.send[layer].T,
                    out=sweep.sent[layer - 1],
                )
            operations.send_messages(
                lists, network.tables[layer], self._sent(layer), sweep.received
            )
            torch.addmm(
                network.receive_bias[layer], sweep.received, network.receive[layer].T, out=active
            )
            active.tanh_()
            features.addmm_(active, network.update[layer].T)
        torch.addmm(network.hidden_bias, features, network.hidden.T, out=sweep.readout)
        sweep.readout.tanh_()
        self._bead_energy[0].addmv_(sweep.readout, network.energy)
        _times_tanh_slope(network.energy.expand_as(sweep.slope), sweep.readout, sweep.slope)
        # From here on, ``features`` is the gradient of the energy by the features.
        torch.mm(sweep.slope, network.hidden, out=features)
        for layer in reversed(range(n_layers)):
            torch.mm(features, network.update[layer], out=sweep.change)
            _times_tanh_slope(sweep.change, sweep.active[layer], sweep.change)
            torch.mm(sweep.change, network.receive[layer], out=sweep.received)
            operations.pull_back(
                lists,
                positions,
                cutoffs,
                network.tables[layer],
                self._sent(layer),
                sweep.received,
                sweep.parts,
                sweep.pulled if layer > 0 else None,
            )
            if layer > 0:
                features.addmm_(sweep.pulled, network.send[layer])

    def _sent(self, layer: int) -> Tensor:
        assert self._network is not None  # noqa: S101 - called from the sweep only
        return self._network.first_sent if layer == 0 else self._sweep.sent[layer - 1]


def _times_tanh_slope(gradient: Tensor, active: Tensor, out: Tensor) -> None:
    """Write gradient · (1 − active²), the gradient through tanh, in one pass."""
    torch.ops.aten.tanh_backward.grad_input(gradient, active, grad_input=out)


@contextmanager
def _precision(precision: str) -> Iterator[None]:
    """Set how products in single precision are rounded, and give back what was set before."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
