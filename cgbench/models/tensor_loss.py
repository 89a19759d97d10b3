"""The force-matching loss of a graph network by tensors, on any device and in any precision.

Loss and gradient are computed together, block by block of a batch: temporaries of a block stay in
the processor's cache, and memory is that of a block instead of that of the batch. On request the
gradient of a block is one function that torch compiles. What these paths compute is what
``GraphNetwork.energy_forces`` and a backward pass compute, to rounding.
"""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.func import functional_call, grad

from cgbench.models.filters import TABLE_TOLERANCE, FilterTable, PolynomialFilters
from cgbench.models.force_loss import ForceLoss
from cgbench.models.graph_network import GraphNetwork
from cgbench.models.pairs import Pairs

#: Intervals of filter tables that are tried, until one is accurate enough.
_INTERVALS: Final = (512, 1024, 2048, 4096)
#: Pairs of a block on a processor.
_PAIRS_PER_BLOCK: Final = 4096
#: Has no part in forces: a constant of the energy.
_NO_FORCE: Final = "readout_energy.bias"


class _Batch(NamedTuple):
    """Beads of systems in a row, with the pairs among them in the order of the systems."""

    bead_types: Tensor
    pos: Tensor
    target: Tensor
    pairs: Pairs


class _Sums(NamedTuple):
    squares: Tensor
    forces: Tensor
    weights: list[Tensor]
    tables: list[Tensor]


class TensorForceLoss:
    """Force-matching losses of a network by tensors.

    Where a batch in single precision has more pairs than an accurate table of the filters has
    intervals, the table is made first: half the work, with forces and the gradient within 1e-5 of
    the exact ones.

    Args:
        network: The network; its weights are read anew for every batch.
        compiled: Whether torch shall compile the gradient. If that fails, batches go on without.
        tabulated: Whether tables are used at all.
    """

    def __init__(
        self, network: GraphNetwork, *, compiled: bool = False, tabulated: bool = True
    ) -> None:
        self.network = network
        self.tabulated = tabulated
        #: Why nothing is compiled although it was asked for; None as long as it is.
        self.obstacle: str | None = None
        self._compiled = _compiled_gradient(network) if compiled else None

    def chains(self, bead_types: Tensor, pos: Tensor, target: Tensor) -> ForceLoss:
        """Return the loss of frames of one chain.

        Args:
            bead_types: (N,) int64, the same for every frame.
            pos: (R, N, 3) in Å.
            target: (R, N, 3) forces to match, kcal/mol/Å.
        """
        n_frames, n_beads, _ = pos.shape
        pairs = self.network.pairs_of_chains(pos)
        batch = _Batch(
            bead_types.repeat(n_frames), pos.reshape(-1, 3), target.reshape(-1, 3), pairs
        )
        edges = n_beads * torch.arange(n_frames + 1, device=pos.device)
        loss, forces = self._loss(batch, edges)
        return ForceLoss(loss, forces.reshape(pos.shape))

    def systems(self, bead_types: Tensor, pos: Tensor, batch: Tensor, target: Tensor) -> ForceLoss:
        """Return the loss of a flat batch of systems of any sizes.

        Args:
            bead_types: (n_beads,) int64.
            pos: (n_beads, 3) in Å.
            batch: (n_beads,) int64, the system of each bead, in any order.
            target: (n_beads, 3) forces to match, kcal/mol/Å.
        """
        order = torch.argsort(batch, stable=True)
        edges = torch.nn.functional.pad(torch.bincount(batch).cumsum(0), (1, 0))
        pairs = self.network.pairs_of_batch(pos[order], batch[order])
        flat = _Batch(bead_types[order], pos[order], target[order], pairs)
        loss, forces = self._loss(flat, edges)
        return ForceLoss(loss, torch.empty_like(forces).index_copy_(0, order, forces))

    def _loss(self, batch: _Batch, edges: Tensor) -> tuple[Tensor, Tensor]:
        weights: dict[str, Tensor] = {
            name: weight
            for name, weight in self.network.named_parameters()
            if weight.requires_grad and name != _NO_FORCE
        }
        batch = batch._replace(
            pos=batch.pos.detach(), target=batch.target.detach().to(batch.pos.dtype)
        )

        def evaluate(gradient: bool) -> _Sums:
            return self._evaluate(batch, edges, weights if gradient else {})

        wanted = torch.is_grad_enabled() and bool(weights)
        loss, forces = _Loss.apply(evaluate, wanted, *weights.values())  # type: ignore[no-untyped-call]
        return loss, forces

    def _evaluate(self, batch: _Batch, edges: Tensor, weights: dict[str, Tensor]) -> _Sums:
        """Return sums over all blocks; gradients by tables are carried on to the weights."""
        with torch.set_grad_enabled(bool(weights)):
            table = self._table(batch)
        leaves = None
        if table is not None:
            leaves = [one.detach().requires_grad_(bool(weights)) for one in table.tables]
        found: list[_Sums] = []
        for block in _blocks(batch, edges):
            sums = self._block(block, weights, table, leaves)
            if found:
                _add(found[0], sums)
                found.append(sums._replace(weights=[], tables=[]))
            else:
                found.append(sums)
        total = found[0]
        gradients = total.weights
        if table is not None and weights:
            through = torch.autograd.grad(
                table.tables, list(weights.values()), total.tables, allow_unused=True
            )
            gradients = [
                one if other is None else one + other
                for one, other in zip(gradients, through, strict=True)
            ]
        return _Sums(total.squares, torch.cat([one.forces for one in found]), gradients, [])

    def _table(self, batch: _Batch) -> FilterTable | None:
        """Return the smallest table that is accurate and saves work, if there is one.

        It depends on the weights and the number of pairs alone, so that a run that is resumed goes
        on as it would have.
        """
        if not self.tabulated or batch.pos.dtype != torch.float32:
            return None
        network = self.network
        for n_intervals in _INTERVALS:
            if n_intervals >= len(batch.pairs.first):
                return None
            table = network.table(n_intervals)
            error = table.slope_error(network.radial, network.filter_networks)
            # What is not a number no finer table would mend: the loss will not be one either.
            if not error >= TABLE_TOLERANCE[torch.float32]:
                return table
        return None

    def _block(
        self,
        block: _Batch,
        weights: dict[str, Tensor],
        table: FilterTable | None,
        leaves: list[Tensor] | None,
    ) -> _Sums:
        if weights and self._compiled is not None:
            try:
                return self._compiled(block, weights, table, leaves or [])
            except Exception as error:  # noqa: BLE001 - whatever ails a compiler, a run goes on
                self._compiled = None
                self.obstacle = f"compilation failed: {str(error).strip().splitlines()[0][:200]}"
        with torch.set_grad_enabled(bool(weights)):
            source = None if table is None or leaves is None else table.over(leaves)
            forces = self.network.forces(block.bead_types, block.pos, block.pairs, source)
            squares = (forces - block.target).square().sum()
            inputs = [*weights.values(), *(leaves or [])]
            gradients: Sequence[Tensor | None] = ()
            if weights:
                gradients = torch.autograd.grad(squares, inputs, allow_unused=True)
        filled = [
            torch.zeros_like(one) if gradient is None else gradient
            for one, gradient in zip(inputs, gradients, strict=bool(weights))
        ]
        n = len(weights)
        return _Sums(squares.detach(), forces.detach(), filled[:n], filled[n:])


