"""What computes the forces of a simulation: compiled loops where they fit, torch elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from cgbench.errors import UsageError, ValidationError
from cgbench.kernels.device.arrays import Operations
from cgbench.models import (
    ChainResult,
    FusedPotential,
    GraphNetwork,
    NetworkPotential,
    Potential,
)
from cgbench.models.device import DevicePotential
from cgbench.simulation.compiled_dynamics import CompiledDynamics
from cgbench.simulation.dynamics import ReplicaDynamics
from cgbench.simulation.langevin import LangevinSettings
from cgbench.simulation.potentials import ChainPotential, device_of, force_field
from cgbench.simulation.step_graph import GraphDynamics
from cgbench.simulation.streams import ReplicaStreams

EngineName = Literal["torch", "fused"]
EngineChoice = Literal["auto", "torch", "fused"]


class DeviceForces:
    """A potential on a device, compiled for as many replicas as it is asked for.

    Args:
        potential: A network, a prior or both.
        bead_types: (N,) int64, the chain.
        dtype: Precision of the dynamics.
        device: Where to compute.
        n_replicas: Replicas to compile for at first.
        operations: Implementation of the operations; the device's own if None.

    Raises:
        ValidationError: The chain does not fit the potential, or no table is accurate enough.
    """

    def __init__(
        self,
        potential: NetworkPotential,
        bead_types: torch.Tensor,
        dtype: torch.dtype,
        device: torch.device,
        n_replicas: int = 1,
        operations: Operations | None = None,
    ) -> None:
        self._potential, self._bead_types = potential, bead_types
        self._options: dict[str, Any] = {"dtype": dtype, "device": device}
        self.compiled = DevicePotential(
            potential, bead_types, n_replicas, operations=operations, **self._options
        )
        #: What computes, for people.
        self.implementation = self.compiled.implementation

    def for_replicas(self, n_replicas: int) -> DevicePotential:
        """Return the potential for a number of replicas; the last one is kept."""
        if self.compiled.n_replicas != n_replicas:
            self.compiled = DevicePotential(
                self._potential,
                self._bead_types,
                n_replicas,
                operations=self.compiled.operations,
                **self._options,
            )
        return self.compiled

    def chains(self, bead_types: torch.Tensor, pos: torch.Tensor) -> ChainResult:
        """Return energies (R,) and forces (R, N, 3) of positions (R, N, 3) in Å."""
        compiled = self.for_replicas(len(pos))
        same = bead_types is self._bead_types
        return compiled.chains(compiled.bead_types if same else bead_types, pos)


@dataclass(frozen=True)
class Engine:
    """The path that a simulation takes.

    Attributes:
        name: ``fused`` for compiled loops, ``torch`` for the potential as it is.
        reason: Why this one.
        evaluate: Positions (R, N, 3) in Å to energies and forces, checked.
        device: The potential where whole steps are recorded; None elsewhere.
        fused: The potential where whole steps are compiled; None elsewhere.
    """

    name: EngineName
    reason: str
    evaluate: Callable[[torch.Tensor], ChainResult]
    device: DeviceForces | None = field(default=None, repr=False)
    fused: FusedPotential | None = field(default=None, repr=False)

    def dynamics(
        self,
        settings: LangevinSettings,
        streams: ReplicaStreams,
        positions: torch.Tensor,
        **state: Any,
    ) -> ReplicaDynamics:
        """Return dynamics under these forces; the arguments are those of ``ReplicaDynamics``."""
        if self.fused is not None:
            return CompiledDynamics(self.fused, settings, streams, positions, **state)
        if self.device is None:
            return ReplicaDynamics(self.evaluate, settings, streams, positions, **state)
        potential = self.device.for_replicas(len(positions))
        return GraphDynamics(potential, settings, streams, positions, **state)


def choose_engine(
    potential: Potential | ChainPotential,
    bead_types: torch.Tensor,
    dtype: torch.dtype,
    wanted: EngineChoice = "auto",
    n_replicas: int = 1,
) -> Engine:
    """Return the path for a chain: the wanted one, or the fastest that fits.

    Args:
        potential: The potential.
        bead_types: (N,) int64, the chain.
        dtype: Precision of the dynamics.
        wanted: ``auto`` takes compiled loops for networks and priors of this package in single
            precision. On a processor they share replicas among as many threads as torch has; on a
            CUDA device whole steps are recorded, with Triton's kernels or without.
        n_replicas: Replicas that will be asked for; a device is set up for these.

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
        try:
            if device.type != "cpu":
                return device_engine(potential, bead_types, dtype, device, n_replicas)
            n_threads = torch.get_num_threads()
            fused = FusedPotential(potential, bead_types, n_threads, dtype)
        except ValidationError as error:
            obstacle = error.message
        else:
            forces = force_field(fused, bead_types)
            return Engine("fused", _described(fused, n_threads), forces, fused=fused)
    if wanted == "fused":
        raise UsageError(
            f"--engine fused: {obstacle}",
            expected="a model.pt in single precision on a processor or a CUDA device",
            fix="use --engine auto",
        )
    return _torch(potential, bead_types.to(device), obstacle)


