"""Search for jumps of energy and forces at the cutoffs and between them."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from cgbench.models.conformance.probe import Check, Probe, Structure, measured

#: Chains are swollen by these factors: beads in contact come apart beyond any usual cutoff.
_SMALLEST, _LARGEST = 0.75, 3.5
_N_FACTORS = 200
_PAIRS_AT_CUTOFF = 8
#: After so many halvings an interval is 1e-12 wide, and a continuous force does not change in it.
_HALVINGS = 34


def smoothness(probe: Probe) -> Check:
    """Measure jumps of energy and forces while a chain swells.

    Structures are scaled by a factor about their centre, so that distances pass through the
    cutoffs. At a cutoff, the jump is what is left of a central difference when its linear part is
    taken out. Elsewhere, in double precision, the steepest intervals are halved until a continuous
    function would have changed by almost nothing.
    """
    worst, where = 0.0, "none found"
    smallest = sorted(probe.frames(1), key=lambda structure: len(structure[0]))[:2]
    for types, pos in smallest:
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
    """Yield the largest changes in vanishing intervals between two swelling factors."""
    factors = torch.linspace(_SMALLEST, _LARGEST, _N_FACTORS).tolist()
    values = _energy_and_forces(probe, [(types, pos * factor) for factor in factors])
    change = (values[1:] - values[:-1]).abs().amax(1)
    # A jump stands out from the changes in the intervals around it.
    excess = change[1:-1] - 0.5 * (change[:-2] + change[2:])
    steepest = (excess.topk(4).indices + 1).tolist()
    intervals = [(factors[index], factors[index + 1]) for index in steepest]
    for _ in range(_HALVINGS):
        thirds = [(low, 0.5 * (low + high), high) for low, high in intervals]
        structures = [(types, pos * factor) for triple in thirds for factor in triple]
        found = _energy_and_forces(probe, structures).reshape(len(thirds), 3, -1)
        steps = (found[:, 1:] - found[:, :-1]).abs().amax(2)
        steeper = steps.argmax(1).tolist()
        intervals = [
            list(pairwise(triple))[half] for triple, half in zip(thirds, steeper, strict=True)
        ]
    for (factor, _), jump in zip(intervals, steps.amax(1).tolist(), strict=True):
        yield f"where the chain is {factor:.4f} times its size", jump


def _energy_and_forces(probe: Probe, structures: Sequence[Structure]) -> Tensor:
    """Return energies and forces (n_structures, 1 + 3 N) of structures of one size."""
    energy, forces = probe.evaluate_in_parts(structures)
    return torch.cat([energy[:, None], torch.stack(forces).flatten(1)], dim=1)
