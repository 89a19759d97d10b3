"""Priors: bonds, repulsion and dihedrals, fitted by Boltzmann inversion, evaluated in batch."""

from cgbench.priors.evaluate import TERMS, Prior, prior_energy_forces
from cgbench.priors.fit import PriorFitSettings, fit_priors
from cgbench.priors.parameters import (
    BondTerm,
    DihedralSet,
    DihedralTerm,
    PriorParameters,
)
from cgbench.priors.plot import plot_priors
from cgbench.priors.published import Topology, chain_topology, read_psf, read_published_prior

__all__ = [
    "TERMS",
    "BondTerm",
    "DihedralSet",
    "DihedralTerm",
    "Prior",
    "PriorFitSettings",
    "PriorParameters",
    "Topology",
    "chain_topology",
    "fit_priors",
    "plot_priors",
    "prior_energy_forces",
    "read_psf",
    "read_published_prior",
]