def _blocks(batch: _Batch, edges: Tensor) -> list[_Batch]:
    """Divide a batch between systems into blocks of about as many pairs each."""
    n_pairs = len(batch.pairs.first)
    n_blocks = -(-n_pairs // _PAIRS_PER_BLOCK)
    if n_blocks < 2 or batch.pos.device.type != "cpu":
        return [batch]
    bounds = torch.searchsorted(batch.pairs.first, edges)
    wanted = torch.linspace(0, n_pairs, n_blocks + 1, dtype=torch.float64).long()
    cuts = torch.searchsorted(bounds, wanted)
    cuts[0], cuts[-1] = 0, len(edges) - 1
    places = torch.unique(cuts)
    beads, pairs = edges[places].tolist(), bounds[places].tolist()
    found = []
    for k in range(len(beads) - 1):
        here, between = slice(beads[k], beads[k + 1]), slice(pairs[k], pairs[k + 1])
        own = Pairs(batch.pairs.first[between] - beads[k], batch.pairs.second[between] - beads[k])
        found.append(_Batch(batch.bead_types[here], batch.pos[here], batch.target[here], own))
    return found


def _add(total: _Sums, more: _Sums) -> None:
    total.squares.add_(more.squares)
    for sums, parts in ((total.weights, more.weights), (total.tables, more.tables)):
        for one, other in zip(sums, parts, strict=True):
            one.add_(other)


class _Loss(torch.autograd.Function):
    """Loss and forces; the gradient is computed with them, and only scaled on the way back."""

    @staticmethod
    def forward(
        ctx: Any, evaluate: Callable[[bool], _Sums], gradient: bool, *weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        found = evaluate(gradient)
        ctx.gradient = found.weights
        ctx.number = max(1, found.forces.numel())
        ctx.mark_non_differentiable(found.forces)
        return found.squares / ctx.number, found.forces

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        factor = scale / ctx.number
        return (None, None, *(part * factor for part in ctx.gradient))


def compiler_obstacle(device: torch.device) -> str | None:
    """Say what torch lacks to compile for a device; None if nothing is known to be missing."""
    if device.type == "cpu":
        compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
        if shutil.which(compiler) is None:
            return f"no C++ compiler ({compiler}) is installed"
    elif find_spec("triton") is None:
        return "triton is not installed"
    return None


class _Forces(torch.nn.Module):
    """The forces of a flat batch as a module's call, which is what parameters can be given to."""

    def __init__(self, network: GraphNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, block: _Batch, filters: PolynomialFilters | None) -> Tensor:
        return self.network.forces(block.bead_types, block.pos, block.pairs, filters)


def _compiled_gradient(
    network: GraphNetwork,
) -> Callable[[_Batch, dict[str, Tensor], FilterTable | None, list[Tensor]], _Sums]:
    """Return the gradient of a block as one compiled function, for any number of beads and pairs.

    ``torch.compile`` alone would compile forward and backward apart and keep what lies between
    in memory; as one function, most of it is never written.
    """
    module = _Forces(network)

    def squares(
        inputs: tuple[dict[str, Tensor], list[Tensor]], block: _Batch, spacing: float
    ) -> tuple[Tensor, Tensor]:
        weights, tables = inputs
        lower = network.settings.cutoff_lower
        filters = PolynomialFilters(tables, lower, spacing) if tables else None
        forces = functional_call(module, weights, (block, filters))
        return (forces - block.target).square().sum(), forces

    gradient = torch.compile(grad(squares, has_aux=True), dynamic=True)

    def evaluate(
        block: _Batch, weights: dict[str, Tensor], table: FilterTable | None, leaves: list[Tensor]
    ) -> _Sums:
        values = {f"network.{name}": weight.detach() for name, weight in weights.items()}
        tables = [leaf.detach() for leaf in leaves]
        spacing = 1.0 if table is None else table.spacing
        (by_weights, by_tables), forces = gradient((values, tables), block, spacing)
        sums = (forces - block.target).square().sum()
        return _Sums(sums, forces, list(by_weights.values()), list(by_tables))

    return evaluate
