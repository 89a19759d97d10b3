"""A figure that shows what each term of a prior was fitted to."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.priors.fit import PriorFitSettings, bond_groups, prior_histograms
from cgbench.priors.histograms import ChainHistograms, Floats, Histogram
from cgbench.priors.parameters import DihedralTerm, PriorParameters
from cgbench.priors.pooled import PooledHistograms, PriorData, pooled_histograms
from cgbench.units import thermal_energy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Free energy above the minimum that the panels show, in kcal/mol.
_SHOWN_ENERGY: Final = 5.0

_COLUMNS: Final = 4

#: More panels than these fill no readable page.
_MAXIMUM_BONDS: Final = 24


def plot_priors(
    parameters: PriorParameters,
    coordinates: NDArray[Any],
    weights: NDArray[Any],
    bead_types: NDArray[Any],
    settings: PriorFitSettings | None = None,
) -> "Figure":
    """Draw the free energy of each term's histogram and the fitted curve.

    There is a panel for the dihedrals, one for each bead type's repulsion and one for each pair of
    bonded types (at most 24). Curves are shifted to the histogram, because a free energy is known
    up to a constant. The dihedral panel also shows the fit before its amplitudes were scaled.

    Args:
        parameters: A fitted prior.
        coordinates: (n_frames, n_beads, 3) in Å.
        weights: (n_frames,) frame weights.
        bead_types: (n_beads,) bead types.
        settings: The settings of the fit.

    Raises:
        ValidationError: The prior has no temperature, or does not fit the bead types.
    """
    settings = settings or PriorFitSettings()
    types = np.asarray(bead_types, dtype=np.int64)
    histograms = prior_histograms(coordinates, weights, len(types), settings)
    return _drawn(parameters, histograms, types, bond_groups(types), settings)


def plot_transferable_prior(
    parameters: PriorParameters,
    parts: Sequence[PriorData] | PooledHistograms,
    settings: PriorFitSettings | None = None,
) -> "Figure":
    """Draw the histograms of all systems together and the fitted curves.

    As :func:`plot_priors`; the pairs of bonded types with most samples are drawn, without
    direction.

    Args:
        parameters: A prior of :func:`~cgbench.priors.fit_transferable_prior`.
        parts: The data that it was fitted to, or their histograms.
        settings: The settings of the fit.

    Raises:
        ValidationError: The prior is not one of several systems, or not one of these.
    """
    settings = settings or PriorFitSettings()
    record = parameters.transferable
    if record is None:
        raise ValidationError(
            "this prior was not fitted to several systems", fix="draw it with plot_priors"
        )
    pooled = (
        parts
        if isinstance(parts, PooledHistograms)
        else pooled_histograms(parts, settings, balance=record.balance)
    )
    if pooled.origins != record.fitted_on:
        raise ValidationError(
            "this prior was fitted to other data",
            expected=", ".join(origin.system for origin in record.fitted_on),
            found=", ".join(origin.system for origin in pooled.origins),
        )
    pairs = {(low, high) for low, high in pooled.bonded.tolist()}
    groups = {pair: (pooled.bonded == pair).all(1) for pair in sorted(pairs)}
    mass = {pair: pooled.chains.bonds.mass[members].sum() for pair, members in groups.items()}
    ordered = sorted((pair for pair in groups if mass[pair] > 0), key=lambda pair: -mass[pair])
    groups = {pair: groups[pair] for pair in ordered}
    return _drawn(parameters, pooled.chains, pooled.types, groups, settings)


def _drawn(
    parameters: PriorParameters,
    histograms: ChainHistograms,
    types: NDArray[np.int64],
    bonded: Mapping[tuple[int, int], NDArray[np.bool_]],
    settings: PriorFitSettings,
) -> "Figure":
    from matplotlib.figure import Figure

    if parameters.temperature is None:
        raise ValidationError(
            "this prior has no temperature to draw free energies at",
            fix="draw a fitted prior; published force fields do not state one",
        )
    energy = thermal_energy(parameters.temperature)
    names = {bead.type: bead.residues[0] for bead in registry.bead_vocabulary().beads}
    groups = list(bonded.items())[:_MAXIMUM_BONDS] if parameters.bonds else []
    kinds = np.unique(types).tolist() if parameters.repulsion else []
    n_panels = len(groups) + len(kinds) + bool(parameters.dihedrals)
    n_rows = max(1, math.ceil(n_panels / _COLUMNS))
    figure = Figure(figsize=(3.2 * _COLUMNS, 2.5 * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, _COLUMNS, squeeze=False).ravel().tolist()
    for unused in axes[n_panels:]:
        unused.set_axis_off()
    panels = iter(axes)

    if parameters.dihedrals:
        panel = next(panels)
        x, free_energy, chosen = _inverted(histograms.dihedrals, None, energy, 0)
        terms = parameters.dihedrals[0].terms
        degrees = np.rad2deg(x)
        _draw(panel, degrees, free_energy, dihedral_curve(terms, x), chosen)
        full = dihedral_curve(terms, x) / settings.dihedral_scale
        _curve(panel, degrees, free_energy, full, chosen, "fit before scaling", ":")
        panel.set(title="all dihedrals", xlabel="angle (°)", xticks=[-180, -90, 0, 90, 180])
        panel.legend(fontsize=7, frameon=False)
    for kind in kinds:
        panel = next(panels)
        members = (types[histograms.pairs] == kind).any(1)
        x, free_energy, chosen = _inverted(histograms.distances, members, energy, 2)
        in_range = chosen & (x < settings.repulsion_range[1])
        curve = 4.0 * parameters.epsilon(kind) * x**-6
        _draw(panel, x, free_energy, curve, in_range)
        panel.axvspan(*settings.repulsion_range, color="0.93", zorder=0)
        title = f"repulsion {names.get(kind, kind)}, ε = {parameters.epsilon(kind):.0f} kcal·Å⁶/mol"
        panel.set(title=title, xlabel="distance (Å)", xlim=(settings.repulsion_range[0], 10.0))
    for (first, second), members in groups:
        panel = next(panels)
        x, free_energy, chosen = _inverted(histograms.bonds, members, energy, 2)
        bond = parameters.bond(first, second)
        _draw(panel, x, free_energy, bond.k * (x - bond.r0) ** 2, chosen)
        half_width = math.sqrt(_SHOWN_ENERGY / bond.k)
        panel.set(
            title=f"bond {names.get(first, first)}–{names.get(second, second)}",
            xlabel=f"length (Å), r0 = {bond.r0:.3f}, k = {bond.k:.0f}",
            xlim=(bond.r0 - half_width, bond.r0 + half_width),
        )
    for panel in axes[:n_panels]:
        panel.set_ylim(-0.3, _SHOWN_ENERGY)
        panel.title.set_fontsize(8)
    figure.supylabel("free energy above its minimum (kcal/mol)", fontsize=9)
    return figure


def dihedral_curve(terms: tuple[DihedralTerm, ...], angles: Floats) -> Floats:
    """Return ``Σ k_n (1 + cos(n φ − γ_n))`` in kcal/mol at angles in radians."""
    energy = np.zeros_like(angles)
    for term in terms:
        energy += term.k * (1.0 + np.cos(term.n * angles - np.deg2rad(term.gamma)))
    return energy


def _inverted(
    histogram: Histogram, members: NDArray[np.bool_] | None, energy: float, power: int
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return bin centres, −kT ln(p / x^power) above its minimum, and the bins that have samples."""
    mass, count = histogram.pooled(members)
    x = histogram.centres
    chosen = count > 0
    free_energy = np.full_like(x, np.nan)
    free_energy[chosen] = -energy * np.log(mass[chosen] / x[chosen] ** power)
    # The minimum of the bins that are not the noise of a few samples.
    typical = chosen & (count >= 0.01 * count.max())
    return x, free_energy - np.nanmin(free_energy[typical]), chosen


def _draw(
    panel: "Axes", x: Floats, free_energy: Floats, curve: Floats, chosen: NDArray[np.bool_]
) -> None:
    panel.plot(x, free_energy, ".", color="0.45", markersize=3, label="histogram")
    _curve(panel, x, free_energy, curve, chosen, "prior", "-")
    panel.tick_params(labelsize=7)
    panel.xaxis.label.set_fontsize(8)


def _curve(
    panel: "Axes",
    x: Floats,
    free_energy: Floats,
    curve: Floats,
    chosen: NDArray[np.bool_],
    label: str,
    style: str,
) -> None:
    """Draw a curve, shifted so that it meets the histogram where it was fitted."""
    if not chosen.any():
        return
    likely = np.exp(-np.clip(free_energy[chosen], 0.0, 50.0))
    shift = np.average(free_energy[chosen] - curve[chosen], weights=likely)
    panel.plot(x, curve + shift, style, color="C0", linewidth=1.3, label=label)
