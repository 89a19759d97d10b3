"""The bead vocabulary: which number, letter and force-field type a residue has."""

from collections.abc import Iterable
from typing import Self

import pydantic
from pydantic import Field

from cgbench.config import Frozen
from cgbench.errors import ValidationError


class Bead(Frozen):
    """One kind of bead.

    Attributes:
        type: Number in the arrays of bead types.
        letter: One-letter code in sequences.
        residues: Residue names in topology files that mean this bead.
        psf_type: Name under which the published force field keeps its prior terms.
    """

    type: int = Field(ge=1)
    letter: str = Field(pattern=r"^[A-Z]$")
    residues: tuple[str, ...] = Field(min_length=1)
    psf_type: str


class BeadVocabulary(Frozen):
    """All kinds of beads, and the ways of naming them.

    Attributes:
        name: Name of the vocabulary; models state it, and only models of the same one compare.
        beads: The kinds of beads.
    """

    name: str
    beads: tuple[Bead, ...]

    @pydantic.model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        residues = [name for bead in self.beads for name in bead.residues]
        for names in (residues, [b.letter for b in self.beads], [b.type for b in self.beads]):
            if len(set(names)) != len(names):
                raise ValueError(f"a name occurs twice in {names}")
        return self

    @property
    def names(self) -> dict[str, int]:
        """Number of each residue name."""
        return {name: bead.type for bead in self.beads for name in bead.residues}

    @property
    def letters(self) -> dict[str, int]:
        """Number of each one-letter code."""
        return {bead.letter: bead.type for bead in self.beads}

    @property
    def psf_types(self) -> dict[int, str]:
        """Type in the published force field of each number; norleucine has leucine's."""
        return {bead.type: bead.psf_type for bead in self.beads}

    def types(self, sequence: str) -> tuple[int, ...]:
        """Return the numbers of a sequence of one-letter codes.

        Raises:
            ValidationError: A letter stands for no bead.
        """
        letters = self.letters
        for position, letter in enumerate(sequence, start=1):
            if letter not in letters:
                raise ValidationError(
                    f"sequence {sequence}: letter {letter!r} at position {position} is no bead",
                    expected="".join(sorted(letters)),
                    found=letter,
                )
        return tuple(letters[letter] for letter in sequence)

    def sequence(self, residue_names: Iterable[str]) -> str:
        """Return the one-letter codes of residue names such as those of a pdb or psf file.

        Raises:
            ValidationError: A residue name stands for no bead.
        """
        letters = {name: bead.letter for bead in self.beads for name in bead.residues}
        result = []
        for position, name in enumerate(residue_names, start=1):
            if name not in letters:
                raise ValidationError(
                    f"residue {name!r} at position {position} is no bead of {self.name}",
                    expected=", ".join(sorted(letters)),
                    found=name,
                )
            result.append(letters[name])
        return "".join(result)

    def sequence_of_types(self, bead_types: Iterable[int]) -> str:
        """Return the one-letter codes of bead numbers.

        Raises:
            ValidationError: A number stands for no bead.
        """
        letters = {bead.type: bead.letter for bead in self.beads}
        numbers = [int(number) for number in bead_types]
        for position, number in enumerate(numbers, start=1):
            if number not in letters:
                raise ValidationError(
                    f"bead type {number} at position {position} is none of {self.name}",
                    expected=", ".join(str(known) for known in sorted(letters)),
                    found=number,
                )
        return "".join(letters[number] for number in numbers)
