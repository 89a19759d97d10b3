"""The single checks of the conformance suite; each measures one property of a sampler."""

import contextlib
import random
import time
from collections.abc import Callable
from typing import Final

import numpy as np
import torch

from cgbench import registry
from cgbench.errors import CgbenchError
from cgbench.evaluate.sequence_match import sequence_of
from cgbench.models.conformance.probe import Check, measured
from cgbench.nemo.features import AMINO_ACIDS
from cgbench.samplers.conformance.probe import (
    FEW,
    MANY,
    SamplerProbe,
    difference,
    equal_frequencies,
    global_numbers,
    kept_state,
    known,
)
from cgbench.samplers.contract import SamplerSpec

#: Lengths of the chains that are tried; from ``_DRAWN`` residues on, every sampler draws them.
_LENGTHS: Final = (1, 2, 3, 4, 5, 8, 37)
_DRAWN: Final = 5
#: Sequences that are none.
_NO_SEQUENCES: Final = ("", "ACDEJGHI", "acdefghi", "ACDE-GHI", "ACDEF GH", "ACDEF\x00GH")


def interface(probe: SamplerProbe) -> Check:
    """Draw a few structures of each system: an ensemble without time order, of the right shape."""
    spec: object = getattr(probe.sampler, "spec", None)
    if not isinstance(spec, SamplerSpec):
        detail = f"no spec: expected a SamplerSpec, found {type(spec).__name__}"
        return Check(name="interface", passed=False, value=None, bound=0.0, detail=detail)
    for system in probe.systems:
        probe.drawn(system)
    detail = "a spec, and an ensemble without time order of the system and number asked for"
    return measured("interface", 0.0, 0.0, detail)


def finite(probe: SamplerProbe) -> Check:
    """Count structures that are not finite."""
    bad = sum(
        int((~np.isfinite(probe.drawn(system)).all(axis=(1, 2))).sum()) for system in probe.systems
    )
    return measured("finite", float(bad), 0.0, f"structures that are not, of {FEW} a system")


def bonds(probe: SamplerProbe) -> Check:
    """Measure the share of bonds that would make a frame a bad one."""
    limits = registry.constants()
    lengths = np.concatenate(
        [
            np.linalg.norm(np.diff(probe.drawn(system), axis=1), axis=2).ravel()
            for system in probe.systems
        ]
    )
    good = (lengths >= limits.bond_minimum) & (lengths <= limits.bond_maximum)
    there = lengths[np.isfinite(lengths)]
    median = f"; the median is {float(np.median(there)):.3g} Å" if len(there) else ""
    detail = (
        f"share of neighbouring Cα that are not {limits.bond_minimum:g} to "
        f"{limits.bond_maximum:g} Å apart{median}"
    )
    bound = registry.sampler_constants().conformance.bad_bonds
    return measured("bonds", float((~good).mean()), bound, detail)


def repeatable(probe: SamplerProbe) -> Check:
    """Draw with the same arguments after a draw of something else, and once more at once."""
    system = probe.systems[0]
    first = probe.drawn(system)
    probe.draw(probe.systems[-1], 2, probe.seed + 1)
    again = [probe.draw(system, FEW, probe.seed) for _ in range(2)]
    value = max(difference(first, one) for one in again)
    detail = "largest difference in Å of draws with the same arguments, another one between"
    return measured("repeatable", value, 0.0, detail)


def seeds(probe: SamplerProbe) -> Check:
    """Count structures that do not change with the seed, where one draw has different ones."""
    system = probe.systems[0]
    first, other = probe.drawn(system), probe.draw(system, FEW, probe.seed + 1)
    if difference(first, np.broadcast_to(first[:1], first.shape)) == 0.0:
        detail = "one structure, whatever the seed"
        return Check(name="seeds", passed=True, value=None, bound=None, detail=detail)
    same = sum(known(one, two[None]) for one, two in zip(first, other, strict=True))
    detail = f"of {FEW} structures, those that another seed gives in the same place"
    return measured("seeds", float(same), float(FEW - 1), detail)


def first_samples(probe: SamplerProbe) -> Check:
    """Look for the structures of a small draw among the first ones of a large one."""
    system = probe.systems[0]
    few, many = probe.drawn(system), probe.draw(system, MANY, probe.seed)
    lost = sum(not known(one, many) for one in few)
    if probe.structures is not None and not lost:
        # An ensemble puts bad structures last; here they come as they were drawn.
        sequence = sequence_of(system)
        profile = equal_frequencies(len(sequence)) if probe.needs_profile else None
        drawn = [
            np.asarray(probe.structures(sequence, n, profile=profile, seed=probe.seed))
            for n in (FEW, MANY)
        ]
        lost = sum(not known(one, two[None]) for one, two in zip(*drawn, strict=False))
    detail = f"of {FEW} structures, those that are not the first ones of {MANY} of the same seed"
    return measured("first_samples", float(lost), 0.0, detail)


