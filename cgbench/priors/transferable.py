"""Fits one prior to several systems together, complete over the bead vocabulary.

Each term is fitted as for one system (:func:`~cgbench.priors.fit_priors`), to the histograms of all
systems added up. Pairs of bonded beads have no direction, and beads that share a type in the
published force field share their terms, as norleucine and leucine do there; so whatever sequence of
the vocabulary is asked for has a prior, mutants and left-out proteins included.
"""

from collections.abc import Sequence

from cgbench import registry
from cgbench.errors import UsageError, ValidationError
from cgbench.priors.fit import (
    PriorFitSettings,
    fit_bond,
    fit_dihedrals,
    fit_pooled_repulsion,
    fit_repulsion,
)
from cgbench.priors.parameters import BondTerm, PriorParameters, TransferableFit, bond_key
from cgbench.priors.pooled import (
    Balance,
    PooledHistograms,
    PriorData,
    pooled_histograms,
    shared_type,
)
from cgbench.progress import Progress, silent
from cgbench.units import thermal_energy


def fit_transferable_prior(
    parts: Sequence[PriorData] | PooledHistograms,
    settings: PriorFitSettings | None = None,
    *,
    balance: Balance = "frames",
    left_out: str | None = None,
    progress: Progress = silent,
) -> PriorParameters:
    """Fit bonds, repulsion and dihedrals to the frames of several systems together.

    The formulas are those of :func:`~cgbench.priors.fit_priors`, with these differences:

    - A bond is fitted for each pair of types without direction. Pairs with fewer effective lengths
      than the settings' minimum take the bond of all pairs together, and the record names them.
    - Bead types that do not occur take the repulsion of all types together; likewise named.
    - Dihedrals are one set for all systems, as in the published force field.

    The order of the parts does not matter. Frames are read once, part by part.

    Args:
        parts: The data of each system, or their histograms.
        settings: How to fit.
        balance: What every system counts by, see :func:`~cgbench.priors.pooled_histograms`;
            histograms bring their own.
        left_out: The system that this prior is fitted without, for the record.
        progress: Told of the systems done.

    Raises:
        UsageError: No part, one system twice, or the left-out system is among the parts.
        ValidationError: Temperatures differ, frames are unusable, or do not determine a term.
    """
    settings = settings or PriorFitSettings()
    if isinstance(parts, PooledHistograms):
        pooled = parts
    else:
        pooled = pooled_histograms(parts, settings, balance=balance, progress=progress)
    if left_out is not None and left_out in {origin.system for origin in pooled.origins}:
        raise UsageError(f"prior without {left_out}: the data hold {left_out}")
    energy = thermal_energy(pooled.temperature)
    vocabulary = sorted(registry.bead_vocabulary().psf_types)
    bonds, pooled_bond, rare = _bonds(pooled, energy, settings, vocabulary)
    repulsion, pooled_repulsion, absent = _repulsion(pooled, energy, settings, vocabulary)
    names = ", ".join(origin.system for origin in pooled.origins)
    return PriorParameters(
        bonds=bonds,
        repulsion=repulsion,
        dihedrals=fit_dihedrals(pooled.chains, energy, settings)
        if "dihedrals" in settings.terms
        else (),
        temperature=pooled.temperature,
        source=f"Boltzmann inversion of weighted frames of {names} together",
        transferable=TransferableFit(
            fitted_on=pooled.origins,
            balance=pooled.balance,
            left_out=left_out,
            pooled_bond=pooled_bond,
            pooled_repulsion=pooled_repulsion,
            bonds_from_pool=rare,
            beads_from_pool=absent,
        ),
    )


def _bonds(
    pooled: PooledHistograms, energy: float, settings: PriorFitSettings, vocabulary: list[int]
) -> tuple[dict[str, BondTerm], BondTerm | None, tuple[str, ...]]:
    """Return the bonds in both directions, the pooled one, and the pairs that have that."""
    if "bonds" not in settings.terms:
        return {}, None, ()
    lengths = pooled.chains.bonds
    mass, count = lengths.pooled()
    if count.sum() < settings.minimum_count:
        raise ValidationError(
            "bonds of all systems together cannot be fitted",
            expected=f"at least {settings.minimum_count:g} effective lengths, 2 to 6 Å",
            found=f"{count.sum():.1f}",
        )
    shared = fit_bond(lengths.centres, mass, energy, settings)
    fitted: dict[tuple[int, int], BondTerm] = {}
    for low, high in sorted(set(map(tuple, pooled.bonded.tolist()))):
        mass, count = lengths.pooled((pooled.bonded == (low, high)).all(1))
        if count.sum() >= settings.minimum_count:
            fitted[low, high] = fit_bond(lengths.centres, mass, energy, settings)
    table, rare = {}, []
    for first in vocabulary:
        for second in vocabulary:
            low, high = sorted((shared_type(first), shared_type(second)))
            table[bond_key(first, second)] = fitted.get((low, high), shared)
            if (low, high) not in fitted and first <= second:
                rare.append(bond_key(first, second))
    return table, shared, tuple(rare)


def _repulsion(
    pooled: PooledHistograms, energy: float, settings: PriorFitSettings, vocabulary: list[int]
) -> tuple[dict[int, float], float | None, tuple[int, ...]]:
    """Return ε of every bead type, the pooled one, and the types that have that."""
    if "repulsion" not in settings.terms:
        return {}, None, ()
    shared = fit_pooled_repulsion(pooled.chains, energy, settings)
    fitted = fit_repulsion(pooled.chains, pooled.types, energy, settings)
    table = {kind: fitted.get(shared_type(kind), shared) for kind in vocabulary}
    return table, shared, tuple(kind for kind in vocabulary if shared_type(kind) not in fitted)
