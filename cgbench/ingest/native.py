"""Native structures: the Cα atoms of an entry of the Protein Data Bank, checked bead for bead.

Columns follow the format description of the wwPDB, version 3.30. The chain and the residues are
those of the registry, in the numbering of the entry's authors. Residues that were modified
(selenomethionine, norleucine) are HETATM records of the chain and count like all others; what
comes after the chain's TER record does not. Of alternate locations the one of highest occupancy is
taken, of equal ones the first letter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.config import read_text, write_atomic
from cgbench.errors import IntegrityError, ValidationError
from cgbench.registry import Mutant, System

#: What a residue that the vocabulary does not know was made from, where the entry has no MODRES.
_MODIFIED: Final = {"MSE": "MET"}
_MARK: Final = "REMARK   6 CGBENCH NATIVE STRUCTURE"


class Residue(NamedTuple):
    """A residue with a Cα: its number and insertion code, its letter, its place in Å as printed."""

    number: int
    insertion: str
    letter: str
    place: tuple[str, str, str]

    @property
    def label(self) -> str:
        """Number and insertion code, as authors write them."""
        return f"{self.number}{self.insertion}"

    @property
    def position(self) -> NDArray[np.float64]:
        """Coordinates (3,) in Å."""
        return np.array([float(text) for text in self.place])


@dataclass(frozen=True)
class NativeBeads:
    """The beads of a native structure.

    Attributes:
        key: System or mutant.
        pdb_id: The entry.
        chain: Chain within it.
        model: Model within it.
        residues: One for each bead.
        sequence: The sequence of the system, one letter for each bead.
        substitutions: How it differs from the entry's: letter in the entry, bead counted from 1,
            letter in the system.
    """

    key: str
    pdb_id: str
    chain: str
    model: int
    residues: tuple[Residue, ...]
    sequence: str
    substitutions: tuple[str, ...]

    @property
    def coordinates(self) -> NDArray[np.float64]:
        """Cα coordinates (n_beads, 3) in Å."""
        return np.array([residue.position for residue in self.residues])

    @property
    def summary(self) -> str:
        """The chain and residues in words."""
        return (
            f"{self.pdb_id} model {self.model} chain {self.chain} residues "
            f"{self.residues[0].label} to {self.residues[-1].label}"
        )


def extract_native(path: Path, entry: System | Mutant) -> NativeBeads:
    """Return the beads of a system or mutant from its whole entry of the Protein Data Bank.

    Variants of which the registry knows no residues are found by ``variants.extract_variant``.

    Args:
        path: The entry, in pdb format.
        entry: The registry's entry.

    Raises:
        UsageError: There is no such file.
        IntegrityError: The file is truncated, of another entry, or cannot be parsed.
        ValidationError: A residue is missing or another than it must be, or the chain is missing.
    """
    pdb_id = str(entry.native.pdb_id) if isinstance(entry, System) else entry.pdb_id
    text = checked_text(path, pdb_id)
    native = entry.native
    if native is None or native.chain is None or native.residues is None:
        raise ValidationError(
            f"{entry.key}: the registry does not say which residues of {pdb_id} it is"
        )
    model = native.model or 1
    chains = chains_of(path, text, model)
    sequence = str(entry.sequence)
    residues = _chosen(path, chains, native.chain, native.residues, len(sequence))
    beads = NativeBeads(
        key=entry.key,
        pdb_id=pdb_id,
        chain=native.chain,
        model=model,
        residues=residues,
        sequence=sequence,
        substitutions=entry.substitutions if isinstance(entry, System) else (),
    )
    _check_sequence(path, beads)
    check_bonds(path, residues)
    return beads


def write_native(path: Path, beads: NativeBeads) -> None:
    """Write a native structure as ``cgbench.evaluate.read_native`` reads it, atomically.

    Residue names are those of the simulated sequence; remarks tell where the entry has others.
    """
    names = {bead.letter: bead.residues[0] for bead in registry.bead_vocabulary().beads}
    lines = [
        _MARK,
        f"REMARK   6 CA ATOMS OF {beads.pdb_id} MODEL {beads.model} CHAIN {beads.chain}",
    ]
    for substitution in beads.substitutions:
        residue = beads.residues[int(substitution[1:-1]) - 1]
        lines.append(f"REMARK   6 RESIDUE {residue.label} IS {names[substitution[0]]} IN THE ENTRY")
    for serial, (residue, letter) in enumerate(
        zip(beads.residues, beads.sequence, strict=True), start=1
    ):
        x, y, z = residue.place
        lines.append(
            f"ATOM  {serial:5d}  CA  {names[letter]} {beads.chain}{residue.number:4d}"
            f"{residue.insertion or ' '}   {x:>8}{y:>8}{z:>8}  1.00  0.00           C"
        )
    lines += ["TER", "END", ""]
    content = "\n".join(lines).encode()
    # A shared home that is complete need not be writable.
    if not path.is_file() or path.read_bytes() != content:
        write_atomic(path, content)


def is_ours(path: Path) -> bool:
    """Return whether a native structure was written here, and is not a user's own."""
    with path.open("rb") as handle:
        return handle.read(len(_MARK)) == _MARK.encode()


