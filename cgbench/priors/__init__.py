"""Priors: bonds, repulsion and dihedrals, fitted by Boltzmann inversion, evaluated in batch."""

from cgbench.priors.evaluate import TERMS, Prior, prior_energy_forces
from cgbench.priors.fit import PriorFitSettings, fit_priors
from cgbench.priors.parameters import (
    BondTerm,
    DihedralSet,
    DihedralTerm,
    PriorOrigin,
    PriorParameters,
    TransferableFit,
)
from cgbench.priors.plot import plot_priors, plot_transferable_prior
from cgbench.priors.pooled import PooledHistograms, PriorData, pooled_histograms
from cgbench.priors.published import Topology, chain_topology, read_psf, read_published_prior
from cgbench.priors.transferable import fit_transferable_prior

__all__ = [
    "TERMS",
    "BondTerm",
    "DihedralSet",
    "DihedralTerm",
    "PooledHistograms",
    "Prior",
    "PriorData",
    "PriorFitSettings",
    "PriorOrigin",
    "PriorParameters",
    "Topology",
    "TransferableFit",
    "chain_topology",
    "fit_priors",
    "fit_transferable_prior",
    "plot_priors",
    "plot_transferable_prior",
    "pooled_histograms",
    "prior_energy_forces",
    "read_psf",
    "read_published_prior",
]
