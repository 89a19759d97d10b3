"""Slow coordinates, free energies and the native population."""

from collections.abc import Callable
from typing import Final

import numpy as np

from cgbench.evaluate.metrics.comparison import Comparison, Float
from cgbench.evaluate.metrics.divergence import jensen_shannon, wasserstein


def line_distance(comparison: Comparison, name: str) -> Float:
    """Return the Wasserstein distance along one observable, in its unit.

    What lies outside the edges is counted in the outermost bins; how far beyond them it lies is
    added.
    """
    model, reference = comparison.model, comparison.reference
    within = wasserstein(
        comparison.bundle.edges[name], model.masses[name], reference.masses[name], model.dead
    )
    outside = (model.means[f"{name}_below"] + model.means[f"{name}_above"]) * (1.0 - model.dead)
    return within + outside


def w1_tic(comparison: Comparison, component: int) -> Float:
    """Return the Wasserstein distance along a slow coordinate over the reference's σ."""
    sigma = float(comparison.bundle.tic_sigma[component])
    return line_distance(comparison, f"tic{component + 1}") / sigma


def fes_rmse(comparison: Comparison) -> Float:
    """Return the root mean square free-energy difference over the cells compared, kcal/mol."""
    return np.asarray(np.sqrt(np.mean(comparison.fes_difference**2, axis=0)))


def fes_mae(comparison: Comparison) -> Float:
    """Return the mean absolute free-energy difference over the cells compared, kcal/mol."""
    return np.asarray(np.mean(np.abs(comparison.fes_difference), axis=0))


def js_2d(comparison: Comparison) -> Float:
    """Return the Jensen-Shannon divergence over both slow coordinates, in bits.

    Dead mass and mass outside the grid are two states of their own.
    """
    model, reference = comparison.model, comparison.reference
    planes = [
        np.concatenate([side.masses["plane"], side.dead[None]]) for side in (model, reference)
    ]
    return jensen_shannon(planes[0], planes[1])


def native_population(comparison: Comparison) -> Float:
    """Return the weighted share of frames in the native basin; lost frames are not in it."""
    return comparison.model.means["folded"] * (1.0 - comparison.model.dead)


METRICS: Final[dict[str, Callable[[Comparison], Float]]] = {
    "w1_tic1": lambda comparison: w1_tic(comparison, 0),
    "w1_tic2": lambda comparison: w1_tic(comparison, 1),
    "fes_rmse": fes_rmse,
    "fes_mae": fes_mae,
    "js_2d": js_2d,
    "native_population": native_population,
}
