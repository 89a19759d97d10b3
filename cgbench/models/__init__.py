"""The potentials that cgbench trains, simulates and scores: graph networks and simpler models."""

from pathlib import Path

import torch

from cgbench.models.chain_model import ChainModel
from cgbench.models.conformance import Check, ConformanceReport, check_potential
from cgbench.models.device import DevicePotential
from cgbench.models.files import load_model, model_hash, save_model
from cgbench.models.force_loss import ForceLoss, FusedForceLoss
from cgbench.models.fused import FusedPotential
from cgbench.models.go_model import GoChain, GoModel, GoModelSettings
from cgbench.models.go_terms import GoConstants
from cgbench.models.graph_network import GraphNetwork, GraphNetworkSettings
from cgbench.models.memory import keep_freed_memory
from cgbench.models.pair_spline import PairSpline, PairSplineSettings
from cgbench.models.pairs import Pairs
from cgbench.models.potential import (
    NOT_STATED,
    ChainResult,
    NetworkPotential,
    Potential,
    PotentialSpec,
    SeedSpread,
    SelectedBy,
    TrainedOn,
)
from cgbench.models.programs import ProgramPotential, load_program
from cgbench.models.tensor_loss import TensorForceLoss, compiler_obstacle
from cgbench.models.torchmdnet_weights import from_torchmdnet

__all__ = [
    "NOT_STATED",
    "ChainModel",
    "ChainResult",
    "Check",
    "ConformanceReport",
    "DevicePotential",
    "ForceLoss",
    "FusedForceLoss",
    "FusedPotential",
    "GoChain",
    "GoConstants",
    "GoModel",
    "GoModelSettings",
    "GraphNetwork",
    "GraphNetworkSettings",
    "NetworkPotential",
    "PairSpline",
    "PairSplineSettings",
    "Pairs",
    "Potential",
    "PotentialSpec",
    "ProgramPotential",
    "SeedSpread",
    "SelectedBy",
    "TensorForceLoss",
    "TrainedOn",
    "check_potential",
    "compiler_obstacle",
    "from_torchmdnet",
    "keep_freed_memory",
    "load",
    "load_model",
    "load_program",
    "model_hash",
    "save_model",
]


def load(
    name_or_path: str | Path,
    home: Path | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> NetworkPotential:
    """Load a potential by name or path.

    Args:
        name_or_path: A file, or a name as ``torchmd-gn/chignolin-sample``, looked for in the data
            home and then in the package.
        home: Data home; the default one if not given.
        device: Where the weights go.
        dtype: Precision of the computation.

    Raises:
        UsageError: Neither a file nor a known name.
        IntegrityError: The file is damaged or not safe, or not the one of that name in the zoo.
    """
    from cgbench.models.zoo import find_weights

    return load_model(find_weights(str(name_or_path), home), device=device, dtype=dtype)
