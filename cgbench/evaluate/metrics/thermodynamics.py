"""Slow coordinates, free energies and the native population."""

from typing import Final

import numpy as np

from cgbench import registry
from cgbench.evaluate.metrics.base import Metric
from cgbench.evaluate.metrics.comparison import Comparison, Float
from cgbench.evaluate.metrics.divergence import (
    jensen_shannon,
    kullback_leibler,
    mass_below,
    wasserstein,
)
from cgbench.units import thermal_energy


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


def fes_rmse_paper(comparison: Comparison) -> Float:
    """Return `fes_rmse` up to the cutoff of published contour plots, kcal/mol.

    So far up it measures mostly how many frames there are: it is for the figure, never for a rank.
    """
    difference = comparison.free_energy_difference(registry.constants().paper_fes_cutoff)
    return np.asarray(np.sqrt(np.mean(difference**2, axis=0)))


def _planes(comparison: Comparison) -> tuple[Float, Float]:
    """Return both distributions over the grid, with mass outside it and dead mass as states."""
    model, reference = (
        np.concatenate([side.masses["plane"], side.dead[None]])
        for side in (comparison.model, comparison.reference)
    )
    return model, reference


def js_2d(comparison: Comparison) -> Float:
    """Return the Jensen-Shannon divergence over both slow coordinates, in bits.

    Dead mass and mass outside the grid are two states of their own.
    """
    return jensen_shannon(*_planes(comparison))


def kl_2d(comparison: Comparison) -> Float:
    """Return the divergence Σ p_ref·ln(p_ref/p_model) over both slow coordinates, in nats.

    States as in `js_2d`, all with the registry's pseudo-count. The direction is that of maximum
    likelihood: what the reference visits and the model does not costs most.
    """
    model, reference = _planes(comparison)
    return kullback_leibler(reference, model, registry.constants().kl_pseudo_count)


def coverage(comparison: Comparison) -> Float:
    """Return the reference's mass in cells that the model visits.

    To be read together with `precision`: uniform noise visits every cell.
    """
    model, reference = (
        side.masses["plane"][:-1] for side in (comparison.model, comparison.reference)
    )
    return np.asarray(np.minimum(np.where(model > 0, reference, 0.0).sum(axis=0), 1.0))


def precision(comparison: Comparison) -> Float:
    """Return the model's mass in cells whose reference free energy is at most the cutoff.

    Lost frames and those outside the grid are in none.
    """
    likely = (comparison.bundle.fes <= registry.constants().fes_cutoff).ravel()
    return np.asarray(np.minimum(likely @ comparison.model.masses["plane"][:-1], 1.0))


def native_population(comparison: Comparison) -> Float:
    """Return the weighted share of frames in the native basin; lost frames are not in it."""
    return comparison.model.means["folded"] * (1.0 - comparison.model.dead)


def _unpopulated(comparison: Comparison) -> str | None:
    if comparison.model.means["folded"][0] > 0:
        return None
    return "no frame is in the native basin"


def _basin_populations(comparison: Comparison) -> tuple[Float, Float]:
    """Return the shares of living frames in the native basin and of unfolded ones."""
    model = comparison.model
    with np.errstate(invalid="ignore", divide="ignore"):
        unfolded = mass_below(
            comparison.bundle.edges["q"],
            model.masses["q"] / (1.0 - model.dead),
            comparison.definition.basins.unfolded_q,
        )
    return model.means["folded"], np.nan_to_num(unfolded)


def folding_free_energy(comparison: Comparison) -> Float:
    """Return the free energy of folding −k_B·T·ln(p_folded/p_unfolded), in kcal/mol.

    Folded is the native basin; unfolded are frames with few native contacts; those between are
    neither. Negative where the protein folds. It lies within the cutoff plus the clip of the
    free-energy errors on either side of zero, which is its value where one of the two is empty.

    Returns:
        (n_columns,), not-a-number where both are empty.
    """
    constants = registry.constants()
    limit = constants.fes_cutoff + constants.fes_clip
    folded, unfolded = _basin_populations(comparison)
    with np.errstate(divide="ignore", invalid="ignore"):
        energy = thermal_energy(comparison.bundle.temperature) * (np.log(unfolded) - np.log(folded))
    return np.asarray(np.clip(energy, -limit, limit))


def _folding_note(comparison: Comparison) -> str | None:
    limit = registry.constants().fes_cutoff + registry.constants().fes_clip
    clipped = abs(float(folding_free_energy(comparison)[0])) >= limit
    return f"clipped at {limit:g} kcal/mol" if clipped else None


def _empty_basin(comparison: Comparison) -> str | None:
    folded, unfolded = (float(side[0]) for side in _basin_populations(comparison))
    empty = [name for name, share in (("folded", folded), ("unfolded", unfolded)) if share <= 0]
    return f"no frame is {' or '.join(empty)}" if empty else None


METRICS: Final[tuple[Metric, ...]] = (
    Metric("w1_tic1", lambda comparison: w1_tic(comparison, 0), compared=True),
    Metric("w1_tic2", lambda comparison: w1_tic(comparison, 1), compared=True),
    Metric("fes_rmse", fes_rmse, compared=True),
    Metric("fes_mae", fes_mae, compared=True),
    Metric("fes_rmse_paper", fes_rmse_paper, compared=True),
    Metric("js_2d", js_2d, compared=True),
    Metric("kl_2d", kl_2d, compared=True),
    Metric("coverage", coverage, compared=True),
    Metric("precision", precision, compared=True),
    Metric("native_population", native_population, compared=True, unseen=_unpopulated),
    Metric("dG_fold", folding_free_energy, compared=True, note=_folding_note, unseen=_empty_basin),
)
