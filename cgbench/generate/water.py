"""A protein put into water that has settled around it."""

from typing import Any, Final

from cgbench.generate.backend import require
from cgbench.generate.records import DoubleArray, Machine, spawn_seed
from cgbench.generate.settings import DynamicsSettings, GenerationSettings
from cgbench.generate.simulate import Engine
from cgbench.generate.structures import Structure, solvate
from cgbench.generate.system import build_system

#: Spring in kcal/mol/Å² on heavy atoms of the protein while its water settles.
_RESTRAINT: Final = 1.0
#: Steps downhill that take clashes out of new water; settling does the rest.
_MINIMISATION: Final = 200


def in_water(
    start: DoubleArray,
    topology: Any,
    settings: GenerationSettings,
    dynamics: DynamicsSettings,
    seed: int,
    machine: Machine,
) -> Engine:
    """Return an engine with a start in settled water, at constant volume."""
    openmm, unit = require("openmm"), require("openmm.unit")
    n_residues = topology.getNumResidues()
    wet = solvate(Structure(topology, start, (None,) * n_residues), settings.system, seed=seed)
    system = build_system(wet.topology, settings.system)
    held = openmm.CustomExternalForce("k*periodicdistance(x, y, z, x0, y0, z0)^2")
    held.addGlobalParameter("k", _RESTRAINT * unit.kilocalorie_per_mole / unit.angstrom**2)
    for name in ("x0", "y0", "z0"):
        held.addPerParticleParameter(name)
    for atom in topology.atoms():
        if atom.element.symbol != "H":
            held.addParticle(atom.index, list(wet.positions[atom.index] * 0.1))
    system.addForce(held)
    barostat = openmm.MonteCarloBarostat(
        settings.pressure * unit.bar, dynamics.temperature * unit.kelvin
    )
    barostat.setRandomNumberSeed(spawn_seed(seed, 2))
    system.addForce(barostat)
    settling = Engine(
        system, dynamics, seed=spawn_seed(seed, 3), platform=machine.platform,
        threads=machine.threads,
    )  # fmt: skip
    settling.set_positions(wet.positions)
    settling.minimise(_MINIMISATION)
    settling.thermalise(dynamics.temperature)
    settling.step(round(settings.equilibration / dynamics.timestep))
    engine = Engine(
        build_system(wet.topology, settings.system), dynamics, seed=seed,
        platform=machine.platform, threads=machine.threads,
    )  # fmt: skip
    engine.set_box(settling.box())
    engine.set_positions(settling.state().positions)
    return engine
