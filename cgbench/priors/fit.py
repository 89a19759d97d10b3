"""Fits a prior to the equilibrium distribution of a reference by Boltzmann inversion.

Each term's distribution p gives a free energy −kT ln p (divided by the shell volume r² for
distances), and the term's formula is fitted to it, as in Majewski et al., Nat. Commun. 14, 5739
(2023). Frames carry weights, because adaptively sampled frames are not Boltzmann distributed.
"""

import math
from typing import Any, Final, Literal

import numpy as np
import pydantic
import scipy.special
from numpy.typing import NDArray
from pydantic import Field

from cgbench.config import Frozen
from cgbench.errors import ValidationError
from cgbench.priors.histograms import (
    ChainHistograms,
    Floats,
    chain_histograms,
    check_frames,
)
from cgbench.priors.parameters import (
    BondTerm,
    DihedralSet,
    DihedralTerm,
    PriorParameters,
    bond_key,
    describe_types,
)
from cgbench.progress import Progress, silent
from cgbench.units import thermal_energy

#: Bond lengths in Å that are looked at; the store marks frames beyond 2 to 6 Å as not valid.
_BOND_RANGE: Final = (2.0, 6.0)

#: Upper end in Å of the pair distances in the histogram, for the plot; the fit looks at less.
_DISTANCE_END: Final = 12.0


class PriorFitSettings(Frozen):
    """How a prior is fitted.

    Attributes:
        terms: The terms that the prior has.
        bond_bin_width: In Å.
        bond_window: A bond is fitted within this many standard deviations around its mean, so that
            rare cis peptides (at 2.9 instead of 3.8 Å) do not soften it.
        repulsion_range: Distances in Å, on the short side of the pair distribution, that repulsion
            is fitted to.
        repulsion_bin_width: In Å.
        repulsion_shared_count: Effective number of distances within the range at which a bead
            type's own ε weighs as much as the one of all types together.
        dihedral_bins: Number of bins over the circle.
        dihedral_periodicities: The n of the Fourier terms.
        dihedral_scale: Factor on the fitted amplitudes: other terms and the network shape the
            dihedrals too, and the whole free energy would count them twice.
        minimum_count: Bins with fewer effective samples are left out.
    """

    terms: tuple[Literal["bonds", "repulsion", "dihedrals"], ...] = (
        "bonds",
        "repulsion",
        "dihedrals",
    )
    bond_bin_width: float = Field(default=0.005, gt=0, le=0.1)
    bond_window: float = Field(default=2.5, ge=1.0)
    repulsion_range: tuple[float, float] = (3.0, 5.0)
    repulsion_bin_width: float = Field(default=0.1, gt=0, le=0.5)
    repulsion_shared_count: float = Field(default=5000.0, ge=0)
    dihedral_bins: int = Field(default=60, ge=12)
    dihedral_periodicities: tuple[Literal[1, 2, 3, 4, 5, 6], ...] = (1, 2)
    dihedral_scale: float = Field(default=0.5, gt=0, le=1)
    minimum_count: float = Field(default=20.0, ge=1)

    @pydantic.field_validator("repulsion_range")
    @classmethod
    def _increasing(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] < value[1] <= _DISTANCE_END:
            raise ValueError(f"the range must be increasing, between 0 and {_DISTANCE_END} Å")
        return value


def fit_priors(
    coordinates: NDArray[Any],
    weights: NDArray[Any],
    bead_types: NDArray[Any],
    temperature: float,
    settings: PriorFitSettings | None = None,
    *,
    source: str = "",
    progress: Progress = silent,
) -> PriorParameters:
    """Fit bonds, repulsion and dihedrals to weighted frames by Boltzmann inversion.

    - Bonds, for each pair of types in chain order: ``r0`` and ``kT / (2 k)`` are mean and variance
      of the length distribution divided by r².
    - Repulsion: ``4 ε r⁻⁶ + c`` fitted to −kT ln(p/r²) of all pairs |i − j| ≥ 2 that hold the bead
      type, over the range of the settings, each bin alike. Where a type has few such distances its
      ε leans on the ε of all types together: with n effective distances in the range and the
      settings' shared count m, ``ln ε = (n ln ε_type + m ln ε_all) / (n + m)``. A type without
      enough bins for a fit of its own takes ε_all.
    - Dihedrals: ``Σ k_n (1 + cos(n φ − γ_n))`` fitted to −kT ln p of all dihedrals together, bins
      weighted by their effective count, amplitudes then multiplied by the scale of the settings.

    Args:
        coordinates: (n_frames, n_beads, 3) in Å.
        weights: (n_frames,) equilibrium weights, not necessarily normalised.
        bead_types: (n_beads,) bead types.
        temperature: In K.
        settings: How to fit.
        source: Description that goes into the parameters.
        progress: Told of the frames done.

    Raises:
        ValidationError: Shapes or values are wrong, or the frames do not determine a term.
    """
    settings = settings or PriorFitSettings()
    if not temperature > 0:
        raise ValidationError("a prior needs a temperature above zero", found=temperature)
    types = np.asarray(bead_types, dtype=np.int64)
    histograms = prior_histograms(coordinates, weights, len(types), settings, progress=progress)
    energy = thermal_energy(temperature)
    return PriorParameters(
        bonds=_fit_bonds(histograms, types, energy, settings) if "bonds" in settings.terms else {},
        repulsion=fit_repulsion(histograms, types, energy, settings)
        if "repulsion" in settings.terms
        else {},
        dihedrals=fit_dihedrals(histograms, energy, settings)
        if "dihedrals" in settings.terms
        else (),
        temperature=temperature,
        source=source or "Boltzmann inversion of weighted frames",
    )


