"""Reading native conformers: the Cα atoms of a pdb file, one for each bead."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.config import read_text
from cgbench.errors import IntegrityError, ValidationError


class _Atom(NamedTuple):
    residue: str
    place: str
    position: tuple[float, float, float]


def read_native(path: Path, sequence: str) -> NDArray[np.float32]:
    """Read the Cα coordinates of a pdb file and check its residues.

    Only the first model and, of alternate locations, the first are read. Columns follow the
    format description of the wwPDB, version 3.30.

    Args:
        path: The pdb file.
        sequence: One letter per residue, as it must be.

    Returns:
        (n_beads, 3) float32 in Å.

    Raises:
        UsageError: The file does not exist.
        IntegrityError: A line cannot be parsed.
        ValidationError: The residues are not those of the sequence.
    """
    atoms = _alpha_carbons(path)
    found = registry.bead_vocabulary().sequence(atom.residue for atom in atoms)
    if found != sequence:
        raise ValidationError(
            f"{path}: the residues are not those of the system", expected=sequence, found=found
        )
    return np.array([atom.position for atom in atoms], dtype=np.float32)


def _alpha_carbons(path: Path) -> list[_Atom]:
    atoms: list[_Atom] = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.startswith("ENDMDL"):
            break
        # A calcium ion is named CA as well, but begins one column further left.
        if not line.startswith(("ATOM  ", "HETATM")) or line[12:16] != " CA ":
            continue
        try:
            x, y, z = (float(line[start : start + 8]) for start in (30, 38, 46))
        except ValueError as error:
            raise IntegrityError(
                f"{path}: line {number} has no coordinates", found=line.rstrip()
            ) from error
        if not np.isfinite((x, y, z)).all():
            raise IntegrityError(f"{path}: line {number} is not finite", found=line.rstrip())
        place = line[21:27]
        if not atoms or atoms[-1].place != place:
            atoms.append(_Atom(line[17:20].strip(), place, (x, y, z)))
    return atoms
