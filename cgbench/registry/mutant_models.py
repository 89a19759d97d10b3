"""Frozen models of the variants and of how they are tested."""

from typing import Literal, Self

import pydantic
from pydantic import Field

from cgbench.config import Frozen
from cgbench.registry.models import NativeStructure, Source


class Mutant(Frozen):
    """A variant of a system that a multi-protein model is asked to keep folded.

    Attributes:
        key: ``<parent>-<PDB id>``.
        parent: Key of the system it is a variant of.
        pdb_id: Entry of the Protein Data Bank.
        sequence: One letter for each bead.
        mutations: Differences from the parent's simulated sequence: the parent's letter, the bead
            counted from 1, the mutant's letter.
        native: The native structure, where the entry is at hand.
        scored_beads: Half-open range of beads, from 0, that are scored.
        reason: Why sequence, mutations, native or scored_beads is null.
        note: Where the sequence is from.
    """

    key: str
    parent: str
    pdb_id: str = Field(pattern=r"^[0-9][A-Z0-9]{3}$")
    sequence: str | None
    mutations: tuple[str, ...] | None
    native: NativeStructure | None
    scored_beads: tuple[int, int] | None
    reason: str | None
    note: str | None

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.key != f"{self.parent}-{self.pdb_id}":
            raise ValueError("key must be <parent>-<pdb_id>")
        unknown = None in (self.sequence, self.mutations, self.native, self.scored_beads)
        if unknown != (self.reason is not None):
            raise ValueError("a null needs a reason, and only a null has one")
        return self


class MutantScreening(Frozen):
    """How variants are tested, before they go on to a full protocol.

    Attributes:
        protocol: Protocol of the first stage.
        window_ps: Length of the end of the trajectory that is looked at, in ps.
        least_q: Least median fraction of native contacts of a variant that stays.
        controls: What is tested beside the variants of a parent.
        shuffle_seed: Seed of the one shuffled sequence of each parent.
        source: Where each number is from.
    """

    protocol: str
    window_ps: float = Field(gt=0)
    least_q: float = Field(gt=0, lt=1)
    controls: tuple[Literal["wild-type", "shuffled", "poly-glycine"], ...]
    shuffle_seed: int = Field(ge=0)
    source: dict[str, Source]

    @pydantic.model_validator(mode="after")
    def _every_constant_has_a_source(self) -> Self:
        constants = set(type(self).model_fields) - {"source"}
        if constants != set(self.source):
            raise ValueError(f"source is wrong for {constants ^ set(self.source)}")
        return self
