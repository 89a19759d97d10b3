"""Many copies of a molecule in one OpenMM system that do not see each other.

OpenMM's generalised Born forces have no exclusions, and Coulomb's law has no end, so copies cannot
be told apart by lists of pairs. They are told apart by distance instead: a cutoff that is longer
than the molecule can be keeps every pair within a copy, copies stand further apart than it, and
the neighbour list leaves out every pair of different copies. Within the cutoff the forces are
those without one: the reaction field is switched off, and the shifts that OpenMM adds to pair
energies are constants as long as the same pairs are within it.
"""

import copy
import itertools
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import SimulationError, UsageError
from cgbench.generate.backend import require
from cgbench.generate.settings import DynamicsSettings, SystemSettings
from cgbench.generate.simulate import Engine
from cgbench.generate.system import build_system

DoubleArray = NDArray[np.float64]

#: Å between neighbouring Cα atoms, and the reach of the longest side chain, both rounded up.
_RISE: Final = 3.9
_SIDE_CHAIN: Final = 10.0
#: Distance between copies in units of the cutoff: copies may then be as wide as 0.7 cutoffs about
#: their centre, drift included, and still be further apart than the cutoff.
_SPACING: Final = 2.4
#: Å from the origin at which single precision still resolves 1e-5 Å.
_FURTHEST: Final = 1000.0


class Copies:
    """Copies of a molecule, integrated together.

    One copy is simulated without cutoff; it is the plain simulation.

    Args:
        topology: Topology of one copy.
        settings: The force field.
        dynamics: Temperature, friction and step.
        n_copies: How many.
        seed: Seed of the thermostat's noise and of the velocities.
        platform: Name of an OpenMM platform; the fastest there is for None.
        threads: Threads of the CPU platform; all cores for None.

    Raises:
        UsageError: Several copies in explicit solvent, or so many that they would stand too far
            from the origin for single precision.
    """

    def __init__(
        self,
        topology: Any,
        settings: SystemSettings,
        dynamics: DynamicsSettings,
        *,
        n_copies: int,
        seed: int,
        platform: str | None = None,
        threads: int | None = None,
    ) -> None:
        self.n_copies = n_copies
        self.n_atoms = topology.getNumAtoms()
        if n_copies == 1:
            self.cutoff = np.inf
            self._offsets = np.zeros((1, 1, 3))
            system = build_system(topology, settings)
        else:
            check_copies(n_copies, topology.getNumResidues(), settings)
            self.cutoff = longest_extent(topology.getNumResidues())
            self._offsets = _grid(n_copies, _SPACING * self.cutoff)[:, None, :]
            system = replicate(build_system(topology, settings, cutoff=self.cutoff), n_copies)
        self.engine = Engine(system, dynamics, seed=seed, platform=platform, threads=threads)
        self._shifts = np.zeros_like(self._offsets)

    def set_positions(self, positions: NDArray[np.floating[Any]]) -> None:
        """Put the copies at positions (n_copies, n_atoms, 3) in Å, each about its own origin."""
        self._shifts = self._offsets.copy()
        if self.n_copies > 1:
            self._shifts -= positions.mean(axis=1, keepdims=True)
        self.engine.set_positions((positions + self._shifts).reshape(-1, 3))

    def state(self) -> tuple[DoubleArray, DoubleArray, float | None]:
        """Return positions and forces (n_copies, n_atoms, 3) in Å and kcal/mol/Å, and the energy.

        The energy in kcal/mol is that of a single copy; None for several.

        Raises:
            SimulationError: The integration diverged.
        """
        found = self.engine.state()
        shape = (self.n_copies, self.n_atoms, 3)
        positions, forces = found.positions.reshape(shape), found.forces.reshape(shape)
        if self.n_copies > 1:
            self._keep_apart(positions)
            return positions - self._shifts, forces, None
        return positions, forces, found.energy

    def _keep_apart(self, positions: DoubleArray) -> None:
        """Move copies that have drifted back to their places."""
        allowed = 0.5 * (_SPACING - 1.0) * self.cutoff
        centres = positions.mean(axis=1, keepdims=True)
        radii = np.linalg.norm(positions - centres, axis=-1).max(axis=1)
        drift = np.linalg.norm(centres - self._offsets, axis=-1)[:, 0]
        if (radii > 0.9 * allowed).any():
            raise SimulationError(
                "the integration diverged",
                expected=f"copies within {0.9 * allowed:.0f} Å of their centre",
                found=f"{radii.max():.0f} Å",
            )
        if (radii + drift > 0.95 * allowed).any():
            move = self._offsets - centres
            self.engine.set_positions((positions + move).reshape(-1, 3))
            positions += move
            self._shifts = self._shifts + move


