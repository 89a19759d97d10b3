"""Continuous filters: networks of one distance, evaluated exactly or from a table.

A filter depends on one number, so between the cutoffs it can be tabulated: a cubic polynomial for
each of some hundred intervals, with the exact values and slopes at the knots. Looking it up is a
weighted sum of four rows and costs a small part of the filter network's matrix products. The
slope that comes with it is the derivative of the polynomial itself, so forces from a table are the
exact gradient of the energy from that table.
"""

from collections.abc import Sequence
from copy import copy
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.nn.functional import embedding_bag

from cgbench.models.activations import ACTIVATIONS, ActivationName
from cgbench.models.radial import RadialBasis, envelope

#: Relative error of tabulated slopes that is lost in the rounding of single precision.
SINGLE_PRECISION_TOLERANCE = 2e-6


#: Largest relative error of the slopes of splines in compiled loops, by precision: below what
#: single precision loses anyway.
TABLE_TOLERANCE: Final = {torch.float32: 5e-6, torch.float64: 3e-11}


#: Distances at which a table is compared in training; a prime number, see ``slope_error``.
_N_CHECKED: Final = 101


def relative_error(found: NDArray[np.float64], exact: NDArray[np.float64]) -> float:
    """Return the norm of a difference relative to the norm of the exact values."""
    scale = max(float(np.sqrt(np.square(exact).sum())), 1e-30)
    return float(np.sqrt(np.square(found - exact).sum())) / scale


class Filters(NamedTuple):
    """Filters of all layers at each pair.

    Attributes:
        values: For each layer (n_pairs, num_filters), zero at and outside the cutoffs.
        slopes: Their derivatives by distance, same shapes, 1/Å.
    """

    values: list[Tensor]
    slopes: list[Tensor]


class FilterSource(Protocol):
    """What gives the filters of all layers at distances."""

    def filters(self, distance: Tensor) -> Filters:
        """Return the filter of each layer at distances (n_pairs,) in Å within the cutoffs."""


class RadialInput(NamedTuple):
    """Functions of the pair distances that the filters of all layers share, with derivatives."""

    basis: Tensor
    basis_slope: Tensor
    cutoff: Tensor
    cutoff_slope: Tensor


def radial_input(radial: RadialBasis, distance: Tensor) -> RadialInput:
    """Return the radial functions (n_pairs, num_rbf) and envelope (n_pairs, 1) at distances."""
    basis, basis_slope = radial(distance)
    cutoff, cutoff_slope = envelope(distance, radial.lower, radial.upper)
    return RadialInput(basis, basis_slope, cutoff[:, None], cutoff_slope[:, None])


class FilterNetwork(nn.Module):
    """Two-layer network from radial functions to filters, times the envelope."""

    def __init__(self, num_rbf: int, num_filters: int, activation: ActivationName = "tanh") -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.hidden = nn.Linear(num_rbf, num_filters)
        self.output = nn.Linear(num_filters, num_filters)

    def value(self, radial: RadialInput) -> Tensor:
        """Return the filter (n_pairs, num_filters) at each pair."""
        output: Tensor = self.output(self.activation.value(self.hidden(radial.basis)))
        return output * radial.cutoff

    def forward(self, radial: RadialInput) -> tuple[Tensor, Tensor]:
        """Return the filter at each pair and its derivative by distance."""
        inner = self.hidden(radial.basis)
        hidden = self.activation.value(inner)
        bare = self.output(hidden)
        gain = self.activation.slope(inner, hidden)
        hidden_slope = gain * (radial.basis_slope @ self.hidden.weight.T)
        bare_slope = hidden_slope @ self.output.weight.T
        slope = torch.addcmul(bare * radial.cutoff_slope, bare_slope, radial.cutoff)
        return bare * radial.cutoff, slope


