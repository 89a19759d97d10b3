"""Structures to start from: whole chains with hydrogens, from a PDB file or from a sequence."""

import contextlib
import io
import itertools
import random
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.config import read_text
from cgbench.errors import UsageError, ValidationError
from cgbench.generate.backend import require
from cgbench.generate.pdb_lines import AMINO_ACIDS, Selection, select_lines
from cgbench.generate.settings import FORCE_FIELDS, SystemSettings
from cgbench.generate.system import load_force_field
from cgbench.registry import bead_vocabulary

DoubleArray = NDArray[np.float64]

_PH: Final = 7.0
#: Å between neighbouring Cα atoms above which residues are missing between them.
_CHAIN_BREAK: Final = 4.5


@dataclass(frozen=True)
class Structure:
    """A molecule with all its atoms.

    Attributes:
        topology: An ``openmm.app.Topology``.
        positions: (n_atoms, 3), Å.
        variants: How each residue is protonated where there is a choice, else None.
        left_out: Names of the residues of the file that are not part of it (water, ligands).
    """

    topology: Any
    positions: DoubleArray
    variants: tuple[str | None, ...]
    left_out: tuple[str, ...] = field(default=())

    @property
    def sequence(self) -> str:
        """One letter for each residue."""
        return sequence_of(self.topology)


def check_sequence(sequence: str) -> None:
    """Refuse what the force fields have no parameters for.

    Raises:
        UsageError: A letter is none of the twenty amino acids, or the chain is too short.
    """
    for position, letter in enumerate(sequence, start=1):
        if letter not in AMINO_ACIDS:
            name = "norleucine" if letter == "X" else f"letter {letter!r}"
            raise UsageError(
                f"sequence {sequence}: the force fields have no parameters for {name} "
                f"at position {position}",
                expected=AMINO_ACIDS,
                found=letter,
                fix="name a sequence of the twenty amino acids",
            )
    if len(sequence) < 4:
        raise UsageError(f"sequence {sequence!r}: too short", expected="four residues or more")


def sequence_of(topology: Any) -> str:
    """Return the one-letter codes of the residues of a topology that have a Cα atom."""
    names = [
        residue.name
        for residue in topology.residues()
        if any(atom.name == "CA" and atom.element.symbol == "C" for atom in residue.atoms())
    ]
    return bead_vocabulary().sequence(names)


def from_sequence(
    sequence: str,
    settings: SystemSettings,
    *,
    seed: int,
    variants: Sequence[str | None] | None = None,
) -> Structure:
    """Build an extended chain with zwitterionic termini and all hydrogens.

    Args:
        sequence: One letter for each residue.
        settings: The force field that the hydrogens are placed with.
        seed: Of the first guess of the hydrogens' positions.
        variants: How each residue is protonated, as ``Structure.variants`` of another structure
            of this chain; chosen at pH 7 for None.

    Raises:
        UsageError: A residue is unknown to the force fields.
    """
    check_sequence(sequence)
    builder, bio = require("PeptideBuilder"), require("Bio.PDB")
    chain = builder.make_extended_structure(sequence)
    builder.add_terminal_OXT(chain)
    text = io.StringIO()
    writer = bio.PDBIO()
    writer.set_structure(chain)
    writer.save(text)
    text.seek(0)
    pdb = require("openmm.app").PDBFile(text)
    return _with_hydrogens(pdb.topology, pdb.positions, settings, seed, variants)


def from_pdb(path: Path, settings: SystemSettings, selection: Selection, *, seed: int) -> Structure:
    """Read a chain of a PDB file, add what is missing, and protonate it at pH 7.

    Hydrogens of the file are replaced. The termini are charged, whatever the file holds beyond
    them. Water and ligands are left out and named in ``Structure.left_out``.

    Args:
        path: A PDB file.
        settings: The force field that the hydrogens are placed with.
        selection: Which residues.
        seed: Of the first guess of added atoms' positions.

    Raises:
        UsageError: The file does not exist, the chain is not named, or the force fields do not
            know a residue.
        ValidationError: Residues are missing within the chain, or it is not the expected one.
    """
    lines, left_out = select_lines(path, read_text(path), selection)
    fixer_module = require("pdbfixer")
    fixer = fixer_module.PDBFixer(pdbfile=io.StringIO("\n".join([*lines, "END", ""])))
    _substitute(path, fixer, selection)
    fixer.missingResidues = {}
    fixer.findMissingAtoms()
    fixer.addMissingAtoms(seed=seed)
    _check_chain(path, fixer.topology, fixer.positions)
    found = _with_hydrogens(fixer.topology, fixer.positions, settings, seed, None)
    return Structure(found.topology, found.positions, found.variants, left_out)


def in_order_of(structure: Structure, topology: Any, origin: object) -> DoubleArray:
    """Return the positions of a structure in the order of atoms of another topology.

    Raises:
        ValidationError: The two do not have the same atoms.
    """
    return structure.positions[atom_order(structure.topology, topology, origin)]


