"""Which data are of the same protein: by sequence, not by name.

A protein is left out only when nothing like it is trained on: its variants, other data of the same
sequence under another name, and sequences that are similar beyond the registry's threshold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import UsageError

#: Sequences that are aligned at once: a table of them stays in the processor's cache.
_TOGETHER: Final = 128

#: Why data are not trained on when a protein is left out.
RelationKind = Literal["itself", "variant", "identical", "similar", "unrelated"]


@dataclass(frozen=True)
class Relation:
    """How the data of one system relate to a left-out protein.

    Attributes:
        left_out: Registry key of the protein that is left out.
        system: The system whose data are looked at.
        kind: ``itself``; ``variant`` of it, by the registry; ``identical`` in sequence; ``similar``
            beyond the threshold; or ``unrelated``.
        identity: Sequence identity, 0 to 1; None for a variant whose sequence is not known.
    """

    left_out: str
    system: str
    kind: RelationKind
    identity: float | None

    @property
    def excluded(self) -> bool:
        """Whether the data must not be trained on."""
        return self.kind != "unrelated"

    @property
    def reason(self) -> str:
        """Why they must not, or that they may."""
        share = "" if self.identity is None else f"{100 * self.identity:.0f} % identical"
        threshold = f"{100 * registry.sequence_identity().threshold:g} %"
        return {
            "itself": "the left-out protein",
            "variant": f"variant of {self.left_out}" + (f", {share}" if share else ""),
            "identical": f"same sequence as {self.left_out}",
            "similar": f"{share} with {self.left_out}, more than {threshold}",
            "unrelated": f"{share} with {self.left_out}, at most {threshold}",
        }[self.kind]


@lru_cache(maxsize=4096)
def sequence_identity(first: str, second: str) -> float:
    """Return the share of the shorter sequence that is identical in the best alignment, 0 to 1.

    Global alignment (Needleman and Wunsch, J. Mol. Biol. 48, 443, 1970) with the registry's scores;
    what hangs over at the ends costs nothing, so that a fragment of a protein is identical with it.
    Of alignments with the same score the one with most identical residues counts.

    Args:
        first: One letter for each bead, at least one.
        second: The other sequence.

    Raises:
        UsageError: A sequence is empty.
    """
    if not first or not second:
        raise UsageError("sequence identity: an empty sequence")
    rule = registry.sequence_identity()
    # One number for score and identical residues: the former decides, the latter breaks ties.
    unit = min(len(first), len(second)) + 1
    match, mismatch, gap = rule.match * unit + 1, rule.mismatch * unit, rule.gap * unit
    above = [0] * (len(second) + 1)
    ends = [0]
    for letter in first:
        row = [0]
        for column, other in enumerate(second, start=1):
            step = match if letter == other else mismatch
            row.append(max(above[column - 1] + step, above[column] + gap, row[-1] + gap))
        above = row
        ends.append(row[-1])
    best = max(max(above), max(ends))
    return (best % unit) / min(len(first), len(second))


def sequence_identities(own: str, others: Sequence[str]) -> NDArray[np.float64]:
    """Return :func:`sequence_identity` of one sequence with each of many, (n,).

    Args:
        own: One letter for each bead, at least one; in Latin letters, as the others.
        others: The other sequences.

    Raises:
        UsageError: A sequence is empty.
    """
    if not own or not all(others):
        raise UsageError("sequence identity: an empty sequence")
    found = np.empty(len(others))
    order = sorted(range(len(others)), key=lambda place: len(others[place]))
    for start in range(0, len(order), _TOGETHER):
        places = order[start : start + _TOGETHER]
        found[places] = _aligned(own, [others[place] for place in places])
    return found


def _aligned(own: str, others: Sequence[str]) -> NDArray[np.float64]:
    """Fill the tables of many alignments at once, a row at a time."""
    rule = registry.sequence_identity()
    lengths = np.array([len(other) for other in others])
    width, places = int(lengths.max()), np.arange(len(others))
    letters = np.zeros((len(others), width), dtype=np.uint32)
    for place, other in enumerate(others):
        letters[place, : len(other)] = np.frombuffer(other.encode("utf-32-le"), dtype=np.uint32)
    shorter = np.minimum(lengths, len(own))
    largest = max(rule.match + 1, -rule.mismatch, -rule.gap) * (len(own) + 1) * (width + 1)
    unit = (shorter + 1)[:, None].astype(np.int32 if largest < 2**30 else np.int64)
    match, mismatch, gap = rule.match * unit + 1, rule.mismatch * unit, rule.gap * unit
    # Gaps along a row, from each of its columns on, come to one running maximum.
    along = gap * np.arange(width + 1, dtype=gap.dtype)
    above = np.zeros((len(others), width + 1), dtype=gap.dtype)
    ends = np.zeros(len(others), dtype=np.int64)
    for letter in own:
        row = np.zeros_like(above)
        step = np.where(letters == ord(letter), match, mismatch)
        row[:, 1:] = np.maximum(above[:, :-1] + step, above[:, 1:] + gap)
        above = np.maximum.accumulate(row - along, axis=1) + along
        ends = np.maximum(ends, above[places, lengths])
    beyond = np.arange(width + 1) > lengths[:, None]
    best = np.maximum(np.where(beyond, 0, above).max(axis=1), ends)
    identical: NDArray[np.float64] = (best % unit[:, 0]) / shorter
    return identical


def relation(
    left_out: str, system: str, sequence: str | None = None, *, own: str | None = None
) -> Relation:
    """Return how the data of a system relate to a left-out protein.

    Args:
        left_out: Registry key of a protein, or any name with a sequence.
        system: Registry key of a system or variant, or the name of a user's own system.
        sequence: Its sequence; the registry's if None.
        own: Sequence of the left-out protein; the registry's if None.

    Raises:
        UsageError: The left-out protein is unknown, or a system without an entry has no sequence.
    """
    own = own or registry.system(left_out).sequence
    parents = {one.key: one for one in registry.mutants()}
    if sequence is None and system in parents:
        sequence = parents[system].sequence
    elif sequence is None:
        sequence = registry.system(system).sequence
    identity = None if sequence is None else sequence_identity(own, sequence)
    kind: RelationKind = "unrelated"
    if system == left_out:
        kind = "itself"
    elif system in parents and parents[system].parent == left_out:
        kind = "variant"
    elif sequence == own:
        kind = "identical"
    elif identity is not None and identity > registry.sequence_identity().threshold:
        kind = "similar"
    elif identity is None:
        # A variant of another protein whose sequence is not known is as that protein.
        found = relation(left_out, parents[system].parent, own=own)
        return Relation(left_out, system, found.kind, found.identity)
    return Relation(left_out, system, kind, identity)


def relations(left_out: str, others: Mapping[str, str] | None = None) -> tuple[Relation, ...]:
    """Return how everything that is known relates to a left-out protein.

    Args:
        left_out: Registry key of a published protein.
        others: Sequences of further systems by name; they stand for those of the registry of the
            same name.

    Raises:
        UsageError: The left-out protein is unknown.
    """
    sequences: dict[str, str | None] = {one.key: one.sequence for one in registry.systems()}
    sequences |= {one.key: one.sequence for one in registry.mutants()}
    sequences |= others or {}
    return tuple(relation(left_out, system, found) for system, found in sequences.items())