def device_engine(
    potential: NetworkPotential,
    bead_types: torch.Tensor,
    dtype: torch.dtype,
    device: torch.device,
    n_replicas: int = 1,
    operations: Operations | None = None,
) -> Engine:
    """Return the path on which whole steps are recorded, on any device.

    On a processor nothing is recorded: the same work is done on the same tensors, which is slower
    than the compiled loops and there to be compared with.

    Args:
        potential: A network, a prior or both.
        bead_types: (N,) int64, the chain.
        dtype: Precision of the dynamics.
        device: Where to compute.
        n_replicas: Replicas that will be asked for.
        operations: Implementation of the operations; the device's own if None.

    Raises:
        ValidationError: The chain does not fit the potential, or no table is accurate enough.
    """
    forces = DeviceForces(potential, bead_types, dtype, device, n_replicas, operations)
    how = "one CUDA graph a step" if device.type == "cuda" else "no graph on a processor"
    reason = f"{forces.implementation}, {how}{_tables(forces.compiled)}"
    return Engine("fused", reason, force_field(forces, bead_types), forces)


def _torch(potential: Potential | ChainPotential, bead_types: torch.Tensor, reason: str) -> Engine:
    return Engine("torch", reason, force_field(potential, bead_types))


def _obstacle(
    potential: object, device: torch.device, dtype: torch.dtype, wanted: EngineChoice
) -> str | None:
    """Say why compiled loops do not fit; None where they do."""
    if not isinstance(potential, NetworkPotential):
        return f"{type(potential).__name__} is not a network and prior of this package"
    if device.type not in ("cpu", "cuda"):
        return f"the model is on {device}"
    if potential.network is not None and potential.precision != dtype:
        return f"the model is in {potential.precision}, the dynamics in {dtype}"
    if isinstance(potential.network, GraphNetwork) and potential.network.fused_obstacle:
        return potential.network.fused_obstacle
    if dtype != torch.float32 and wanted == "auto":
        return "double precision evaluates filters exactly"
    return None


def _described(fused: FusedPotential, n_threads: int) -> str:
    threads = "one thread" if n_threads == 1 else f"{n_threads} threads"
    threads += ", bitwise the same in every batch"
    if fused.table_error is None:
        return f"compiled loops of the prior, {threads}"
    return f"compiled loops, {threads}{_tables(fused)}"


def _tables(compiled: FusedPotential | DevicePotential) -> str:
    if compiled.table_error is None:
        return ""
    return (
        f", filters from splines of {compiled.table_intervals} intervals "
        f"(relative error of their slopes {compiled.table_error:.1e})"
    )
