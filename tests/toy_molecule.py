"""A small OpenMM system whose mean force on its beads is known in closed form.

Bead A carries a hydrogen H at a fixed distance, and a spring joins H to bead B. Atoms X and Y
hang on springs without length between the beads. All else is harmonic, so the mean force is

    on A: −k(A − B) + k·d·L(k·d·|A − B| / k_B·T)·(A − B)/|A − B| − (harmonic part),

with L(x) = coth x − 1/x (Langevin's function), and the harmonic part that of eliminated springs.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgbench.units import thermal_energy

FloatArray = NDArray[np.float64]

#: Order of the atoms: A, H, B, X, Y.
SITES = np.array([0, 2])
LENGTH = 1.09
SPRING_H = 1.2
#: Springs of zero length: atom, atom, kcal/mol/Å².
SPRINGS = [(0, 3, 3.0), (3, 4, 5.0), (4, 2, 2.0), (0, 4, 1.0), (0, 2, 0.5)]
MASSES = [12.0, 4.0, 14.0, 12.0, 16.0]


def toy_system() -> Any:
    """The ``openmm.System``."""
    import openmm
    from openmm import unit

    system = openmm.System()
    for mass in MASSES:
        system.addParticle(mass)
    system.addConstraint(0, 1, LENGTH * unit.angstrom)
    force = openmm.CustomBondForce("0.5*k*r^2")
    force.addPerBondParameter("k")
    per = unit.kilocalorie_per_mole / unit.angstrom**2
    for first, second, stiffness in [*SPRINGS, (1, 2, SPRING_H)]:
        force.addBond(first, second, [(stiffness * per).value_in_unit_system(unit.md_unit_system)])
    system.addForce(force)
    system.addForce(openmm.CMMotionRemover())
    return system


def toy_positions(n_frames: int, seed: int = 0) -> FloatArray:
    """Positions (n_frames, 5, 3) with H at its distance."""
    generator = np.random.default_rng(seed)
    positions = generator.normal(size=(n_frames, 5, 3)) * 0.7
    positions[:, 2] += [2.0, 0.5, -1.0]
    direction = generator.normal(size=(n_frames, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    positions[:, 1] = positions[:, 0] + LENGTH * direction
    return positions


def toy_mean_forces(positions: FloatArray, temperature: float) -> FloatArray:
    """The exact mean forces (n_frames, 2, 3)."""
    stiffness = np.zeros((5, 5))
    for first, second, value in SPRINGS:
        stiffness[[first, second], [first, second]] += value
        stiffness[[first, second], [second, first]] -= value
    beads, free = SITES, np.array([3, 4])
    effective = stiffness[np.ix_(beads, beads)] - stiffness[np.ix_(beads, free)] @ np.linalg.solve(
        stiffness[np.ix_(free, free)], stiffness[np.ix_(free, beads)]
    )
    harmonic = -np.einsum("bc,fcx->fbx", effective, positions[:, beads])
    between = positions[:, 0] - positions[:, 2]
    distance = np.linalg.norm(between, axis=1, keepdims=True)
    strength = SPRING_H * LENGTH * distance / thermal_energy(temperature)
    langevin = 1 / np.tanh(strength) - 1 / strength
    on_first = -SPRING_H * between + SPRING_H * LENGTH * langevin * between / distance
    return harmonic + np.stack([on_first, -on_first], axis=1)
