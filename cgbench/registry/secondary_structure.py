"""Elements of native secondary structure, and the constants they are found with."""

from functools import cache
from typing import Any, Literal, Self

import pydantic
from pydantic import Field

from cgbench.config import Frozen, validate
from cgbench.registry.loader import DATA, choose, read_data_file, system

ElementSource = Literal["paper", "P-SEA", "P-SEA and Cα pairs", "Cα pairs"]


class Element(Frozen):
    """A helix, or two strands that are paired, which are there or not there together.

    Attributes:
        kind: What it is.
        direction: How the strands of a pair run; null for a helix.
        beads: Half-open ranges of beads, from 0: one for a helix, two for a pair of strands.
        source: ``paper`` where the reference work names it; ``P-SEA`` where helix or strands are
            those of P-SEA; ``Cα pairs`` where a strand is the run of paired beads itself.
    """

    kind: Literal["helix", "strand pair"]
    direction: Literal["parallel", "antiparallel"] | None
    beads: tuple[tuple[int, int], ...]
    source: ElementSource

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        helix = self.kind == "helix"
        if len(self.beads) != (1 if helix else 2) or (self.direction is None) != helix:
            raise ValueError("a helix is one range of beads, a pair of strands two that run")
        previous = 0
        for first, stop in self.beads:
            if not previous <= first < stop:
                raise ValueError("ranges of beads are in order and not empty")
            previous = stop
        return self

    @property
    def name(self) -> str:
        """Kind and beads, from 0, first and last included."""
        ranges = " with ".join(f"{first}–{stop - 1}" for first, stop in self.beads)
        return f"{'helix' if self.kind == 'helix' else 'strands'} {ranges}"

    @property
    def indices(self) -> tuple[int, ...]:
        """All its beads."""
        return tuple(bead for first, stop in self.beads for bead in range(first, stop))


class PairingConstants(Frozen):
    """When two runs of beads are paired strands.

    Attributes:
        pair_distance: Largest distance of two paired beads in Å.
        mean_distance: Largest mean distance along a run of pairs in Å.
        shortest_run: Fewest consecutive pairs.
        turn_separation: Least number of bonds between two paired beads of antiparallel strands.
        crossover_separation: The same for parallel strands.
        source: Why these numbers.
    """

    pair_distance: float = Field(gt=0)
    mean_distance: float = Field(gt=0)
    shortest_run: int = Field(ge=2)
    turn_separation: int = Field(ge=2)
    crossover_separation: int = Field(ge=2)
    source: str


class SecondaryStructure(Frozen):
    """The native secondary structure of one system.

    Attributes:
        system: Registry key.
        annotation: P-SEA's letter for each bead: a helix, b strand, c neither.
        elements: In the order of tables.
    """

    system: str
    annotation: str = Field(pattern=r"^[abc]+$")
    elements: tuple[Element, ...]

    @pydantic.model_validator(mode="after")
    def _within(self) -> Self:
        if len(self.annotation) != system(self.system).n_beads:
            raise ValueError("the annotation has not one letter for each bead")
        for element in self.elements:
            if element.beads[-1][1] > len(self.annotation):
                raise ValueError(f"{element.name} reaches over the end of the chain")
        return self


def secondary_structure(key: str) -> tuple[Element, ...]:
    """Return the elements of a system's native structure: helices, then pairs of strands.

    Raises:
        UsageError: There is no such system; the message names the closest keys.
    """
    return native_annotation(key).elements


def native_annotation(key: str) -> SecondaryStructure:
    """Return a system's elements with the annotation that they were found from.

    Raises:
        UsageError: There is no such system; the message names the closest keys.
    """
    return choose(_secondary_structures(), key, "system with known secondary structure")


@cache
def pairing_constants() -> PairingConstants:
    """Return the constants that strands are paired with."""
    return validate(PairingConstants, _content()["pairing"], DATA / "secondary_structure.yaml")


@cache
def _secondary_structures() -> dict[str, SecondaryStructure]:
    where = DATA / "secondary_structure.yaml"
    found = [validate(SecondaryStructure, record, where) for record in _content()["systems"]]
    return {one.system: one for one in found}


@cache
def _content() -> dict[str, Any]:
    return read_data_file("secondary_structure")
