"""The operations as tensor expressions, for any device and precision.

Pairs are dense, because shapes have to be known: what a bead has no neighbour for is computed and
weighted with zero. That is what the loops of processors and the Triton kernels avoid; in exchange
there is nothing here that could depend on a compiler.

Constants enter as arguments of masked fills, not of ``where``: that would copy them to the device,
which cannot be recorded.
"""

from typing import Final

import torch
from torch import Tensor

from cgbench.kernels.device.arrays import PairLists, PriorArrays, StepArrays

#: Elements of the largest temporary tensor: bounds the memory of large batches.
_ELEMENTS: Final = 2**24


def n_parts(n_filters: int) -> int:
    """Return 1: all filters are summed at once."""
    return 1


def place_pairs(
    positions: Tensor,
    cutoffs: Tensor,
    lists: PairLists,
    bead_energy: Tensor,
    energy: Tensor,
    forces: Tensor,
) -> None:
    """List pairs and start sums; see :class:`cgbench.kernels.device.arrays.Operations`."""
    n_beads = positions.shape[1]
    lower, upper, per_spacing = cutoffs.unbind()
    differences = positions[:, :, None] - positions[:, None]
    squared = differences.square().sum(-1)
    beads = torch.arange(n_beads, device=positions.device)
    inside = (squared > lower * lower) & (squared < upper * upper)
    inside &= beads[:, None] != beads
    inside = inside.reshape(-1, n_beads)
    lists.counts.copy_(inside.sum(1))
    # Neighbours move to the front of their row; what is left over, to one more column.
    place = (inside.cumsum(1) - 1).masked_fill(~inside, n_beads)
    scaled = ((squared.sqrt() - lower) * per_spacing).reshape(-1, n_beads)
    wider = (len(inside), n_beads + 1)
    rows = beads.expand(len(inside), n_beads)
    lists.neighbour.copy_(place.new_zeros(wider).scatter_(1, place, rows)[:, :n_beads])
    lists.scaled.copy_(scaled.new_zeros(wider).scatter_(1, place, scaled)[:, :n_beads])
    broken = _poison(positions)[:, None].expand(-1, n_beads).reshape(-1)
    energy.copy_(broken + bead_energy)
    forces.zero_()
    forces[0] += broken[:, None]


def send_messages(lists: PairLists, table: Tensor, sent: Tensor, received: Tensor) -> None:
    """Sum filtered messages; see :class:`cgbench.kernels.device.arrays.Operations`."""
    for part in _row_blocks(lists, table):
        rows, valid, interval, t = _places(lists, part, len(table) - 3, len(sent))
        filters = _mixed(table, interval, _value_weights(t), valid)
        received[part] = (filters * sent[rows]).sum(1)


def pull_back(
    lists: PairLists,
    positions: Tensor,
    cutoffs: Tensor,
    table: Tensor,
    sent: Tensor,
    pull: Tensor,
    forces: Tensor,
    pulled: Tensor | None,
) -> None:
    """Add forces and take the gradient; see :class:`cgbench.kernels.device.arrays.Operations`."""
    flat, per_spacing = positions.reshape(-1, 3), cutoffs[2]
    n_rows = len(flat)
    for part in _row_blocks(lists, table):
        others, valid, interval, t = _places(lists, part, len(table) - 3, n_rows)
        senders, _, _, _ = _places(lists, part, len(table) - 3, len(sent))
        own = torch.arange(n_rows, device=flat.device)[part]
        mine = sent[own % len(sent)][:, None]
        pull_other = pull[others]
        weights = [weight * per_spacing for weight in _slope_weights(t)]
        slopes = _mixed(table, interval, weights, valid)
        slope = (slopes * (pull[part][:, None] * sent[senders] + pull_other * mine)).sum(2)
        differences = flat[part][:, None] - flat[others]
        distances = differences.square().sum(2).masked_fill(~valid, 1.0).sqrt()
        unit = (differences / distances[..., None]).masked_fill(~valid[..., None], 0.0)
        forces[0, part] -= (slope[..., None] * unit).sum(1)
        if pulled is not None:
            filters = _mixed(table, interval, _value_weights(t), valid)
            pulled[part] = (filters * pull_other).sum(1)


def prior_forces(
    positions: Tensor, prior: PriorArrays, parts: Tensor, energy: Tensor, forces: Tensor
) -> None:
    """Evaluate the prior; see :class:`cgbench.kernels.device.arrays.Operations`."""
    n_replicas, n_beads, _ = positions.shape
    clash, least_normal, least_length, constant = prior.constants.unbind()
    shares = energy.reshape(n_replicas, n_beads)
    vectors = positions[:, 1:] - positions[:, :-1]
    lengths = torch.maximum(vectors.square().sum(2).sqrt(), least_length)
    stretch = lengths - prior.bond_r0[: n_beads - 1]
    bond_k = prior.bond_k[: n_beads - 1]
    # Gradients by bond vectors; a bond pulls at both its ends.
    pulls = (2.0 * bond_k * stretch / lengths)[..., None] * vectors
    weights, repelled = _repulsion(positions, prior.strength, clash)
    shares.copy_(repelled)
    shares[:, : n_beads - 1] += bond_k * stretch.square()
    if n_beads > 3 and prior.cosine.shape[1] > 0:
        angular, gradients = _dihedrals(vectors, lengths, prior, least_normal)
        shares[:, : n_beads - 3] += angular
        for shift, gradient in enumerate(gradients):
            pulls[:, shift : shift + n_beads - 3] += gradient
    broken = _poison(positions)
    shares[:, 0] += constant
    shares += broken[:, None]
    forces.copy_(parts.sum(0).reshape(forces.shape))
    differences = positions[:, :, None] - positions[:, None]
    forces += (weights[..., None] * differences).sum(2)
    forces[:, :-1] += pulls
    forces[:, 1:] -= pulls
    forces += broken[:, None, None]


