"""Any potential as a function of batched replicas of one chain."""

import hashlib
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import pydantic
import torch

from cgbench.config import canonical_json
from cgbench.errors import UsageError, ValidationError
from cgbench.models import ChainResult, Potential


@runtime_checkable
class ChainPotential(Protocol):
    """A potential with a path for replicas of one chain, as the package's own models have."""

    def chains(self, bead_types: torch.Tensor, pos: torch.Tensor) -> ChainResult:
        """Return energies (R,) and forces (R, N, 3) of positions (R, N, 3)."""


class _FlatPotential:
    """The flat calling convention behind the interface for replicas."""

    def __init__(self, potential: Potential) -> None:
        self._potential = potential

    def chains(self, bead_types: torch.Tensor, pos: torch.Tensor) -> ChainResult:
        """Call the potential with all beads in a row; all energy counts as the network's."""
        n_replicas, n_beads, _ = pos.shape
        batch = torch.arange(n_replicas, device=pos.device).repeat_interleave(n_beads)
        energy, forces = self._potential(
            bead_types.repeat(n_replicas), pos.reshape(n_replicas * n_beads, 3), batch
        )
        # Models that follow the TorchMD-Net convention return energies as a column.
        if energy.numel() == n_replicas:
            energy = energy.reshape(n_replicas)
        if forces.numel() == pos.numel():
            forces = forces.reshape(pos.shape)
        return ChainResult(
            network_energy=energy, prior_energy=torch.zeros_like(energy), forces=forces
        )


def adapt(potential: Potential | ChainPotential) -> ChainPotential:
    """Return a potential's interface for replicas, wrapping the flat convention where needed.

    A wrapped potential's whole energy is reported as network energy and its prior energy as zero,
    because the flat convention does not tell them apart.
    """
    if isinstance(potential, ChainPotential):
        return potential
    return _FlatPotential(potential)


def device_of(potential: object) -> torch.device:
    """Return the device of a module's first parameter or buffer; the CPU for anything else."""
    if isinstance(potential, torch.nn.Module):
        for tensors in (potential.parameters(), potential.buffers()):
            for tensor in tensors:
                return tensor.device
    return torch.device("cpu")


def parameters_hash(potential: object) -> str:
    """Return ``sha256:`` over what a module computes with: state, prior and specification.

    Raises:
        UsageError: The potential is not a torch module, so its parameters cannot be listed.
    """
    if not isinstance(potential, torch.nn.Module):
        raise UsageError(
            f"{type(potential).__name__}: cannot tell which model this is",
            fix="give model_hash, which decides whether an interrupted run may be continued",
        )
    digest = hashlib.sha256(type(potential).__qualname__.encode())
    for part in ("spec", "prior"):
        value = getattr(potential, part, None)
        if isinstance(value, pydantic.BaseModel):
            digest.update(f"\n{part} {canonical_json(value)}".encode())
    for name, tensor in sorted(potential.state_dict().items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def force_field(
    potential: Potential | ChainPotential, bead_types: torch.Tensor
) -> Callable[[torch.Tensor], ChainResult]:
    """Return the function that maps positions (R, N, 3) to energies and forces, checked.

    Raises:
        ValidationError: When called, if the potential's output has a wrong shape or dtype.
    """
    chain_potential = adapt(potential)
    name = type(potential).__name__

    def evaluate(positions: torch.Tensor) -> ChainResult:
        # A new tensor object: a potential may ask it for gradients without touching the state.
        result = chain_potential.chains(bead_types, positions.detach())
        n_replicas = len(positions)
        for what, tensor, shape in (
            ("network energy", result.network_energy, (n_replicas,)),
            ("prior energy", result.prior_energy, (n_replicas,)),
            ("forces", result.forces, tuple(positions.shape)),
        ):
            if tuple(tensor.shape) != shape:
                raise ValidationError(
                    f"{name}: wrong shape of {what}", expected=shape, found=tuple(tensor.shape)
                )
        if result.forces.dtype is not positions.dtype:
            raise ValidationError(
                f"{name}: forces in another precision than the simulation",
                expected=positions.dtype,
                found=result.forces.dtype,
                fix="load the model with the dtype of the simulation",
            )
        return ChainResult(
            network_energy=result.network_energy.detach(),
            prior_energy=result.prior_energy.detach(),
            forces=result.forces.detach(),
        )

    return evaluate
