"""A molecule whose beads are held in place, with every constraint kept and its ensemble exact.

OpenMM holds a particle without mass, but refuses constraints between it and one with mass, and
the Cα carries a rigid bond to its hydrogen. Giving that bond up would give another ensemble, so
the held atoms are made 10²⁰ amu instead: constraints act on their partners alone, and thermal
motion takes the held atoms less than 1e-6 Å in a microsecond.

What is sampled then is the ensemble of the constrained molecule under the condition that the beads
are where they are, up to one factor. Constrained dynamics at thermal equilibrium weighs a
configuration with the square root of det Z, where Z_ij = Σ_a ∇_a σ_i·∇_a σ_j / m_a over all
constraints σ (Fixman, Proc. Natl. Acad. Sci. USA 71, 3050, 1974). Constraints that do not touch
a held atom keep their factor. A held atom with one constraint has a factor that is constant. With
two, as on the Cα of glycine, at an angle θ,

    det Z ∝ 1 − c·cos²θ,   c = m_0⁻² / ((m_0⁻¹ + m_1⁻¹)(m_0⁻¹ + m_2⁻¹)),

and c is zero once m_0 is infinite. An energy −½ k_B·T·ln(1 − c·cos²θ) puts the factor back. It
acts between atoms that a consistent force map sums up, so it adds nothing to any mapped force.
"""

import copy
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import UsageError, ValidationError
from cgbench.generate.backend import require
from cgbench.units import thermal_energy

#: Mass of a held atom in amu.
HELD_MASS: Final[float] = 1e20

_SCALES_POSITIONS: Final = "Barostat"
_KILOJOULES: Final = 4.184  # in a kilocalorie; OpenMM's expressions are in kJ/mol


def hold(system: Any, sites: NDArray[np.int64], temperature: float) -> Any:
    """Return a copy of a system in which some atoms stay where they are.

    Args:
        system: An ``openmm.System``; it is not changed.
        sites: (n_beads,) the atoms that are held.
        temperature: Of the simulation, in K.

    Raises:
        UsageError: The system has a barostat, which would move held atoms.
        ValidationError: A site does not exist or has no mass, two sites are joined by
            constraints, or the constraints at a site are not rigid bonds to at most two atoms
            that have no other constraint.
    """
    openmm, unit = require("openmm"), require("openmm.unit")
    if len(sites) and not 0 <= sites.min() <= sites.max() < system.getNumParticles():
        raise ValidationError(
            "held atoms: an atom that does not exist",
            expected=f"0 to {system.getNumParticles() - 1}",
            found=f"{sites.min()} to {sites.max()}",
        )
    held = copy.deepcopy(system)
    for index in reversed(range(held.getNumForces())):
        name = type(held.getForce(index)).__name__
        if _SCALES_POSITIONS in name:
            raise UsageError(
                f"held atoms: {name} would move them", fix="simulate at constant volume"
            )
        # Removing the motion of the centre of mass would act on the held atoms alone.
        if isinstance(held.getForce(index), openmm.CMMotionRemover):
            held.removeForce(index)
    pairs = _bonds_at(system, sites)
    correction = openmm.CustomAngleForce(
        f"-0.5*{_KILOJOULES * thermal_energy(temperature)!r}*log(1 - c*cos(theta)^2)"
    )
    correction.addPerAngleParameter("c")
    for site, partners in pairs.items():
        inverse = [
            1.0 / system.getParticleMass(atom).value_in_unit(unit.amu) for atom in (site, *partners)
        ]
        if len(partners) == 2:
            c = inverse[0] ** 2 / ((inverse[0] + inverse[1]) * (inverse[0] + inverse[2]))
            correction.addAngle(partners[0], site, partners[1], [c])
    if correction.getNumAngles():
        held.addForce(correction)
    for site in sites.tolist():
        held.setParticleMass(site, HELD_MASS * unit.amu)
    return held


def _bonds_at(system: Any, sites: NDArray[np.int64]) -> dict[int, list[int]]:
    """Return the atoms that are constrained to each site, having refused what is not simple."""
    unit = require("openmm.unit")
    partners: dict[int, list[int]] = {int(site): [] for site in sites}
    degree = np.zeros(system.getNumParticles(), dtype=np.int64)
    for index in range(system.getNumConstraints()):
        first, second, _ = system.getConstraintParameters(index)
        degree[[first, second]] += 1
        if first in partners and second in partners:
            raise ValidationError(
                "held atoms: two of them are joined by a constraint", found=f"{first}, {second}"
            )
        if first in partners:
            partners[first].append(second)
        elif second in partners:
            partners[second].append(first)
    for site, bonded in partners.items():
        if system.getParticleMass(site).value_in_unit(unit.amu) <= 0:
            raise ValidationError(f"held atoms: atom {site} has no mass")
        if len(bonded) > 2 or (degree[bonded] > 1).any():
            raise ValidationError(
                f"held atoms: constraints at atom {site} are not supported",
                expected="rigid bonds to at most two atoms that have no other constraint",
                found=f"{len(bonded)} bonds, constraints of the partners {degree[bonded].tolist()}",
                fix="constrain bonds to hydrogen only",
            )
    return partners
