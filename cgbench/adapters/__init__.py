"""Models of other programs: TorchMD-Net, mlcg, ASE, programs, and functions of other packages."""

from cgbench.adapters.base import Adapted, AdaptedPotential, AdapterChoice, Request
from cgbench.adapters.checkpoint import Checkpoint, read_checkpoint
from cgbench.adapters.registry import (
    GROUP,
    AdapterListing,
    adapted_hash,
    list_adapters,
    load,
    load_adapted,
)
from cgbench.adapters.vocabulary import Vocabulary, read_vocabulary

__all__ = [
    "GROUP",
    "Adapted",
    "AdaptedPotential",
    "AdapterChoice",
    "AdapterListing",
    "Checkpoint",
    "Request",
    "Vocabulary",
    "adapted_hash",
    "list_adapters",
    "load",
    "load_adapted",
    "read_checkpoint",
    "read_vocabulary",
]