class _Lookup(torch.autograd.Function):
    """Weighted sums of table rows; differentiable in the table, not in the distances."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, place: "TablePlace") -> tuple[Tensor, Tensor]:
        ctx.place, ctx.n_rows = place, len(table)
        return place.sums(table)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.place.transposed_sums(*gradients, ctx.n_rows), None


def _look_up(table: Tensor, place: "TablePlace") -> tuple[Tensor, Tensor]:
    value, slope = _Lookup.apply(table, place)  # type: ignore[no-untyped-call]
    return value, slope


class TablePlace:
    """Where distances fall in a table: four rows and their weights for each pair.

    Args:
        distance: (n_pairs,) in Å, within the cutoffs.
        lower: Distance of the first knot.
        spacing: Distance between knots.
        n_intervals: Number of intervals.
    """

    def __init__(self, distance: Tensor, lower: float, spacing: float, n_intervals: int) -> None:
        scaled = (distance - lower) / spacing
        # NaN has no interval; any will do, because the weights carry it on.
        interval = scaled.nan_to_num().to(torch.int64).clamp(0, n_intervals - 1)
        t = scaled - interval
        self.rows = (4 * interval)[:, None] + torch.arange(4, device=distance.device)
        self.weights = torch.stack([torch.ones_like(t), t, t * t, t * t * t], dim=1)
        self.slope_weights = torch.stack(
            [torch.zeros_like(t), torch.ones_like(t), 2.0 * t, 3.0 * t * t], dim=1
        ).div_(spacing)
        self._transposed: tuple[Tensor, Tensor, Tensor] | None = None

    def sums(self, table: Tensor) -> tuple[Tensor, Tensor]:
        """Return values and slopes (n_pairs, width) from polynomial coefficients (rows, width)."""
        value = embedding_bag(self.rows, table, per_sample_weights=self.weights, mode="sum")
        slope = embedding_bag(self.rows, table, per_sample_weights=self.slope_weights, mode="sum")
        return value, slope

    def transposed_sums(self, value: Tensor, slope: Tensor, n_rows: int) -> Tensor:
        """Return the gradient (n_rows, width) of a table from those of values and slopes.

        Also a weighted sum of rows: the pairs are sorted by table row once for all layers, which
        is several times faster than adding each pair into its rows.
        """
        if self._transposed is None:
            rows = torch.cat([self.rows, self.rows]).reshape(-1)
            order = torch.argsort(rows)
            counts = torch.bincount(rows, minlength=n_rows)
            weights = torch.cat([self.weights, self.slope_weights]).reshape(-1)[order]
            self._transposed = (order // 4, counts.cumsum(0) - counts, weights)
        pairs, offsets, weights = self._transposed
        return embedding_bag(
            pairs, torch.cat([value, slope]), offsets, per_sample_weights=weights, mode="sum"
        )


class FilterTable:
    """Cubic polynomials of the filters of all layers between the cutoffs.

    Polynomials are made in double precision: in single precision their coefficients would lose
    to cancellation what the interpolation gains. From 1024 intervals on, forces of a reference
    network differ from its exact ones by less than the rounding of single precision.

    Args:
        radial: Radial functions of the network.
        networks: Filter network of each layer.
        n_intervals: Number of intervals between the cutoffs.
    """

    def __init__(
        self,
        radial: RadialBasis,
        networks: Sequence[FilterNetwork],
        n_intervals: int,
    ) -> None:
        self.lower = radial.lower
        self.spacing = (radial.upper - radial.lower) / n_intervals
        self.n_intervals = n_intervals
        dtype = networks[0].hidden.weight.dtype
        knots = radial.lower + self.spacing * torch.arange(n_intervals + 1, dtype=torch.float64)
        self.tables = [
            _coefficients(value, slope, self.spacing).to(dtype)
            for value, slope in _in_double_precision(radial, networks, knots)
        ]

    def over(self, tables: list[Tensor]) -> "FilterTable":
        """Return the same look-up in other tensors, as copies that gradients stop at."""
        other = copy(self)
        other.tables = tables
        return other

    def filters(self, distance: Tensor) -> Filters:
        """Return the filter of each layer at distances (n_pairs,) within the cutoffs.

        Differentiable in the weights that the table was made from, not in the distances.
        """
        place = TablePlace(distance.detach(), self.lower, self.spacing, self.n_intervals)
        looked_up = [_look_up(table, place) for table in self.tables]
        return Filters([value for value, _ in looked_up], [slope for _, slope in looked_up])

    @torch.no_grad()
    def slope_error(self, radial: RadialBasis, networks: Sequence[FilterNetwork]) -> float:
        """Return the largest error of the slopes of a layer, relative to the slopes.

        They are compared at distances evenly over the cutoffs, at many places within intervals.
        """
        width = self.spacing * self.n_intervals
        places = (torch.arange(_N_CHECKED, dtype=torch.float64) + 0.5) / _N_CHECKED
        distance = self.lower + width * places
        exact = _in_double_precision(radial, networks, distance)
        found = self.filters(distance.to(networks[0].hidden.weight))
        errors = [
            (one - other).norm() / other.norm().clamp_min(1e-30)
            for one, (_, other) in zip(found.slopes, exact, strict=True)
        ]
        return float(torch.stack(errors).max())


class PolynomialFilters:
    """The polynomials of a :class:`FilterTable` written out element by element.

    A compiler makes one loop of what would be a dozen arrays of the size of pairs times filters.
    Differentiable in the tables.

    Args:
        tables: For each layer (4 * n_intervals, num_filters), as of a :class:`FilterTable`.
        lower: Distance of the first knot in Å.
        spacing: Å between knots.
    """

    def __init__(self, tables: Sequence[Tensor], lower: float, spacing: float) -> None:
        self._tables, self._lower, self._spacing = tables, lower, spacing

    def filters(self, distance: Tensor) -> Filters:
        """Return the filter of each layer at distances (n_pairs,) within the cutoffs."""
        scaled = (distance.detach() - self._lower) / self._spacing
        n_intervals = self._tables[0].shape[0] // 4
        # NaN has no interval; any will do, because t carries it on.
        interval = scaled.nan_to_num().to(torch.int64).clamp(0, n_intervals - 1)
        t = (scaled - interval)[:, None]
        values, slopes = [], []
        for table in self._tables:
            rows = table.reshape(n_intervals, 4, -1).unbind(1)
            a, b, c, d = (row.index_select(0, interval) for row in rows)
            values.append(a + t * (b + t * (c + t * d)))
            slopes.append((b + t * (2.0 * c + 3.0 * t * d)) / self._spacing)
        return Filters(values, slopes)


@torch.no_grad()
def accurate_table(radial: RadialBasis, networks: Sequence[FilterNetwork]) -> FilterTable | None:
    """Return the smallest table with slopes good to single precision; None if none is.

    Slopes are compared between the knots, where a cubic is worst, over all distances and filters.
    """
    for n_intervals in (1024, 2048, 4096):
        table = FilterTable(radial, networks, n_intervals)
        between = torch.arange(n_intervals, dtype=torch.float64) + 0.25
        distance = radial.lower + table.spacing * between
        exact = _in_double_precision(radial, networks, distance)
        found = table.filters(distance.to(networks[0].hidden.weight))
        errors = [
            float((one - other).norm() / other.norm().clamp_min(1e-30))
            for one, (_, other) in zip(found.slopes, exact, strict=True)
        ]
        if max(errors) < SINGLE_PRECISION_TOLERANCE:
            return table
    return None


def _in_double_precision(
    radial: RadialBasis, networks: Sequence[FilterNetwork], distance: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Return exact values and slopes of each layer, with the weights' graph if grad is enabled."""

    def doubled(module: nn.Module) -> dict[str, Tensor]:
        return {name: weight.double() for name, weight in module.named_parameters()}

    distance = distance.to(networks[0].hidden.weight.device)
    basis, basis_slope = functional_call(radial, doubled(radial), (distance,))
    cutoff, cutoff_slope = envelope(distance, radial.lower, radial.upper)
    shared = RadialInput(basis, basis_slope, cutoff[:, None], cutoff_slope[:, None])
    return [functional_call(network, doubled(network), (shared,)) for network in networks]


@torch.no_grad()
def exact_filters(
    radial: RadialBasis, networks: Sequence[FilterNetwork], distance: NDArray[np.float64]
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return values and slopes (n, num_filters) of each layer's filter in double precision.

    Args:
        radial: Radial functions of the network.
        networks: Filter network of each layer.
        distance: (n,) in Å, within the cutoffs.
    """
    found = _in_double_precision(radial, networks, torch.from_numpy(distance))
    return [(value.cpu().numpy(), slope.cpu().numpy()) for value, slope in found]


def _coefficients(value: Tensor, slope: Tensor, spacing: float) -> Tensor:
    """Return polynomial coefficients (4 * n_intervals, width), four rows an interval.

    Hermite interpolation: the cubic in ``t`` from 0 to 1 with given values and slopes at both ends.
    """
    start, rise = value[:-1], value[1:] - value[:-1]
    start_slope, end_slope = slope[:-1] * spacing, slope[1:] * spacing
    rows = torch.stack(
        [
            start,
            start_slope,
            3.0 * rise - 2.0 * start_slope - end_slope,
            start_slope + end_slope - 2.0 * rise,
        ],
        dim=1,
    )
    return rows.reshape(-1, value.shape[1])