def global_state(probe: SamplerProbe) -> Check:
    """Draw under different states of the global random generators, which must stay as they are."""
    system = probe.systems[0]
    wrong = []
    for number in (11, 12):
        with kept_state():
            random.seed(number)
            np.random.seed(number)  # noqa: NPY002 - the global state is what is looked at
            torch.manual_seed(number)
            before = global_numbers()
            found = probe.draw(system, FEW, probe.seed)
            wrong += [name for name, value in global_numbers().items() if value != before[name]]
        if difference(found, probe.drawn(system)) > 0.0:
            wrong.append("the structures follow it")
    listed = ", ".join(dict.fromkeys(wrong))
    detail = "random generators of Python, NumPy and torch, default precision, threads: " + (
        f"changed or used: {listed}" if wrong else "left alone, and without influence"
    )
    return measured("global_state", float(len(set(wrong))), 0.0, detail)


def temperature(probe: SamplerProbe) -> Check:
    """Draw at the registry's temperature of the system, where all others name none."""
    system = probe.systems[0]
    parents = {one.key: one.parent for one in registry.mutants()}
    named = registry.system(parents.get(system, system)).temperature
    probe.draw(system, FEW, probe.seed, at=named)
    detail = f"drawn at {named:g} K, and where no temperature is named"
    return measured("temperature", 0.0, 0.0, detail)


def unknown_system(probe: SamplerProbe) -> Check:
    """Ask for a system that does not exist."""
    drawn = False
    with contextlib.suppress(Exception):
        probe.sampler.sample("no-such-system", FEW, temperature=None, seed=probe.seed)
        drawn = True
    detail = "a system that does not exist " + ("is drawn all the same" if drawn else "is an error")
    return measured("unknown_system", float(drawn), 0.0, detail)


def lengths(probe: SamplerProbe) -> Check:
    """Draw chains of all lengths; very short ones may be refused."""
    if probe.structures is None:
        return _no_sequences("lengths")
    wrong = []
    for length in _LENGTHS:
        sequence = (AMINO_ACIDS * 2)[:length]
        try:
            found = probe.of_sequence(sequence)
        except CgbenchError:
            if length >= _DRAWN:
                wrong.append(f"{length}: refused")
            continue
        if found.shape != (FEW, length, 3):
            wrong.append(f"{length}: shape {found.shape}")
        elif not np.isfinite(found).all(axis=(1, 2)).any():
            wrong.append(f"{length}: not finite")
    detail = f"chains of {', '.join(map(str, _LENGTHS))} residues, drawn from {_DRAWN} on" + (
        f"; wrong are {'; '.join(wrong)}" if wrong else ""
    )
    return measured("lengths", float(len(wrong)), 0.0, detail)


def unknown_residues(probe: SamplerProbe) -> Check:
    """Ask for sequences with letters that are no residue."""
    if probe.structures is None:
        return _no_sequences("unknown_residues")
    accepted = []
    for sequence in _NO_SEQUENCES:
        with contextlib.suppress(CgbenchError):
            probe.of_sequence(sequence)
            accepted.append(repr(sequence))
    detail = f"drawn all the same: {', '.join(accepted)}" if accepted else "all refused"
    detail = f"letters that are no residue, and an empty sequence; {detail}"
    return measured("unknown_residues", float(len(accepted)), 0.0, detail)


def profiles(probe: SamplerProbe) -> Check:
    """Give a network of profiles none, one of another chain, and one that is none."""
    if probe.structures is None or not probe.needs_profile:
        detail = "made for sequences without a profile"
        return Check(name="profiles", passed=True, value=None, bound=None, detail=detail)
    sequence = AMINO_ACIDS
    wrong = {
        "none": None,
        "of another chain": equal_frequencies(len(sequence) + 1),
        "of no frequencies": -equal_frequencies(len(sequence)),
        "not finite": equal_frequencies(len(sequence)) * np.nan,
    }
    accepted = []
    for what, profile in wrong.items():
        with contextlib.suppress(CgbenchError):
            probe.structures(sequence, FEW, profile=profile, seed=probe.seed)
            accepted.append(what)
    detail = "a profile that is missing, of another chain, or no frequencies" + (
        f"; drawn all the same: {', '.join(accepted)}" if accepted else "; all refused"
    )
    return measured("profiles", float(len(accepted)), 0.0, detail)


def throughput(probe: SamplerProbe) -> Check:
    """Measure structures a second of the first system."""
    system = probe.systems[0]
    started = time.perf_counter()
    probe.draw(system, MANY, probe.seed)
    rate = MANY / (time.perf_counter() - started)
    detail = f"structures a second, {MANY} of {system} ({len(sequence_of(system))} beads), "
    detail += f"{torch.get_num_threads()} threads"
    return Check(name="throughput", passed=True, value=rate, bound=None, detail=detail)


#: All checks in the order in which they are run. The first decides whether the rest make sense.
SAMPLER_CHECKS: Final[dict[str, Callable[[SamplerProbe], Check]]] = {
    "interface": interface,
    "finite": finite,
    "bonds": bonds,
    "repeatable": repeatable,
    "seeds": seeds,
    "first_samples": first_samples,
    "global_state": global_state,
    "temperature": temperature,
    "unknown_system": unknown_system,
    "lengths": lengths,
    "unknown_residues": unknown_residues,
    "profiles": profiles,
    "throughput": throughput,
}


def _no_sequences(name: str) -> Check:
    detail = "the sampler draws systems of the registry alone: it has no method 'structures'"
    return Check(name=name, passed=True, value=None, bound=None, detail=detail)
