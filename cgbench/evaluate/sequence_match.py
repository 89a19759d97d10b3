"""Which protein of the registry a structure is: by sequence, chain by chain, and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import UsageError, ValidationError

#: Stands for a residue that is no bead of the vocabulary.
UNKNOWN: Final = "?"
_ALL: Final = "all chains together"
#: Differences of the closest match that an error lists.
_LISTED: Final = 5


@dataclass(frozen=True, eq=False)
class Chain:
    """A chain of a topology.

    Attributes:
        label: How an error names it.
        sequence: One letter for each residue with a Cα; ``?`` for what is no bead.
        atoms: (n_residues,) int64 indices of the Cα atoms among all atoms.
    """

    label: str
    sequence: str
    atoms: NDArray[np.int64]


@dataclass(frozen=True)
class SequenceMatch:
    """The chain that is a system.

    Attributes:
        system: Registry key.
        chain: The chain.
        note: What a reader of scores has to know of the choice, or None.
    """

    system: str
    chain: Chain
    note: str | None = None


def topology_chains(topology: Any) -> tuple[Chain, ...]:
    """Return the chains of an mdtraj topology that have Cα atoms, divided by segment as well.

    Args:
        topology: As ``cgbench.ingest.topology.load_topology`` returns it.
    """
    from cgbench.ingest.topology import alpha_carbons

    letters = residue_letters()
    found: dict[tuple[int, str], list[tuple[int, str]]] = {}
    for index in alpha_carbons(topology).tolist():
        residue = topology.atom(index).residue
        name = residue.name.strip()
        letter = letters.get(name) or residue.code or UNKNOWN
        if letter not in registry.bead_vocabulary().letters:
            letter = UNKNOWN
        key = (residue.chain.index, str(getattr(residue, "segment_id", "")))
        found.setdefault(key, []).append((index, letter))
    chains = [
        Chain(
            label=f"chain {chain}" + (f" segment {segment}" if segment else ""),
            sequence="".join(letter for _, letter in atoms),
            atoms=np.array([index for index, _ in atoms], dtype=np.int64),
        )
        for (chain, segment), atoms in found.items()
    ]
    return tuple(chains)


def residue_letters() -> dict[str, str]:
    """Return the letter of each residue name of the bead vocabulary."""
    beads = registry.bead_vocabulary().beads
    return {name: bead.letter for bead in beads for name in bead.residues}


def known_sequences() -> dict[str, str]:
    """Return the sequences of all systems and of the mutants that have one, by key."""
    known = {system.key: system.sequence for system in registry.systems()}
    mutants = {one.key: one.sequence for one in registry.mutants() if one.sequence is not None}
    return known | mutants


def sequence_of(system: str) -> str:
    """Return the sequence of a system or mutant.

    Raises:
        UsageError: It is unknown.
        ValidationError: The registry does not know a mutant's sequence.
    """
    known = known_sequences()
    if system in known:
        return known[system]
    without = {one.key: one for one in registry.mutants() if one.sequence is None}
    if system in without:
        raise ValidationError(
            f"{system}: its sequence is not known",
            found=without[system].reason,
            fix=f"cgbench download {system} --kind mutants",
        )
    return registry.system(system).sequence


def match_system(
    chains: Sequence[Chain],
    origin: object,
    system: str | None = None,
    sequences: Mapping[str, str] | None = None,
) -> SequenceMatch:
    """Return the chain that has the sequence of a system.

    Args:
        chains: The chains of a topology; all Cα atoms together count as one as well.
        origin: What errors name.
        system: The system that it must be; any of the registry if None.
        sequences: Sequences by key, instead of the registry's.

    Raises:
        UsageError: The system is unknown, or several systems have this sequence.
        ValidationError: No chain has the sequence; the message names the closest match.
    """
    known = dict(known_sequences() if sequences is None else sequences)
    if system is not None:
        known = {system: known[system] if system in known else sequence_of(system)}
    candidates = list(chains)
    if len(chains) > 1:
        candidates.append(
            Chain(
                _ALL,
                "".join(chain.sequence for chain in chains),
                np.concatenate([chain.atoms for chain in chains]),
            )
        )
    for chain in candidates:
        keys = [key for key, sequence in known.items() if sequence == chain.sequence]
        if len(keys) > 1:
            raise UsageError(
                f"{origin}: several systems have this sequence",
                found=", ".join(keys),
                fix="give --system",
            )
        if keys:
            equal = [one for one in chains if one.sequence == chain.sequence]
            note = None
            if len(equal) > 1:
                labels = ", ".join(one.label for one in equal)
                note = f"{labels} have the sequence of {keys[0]}; {chain.label} was taken."
            return SequenceMatch(keys[0], chain, note)
    raise _no_match(candidates, known, origin, system)


def _no_match(
    chains: Sequence[Chain], known: Mapping[str, str], origin: object, system: str | None
) -> ValidationError:
    wanted = "a protein of the registry" if system is None else f"the sequence of {system}"
    expected = f"a chain with {wanted}" if system is None else f"{system}: {known[system]}"
    if not chains:
        return ValidationError(
            f"{origin}: no Cα atom, so no chain has {wanted}", expected=expected, found="none"
        )
    found = max(
        (_alignment(chain, key, sequence) for chain in chains for key, sequence in known.items()),
        key=lambda one: one.identity,
    )
    fix = "check that these are trajectories of this protein"
    if found.differences == () and len(found.chain.sequence) > len(known[found.system]):
        last = found.offset + len(known[found.system])
        fix = (
            f"cut the trajectories to residues {found.offset + 1} to {last} of "
            f"{found.chain.label}, counted from 1"
        )
    elif system is not None and (better := _other_system(chains, system)) is not None:
        fix = f"it has the sequence of {better}: give --system {better}"
    return ValidationError(
        f"{origin}: no chain has {wanted}", expected=expected, found=found.text, fix=fix
    )


def _other_system(chains: Sequence[Chain], system: str) -> str | None:
    sequences = {chain.sequence for chain in chains}
    keys = [key for key, one in known_sequences().items() if key != system and one in sequences]
    return keys[0] if keys else None


@dataclass(frozen=True, eq=False)
class _Alignment:
    """How a chain lies on a system's sequence without gaps."""

    system: str
    chain: Chain
    length: int
    offset: int
    identity: float
    differences: tuple[tuple[int, str, str], ...]

    @property
    def text(self) -> str:
        """The alignment in words."""
        words = (
            f"closest: {self.chain.label} ({len(self.chain.sequence)} residues) has "
            f"{100.0 * self.identity:.0f} % identity with {self.system} ({self.length} residues)"
        )
        listed = [f"{old}{bead}{new}" for bead, old, new in self.differences[:_LISTED]]
        if listed:
            more = len(self.differences) - len(listed)
            words += "; differs at " + ", ".join(listed) + (f" and {more} more" if more else "")
        return f"{words}; found {_shortened(self.chain.sequence)}"


def _alignment(chain: Chain, key: str, sequence: str) -> _Alignment:
    """Slide a sequence along a chain and return the place of most equal residues.

    Identity is counted over the longer of the two, so that a fragment is no match.
    """
    letters = np.frombuffer(chain.sequence.encode(), dtype=np.uint8)
    wanted = np.frombuffer(sequence.encode(), dtype=np.uint8)
    best, best_offset = -1, 0
    for offset in range(1 - len(wanted), len(letters)):
        low, high = max(0, offset), min(len(letters), offset + len(wanted))
        equal = int((letters[low:high] == wanted[low - offset : high - offset]).sum())
        if equal > best:
            best, best_offset = equal, offset
    low, high = max(0, best_offset), min(len(letters), best_offset + len(wanted))
    differences = tuple(
        (place - best_offset + 1, sequence[place - best_offset], chain.sequence[place])
        for place in range(low, high)
        if chain.sequence[place] != sequence[place - best_offset]
    )
    identity = best / max(len(letters), len(wanted), 1)
    return _Alignment(key, chain, len(sequence), best_offset, identity, differences)


def _shortened(sequence: str) -> str:
    return sequence if len(sequence) <= 120 else f"{sequence[:117]}..."
