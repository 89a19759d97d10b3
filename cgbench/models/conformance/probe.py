"""How the conformance suite asks a potential for energies and forces."""

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from cgbench.config import Frozen
from cgbench.errors import ValidationError
from cgbench.models.potential import Potential

#: Bead types (N,) and positions (N, 3) of one structure.
Structure = tuple[Tensor, Tensor]


class Check(Frozen):
    """One measured property.

    Attributes:
        name: Name of the check.
        passed: Whether the value is within the bound.
        value: What was measured; None if nothing could be.
        bound: Largest value that passes; None if the check only measures.
        detail: One sentence for the reader.
    """

    name: str
    passed: bool
    value: float | None
    bound: float | None
    detail: str


class Probe:
    """A potential and the structures that it is checked on.

    Args:
        potential: The potential; it is not changed.
        systems: For each name, bead types (N,) and frames (n, N, 3) in Å.
        cutoffs: Distances in Å at which the interaction starts or ends.
        seed: Seed of random directions and rotations.
    """

    def __init__(
        self,
        potential: Potential,
        systems: Mapping[str, tuple[Tensor, Tensor]],
        cutoffs: Sequence[float],
        seed: int = 0,
    ) -> None:
        self.cutoffs = tuple(cutoffs)
        self.generator = torch.Generator().manual_seed(seed)
        self.native = potential
        self.native_dtype, self.device = torch.float32, torch.device("cpu")
        if isinstance(potential, torch.nn.Module):
            weights = [*potential.parameters(), *potential.buffers()]
            floating = [weight for weight in weights if weight.is_floating_point()]
            if floating:
                self.native_dtype, self.device = floating[0].dtype, floating[0].device
        self.systems = {
            name: (types.to(self.device), frames.to(self.device, torch.float64))
            for name, (types, frames) in systems.items()
        }
        self.precise, self.dtype = potential, torch.float64
        try:
            if isinstance(potential, torch.nn.Module):
                self.precise = cast("Potential", copy.deepcopy(potential).double())
            self.evaluate(self.frames(1))
        except Exception:  # noqa: BLE001 - foreign code: any failure means single precision
            self.precise, self.dtype = potential, self.native_dtype

    @property
    def double(self) -> bool:
        """Whether the potential computes in double precision."""
        return self.dtype == torch.float64

    def bound(self, double: float, single: float) -> float:
        """Return the bound that goes with the precision of the measurement."""
        return double if self.double else single

    def frames(self, at_most: int) -> list[Structure]:
        """Return up to so many frames of each system."""
        return [
            (types, frame)
            for types, frames in self.systems.values()
            for frame in frames[:at_most].to(self.dtype)
        ]

    def evaluate(
        self, structures: Sequence[Structure], *, native: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """Return energies (n,) and the forces (N_i, 3) of each structure, in one call."""
        dtype = self.native_dtype if native else self.dtype
        sizes = [len(types) for types, _ in structures]
        bead_types = torch.cat([types for types, _ in structures])
        pos = torch.cat([positions for _, positions in structures]).to(dtype)
        batch = torch.repeat_interleave(
            torch.arange(len(sizes), device=self.device), torch.tensor(sizes, device=self.device)
        )
        potential = self.native if native else self.precise
        energy, forces = checked(potential(bead_types, pos, batch), len(sizes), pos)
        return energy, list(torch.split(forces, sizes))

    def evaluate_in_parts(self, structures: Sequence[Structure]) -> tuple[Tensor, list[Tensor]]:
        """Return what ``evaluate`` does, at most 2,000 beads a call."""
        energies: list[Tensor] = []
        forces: list[Tensor] = []
        part: list[Structure] = []
        for index, structure in enumerate(structures):
            part.append(structure)
            full = sum(len(types) for types, _ in part) + len(structure[0]) > 2000
            if full or index == len(structures) - 1:
                energy, force = self.evaluate(part)
                energies.append(energy)
                forces += force
                part = []
        return torch.cat(energies), forces

    def random(self, *shape: int) -> Tensor:
        """Return normal random numbers, the same for the same seed."""
        numbers = torch.randn(shape, generator=self.generator, dtype=torch.float64)
        return numbers.to(self.device, self.dtype)


def checked(result: object, n_systems: int, pos: Tensor) -> tuple[Tensor, Tensor]:
    """Return energies and forces, or say what is wrong with their form."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise ValidationError(
            "the potential does not return two tensors",
            expected="(energy, forces)",
            found=type(result).__name__,
        )
    energy, forces = result
    shapes = {
        "energy": (energy, ((n_systems,), (n_systems, 1))),
        "forces": (forces, (tuple(pos.shape),)),
    }
    for what, (tensor, allowed) in shapes.items():
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) not in allowed:
            raise ValidationError(
                f"wrong shape of {what}",
                expected=allowed[0],
                found=tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__,
            )
        if tensor.dtype != pos.dtype:
            raise ValidationError(
                f"{what} in another precision than the positions",
                expected=pos.dtype,
                found=tensor.dtype,
            )
    return energy.detach().reshape(-1), forces.detach()


def difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Return the largest difference, relative to the largest value where that exceeds one."""
    return worst_of(
        float((one - other).abs().max()) / max(1.0, float(other.abs().max()))
        for one, other in zip(found, expected, strict=True)
    )


def worst_of(values: Iterable[float]) -> float:
    """Return the largest value; infinity if one is not a number, which ``max`` would drop."""
    return max((math.inf if math.isnan(value) else value for value in values), default=0.0)


def measured(name: str, value: float, bound: float, detail: str) -> Check:
    """Return the check that a value is within a bound."""
    return Check(
        name=name,
        passed=value <= bound,
        value=value if math.isfinite(value) else None,
        bound=bound,
        detail=detail if math.isfinite(value) else f"{detail}: not finite",
    )
