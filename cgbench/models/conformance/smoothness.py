"""Search for jumps of energy and forces at the cutoffs and between them."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from cgbench.models.conformance.probe import Check, Probe, Structure, measured

#: Chains are swollen by these factors: beads in contact come apart beyond any usual cutoff.
_SMALLEST, _LARGEST = 0.75, 3.5
_N_FACTORS = 200
#: The first beads of long chains hold all kinds of distances at a part of the cost.
_MOST_BEADS = 24
_PAIRS_AT_CUTOFF = 8
_N_CANDIDATES = 12
#: After so many halvings an interval is 1e-8 wide, and a smooth force is a line across it.
_HALVINGS = 20


def smoothness(probe: Probe) -> Check:
    """Measure jumps of energy and forces while a chain swells.

    Structures are scaled by a factor about their centre, so that distances pass through the
    cutoffs. At a cutoff, the jump is what is left of a central difference when its linear part is
    taken out. Elsewhere, in double precision, irregular intervals are halved until a smooth
    function would be a straight line.
    """
    worst, where = 0.0, "none found"
    smallest = sorted(probe.frames(1), key=lambda structure: len(structure[0]))[:2]
    for types, pos in ((types[:_MOST_BEADS], pos[:_MOST_BEADS]) for types, pos in smallest):
        centred = pos - pos.mean(0)
        jumps = list(_at_cutoffs(probe, types, centred))
        if probe.double:
            jumps += _elsewhere(probe, types, centred)
        for label, jump in jumps:
            if not jump <= worst:
                worst, where = jump, f"largest {label}"
    names = " and ".join(f"{cutoff:g} Å" for cutoff in probe.cutoffs) or "no declared cutoff"
    detail = f"jumps of energy or force on a swelling chain and at {names}: {where}"
    return measured("smoothness", worst, probe.bound(1e-4, 1e-3), detail)


def _at_cutoffs(probe: Probe, types: Tensor, pos: Tensor) -> Iterator[tuple[str, float]]:
    """Yield the largest jump at each cutoff; relative to the values in single precision."""
    distances = torch.nn.functional.pdist(pos)
    width = 1e-5 if probe.double else 1e-2
    offsets = [width, -width, width / 2, -width / 2]
    for cutoff in probe.cutoffs:
        factors = torch.sort(cutoff / distances).values
        factors = factors[(factors > _SMALLEST) & (factors < _LARGEST)]
        if len(factors) == 0:
            continue
        chosen = torch.linspace(0, len(factors) - 1, _PAIRS_AT_CUTOFF).round().long()
        structures = [
            (types, pos * (factor + offset))
            for factor in factors[chosen].tolist()
            for offset in offsets
        ]
        values = _energy_and_forces(probe, structures).reshape(_PAIRS_AT_CUTOFF, 4, -1)
        wide, narrow = values[:, 0] - values[:, 1], values[:, 2] - values[:, 3]
        scale = 1.0 if probe.double else max(1.0, float(values.abs().max()))
        yield f"at {cutoff:g} Å", float((2.0 * narrow - wide).abs().max()) / scale


def _elsewhere(probe: Probe, types: Tensor, pos: Tensor) -> Iterator[tuple[str, float]]:
    """Yield what is left of the largest irregular changes when their intervals are halved.

    The change over an interval is compared with those over its two neighbours. In a smooth
    function the difference falls with the square of the width, at a jump it stays.
    """
    factors = torch.linspace(_SMALLEST, _LARGEST, _N_FACTORS, dtype=torch.float64)
    values = _energy_and_forces(probe, [(types, pos * factor) for factor in factors.tolist()])
    excess = _irregular(values[1:] - values[:-1])
    # Energies and forces apart: the one must not hide the other.
    candidates = torch.cat(
        [part.topk(_N_CANDIDATES).indices for part in (excess[:, 0], excess[:, 1:].amax(1))]
    )
    low, width = factors[candidates + 1], float(factors[1] - factors[0])
    for halving in range(_HALVINGS):
        width /= 2
        # Both halves of each interval and as much on either side.
        points = low[:, None] + width * torch.arange(-1, 4, dtype=torch.float64)
        structures = [(types, pos * factor) for factor in points.flatten().tolist()]
        found = _energy_and_forces(probe, structures).reshape(*points.shape, -1).transpose(0, 1)
        change = found[1:] - found[:-1]
        expected = 0.5 * (change[0] + change[3])
        halves = (change[1:3] - expected).abs().amax(2)
        left, half = halves.max(0)
        low = low + width * half
        if halving % 4 == 3:
            kept = left.topk(max(2, len(left) // 2)).indices
            low, left = low[kept], left[kept]
    for factor, jump in zip(low.tolist(), left.tolist(), strict=True):
        yield f"where the chain is {factor:.4f} times its size", jump


def _irregular(change: Tensor) -> Tensor:
    """Return how each change but the first and last differs from the mean of its neighbours."""
    return (change[1:-1] - 0.5 * (change[:-2] + change[2:])).abs()


def _energy_and_forces(probe: Probe, structures: Sequence[Structure]) -> Tensor:
    """Return energies and forces (n_structures, 1 + 3 N) of structures of one size."""
    energy, forces = probe.evaluate_in_parts(structures)
    return torch.cat([energy[:, None], torch.stack(forces).flatten(1)], dim=1)
