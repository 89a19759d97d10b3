"""Populations of the reference's macrostates."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.evaluate.metrics.base import Metric
from cgbench.evaluate.metrics.comparison import Comparison, Float
from cgbench.units import thermal_energy


def macro_pop(comparison: Comparison) -> Float:
    """Return the mean absolute error of the macrostates' free energies, in kcal/mol.

    The free energy of a state is −k_B·T·ln of its population. States are the reference's
    macrostates, and one more for what is not in them: macrostates with less than the registry's
    minor population, frames outside and lost frames. That one's populations count as at least the
    minor population, since that it is smaller is no error that can be measured. Each error is
    clipped at the cutoff of the free-energy errors.
    """
    constants = registry.constants()
    frozen = np.bincount(comparison.definition.macrostate, weights=comparison.bundle.stationary)
    major = np.append(frozen >= constants.minor_population, False)
    with np.errstate(divide="ignore", invalid="ignore"):
        model, reference = (
            np.log(_populations(side.masses["macrostate"], side.dead, major))
            for side in (comparison.model, comparison.reference)
        )
        error = thermal_energy(comparison.bundle.temperature) * np.abs(model - reference)
    # A state that neither has visited is right in both.
    error = np.where(np.isneginf(model) & np.isneginf(reference), 0.0, error)
    return np.asarray(np.minimum(error, constants.fes_cutoff).mean(axis=0))


def _populations(masses: Float, dead: Float, major: NDArray[np.bool_]) -> Float:
    elsewhere = masses[~major].sum(axis=0) + dead
    floor = registry.constants().minor_population
    return np.concatenate([masses[major], np.maximum(elsewhere, floor)[None]])


METRICS: Final[tuple[Metric, ...]] = (Metric("macro_pop", macro_pop, compared=True),)
