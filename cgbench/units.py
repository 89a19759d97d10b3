"""Units of every public boundary and the few constants that connect them.

Lengths are in ångström (Å), energies in kcal/mol, times in picoseconds (ps), masses in atomic
mass units (amu) and temperatures in kelvin (K).
"""

from typing import Final

#: Molar Boltzmann constant in kcal/mol/K: the exact SI value of the gas constant
#: (8.31446261815324 J/mol/K, CODATA 2018) over 4184 J/kcal.
BOLTZMANN: Final[float] = 8.31446261815324 / 4184.0

#: One kcal/mol in amu·Å²/ps²: 4184 J/mol = 418.4 amu·Å²/ps² exactly. A force in kcal/mol/Å over
#: a mass in amu, times this, is an acceleration in Å/ps².
KCAL_PER_MOL: Final[float] = 418.4

#: The thermochemical calorie, exactly.
KILOJOULE_PER_KILOCALORIE: Final[float] = 4.184

#: mdtraj and xtc files use nanometres.
ANGSTROM_PER_NANOMETRE: Final[float] = 10.0

FEMTOSECONDS_PER_PICOSECOND: Final[float] = 1000.0
SECONDS_PER_DAY: Final[float] = 86400.0
PICOSECONDS_PER_NANOSECOND: Final[float] = 1000.0


def thermal_energy(temperature: float) -> float:
    """Return k_B·T in kcal/mol for a temperature in K."""
    return BOLTZMANN * temperature


def nanoseconds_per_day(steps_per_second: float, timestep: float) -> float:
    """Return simulated nanoseconds a day from steps a second and a time step in ps."""
    return steps_per_second * timestep * SECONDS_PER_DAY / PICOSECONDS_PER_NANOSECOND