def prior_histograms(
    coordinates: NDArray[Any],
    weights: NDArray[Any],
    n_beads: int,
    settings: PriorFitSettings,
    *,
    progress: Progress = silent,
) -> ChainHistograms:
    """Return the histograms that a prior is fitted to.

    Raises:
        ValidationError: Shapes or values are wrong.
    """
    frames, normalised = check_frames(coordinates, weights, n_beads)
    bonds, distances, dihedrals = bin_edges(settings)
    return chain_histograms(
        frames,
        normalised,
        bond_edges=bonds,
        distance_edges=distances,
        dihedral_edges=dihedrals,
        progress=progress,
    )


def bin_edges(settings: PriorFitSettings) -> tuple[Floats, Floats, Floats]:
    """Return the bin edges of bond lengths and distances in Å and of dihedrals in radians."""
    n_bonds = round((_BOND_RANGE[1] - _BOND_RANGE[0]) / settings.bond_bin_width)
    n_distances = math.ceil(
        (_DISTANCE_END - settings.repulsion_range[0]) / settings.repulsion_bin_width
    )
    start = settings.repulsion_range[0]
    end = start + n_distances * settings.repulsion_bin_width
    return (
        np.linspace(*_BOND_RANGE, n_bonds + 1),
        np.linspace(start, end, n_distances + 1),
        np.linspace(-np.pi, np.pi, settings.dihedral_bins + 1),
    )


def bond_groups(types: NDArray[np.int64]) -> dict[tuple[int, int], NDArray[np.bool_]]:
    """Return which bonds, (n_beads − 1,) bool, join each ordered pair of bead types."""
    neighbours = np.column_stack([types[:-1], types[1:]])
    unique = np.unique(neighbours, axis=0).tolist()
    return {(pair[0], pair[1]): (neighbours == pair).all(1) for pair in unique}


def _fit_bonds(
    histograms: ChainHistograms,
    types: NDArray[np.int64],
    energy: float,
    settings: PriorFitSettings,
) -> dict[str, BondTerm]:
    terms = {}
    for pair, members in bond_groups(types).items():
        mass, count = histograms.bonds.pooled(members)
        if count.sum() < settings.minimum_count:
            raise ValidationError(
                f"bonds between bead types {describe_types(*pair)} cannot be fitted",
                expected=f"at least {settings.minimum_count:g} effective lengths, 2 to 6 Å",
                found=f"{count.sum():.1f}",
            )
        terms[bond_key(*pair)] = fit_bond(histograms.bonds.centres, mass, energy, settings)
    return terms


def fit_bond(centres: Floats, mass: Floats, energy: float, settings: PriorFitSettings) -> BondTerm:
    """Return the bond of a histogram of lengths.

    Args:
        centres: (n_bins,) Å.
        mass: (n_bins,) weights.
        energy: kT in kcal/mol.
        settings: How to fit.
    """
    mean, variance = _central_moments(centres, mass / centres**2, settings.bond_window)
    return BondTerm(k=energy / (2.0 * variance), r0=mean)


def _central_moments(centres: Floats, density: Floats, window: float) -> tuple[float, float]:
    """Return mean and variance of the normal distribution around the median of a histogram.

    Moments are taken within ``window`` standard deviations and corrected for what a normal
    distribution has outside, until that no longer changes. The width of the bins is taken off the
    variance (Sheppard's correction).
    """
    width = centres[1] - centres[0]
    inside = scipy.special.erf(window / math.sqrt(2.0))
    edge = math.exp(-0.5 * window**2) / math.sqrt(2.0 * math.pi)
    kept = 1.0 - 2.0 * window * edge / inside
    share = np.cumsum(density) / density.sum()
    low, mean, high = np.interp([0.15865, 0.5, 0.84135], share, centres)
    variance = max(0.25 * (high - low) ** 2, width**2)
    for _ in range(100):
        chosen = np.abs(centres - mean) <= window * math.sqrt(variance) + 0.5 * width
        mass = density[chosen] / density[chosen].sum()
        before, mean = mean, mass @ centres[chosen]
        spread = (mass @ (centres[chosen] - mean) ** 2) / kept
        converged = abs(mean - before) < 1e-6 and abs(spread - variance) < 1e-6 * variance
        variance = max(spread, width**2)
        if converged:
            break
    return float(mean), float(variance - width**2 / 12.0)