def mutations(parent: str, sequence: str) -> tuple[str, ...]:
    """Return the differences of two sequences: parent's letter, bead from 1, other letter."""
    return tuple(
        f"{old}{bead}{new}"
        for bead, (old, new) in enumerate(zip(parent, sequence, strict=True), start=1)
        if old != new
    )


def checked_text(path: Path, pdb_id: str) -> str:
    """Return the text of an entry.

    Raises:
        IntegrityError: It is truncated, or another entry.
    """
    text = read_text(path)
    if not any(line.rstrip() == "END" for line in text.rstrip().splitlines()[-1:]):
        raise IntegrityError(
            f"{path}: truncated, or not an entry of the Protein Data Bank",
            expected="an END record at the end",
            found=text.rstrip()[-60:].splitlines()[-1] if text.strip() else "an empty file",
            fix="download it again with --force",
        )
    header = next((line for line in text.splitlines() if line.startswith("HEADER")), None)
    if header is not None and header[62:66].strip() not in ("", pdb_id):
        raise IntegrityError(f"{path}: another entry", expected=pdb_id, found=header[62:66])
    return text


def chains_of(path: Path, text: str, model: int) -> dict[str, list[Residue]]:
    """Return the residues of each chain of a model, up to the chain's TER record.

    Raises:
        IntegrityError: A line cannot be parsed.
        ValidationError: There is no Cα atom in the model.
    """
    letters = {
        name: bead.letter for bead in registry.bead_vocabulary().beads for name in bead.residues
    }
    parents = dict(_MODIFIED)
    atoms: dict[str, dict[tuple[int, str], list[tuple[float, str, Residue]]]] = {}
    ended: set[str] = set()
    current, found = 1, False
    for number, line in enumerate(text.splitlines(), start=1):
        record = line[:6].rstrip()
        try:
            if record == "MODRES":
                parents[line[12:15].strip()] = line[24:27].strip()
            elif record == "MODEL":
                current = int(line[6:].split()[0])
            elif current != model:
                continue
            elif record == "TER" and len(line) > 21:
                ended.add(line[21])
            # A calcium ion is named CA as well, but begins one column further left.
            elif record in ("ATOM", "HETATM") and line[12:16] == " CA ":
                found = True
                if line[21] in ended:
                    continue
                name = line[17:20].strip()
                residue = Residue(
                    number=int(line[22:26]),
                    insertion=line[26].strip(),
                    letter=letters.get(name) or letters.get(parents.get(name, ""), "?"),
                    place=(line[30:38].strip(), line[38:46].strip(), line[46:54].strip()),
                )
                if not np.isfinite(residue.position).all():
                    raise ValueError("coordinates are not finite")
                occupancy = float(line[54:60].strip() or 1.0)
                place = (residue.number, residue.insertion)
                chain = atoms.setdefault(line[21], {})
                chain.setdefault(place, []).append((-occupancy, line[16], residue))
        except (ValueError, IndexError) as error:
            raise IntegrityError(
                f"{path}: line {number} cannot be parsed", found=line.rstrip()[:80]
            ) from error
    if not found:
        raise ValidationError(f"{path}: no Cα atom in model {model}")
    return {
        chain: [min(alternatives)[2] for alternatives in residues.values()]
        for chain, residues in atoms.items()
    }


def _chosen(
    path: Path,
    chains: Mapping[str, Sequence[Residue]],
    chain: str,
    limits: tuple[int, int],
    n_beads: int,
) -> tuple[Residue, ...]:
    """Return the residues of a chain from the first to the last number, all of them."""
    if chain not in chains:
        raise ValidationError(
            f"{path}: no chain {chain}", expected=chain, found=", ".join(sorted(chains))
        )
    first, last = limits
    residues = tuple(one for one in chains[chain] if first <= one.number <= last)
    missing = sorted(set(range(first, last + 1)) - {one.number for one in residues})
    if len(residues) != n_beads:
        raise ValidationError(
            f"{path}: chain {chain} has not one Cα for each bead",
            expected=f"{n_beads} residues from {first} to {last}",
            found=f"{len(residues)}"
            + (f", without {', '.join(map(str, missing[:10]))}" if missing else ""),
        )
    return residues


def _check_sequence(path: Path, beads: NativeBeads) -> None:
    expected = list(beads.sequence)
    for substitution in beads.substitutions:
        expected[int(substitution[1:-1]) - 1] = substitution[0]
    for bead, (residue, letter) in enumerate(zip(beads.residues, expected, strict=True), start=1):
        if residue.letter != letter:
            raise ValidationError(
                f"{path}: residue {residue.label} of chain {beads.chain} is not that of bead "
                f"{bead} of {beads.key}",
                expected=letter,
                found=residue.letter,
            )


def check_bonds(path: Path, residues: Sequence[Residue]) -> None:
    """Check that neighbouring beads are as far apart as bonded ones can be.

    Raises:
        ValidationError: Two of them are not.
    """
    limits = registry.constants()
    for first, second in pairwise(residues):
        length = float(np.linalg.norm(second.position - first.position))
        if not limits.bond_minimum <= length <= limits.bond_maximum:
            raise ValidationError(
                f"{path}: residues {first.label} and {second.label} are not neighbours",
                expected=f"{limits.bond_minimum:g} to {limits.bond_maximum:g} Å apart",
                found=f"{length:.2f} Å",
            )