def atom_order(source: Any, target: Any, origin: object) -> NDArray[np.int64]:
    """Return which atom (n_atoms,) of one topology is each atom of another, by their names.

    Raises:
        ValidationError: The two do not have the same atoms.
    """
    index = {(atom.residue.index, atom.name): atom.index for atom in source.atoms()}
    wanted = [(atom.residue.index, atom.name) for atom in target.atoms()]
    missing = [name for name in wanted if name not in index]
    if missing or len(wanted) != len(index):
        extra = sorted(set(index) - set(wanted))
        raise ValidationError(
            f"{origin}: not the atoms of this chain",
            expected=f"{len(wanted)} atoms",
            found=f"{len(index)} atoms; missing {missing[:3]}, additional {extra[:3]}",
            fix="give a structure of the same sequence and protonation",
        )
    return np.array([index[name] for name in wanted], dtype=np.int64)


def solvate(structure: Structure, settings: SystemSettings, *, seed: int) -> Structure:
    """Put a structure into a box of water with the ions that make it neutral.

    The atoms of the structure stay first, in their order.
    """
    app, unit = require("openmm.app"), require("openmm.unit")
    modeller = app.Modeller(structure.topology, structure.positions * 0.1 * unit.nanometer)
    with _seeded(seed):
        modeller.addSolvent(
            load_force_field(settings),
            model=FORCE_FIELDS[settings.force_field].water,
            padding=settings.padding * unit.angstrom,
            ionicStrength=settings.ionic_strength * unit.molar,
            neutralize=True,
        )
    return Structure(modeller.topology, _angstrom(modeller.positions), structure.variants)


def write_pdb(structure: Structure) -> str:
    """Return a structure as PDB text."""
    app, unit = require("openmm.app"), require("openmm.unit")
    text = io.StringIO()
    app.PDBFile.writeFile(
        structure.topology, structure.positions * unit.angstrom, text, keepIds=True
    )
    # The first lines name the program and the day.
    return "".join(
        line for line in text.getvalue().splitlines(keepends=True) if not line.startswith("REMARK")
    )


def read_pdb(path: Path) -> Structure:
    """Read a PDB file that ``write_pdb`` wrote: whole, with hydrogens.

    Raises:
        UsageError: The file does not exist.
        ValidationError: It is no PDB file.
    """
    text = read_text(path)
    try:
        pdb = require("openmm.app").PDBFile(io.StringIO(text))
    except (ValueError, IndexError) as error:
        raise ValidationError(f"{path}: not a PDB file", found=error) from error
    variants = (None,) * pdb.topology.getNumResidues()
    return Structure(pdb.topology, _angstrom(pdb.positions), variants)


def _with_hydrogens(
    topology: Any,
    positions: Any,
    settings: SystemSettings,
    seed: int,
    variants: Sequence[str | None] | None,
) -> Structure:
    openmm, app = require("openmm"), require("openmm.app")
    modeller = app.Modeller(topology, positions)
    hydrogens = [atom for atom in modeller.topology.atoms() if atom.element.symbol == "H"]
    modeller.delete(hydrogens)
    with _seeded(seed):
        chosen = modeller.addHydrogens(
            load_force_field(settings),
            pH=_PH,
            variants=None if variants is None else list(variants),
            platform=openmm.Platform.getPlatformByName("Reference"),
        )
    if "CYX" in chosen:
        raise UsageError(
            f"chain of {len(chosen)} residues: disulfide bridges are not supported",
            fix="name a protein without them",
        )
    return Structure(modeller.topology, _angstrom(modeller.positions), tuple(chosen))


def _substitute(path: Path, fixer: Any, selection: Selection) -> None:
    residues = list(fixer.topology.residues())
    found = sequence_of(fixer.topology)
    wanted = selection.sequence
    if wanted is None or found == wanted:
        return
    changes = {int(one[1:-1]): (one[0], one[-1]) for one in selection.substitutions}
    expected = "".join(
        changes[position][0] if position in changes else letter
        for position, letter in enumerate(wanted, start=1)
    )
    if found != expected:
        raise ValidationError(
            f"{path}: not the residues of this protein", expected=expected, found=found
        )
    names = {bead.letter: bead.residues[0] for bead in bead_vocabulary().beads}
    fixer.applyMutations(
        [
            f"{residues[position - 1].name}-{residues[position - 1].id}-{names[new]}"
            for position, (_, new) in changes.items()
        ],
        residues[0].chain.id,
    )


def _check_chain(path: Path, topology: Any, positions: Any) -> None:
    values = _angstrom(positions)
    carbons = [atom for atom in topology.atoms() if atom.name == "CA"]
    if len(carbons) != topology.getNumResidues():
        raise ValidationError(
            f"{path}: a residue without Cα atom",
            expected=topology.getNumResidues(),
            found=len(carbons),
        )
    for first, second in itertools.pairwise(carbons):
        distance = float(np.linalg.norm(values[first.index] - values[second.index]))
        if distance > _CHAIN_BREAK:
            raise ValidationError(
                f"{path}: residues are missing between {first.residue.id} and {second.residue.id}",
                expected=f"neighbouring Cα atoms within {_CHAIN_BREAK} Å",
                found=f"{distance:.1f} Å",
                fix="give a file in which the chain is whole",
            )


def _angstrom(positions: Any) -> DoubleArray:
    unit = require("openmm.unit")
    return np.array(
        [tuple(one) for one in positions.value_in_unit(unit.angstrom)], dtype=np.float64
    )


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Make OpenMM's builders, which draw from Python's global generator, repeatable."""
    state = random.getstate()
    random.seed(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(state)
