"""The single checks of the conformance suite; each measures one property of a potential.

Differences are measured in double precision where the potential can compute in it, so bounds can
be tight; a potential that only knows single precision gets looser ones.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from cgbench.errors import ValidationError
from cgbench.models.conformance.probe import (
    Check,
    Probe,
    Structure,
    checked,
    difference,
    measured,
    worst_of,
)
from cgbench.models.conformance.smoothness import smoothness


def interface(probe: Probe) -> Check:
    """Call with one and with two systems; shapes and precision of the results."""
    detail = f"energy (n_systems,) and forces (n_beads, 3) in {probe.native_dtype}"
    try:
        structures = probe.frames(1)[:1]
        probe.evaluate(structures, native=True)
        probe.evaluate(structures * 2, native=True)
    except ValidationError as error:
        detail = error.message.replace("\n ", ";")
    except Exception as error:  # noqa: BLE001 - foreign code may raise anything
        detail = f"the call failed: {type(error).__name__}: {error}"
    else:
        return Check(name="interface", passed=True, value=0.0, bound=0.0, detail=detail)
    return Check(name="interface", passed=False, value=None, bound=0.0, detail=detail)


def finite(probe: Probe) -> Check:
    """Count values that are not finite on the given frames."""
    energy, forces = probe.evaluate(probe.frames(4), native=True)
    bad = sum(int((~torch.isfinite(values)).sum()) for values in (energy, *forces))
    return measured("finite", float(bad), 0.0, "energies and forces of the given frames")


def _extreme_structures(probe: Probe) -> Iterator[tuple[str, Structure]]:
    for types, pos in probe.frames(1):
        centred = pos - pos.mean(0)
        nearest = torch.nn.functional.pdist(pos).min()
        line = torch.arange(len(pos), dtype=pos.dtype, device=pos.device)[:, None]
        yield "stretched", (types, centred * 3.0)
        yield "stretched", (types, centred * 100.0)
        yield "stretched", (types, 3.8 * line * torch.tensor([1.0, 0.01, 0.0]).to(pos))
        yield "clashing", (types, centred * (1.0 / nearest))
        yield "clashing", (types, centred * (0.5 / nearest))


def finite_extremes(probe: Probe) -> Check:
    """Count values that are not finite on stretched and on clashing chains."""
    labels, structures = zip(*_extreme_structures(probe), strict=True)
    energy, forces = probe.evaluate(structures, native=True)
    bad = [
        label
        for label, one, force in zip(labels, energy, forces, strict=True)
        if not bool(torch.isfinite(one)) or not bool(torch.isfinite(force).all())
    ]
    which = f"not finite: {', '.join(sorted(set(bad)))} chains" if bad else "all finite"
    detail = f"stretched 100 times and to a line, and beads down to 0.5 Å apart; {which}"
    return measured("finite_extremes", float(len(bad)), 0.0, detail)


def forces_are_gradient(probe: Probe) -> Check:
    """Compare −F·u with central differences of the energy along directions u.

    Directions move all beads at once and single beads, so that an error confined to one bead is
    not diluted.
    """
    step = 1e-4 if probe.double else 1e-2
    worst = 0.0
    for types, pos in probe.frames(2):
        n_beads = len(types)
        directions = [probe.random(n_beads, 3) for _ in range(6)]
        for bead in torch.linspace(0, n_beads - 1, min(n_beads, 16)).round().long().tolist():
            single = torch.zeros_like(pos)
            single[bead] = probe.random(3)
            directions.append(single)
        directions = [direction / direction.norm() for direction in directions]
        moved = [
            (types, pos + sign * step * direction)
            for direction in directions
            for sign in (1.0, -1.0)
        ]
        energy, _ = probe.evaluate_in_parts(moved)
        slope = (energy[0::2] - energy[1::2]) / (2 * step)
        (force,) = probe.evaluate([(types, pos)])[1]
        expected = torch.stack([-(force * direction).sum() for direction in directions])
        worst = worst_of([worst, difference([slope], [expected])])
    detail = (
        f"largest difference of −F·u and (E(x+hu) − E(x−hu))/2h, relative, h = {step:g} Å, "
        f"{'double' if probe.double else 'single'} precision"
    )
    return measured("forces_are_gradient", worst, probe.bound(1e-5, 5e-2), detail)


def translation(probe: Probe) -> Check:
    """Compare energies and forces before and after moving structures as a whole."""
    structures = probe.frames(4)
    moved = [(types, pos + 10.0 * probe.random(1, 3)) for types, pos in structures]
    return _same(probe, "translation", structures, moved, "energies and forces of moved structures")


def rotation(probe: Probe) -> Check:
    """Compare energies, and rotate the forces along."""
    structures = probe.frames(4)
    rotations = []
    for _ in structures:
        matrix, _ = torch.linalg.qr(probe.random(3, 3))
        rotations.append(matrix * torch.linalg.det(matrix))
    turned = [(types, pos @ m.T) for (types, pos), m in zip(structures, rotations, strict=True)]
    energy, forces = probe.evaluate(structures)
    energy_turned, forces_turned = probe.evaluate(turned)
    back = [force @ m for force, m in zip(forces_turned, rotations, strict=True)]
    value = difference([energy_turned, *back], [energy, *forces])
    detail = "energies stay and forces turn along with rotated structures"
    return measured("rotation", value, probe.bound(1e-8, 1e-3), detail)


def _same(
    probe: Probe, name: str, one: Sequence[Structure], other: Sequence[Structure], detail: str
) -> Check:
    energy, forces = probe.evaluate(one)
    other_energy, other_forces = probe.evaluate(other)
    value = difference([other_energy, *other_forces], [energy, *forces])
    return measured(name, value, probe.bound(1e-8, 1e-3), detail)


def system_order(probe: Probe) -> Check:
    """Compare a batch with the same systems in another order."""
    structures = probe.frames(4)
    order = torch.randperm(len(structures), generator=probe.generator).tolist()
    energy, forces = probe.evaluate(structures)
    other_energy, other_forces = probe.evaluate([structures[index] for index in order])
    value = difference(
        [other_energy, *other_forces], [energy[order], *(forces[index] for index in order)]
    )
    detail = "energies and forces follow the systems when their order changes"
    return measured("system_order", value, probe.bound(1e-8, 1e-3), detail)


def single_equals_batch(probe: Probe) -> Check:
    """Compare each system alone with the same system in a batch."""
    structures = probe.frames(3)
    value = _alone_and_together(probe, structures)
    detail = "one system alone and in a batch"
    return measured("single_equals_batch", value, probe.bound(1e-8, 1e-3), detail)


def _alone_and_together(probe: Probe, structures: Sequence[Structure]) -> float:
    """Return the largest difference between systems one by one and in one batch."""
    energy, forces = probe.evaluate(structures)
    alone = [probe.evaluate([structure]) for structure in structures]
    together = [one for pair in zip(torch.split(energy, 1), forces, strict=True) for one in pair]
    apart = [one for single, (force,) in alone for one in (single, force)]
    return difference(apart, together)


def no_leak(probe: Probe) -> Check:
    """Move one system through another and compare energy and forces of the one that stays."""
    worst = 0.0
    for types, pos in probe.frames(2):
        far = pos + torch.tensor([500.0, 0.0, 0.0]).to(pos)
        expected, expected_forces = probe.evaluate([(types, pos), (types, far)])
        shifted = pos + torch.tensor([4.0, 0.0, 0.0]).to(pos)
        for neighbour in (shifted, pos + 0.1 * probe.random(*pos.shape), pos * 50.0):
            energy, forces = probe.evaluate([(types, pos), (types, neighbour)])
            found = difference([energy[:1], forces[0]], [expected[:1], expected_forces[0]])
            worst = worst_of([worst, found])
    detail = "energy and forces of a system do not change when another one in the batch moves"
    return measured("no_leak", worst, probe.bound(1e-8, 1e-3), detail)


def mixed_sizes(probe: Probe) -> Check:
    """Put chains of different lengths into one batch; shorter ones are the starts of the given."""
    structures = [
        (types[:length], pos[:length])
        for types, pos in probe.frames(2)
        for length in sorted({len(types), max(5, len(types) // 2), max(5, len(types) - 3)})
    ]
    value = _alone_and_together(probe, structures)
    lengths = sorted({len(types) for types, _ in structures})
    detail = f"chains of {', '.join(map(str, lengths))} beads in one batch and alone"
    return measured("mixed_sizes", value, probe.bound(1e-8, 1e-3), detail)


def repeatable(probe: Probe) -> Check:
    """Call twice with the same tensors, which must stay as they are."""
    types, pos = probe.frames(1)[0]
    pos = pos.to(probe.native_dtype)
    batch = torch.zeros_like(types)
    kept = types.clone(), pos.clone(), batch.clone()
    first = checked(probe.native(types, pos, batch), 1, pos)
    second = checked(probe.native(types, pos, batch), 1, pos)
    value = difference(list(second), list(first))
    unchanged = all(
        torch.equal(a, b) for a, b in zip(kept, (types, pos.detach(), batch), strict=True)
    )
    detail = "the same call twice" if unchanged else "the call changes its arguments in place"
    return measured("repeatable", value if unchanged else math.inf, 1e-6, detail)


def precision(probe: Probe) -> Check:
    """Compare the potential in its own precision with itself in double precision."""
    if not probe.double or probe.native_dtype == torch.float64:
        detail = f"only one precision to compare: {probe.native_dtype}"
        return Check(name="precision", passed=True, value=None, bound=None, detail=detail)
    structures = [(types, pos.float().double()) for types, pos in probe.frames(2)]
    _, forces = probe.evaluate(structures)
    _, native = probe.evaluate(structures, native=True)
    value = difference([force.double() for force in native], forces)
    return measured("precision", value, 1e-3, f"forces in {probe.native_dtype} and in double")


def fast_path(probe: Probe) -> Check:
    """Compare ``chains``, which simulation uses where a potential has it, with the plain call."""
    chains = getattr(probe.native, "chains", None)
    if chains is None:
        detail = "the potential has no path for replicas of one chain"
        return Check(name="fast_path", passed=True, value=None, bound=None, detail=detail)
    worst = 0.0
    for types, frames in probe.systems.values():
        pos = frames[:4].to(probe.native_dtype)
        energy, forces = probe.evaluate([(types, frame) for frame in pos], native=True)
        result = chains(types, pos)
        found = [result.network_energy + result.prior_energy, *result.forces]
        worst = worst_of([worst, difference(found, [energy, *forces])])
    detail = "energies and forces of replicas of one chain and of the plain call"
    return measured("fast_path", worst, 1e-4, detail)


def throughput(probe: Probe) -> Check:
    """Measure energies and forces of 32 replicas of the first system, steps a second."""
    name, (types, frames) = next(iter(probe.systems.items()))
    pos = frames[torch.arange(32) % len(frames)].to(probe.native_dtype)
    chains = getattr(probe.native, "chains", None)
    structures = [(types, frame) for frame in pos]

    def step() -> None:
        if chains is None:
            probe.evaluate(structures, native=True)
        else:
            chains(types, pos)

    step()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < 0.5:
        step()
        steps += 1
    rate = steps / (time.perf_counter() - start)
    detail = f"steps a second, 32 replicas of {name} ({len(types)} beads), "
    detail += f"{torch.get_num_threads()} threads"
    return Check(name="throughput", passed=True, value=rate, bound=None, detail=detail)


#: All checks in the order in which they are run. The first decides whether the rest make sense.
CHECKS: dict[str, Callable[[Probe], Check]] = {
    "interface": interface,
    "finite": finite,
    "finite_extremes": finite_extremes,
    "repeatable": repeatable,
    "forces_are_gradient": forces_are_gradient,
    "translation": translation,
    "rotation": rotation,
    "system_order": system_order,
    "single_equals_batch": single_equals_batch,
    "mixed_sizes": mixed_sizes,
    "no_leak": no_leak,
    "smoothness": smoothness,
    "precision": precision,
    "fast_path": fast_path,
    "throughput": throughput,
}