def before_forces(step: StepArrays) -> None:
    """Do B, A, O and A; see :class:`cgbench.kernels.device.arrays.Operations`."""
    kick, drift, decay = step.constants.unbind()
    noise = step.noise.index_select(0, step.within)[0]
    velocities = step.velocities + step.forces * kick
    positions = step.positions + velocities * drift
    velocities = velocities * decay + noise * step.spread[:, None, None]
    positions = positions + velocities * drift
    step.alive.logical_and_(torch.isfinite(positions).flatten(1).all(1))
    alive = step.alive[:, None, None]
    step.positions.copy_(torch.where(alive, positions, step.positions))
    step.velocities.copy_(velocities.masked_fill(~alive, 0.0))


def after_forces(step: StepArrays) -> None:
    """Do the last B; see :class:`cgbench.kernels.device.arrays.Operations`."""
    finite = torch.isfinite(step.forces).flatten(1).all(1)
    step.alive.logical_and_(finite)
    failed = ~step.alive[:, None, None]
    step.forces.masked_fill_(failed, 0.0)
    kicked = step.velocities + step.forces * step.constants[0]
    step.velocities.copy_(kicked.masked_fill(failed, 0.0))
    step.within.add_(1).remainder_(len(step.noise))


def _poison(positions: Tensor) -> Tensor:
    """Return (n_replicas,) zeros, or what is not a number for replicas with such positions."""
    return (positions * 0.0).sum((1, 2))


def _row_blocks(lists: PairLists, table: Tensor) -> list[slice]:
    n_rows, n_beads = lists.neighbour.shape
    size = max(1, _ELEMENTS // (n_beads * table.shape[1]))
    return [slice(first, min(first + size, n_rows)) for first in range(0, n_rows, size)]


def _places(
    lists: PairLists, part: slice, n_intervals: int, n_sent: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return rows of neighbours, which are valid, their intervals and places within them."""
    n_beads = lists.neighbour.shape[1]
    columns = torch.arange(n_beads, device=lists.counts.device)
    valid = columns < lists.counts[part][:, None]
    own = torch.arange(len(lists.counts), device=lists.counts.device)[part]
    first = (own // n_beads * n_beads) % n_sent
    rows = first[:, None] + lists.neighbour[part].masked_fill(~valid, 0)
    scaled = lists.scaled[part].masked_fill(~valid, 0.0)
    interval = scaled.to(torch.int64).clamp(0, n_intervals - 1)
    return rows, valid, interval, scaled - interval


def _value_weights(t: Tensor) -> list[Tensor]:
    s = 1.0 - t
    middle = [3.0 * a * a * (a - 2.0) + 4.0 for a in (t, s)]
    return [weight / 6.0 for weight in (s * s * s, *middle, t * t * t)]


def _slope_weights(t: Tensor) -> list[Tensor]:
    s = 1.0 - t
    inner = [3.0 * t * (3.0 * t - 4.0), 3.0 * s * (4.0 - 3.0 * s)]
    return [weight / 6.0 for weight in (-3.0 * s * s, *inner, 3.0 * t * t)]


def _mixed(table: Tensor, interval: Tensor, weights: list[Tensor], valid: Tensor) -> Tensor:
    """Return mixtures (n, n_beads, n_filters) of four neighbouring rows, zero where not valid."""
    total = torch.zeros((), dtype=table.dtype, device=table.device)
    for shift, weight in enumerate(weights):
        total = total + weight.masked_fill(~valid, 0.0)[..., None] * table[interval + shift]
    return total


def _repulsion(positions: Tensor, strength: Tensor, clash: Tensor) -> tuple[Tensor, Tensor]:
    """Return factors (R, N, N) of difference vectors in the forces, and energies (R, N)."""
    squared = (positions[:, :, None] - positions[:, None]).square().sum(-1)
    bounded = torch.where(squared < clash, clash, squared)
    inverse = bounded.reciprocal().square()
    weights = strength * inverse * inverse
    return 6.0 * weights, 0.5 * (weights * (4.0 * bounded - 3.0 * squared)).sum(2)


def _dihedrals(
    vectors: Tensor, lengths: Tensor, prior: PriorArrays, least_normal: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Return energies (R, N − 3) and gradients by the first, middle and last bond of each."""
    n = vectors.shape[1] - 2
    first, middle, last = (vectors[:, shift : shift + n] for shift in range(3))
    length = lengths[:, 1 : n + 1]
    m = torch.linalg.cross(first, middle, dim=2)
    k = torch.linalg.cross(middle, last, dim=2)
    m_squared = torch.maximum(m.square().sum(2), least_normal)
    k_squared = torch.maximum(k.square().sum(2), least_normal)
    inverse = (m_squared * k_squared).sqrt().reciprocal()
    cosine = (m * k).sum(2) * inverse
    sine = (first * k).sum(2) * length * inverse
    c, s = cosine, sine
    energy, slope = torch.zeros_like(cosine), torch.zeros_like(cosine)
    for order in range(prior.cosine.shape[1]):
        a, b = prior.cosine[:n, order], prior.sine[:n, order]
        energy = energy + c * a + s * b
        slope = slope + (order + 1) * (c * b - s * a)
        c, s = c * cosine - s * sine, s * cosine + c * sine
    outer, inner = slope * length, slope / length
    before = inner * (first * middle).sum(2) / m_squared
    after = inner * (middle * last).sum(2) / k_squared
    return energy, (
        (outer / m_squared)[..., None] * m,
        -(before[..., None] * m + after[..., None] * k),
        (outer / k_squared)[..., None] * k,
    )