def longest_extent(n_residues: int) -> float:
    """Return a distance in Å that no two atoms of a whole chain are apart."""
    return _RISE * (n_residues - 1) + 2.0 * _SIDE_CHAIN


def check_copies(n_copies: int, n_residues: int, settings: SystemSettings) -> None:
    """Refuse numbers of copies that cannot be simulated together.

    Raises:
        UsageError: Explicit solvent, or too many for single precision.
    """
    if settings.solvent == "explicit":
        raise UsageError(
            "copies in one system need implicit solvent", found=settings.force_field,
            fix="--copies 1",
        )  # fmt: skip
    furthest = 0.5 * (round(np.ceil(n_copies ** (1 / 3))) - 1) * _SPACING
    furthest *= longest_extent(n_residues)
    if furthest > _FURTHEST:
        raise UsageError(
            f"{n_copies} copies of {n_residues} residues: too many for single precision",
            expected=f"copies within {_FURTHEST:.0f} Å of the origin",
            found=f"{furthest:.0f} Å",
            fix="name fewer copies",
        )


def _grid(n_copies: int, spacing: float) -> DoubleArray:
    side = int(np.ceil(round(n_copies ** (1 / 3), 9)))
    points = itertools.islice(itertools.product(range(side), repeat=3), n_copies)
    return (np.array(list(points), dtype=np.float64) - 0.5 * (side - 1)) * spacing


def replicate(system: Any, n_copies: int) -> Any:
    """Return an ``openmm.System`` that holds the particles and forces of another several times.

    The motion of the centre of mass is not removed: it would be that of all copies together.

    Raises:
        UsageError: The system has a kind of force that is not known here.
    """
    openmm = require("openmm")
    n_atoms = system.getNumParticles()
    many = openmm.System()
    for _ in range(n_copies):
        for atom in range(n_atoms):
            many.addParticle(system.getParticleMass(atom))
    for first in range(0, n_copies * n_atoms, n_atoms):
        for index in range(system.getNumConstraints()):
            one, two, distance = system.getConstraintParameters(index)
            many.addConstraint(first + one, first + two, distance)
    for force in system.getForces():
        if isinstance(force, openmm.CMMotionRemover):
            continue
        extended = copy.deepcopy(force)
        for first in range(n_atoms, n_copies * n_atoms, n_atoms):
            _append(force, extended, first)
        many.addForce(extended)
    return many


def _append(force: Any, extended: Any, first: int) -> None:
    """Add the terms of a force once more, for particles that begin at ``first``."""
    openmm = require("openmm")
    bonded = {
        openmm.HarmonicBondForce: (2, "Bond"),
        openmm.HarmonicAngleForce: (3, "Angle"),
        openmm.PeriodicTorsionForce: (4, "Torsion"),
    }
    particles = (openmm.NonbondedForce, openmm.GBSAOBCForce, openmm.CustomGBForce)
    for kind, (n_members, name) in bonded.items():
        if isinstance(force, kind):
            for index in range(getattr(force, f"getNum{name}s")()):
                values = getattr(force, f"get{name}Parameters")(index)
                members = [first + member for member in values[:n_members]]
                getattr(extended, f"add{name}")(*members, *values[n_members:])
            return
    if isinstance(force, openmm.CMAPTorsionForce):
        for index in range(force.getNumTorsions()):
            table, *members = force.getTorsionParameters(index)
            extended.addTorsion(table, *[first + member for member in members])
        return
    if not isinstance(force, particles):
        raise UsageError(
            f"copies in one system: {type(force).__name__} is not supported", fix="--copies 1"
        )
    for index in range(force.getNumParticles()):
        values = force.getParticleParameters(index)
        if isinstance(force, openmm.CustomGBForce):
            extended.addParticle(values)
        else:
            extended.addParticle(*values)
    if isinstance(force, openmm.NonbondedForce):
        for index in range(force.getNumExceptions()):
            one, two, *values = force.getExceptionParameters(index)
            extended.addException(first + one, first + two, *values)
    elif isinstance(force, openmm.CustomGBForce):
        for index in range(force.getNumExclusions()):
            one, two = force.getExclusionParticles(index)
            extended.addExclusion(first + one, first + two)