def fit_pooled_repulsion(
    histograms: ChainHistograms, energy: float, settings: PriorFitSettings
) -> float:
    """Return the ε of all bead types together, kcal·Å⁶/mol.

    Raises:
        ValidationError: The short side of the distances does not determine it.
    """
    pooled, _ = _fit_inverse_sixth(*histograms.distances.pooled(), histograms, energy, settings)
    if pooled is None:
        low, high = settings.repulsion_range
        raise ValidationError(
            "repulsion cannot be fitted",
            expected=f"a pair distribution that rises between {low} and {high} Å, in at least "
            f"three bins of {settings.minimum_count:g} effective distances",
            fix="use more frames, or leave repulsion out of the terms",
        )
    return pooled


def fit_repulsion(
    histograms: ChainHistograms,
    types: NDArray[np.int64],
    energy: float,
    settings: PriorFitSettings,
) -> dict[int, float]:
    """Return the ε of each bead type that occurs, kcal·Å⁶/mol; see :func:`fit_priors`.

    Raises:
        ValidationError: The short side of the distances does not determine it.
    """
    pooled = fit_pooled_repulsion(histograms, energy, settings)
    shared = settings.repulsion_shared_count
    fitted = {}
    for bead_type in np.unique(types).tolist():
        members = (types[histograms.pairs] == bead_type).any(1)
        own, count = _fit_inverse_sixth(
            *histograms.distances.pooled(members), histograms, energy, settings
        )
        own = pooled if own is None else own
        if not count + shared > 0:
            fitted[bead_type] = pooled
            continue
        mean = (count * math.log(own) + shared * math.log(pooled)) / (count + shared)
        fitted[bead_type] = math.exp(mean)
    return fitted


def _fit_inverse_sixth(
    mass: Floats,
    count: Floats,
    histograms: ChainHistograms,
    energy: float,
    settings: PriorFitSettings,
) -> tuple[float | None, float]:
    """Return ε of the short side (None where it cannot be fitted) and the distances it rests on."""
    centres = histograms.distances.centres
    in_range = centres < settings.repulsion_range[1]
    chosen = in_range & (count >= settings.minimum_count)
    total = float(count[in_range].sum())
    if chosen.sum() < 3:
        return None, total
    free_energy = -energy * np.log(mass[chosen] / centres[chosen] ** 2)
    design = np.column_stack([4.0 * centres[chosen] ** -6, np.ones(int(chosen.sum()))])
    (epsilon, _), *_ = np.linalg.lstsq(design, free_energy)
    return (float(epsilon) if epsilon > 0 else None), total


def fit_dihedrals(
    histograms: ChainHistograms, energy: float, settings: PriorFitSettings
) -> tuple[DihedralSet, ...]:
    """Return the Fourier terms of all dihedrals together; see :func:`fit_priors`.

    Raises:
        ValidationError: The angles do not determine them.
    """
    if len(histograms.dihedrals.mass) == 0:
        return ()
    centres = histograms.dihedrals.centres
    mass, count = histograms.dihedrals.pooled()
    chosen = count >= settings.minimum_count
    angles = centres[chosen]
    columns = [np.ones_like(angles)]
    for n in settings.dihedral_periodicities:
        columns += [np.cos(n * angles), np.sin(n * angles)]
    if chosen.sum() < 2 * len(columns):
        raise ValidationError(
            "dihedrals cannot be fitted",
            expected=f"{2 * len(columns)} bins with {settings.minimum_count:g} effective angles",
            found=f"{chosen.sum()} bins",
        )
    root = np.sqrt(count[chosen])
    design = np.column_stack(columns) * root[:, None]
    solution, *_ = np.linalg.lstsq(design, -energy * np.log(mass[chosen]) * root)
    terms = []
    for position, n in enumerate(settings.dihedral_periodicities):
        cosine, sine = solution[1 + 2 * position : 3 + 2 * position]
        terms.append(
            DihedralTerm(
                n=n,
                k=settings.dihedral_scale * math.hypot(cosine, sine),
                gamma=math.degrees(math.atan2(sine, cosine)),
            )
        )
    return (DihedralSet(types=None, terms=tuple(terms)),)
