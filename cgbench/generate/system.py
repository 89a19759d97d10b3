"""From a topology of atoms to an OpenMM system, and what cgbench needs to know of its atoms."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import UsageError, ValidationError
from cgbench.force_maps import groups_from_constraints
from cgbench.generate.backend import require
from cgbench.generate.settings import FORCE_FIELDS, SystemSettings

Indices = NDArray[np.int64]


def load_force_field(settings: SystemSettings) -> Any:
    """Return the ``openmm.app.ForceField`` of the settings."""
    return _read_force_field(FORCE_FIELDS[settings.force_field].files)


@functools.cache
def _read_force_field(files: tuple[str, ...]) -> Any:
    # Reading the files takes half a second, as long as hundreds of steps of a small protein.
    return require("openmm.app").ForceField(*files)


def build_system(topology: Any, settings: SystemSettings, *, cutoff: float | None = None) -> Any:
    """Build the ``openmm.System`` of a topology with hydrogens (and water, in explicit solvent).

    Bonds to hydrogen are constrained, hydrogens are made heavier, and the motion of the centre of
    mass is removed.

    Args:
        topology: An ``openmm.app.Topology``.
        settings: The force field and its parameters.
        cutoff: In implicit solvent, leave out pairs beyond this distance in Å, with Coulomb's law
            unchanged within it (no reaction field; energies shift by a constant as long as the
            same pairs are within it); None keeps all pairs.

    Raises:
        UsageError: The force field knows no such residue.
    """
    openmm, app, unit = require("openmm"), require("openmm.app"), require("openmm.unit")
    if settings.solvent == "explicit":
        method, distance = app.PME, settings.cutoff
    elif cutoff is None:
        method, distance = app.NoCutoff, settings.cutoff
    else:
        method, distance = app.CutoffNonPeriodic, cutoff
    try:
        system = load_force_field(settings).createSystem(
            topology,
            nonbondedMethod=method,
            nonbondedCutoff=distance * unit.angstrom,
            constraints=app.HBonds,
            hydrogenMass=settings.hydrogen_mass * unit.amu,
        )
    except ValueError as error:
        raise UsageError(
            f"{FORCE_FIELDS[settings.force_field].description} cannot describe this structure",
            found=str(error).splitlines()[0],
            fix="only the standard residues with their hydrogens and whole termini are known",
        ) from error
    if cutoff is not None:
        for force in system.getForces():
            if isinstance(force, openmm.NonbondedForce):
                force.setReactionFieldDielectric(1.0)
    return system


def alpha_carbons(topology: Any) -> Indices:
    """Return the atom indices (n_residues,) of the Cα atoms of the protein, in order.

    Raises:
        ValidationError: There are none.
    """
    found = [atom.index for atom in topology.atoms() if _is_alpha_carbon(atom)]
    if not found:
        raise ValidationError("structure: no Cα atoms", expected="a protein", found="none")
    return np.array(found, dtype=np.int64)


def protein_atoms(topology: Any) -> Indices:
    """Return the indices of the atoms of residues that have a Cα atom, in order."""
    return np.array(
        [
            atom.index
            for residue in topology.residues()
            if any(_is_alpha_carbon(atom) for atom in residue.atoms())
            for atom in residue.atoms()
        ],
        dtype=np.int64,
    )


def bonded_hydrogens(topology: Any) -> dict[int, tuple[int, ...]]:
    """Return, for each heavy atom, the indices of the hydrogens bonded to it."""
    found: dict[int, list[int]] = {
        atom.index: [] for atom in topology.atoms() if not _is_hydrogen(atom)
    }
    for first, second in topology.bonds():
        if _is_hydrogen(second) and not _is_hydrogen(first):
            found[first.index].append(second.index)
        elif _is_hydrogen(first) and not _is_hydrogen(second):
            found[second.index].append(first.index)
    return {heavy: tuple(sorted(hydrogens)) for heavy, hydrogens in found.items()}


def rigid_groups(topology: Any) -> Indices:
    """Return the group (n_atoms,) of each atom: every heavy atom with its hydrogens is rigid."""
    pairs = [
        (heavy, hydrogen)
        for heavy, hydrogens in bonded_hydrogens(topology).items()
        for hydrogen in hydrogens
    ]
    return groups_from_constraints(topology.getNumAtoms(), pairs)


def masses(system: Any) -> NDArray[np.float64]:
    """Return the masses (n_atoms,) of a system in amu."""
    amu = require("openmm.unit").amu
    return np.array(
        [
            system.getParticleMass(index).value_in_unit(amu)
            for index in range(system.getNumParticles())
        ],
        dtype=np.float64,
    )


def _is_alpha_carbon(atom: Any) -> bool:
    return bool(atom.name == "CA" and atom.element is not None and atom.element.symbol == "C")


def _is_hydrogen(atom: Any) -> bool:
    return atom.element is not None and atom.element.symbol == "H"
