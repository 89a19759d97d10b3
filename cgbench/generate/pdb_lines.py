"""The lines of a PDB file that belong to one chain of one model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cgbench.errors import UsageError, ValidationError
from cgbench.registry import bead_vocabulary

#: The amino acids that the force fields and PeptideBuilder know, by their one-letter codes.
AMINO_ACIDS: Final = "ACDEFGHIKLMNPQRSTVWY"

#: What crystals hold beside the protein and force fields of proteins do not: water.
_WATER: Final = frozenset({"HOH", "WAT", "DOD", "H2O"})


_ATOMS: Final = frozenset({"ATOM", "HETATM"})


@dataclass(frozen=True)
class Selection:
    """Which residues of a PDB file are meant.

    Attributes:
        chain: Chain; None where the file has one alone.
        residues: First and last residue in the numbering of the file, both included.
        model: Model number; the first for None.
        sequence: What the residues must be after the substitutions; unchecked for None.
        substitutions: Letter in the file, residue counted from 1, letter wanted.
    """

    chain: str | None = None
    residues: tuple[int, int] | None = None
    model: int | None = None
    sequence: str | None = None
    substitutions: tuple[str, ...] = ()


def select_lines(path: Path, text: str, selection: Selection) -> tuple[list[str], tuple[str, ...]]:
    """Return the lines of the chosen heavy atoms, and the names of what is left out.

    Raises:
        UsageError: The chain is not named, or a residue is unknown to the force fields.
        ValidationError: Nothing is left, or the file is damaged.
    """
    lines = [line for line in _model(path, text, selection.model) if line[:6].strip() in _ATOMS]
    if selection.chain is None:
        chains = sorted({line[21:22] for line in lines if line[12:16].strip() == "CA"})
        if len(chains) > 1:
            raise UsageError(
                f"{path}: which chain?", expected="one", found=", ".join(chains), fix="--chain"
            )
    else:
        lines = [line for line in lines if line[21:22] == selection.chain]
    if selection.residues is not None:
        first, last = selection.residues
        lines = [line for line in lines if _residue_number(path, line) in range(first, last + 1)]
    known = {name for bead in bead_vocabulary().beads for name in bead.residues}
    standard = {name for name in known if bead_vocabulary().sequence([name]) in AMINO_ACIDS}
    kept, left_out = [], set[str]()
    for line in lines:
        name, atom = line[17:20].strip(), line[12:16].strip()
        if name in standard:
            # Of alternative positions the first; hydrogens are placed anew.
            if line[16:17] in " A1" and not _is_hydrogen(line):
                kept.append(line[:16] + " " + line[17:])
        elif line.startswith("ATOM") or atom == "CA":
            raise UsageError(
                f"{path}: residue {name} {line[22:26].strip()} is unknown to the force fields",
                expected="the twenty amino acids",
                found="norleucine" if name == "NLE" else name,
                fix="replace the residue in the file, or name a range of residues without it",
            )
        elif name not in _WATER:
            left_out.add(name)
        else:
            left_out.add("water")
    if not kept:
        raise ValidationError(
            f"{path}: no atoms of a protein",
            expected="ATOM records of the named chain and residues",
            found="none",
        )
    return kept, tuple(sorted(left_out))


def _model(path: Path, text: str, model: int | None) -> list[str]:
    lines = text.splitlines()
    starts = [index for index, line in enumerate(lines) if line.startswith("MODEL ")]
    if not starts:
        return lines
    numbers = [lines[index][6:].strip() for index in starts]
    wanted = numbers[0] if model is None else str(model)
    if wanted not in numbers:
        raise ValidationError(
            f"{path}: no such model", expected=wanted, found=", ".join(numbers[:5])
        )
    begin = starts[numbers.index(wanted)]
    end = next((i for i in range(begin, len(lines)) if lines[i].startswith("ENDMDL")), len(lines))
    return lines[begin:end]


def _residue_number(path: Path, line: str) -> int:
    try:
        return int(line[22:26])
    except ValueError as error:
        raise ValidationError(f"{path}: a damaged line", found=line.strip()) from error


def _is_hydrogen(line: str) -> bool:
    element = line[76:78].strip()
    return element in ("H", "D") if element else line[12:16].strip().lstrip("0123456789")[:1] == "H"
