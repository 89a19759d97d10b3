"""The force-matching loss of a graph network by compiled loops: the fast path of training.

Loss and gradient come from ``cgbench.kernels.training``, with filters looked up in splines. The
splines are made from the filter networks in every step by differentiable operations, on some
hundred knots instead of on every pair, and carry the gradient back to their weights. The plain
expressions of :class:`cgbench.models.GraphNetwork` are the twin.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from cgbench.errors import ValidationError
from cgbench.models.filters import (
    TABLE_TOLERANCE,
    RadialInput,
    exact_filters,
    relative_error,
)
from cgbench.models.graph_network import GraphNetwork
from cgbench.models.radial import envelope

#: Intervals that are tried, until one is accurate enough.
_INTERVALS: Final = (512, 640, 768, 1024, 2048, 4096, 8192, 16384, 32768)
#: Distances at which tables are compared with the exact filters, evenly over the cutoffs; a prime
#: number, so that they are at many places within the intervals.
_N_CHECKED: Final = 101


class ForceLoss(NamedTuple):
    """Outcome of a batch.

    Attributes:
        loss: Mean over components of the squared difference of the forces, (kcal/mol/Å)²;
            differentiable in the weights of the network.
        forces: (n_beads, 3) or (n_frames, n_beads, 3) kcal/mol/Å, without a graph.
    """

    loss: Tensor
    forces: Tensor


class FusedForceLoss:
    """Force-matching losses of a network on a processor.

    Args:
        network: The network; its weights are read anew for every batch.
        n_threads: Threads that share the systems of a batch; torch's number if None.
    """

    def __init__(self, network: GraphNetwork, n_threads: int | None = None) -> None:
        # Compiled loops take a second to import.
        from cgbench.kernels.training import TrainingKernel

        settings = network.settings
        self.network = network
        self._kernel = TrainingKernel(
            (settings.cutoff_lower, settings.cutoff_upper),
            n_threads or torch.get_num_threads(),
        )

    def chains(self, bead_types: Tensor, pos: Tensor, target: Tensor) -> ForceLoss:
        """Return the loss of frames of one chain.

        Args:
            bead_types: (N,) int64, the same for every frame.
            pos: (R, N, 3) in Å.
            target: (R, N, 3) forces to match, kcal/mol/Å.

        Raises:
            ValidationError: The filters change too fast for a table.
        """
        n_frames, n_beads, _ = pos.shape
        edges = n_beads * np.arange(n_frames + 1, dtype=np.int64)
        loss, forces = self._loss(
            bead_types.repeat(n_frames), pos.reshape(-1, 3), target.reshape(-1, 3), edges
        )
        return ForceLoss(loss, forces.reshape(pos.shape))

    def systems(self, bead_types: Tensor, pos: Tensor, batch: Tensor, target: Tensor) -> ForceLoss:
        """Return the loss of a flat batch of systems of any sizes.

        Args:
            bead_types: (n_beads,) int64.
            pos: (n_beads, 3) in Å.
            batch: (n_beads,) int64, the system of each bead, in any order.
            target: (n_beads, 3) forces to match, kcal/mol/Å.

        Raises:
            ValidationError: The filters change too fast for a table.
        """
        order = torch.argsort(batch, stable=True)
        counts = torch.bincount(batch).numpy()
        edges = np.concatenate([np.zeros(1, np.int64), counts.cumsum()])
        loss, forces = self._loss(bead_types[order], pos[order], target[order], edges)
        return ForceLoss(loss, torch.empty_like(forces).index_copy_(0, order, forces))

    def _loss(
        self, bead_types: Tensor, pos: Tensor, target: Tensor, edges: NDArray[np.int64]
    ) -> ForceLoss:
        from cgbench.kernels.training_arrays import Weights

        types, kinds = torch.unique(bead_types, return_inverse=True)
        weights = _weights(self.network, types)
        gradient = torch.is_grad_enabled() and any(weight.requires_grad for weight in weights)

        def evaluate(arrays: list[NDArray[Any]]) -> Any:
            return self._kernel(
                np.ascontiguousarray(pos.detach().numpy()),
                kinds.numpy(),
                edges,
                np.ascontiguousarray(target.detach().to(pos.dtype).numpy()),
                Weights(*arrays),
                gradient=gradient,
            )

        loss, forces = _Loss.apply(evaluate, *weights)  # type: ignore[no-untyped-call]
        return ForceLoss(loss, forces)


class _Loss(torch.autograd.Function):
    """Loss and forces; the gradient is computed with them, and only scaled on the way back."""

    @staticmethod
    def forward(
        ctx: Any, evaluate: Callable[[list[NDArray[Any]]], Any], *weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        found = evaluate([np.ascontiguousarray(weight.detach().numpy()) for weight in weights])
        ctx.gradient = found.gradient
        forces = torch.from_numpy(found.forces)
        ctx.mark_non_differentiable(forces)
        return forces.new_tensor(found.squares / max(1, forces.numel())), forces

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *(torch.from_numpy(part) * scale for part in ctx.gradient))


class _KnotValues(torch.autograd.Function):
    """Values of a filter network at knots, in double precision both ways.

    Gradients by the values of neighbouring knots are large and of opposite signs: single precision
    would lose what is left of them.
    """

    @staticmethod
    def forward(ctx: Any, basis: Tensor, cutoff: Tensor, *weights: Tensor) -> Tensor:
        first, first_bias, second, second_bias = (weight.double() for weight in weights)
        hidden = torch.addmm(first_bias, basis, first.T).tanh_()
        ctx.dtype = weights[0].dtype
        ctx.save_for_backward(basis, cutoff, hidden, first, second)
        return torch.addmm(second_bias, hidden, second.T).mul_(cutoff)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        basis, cutoff, hidden, first, second = ctx.saved_tensors
        output = gradient * cutoff
        inner = output @ second
        inner = inner.addcmul_(inner * hidden, hidden, value=-1.0)
        found = (inner.T @ basis, inner.sum(0), output.T @ hidden, output.sum(0))
        return (inner @ first, None, *(one.to(ctx.dtype) for one in found))


class _Spline(torch.autograd.Function):
    """Coefficients of splines from values at knots and the change at the first, and their steps.

    Steps are taken before coefficients are rounded: they would lose digits otherwise.
    """

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, first_slope: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        from cgbench.kernels.training_spline import coefficients_from

        found = coefficients_from(values.numpy(), first_slope.numpy())
        return torch.from_numpy(found).to(dtype), torch.from_numpy(np.diff(found, axis=0)).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, table: Tensor, steps: Tensor) -> tuple[Tensor, Tensor, None]:
        from cgbench.kernels.training_spline import gradient_to_values

        total, change = table.numpy().astype(np.float64), steps.numpy()
        total[1:] += change
        total[:-1] -= change
        values, first_slope = gradient_to_values(total)
        return torch.from_numpy(values), torch.from_numpy(first_slope), None


def _weights(network: GraphNetwork, types: Tensor) -> tuple[Tensor, ...]:
    """Return the fields of the kernel's weights, connected to the network's parameters."""
    layers = network.interactions
    embedded = network.embedding.weight.index_select(0, types)
    send = [layer.send.weight for layer in layers[1:]]
    tables, steps = _tables(network)
    return (
        tables,
        steps,
        embedded,
        embedded @ layers[0].send.weight.T,
        torch.stack(send) if send else embedded.new_zeros((0, *layers[0].send.weight.shape)),
        torch.stack([layer.receive.weight for layer in layers]),
        torch.stack([layer.receive.bias for layer in layers]),
        torch.stack([layer.update.weight for layer in layers]),
        torch.stack([layer.update.bias for layer in layers]),
        network.readout_hidden.weight,
        network.readout_hidden.bias,
        network.readout_energy.weight[0],
    )


def _tables(network: GraphNetwork) -> tuple[Tensor, Tensor]:
    """Return spline coefficients (n_layers, n_intervals + 3, n_filters) and steps between them.

    They are accurate enough. The number of intervals depends on the weights alone, so that a run
    that is resumed goes on as it would have.

    Raises:
        ValidationError: None is.
    """
    dtype = network.embedding.weight.dtype
    settings = network.settings
    lower, width = settings.cutoff_lower, settings.cutoff_upper - settings.cutoff_lower
    places = (np.arange(_N_CHECKED) + 0.5) / _N_CHECKED
    exact = exact_filters(network.radial, network.filter_networks, lower + width * places)
    error = float("nan")
    for n_intervals in _INTERVALS:
        tables, steps = _spline_tables(network, n_intervals)
        interval = (places * n_intervals).astype(np.int64)
        t = (places * n_intervals - interval)[:, None]
        errors = []
        for rows, (_, slope) in zip(steps.detach().numpy(), exact, strict=True):
            found = 0.5 * (1 - t) ** 2 * rows[interval] + 0.5 * t**2 * rows[interval + 2]
            found = (found + (0.5 + t - t**2) * rows[interval + 1]) * (n_intervals / width)
            errors.append(relative_error(found, slope))
        error = float(np.max(errors))
        # What is not a number no finer table would mend: the loss will not be one either.
        if not error >= TABLE_TOLERANCE[dtype]:
            return tables, steps
    raise ValidationError(
        "filters change too fast for a table",
        expected=f"a relative error of the slopes below {TABLE_TOLERANCE[dtype]:g}",
        found=f"{error:.2g} with {_INTERVALS[-1]} intervals",
        fix="train with engine: torch",
    )


def _spline_tables(network: GraphNetwork, n_intervals: int) -> tuple[Tensor, Tensor]:
    """Return spline coefficients of all layers and their steps, with the weights' graph."""
    settings, radial = network.settings, network.radial
    spacing = (settings.cutoff_upper - settings.cutoff_lower) / n_intervals
    knots = settings.cutoff_lower + spacing * torch.arange(n_intervals + 1, dtype=torch.float64)

    def doubled(module: torch.nn.Module) -> dict[str, Tensor]:
        return {name: weight.double() for name, weight in module.named_parameters()}

    basis, basis_slope = functional_call(radial, doubled(radial), (knots,))
    cutoff, cutoff_slope = envelope(knots, radial.lower, radial.upper)
    first = RadialInput(basis[:1], basis_slope[:1], cutoff[:1, None], cutoff_slope[:1, None])
    tables = []
    for layer in network.filter_networks:
        weights = (layer.hidden.weight, layer.hidden.bias, layer.output.weight, layer.output.bias)
        values = _KnotValues.apply(basis, cutoff[:, None], *weights)  # type: ignore[no-untyped-call]
        # The envelope is flat at the upper cutoff always, at the lower one if there is one.
        if radial.lower > 0:
            slope = values.new_zeros(values.shape[1])
        else:
            slope = functional_call(layer, doubled(layer), (first,))[1][0] * spacing
        tables.append(_Spline.apply(values, slope, layer.hidden.weight.dtype))  # type: ignore[no-untyped-call]
    return torch.stack([table for table, _ in tables]), torch.stack([steps for _, steps in tables])
