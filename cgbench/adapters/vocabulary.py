"""Other programs' numbers of residues."""

from pathlib import Path

import torch
from torch import Tensor

from cgbench import config, registry
from cgbench.errors import ValidationError


class Vocabulary:
    """Translates our bead types to the numbers that a model has for the same residues.

    Args:
        numbers: The model's number of each of our bead types.
        origin: Where they are from, for messages.
    """

    def __init__(self, numbers: dict[int, int], origin: str) -> None:
        self.numbers = dict(numbers)
        self.origin = origin
        self._table = torch.full((max(numbers) + 1,), -1, dtype=torch.int64)
        for ours, theirs in numbers.items():
            self._table[ours] = theirs

    def translated(self, bead_types: Tensor, what: str) -> Tensor:
        """Return the model's numbers (n,) of bead types (n,).

        Raises:
            ValidationError: It has none for some; the message names the residues.
        """
        inside = (bead_types >= 0) & (bead_types < len(self._table))
        table = self._table.to(bead_types.device)
        found = torch.where(inside, table[bead_types.clamp(0, len(table) - 1)], -1)
        if bool((found < 0).any()):
            unknown = sorted(set(bead_types[found < 0].tolist()))
            raise ValidationError(
                f"{what}: beads that its vocabulary does not have",
                expected=f"the residues of {self.origin}",
                found=", ".join(_residue(number) for number in unknown),
                fix="add them to the vocabulary, or take a model that was trained on them",
            )
        return found

    def require_all(self) -> None:
        """Check that every residue has a number.

        Raises:
            ValidationError: One has none.
        """
        beads = registry.bead_vocabulary().beads
        if missing := [bead.residues[0] for bead in beads if bead.type not in self.numbers]:
            raise ValidationError(
                f"{self.origin}: residues without a number",
                expected="all residues of the bead vocabulary",
                found=", ".join(missing),
            )


def read_vocabulary(path: Path) -> Vocabulary:
    """Read a YAML or JSON file that gives the model's number of each residue, as ``ALA: 1``.

    Residues may be named by three letters, as in topology files, or by the letter of sequences.

    Raises:
        UsageError: There is no such file.
        IntegrityError: It cannot be parsed.
        ValidationError: It has a name that is no residue, a value that is no number, or two
            numbers for one residue.
    """
    data = config.read_data(path)
    beads = registry.bead_vocabulary()
    names = {**beads.names, **beads.letters}
    if not isinstance(data, dict) or not data:
        raise ValidationError(
            f"{path}: not a vocabulary", expected="lines like 'ALA: 1'", found=type(data).__name__
        )
    numbers: dict[int, int] = {}
    for name, number in data.items():
        if name not in names:
            raise ValidationError(
                f"{path}: unknown residue {name!r}", expected=", ".join(sorted(beads.names))
            )
        if type(number) is not int or number < 0:
            raise ValidationError(
                f"{path}: {name} has no number", expected="a whole number from 0", found=number
            )
        if numbers.setdefault(names[name], number) != number:
            raise ValidationError(
                f"{path}: two numbers for one residue",
                found=f"{numbers[names[name]]} and {number} for {name}",
            )
    return Vocabulary(numbers, path.name)


def _residue(number: int) -> str:
    for bead in registry.bead_vocabulary().beads:
        if bead.type == number:
            return bead.residues[0]
    return f"bead type {number}"
