"""Undirected pairs of beads: each pair once, no cap on the number of neighbours."""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor


class Pairs(NamedTuple):
    """Pairs of beads as indices into a flat list of beads.

    Attributes:
        first: (n_pairs,) int64, index of one bead.
        second: (n_pairs,) int64, index of the other; a pair appears in one order only.
    """

    first: Tensor
    second: Tensor


@lru_cache(maxsize=64)
def all_chain_pairs(n_replicas: int, n_beads: int, device: torch.device) -> Pairs:
    """Return all pairs within each of ``n_replicas`` chains laid out one after the other.

    The result is cached: it depends on the shape alone, so callers must not write to it.
    """
    first, second = torch.triu_indices(n_beads, n_beads, offset=1, device=device)
    start = n_beads * torch.arange(n_replicas, device=device)[:, None]
    return Pairs((first + start).reshape(-1), (second + start).reshape(-1))


def _within(positions: Tensor, lower: float, upper: float) -> Tensor:
    """Return which pairs (i < j) of each system lie inside the cutoffs, (n_systems, n, n) bool.

    Pairs with a distance that is not a number are kept, so that a broken structure gives a broken
    energy rather than a plausible one.
    """
    squared = positions.new_zeros((*positions.shape[:2], positions.shape[1]))
    # One component at a time: rows of three numbers make slow tensor operations.
    for component in positions.unbind(-1):
        difference = component[:, :, None] - component[:, None, :]
        squared.addcmul_(difference, difference)
    outside = (squared >= upper * upper) | (squared <= lower * lower)
    return outside.logical_not_().triu_(diagonal=1)


def chain_pairs_within(positions: Tensor, lower: float, upper: float) -> Pairs:
    """Return the pairs of each chain with a distance between the cutoffs.

    Args:
        positions: (n_replicas, n_beads, 3) in Å.
        lower: Lower cutoff in Å; a pair at this distance or closer is left out.
        upper: Upper cutoff in Å; a pair at this distance or farther is left out.

    Returns:
        Indices into the flattened (n_replicas * n_beads) beads, ordered by chain.
    """
    n_beads = positions.shape[1]
    replica, first, second = _within(positions.detach(), lower, upper).nonzero(as_tuple=True)
    return Pairs(replica * n_beads + first, replica * n_beads + second)


def batch_pairs_within(positions: Tensor, batch: Tensor, lower: float, upper: float) -> Pairs:
    """Return the pairs within each system of a flat batch with a distance between the cutoffs.

    Systems may differ in size and their beads may come in any order.

    Args:
        positions: (n_beads, 3) in Å.
        batch: (n_beads,) int64, the system of each bead.
        lower: Lower cutoff in Å.
        upper: Upper cutoff in Å.
    """
    if len(batch) == 0:
        return Pairs(batch, batch)
    order = torch.argsort(batch, stable=True)
    system = batch[order]
    counts = torch.bincount(system)
    starts = counts.cumsum(0) - counts
    # Systems are padded to the largest; padding takes part in no pair.
    within_system = torch.arange(len(batch), device=batch.device) - starts[system]
    shape = (len(counts), int(counts.max()))
    padded = positions.new_zeros((*shape, 3))
    padded[system, within_system] = positions.detach()[order]
    exists = torch.zeros(shape, dtype=torch.bool, device=batch.device)
    exists[system, within_system] = True
    inside = _within(padded, lower, upper) & exists[:, :, None] & exists[:, None, :]
    owner, first, second = inside.nonzero(as_tuple=True)
    return Pairs(order[starts[owner] + first], order[starts[owner] + second])


def add_to_both(
    values_for_first: Tensor, values_for_second: Tensor, pairs: Pairs, n: int
) -> Tensor:
    """Sum pair values, (n_pairs, width) each, onto the beads of the pairs: (n, width)."""
    total = values_for_first.new_zeros((n, values_for_first.shape[1]))
    return total.index_add(0, pairs.first, values_for_first).index_add(
        0, pairs.second, values_for_second
    )
