"""What computes the forces of a simulation: compiled loops where they fit, torch elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from cgbench.errors import UsageError, ValidationError
from cgbench.models import ChainResult, FusedPotential, NetworkPotential, Potential
from cgbench.simulation.potentials import ChainPotential, device_of, force_field

EngineName = Literal["torch", "fused"]
EngineChoice = Literal["auto", "torch", "fused"]


@dataclass(frozen=True)
class Engine:
    """The path that a simulation takes.

    Attributes:
        name: ``fused`` for compiled loops, ``torch`` for the potential as it is.
        reason: Why this one.
        evaluate: Positions (R, N, 3) in Å to energies and forces, checked.
    """

    name: EngineName
    reason: str
    evaluate: Callable[[torch.Tensor], ChainResult]


def choose_engine(
    potential: Potential | ChainPotential,
    bead_types: torch.Tensor,
    dtype: torch.dtype,
    wanted: EngineChoice = "auto",
) -> Engine:
    """Return the path for a chain: the wanted one, or the fastest that fits.

    Args:
        potential: The potential.
        bead_types: (N,) int64, the chain.
        dtype: Precision of the dynamics.
        wanted: ``auto`` takes compiled loops for networks and priors of this package in single
            precision on a processor. They share replicas among as many threads as torch has.

    Raises:
        UsageError: Compiled loops are wanted and do not fit.
        ValidationError: The chain does not fit the potential.
    """
    device = device_of(potential)
    if wanted == "torch":
        return _torch(potential, bead_types.to(device), "asked for")
    if (obstacle := _obstacle(potential, device, dtype, wanted)) is None:
        assert isinstance(potential, NetworkPotential)  # noqa: S101 - said by the obstacle
        potential.check_types(bead_types)
        n_threads = torch.get_num_threads()
        try:
            fused = FusedPotential(potential, bead_types, n_threads, dtype)
        except ValidationError as error:
            obstacle = error.message
        else:
            return Engine("fused", _described(fused, n_threads), force_field(fused, bead_types))
    if wanted == "fused":
        raise UsageError(
            f"--engine fused: {obstacle}",
            expected="a model.pt in single precision on a processor",
            fix="use --engine auto",
        )
    return _torch(potential, bead_types.to(device), obstacle)


def _torch(potential: Potential | ChainPotential, bead_types: torch.Tensor, reason: str) -> Engine:
    return Engine("torch", reason, force_field(potential, bead_types))


def _obstacle(
    potential: object, device: torch.device, dtype: torch.dtype, wanted: EngineChoice
) -> str | None:
    """Say why compiled loops do not fit; None where they do."""
    if not isinstance(potential, NetworkPotential):
        return f"{type(potential).__name__} is not a network and prior of this package"
    if device.type != "cpu":
        return f"the model is on {device}"
    if potential.network is not None and potential.precision != dtype:
        return f"the model is in {potential.precision}, the dynamics in {dtype}"
    if dtype != torch.float32 and wanted == "auto":
        return "double precision evaluates filters exactly"
    return None


def _described(fused: FusedPotential, n_threads: int) -> str:
    threads = "one thread" if n_threads == 1 else f"{n_threads} threads"
    if fused.table_error is None:
        return f"compiled loops of the prior, {threads}"
    return (
        f"compiled loops, {threads}, filters from splines of {fused.table_intervals} intervals "
        f"(relative error of their slopes {fused.table_error:.1e})"
    )
