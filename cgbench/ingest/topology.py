"""Which atoms of a trajectory are the beads: the Cα atoms, checked against the sequence."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import CgbenchError, IntegrityError, UsageError, ValidationError

#: Topology formats that state residues, in the order in which they are tried.
TOPOLOGY_SUFFIXES: Final = (".psf", ".pdb", ".gro", ".prmtop", ".parm7", ".cif", ".h5")
_LARGEST_TOPOLOGY: Final = 512 * 1024 * 1024


def load_topology(path: Path) -> Any:
    """Load a topology through mdtraj.

    Raises:
        UsageError: The file does not exist or is of no known format.
        IntegrityError: It cannot be read.
    """
    from mdtraj.core.trajectory import load_topology as read

    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    if path.suffix.lower() not in TOPOLOGY_SUFFIXES:
        raise UsageError(
            f"{path}: no topology format that is known",
            expected=", ".join(TOPOLOGY_SUFFIXES),
            found=path.suffix or "no suffix",
        )
    if path.stat().st_size > _LARGEST_TOPOLOGY:
        raise IntegrityError(f"{path}: too large for a topology", found=path.stat().st_size)
    try:
        return read(str(path))
    # Readers of many formats, each with errors of its own, some of them of no common kind.
    except Exception as error:
        raise IntegrityError(
            f"{path}: cannot be read as a topology", found=" ".join(str(error).split())[:200]
        ) from error


def alpha_carbons(topology: Any) -> NDArray[np.int64]:
    """Return the Cα atoms of the protein residues, in order; a calcium ion is none."""
    return np.array(
        [
            atom.index
            for atom in topology.atoms
            if atom.name.strip() == "CA"
            and atom.residue.name.strip() not in ("CA", "CAL")
            and (atom.element is None or atom.element.symbol != "Ca")
        ],
        dtype=np.int64,
    )


def residue_letters(topology: Any, atoms: Iterable[int], origin: object) -> str:
    """Return the one-letter codes of the residues of chosen atoms.

    Names that the registry's vocabulary does not list (protonation states, bridged cysteines)
    count as the amino acid that mdtraj knows them for.

    Raises:
        ValidationError: A residue is no bead of the vocabulary.
    """
    vocabulary = registry.bead_vocabulary()
    names = {name: bead.letter for bead in vocabulary.beads for name in bead.residues}
    letters = []
    for position, index in enumerate(atoms):
        residue = topology.atom(int(index)).residue
        letter = names.get(residue.name.strip()) or residue.code
        if letter not in vocabulary.letters:
            raise ValidationError(
                f"{origin}: residue {residue.name!r} at bead {position} is no bead of "
                f"{vocabulary.name}",
                expected=", ".join(sorted(names)),
                found=residue.name,
            )
        letters.append(letter)
    return "".join(letters)


def select_beads(topology: Any, sequence: str, origin: object) -> NDArray[np.int64]:
    """Return the Cα atoms after checking them bead for bead against a sequence.

    Args:
        topology: mdtraj's topology of the trajectories.
        sequence: One letter per bead.
        origin: What errors name.

    Returns:
        Indices of atoms (n_beads,).

    Raises:
        ValidationError: Their number or a residue is another.
    """
    atoms = alpha_carbons(topology)
    found = residue_letters(topology, atoms, origin)
    if len(found) != len(sequence):
        raise ValidationError(
            f"{origin}: wrong number of Cα atoms",
            expected=f"{len(sequence)} ({sequence})",
            found=f"{len(found)} ({found})",
        )
    for bead, (wanted, letter) in enumerate(zip(sequence, found, strict=True)):
        if wanted != letter:
            raise ValidationError(
                f"{origin}: the residues are not those of the sequence",
                expected=f"{wanted} at bead {bead} of {sequence}",
                found=f"{letter} ({found})",
            )
    return atoms


def natural_order(path: Path) -> list[tuple[int, int, str]]:
    """Return a sorting key under which ``run2`` comes before ``run10``."""
    pieces = re.split(r"(\d+)", path.as_posix())
    return [
        (0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in pieces if piece
    ]


def find_topology(folders: Iterable[Path], n_atoms: int, sequence: str) -> Path:
    """Find the topology of trajectories among the files beside them.

    Args:
        folders: Where to look, with all folders below.
        n_atoms: Atoms of the trajectories.
        sequence: One letter per bead.

    Returns:
        The first file, in natural order, with that many atoms whose Cα atoms are the sequence.

    Raises:
        UsageError: There is none.
    """
    tried = []
    for folder in folders:
        files = sorted(
            (file for file in folder.rglob("*") if file.suffix.lower() in TOPOLOGY_SUFFIXES),
            key=lambda file: (TOPOLOGY_SUFFIXES.index(file.suffix.lower()), natural_order(file)),
        )
        for file in files:
            try:
                topology = load_topology(file)
                if topology.n_atoms == n_atoms:
                    select_beads(topology, sequence, file)
                    return file
                tried.append(f"{file.name} has {topology.n_atoms} atoms")
            except CgbenchError as error:
                tried.append(error.what)
    raise UsageError(
        "no topology for the trajectories",
        expected=f"a file with {n_atoms} atoms, among them the Cα of {sequence}",
        found="; ".join(tried[:5]) or "no topology file beside them",
        fix="name the topology (psf, pdb, gro, prmtop) of these trajectories",
    )
