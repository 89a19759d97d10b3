"""Dynamics of one OpenMM context in cgbench's units: Å, kcal/mol, ps and K."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import SimulationError
from cgbench.generate.backend import platform as find_platform
from cgbench.generate.backend import require
from cgbench.generate.settings import DynamicsSettings
from cgbench.units import ANGSTROM_PER_NANOMETRE

DoubleArray = NDArray[np.float64]

#: kcal/mol/Å that no atom of a sound simulation feels; beyond it the integration has diverged.
MAXIMUM_FORCE: Final[float] = 1e5


@dataclass(frozen=True)
class AtomState:
    """A frame of all atoms.

    Attributes:
        positions: (n_atoms, 3), Å.
        forces: (n_atoms, 3), kcal/mol/Å.
        energy: Potential energy in kcal/mol.
    """

    positions: DoubleArray
    forces: DoubleArray
    energy: float


class Engine:
    """One OpenMM context with a Langevin middle integrator (Zhang et al., J. Phys. Chem. A 2019).

    Args:
        system: An ``openmm.System``.
        dynamics: Temperature, friction and step.
        seed: Seed of the thermostat's noise and of the velocities, from 1 to 2³¹ − 1.
        platform: Name of an OpenMM platform; the fastest there is for None.
        threads: Threads of the CPU platform; all cores for None.

    Raises:
        UsageError: OpenMM or the platform is not there.
        SimulationError: The platform is there but does not work.
    """

    def __init__(
        self,
        system: Any,
        dynamics: DynamicsSettings,
        *,
        seed: int,
        platform: str | None = None,
        threads: int | None = None,
    ) -> None:
        openmm = require("openmm")
        self._unit = require("openmm.unit")
        self._seed = seed
        self._integrator = openmm.LangevinMiddleIntegrator(
            dynamics.temperature, dynamics.friction, dynamics.timestep
        )
        self._integrator.setRandomNumberSeed(seed)
        chosen = find_platform(platform)
        try:
            self.context = openmm.Context(
                system, self._integrator, chosen, _properties(chosen, threads)
            )
        except openmm.OpenMMException as error:
            raise SimulationError(
                f"OpenMM's platform {chosen.getName()} does not start", found=error
            ) from error

    def set_positions(self, positions: NDArray[np.floating[Any]]) -> None:
        """Put the atoms at positions (n_atoms, 3) in Å; constraints are left as they are."""
        self.context.setPositions(np.asarray(positions, dtype=np.float64) / ANGSTROM_PER_NANOMETRE)

    def set_velocities(self, velocities: NDArray[np.floating[Any]]) -> None:
        """Give the atoms velocities (n_atoms, 3) in Å/ps."""
        self.context.setVelocities(
            np.asarray(velocities, dtype=np.float64) / ANGSTROM_PER_NANOMETRE
        )

    def velocities(self) -> DoubleArray:
        """Return the velocities (n_atoms, 3) in Å/ps."""
        state = self.context.getState(getVelocities=True)
        values = state.getVelocities(asNumpy=True).value_in_unit(
            self._unit.angstrom / self._unit.picosecond
        )
        return np.array(values, dtype=np.float64)

    def set_temperature(self, temperature: float) -> None:
        """Set the thermostat to a temperature in K; velocities stay as they are."""
        self._integrator.setTemperature(temperature)

    def thermalise(self, temperature: float) -> None:
        """Move the atoms onto the constraints and draw velocities at a temperature in K."""
        self._checked(
            lambda: self.context.applyConstraints(self._integrator.getConstraintTolerance())
        )
        self.context.setVelocitiesToTemperature(temperature, self._seed)

    def minimise(self, steps: int = 0) -> None:
        """Go downhill for a number of steps, or until the minimum is reached for 0."""
        minimiser = require("openmm").LocalEnergyMinimizer
        self._checked(lambda: minimiser.minimize(self.context, maxIterations=steps))

    def step(self, n_steps: int) -> None:
        """Integrate.

        Raises:
            SimulationError: The integration diverged.
        """
        self._checked(lambda: self._integrator.step(n_steps))

    def state(self) -> AtomState:
        """Return positions, forces and potential energy as they are.

        Raises:
            SimulationError: The integration diverged.
        """
        unit = self._unit
        found = self._checked(
            lambda: self.context.getState(getPositions=True, getForces=True, getEnergy=True)
        )
        positions = found.getPositions(asNumpy=True).value_in_unit(unit.angstrom)
        forces = found.getForces(asNumpy=True).value_in_unit(
            unit.kilocalorie_per_mole / unit.angstrom
        )
        energy = float(found.getPotentialEnergy().value_in_unit(unit.kilocalorie_per_mole))
        if not (np.isfinite(positions).all() and np.abs(forces).max() < MAXIMUM_FORCE):
            raise SimulationError(
                "the integration diverged",
                expected=f"finite positions and forces below {MAXIMUM_FORCE:g} kcal/mol/Å",
                found=f"largest force {np.abs(forces).max():g} kcal/mol/Å",
            )
        return AtomState(
            np.array(positions, dtype=np.float64), np.array(forces, dtype=np.float64), energy
        )

    def box(self) -> DoubleArray:
        """Return the periodic box vectors (3, 3) in Å."""
        vectors = self.context.getState().getPeriodicBoxVectors(asNumpy=True)
        return np.array(vectors.value_in_unit(self._unit.angstrom), dtype=np.float64)

    def set_box(self, vectors: NDArray[np.floating[Any]]) -> None:
        """Set the periodic box vectors (3, 3) in Å."""
        self.context.setPeriodicBoxVectors(
            *(np.asarray(vectors, dtype=np.float64) / ANGSTROM_PER_NANOMETRE)
        )

    def _checked(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except require("openmm").OpenMMException as error:
            raise SimulationError("the integration diverged", found=error) from error


def _properties(platform: Any, threads: int | None) -> dict[str, str]:
    # Positions of many copies far from the origin need more digits than single precision has.
    wanted = {"Precision": "mixed", "DeterministicForces": "true"}
    if threads is not None and platform.getName() == "CPU":
        wanted["Threads"] = str(threads)
    return {name: value for name, value in wanted.items() if name in platform.getPropertyNames()}
