"""Backbone atoms from Cα, for cartoons and for secondary structure by hydrogen bonds."""

from cgbench.evaluate.backmap.backbone import ATOMS, backbone, beta_carbons
from cgbench.evaluate.backmap.files import Backmapped, backmap_ensemble, backmap_files
from cgbench.evaluate.backmap.pdb import pdb_model

__all__ = [
    "ATOMS",
    "Backmapped",
    "backbone",
    "backmap_ensemble",
    "backmap_files",
    "beta_carbons",
    "pdb_model",
]
