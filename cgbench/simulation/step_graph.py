"""Whole steps of Langevin dynamics on a device: recorded once, replayed without waiting."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cgbench.kernels.device.arrays import StepArrays
from cgbench.kernels.device.graph import Recorded
from cgbench.models import ChainResult
from cgbench.models.device import DevicePotential
from cgbench.simulation.dynamics import ReplicaDynamics
from cgbench.simulation.langevin import LangevinSettings
from cgbench.simulation.noise import NoiseFeed
from cgbench.simulation.potentials import force_field
from cgbench.simulation.streams import ReplicaStreams


class StepGraph:
    """One step of all replicas as one graph: integrator, forces, and replicas that fail.

    On a graphics processor the step is recorded when this is made; elsewhere the same work is done
    on the same tensors, call by call.

    Args:
        potential: Compiled for these replicas.
        arrays: The state and what a step needs; changed in place.

    Attributes:
        arrays: As given.
        energies: (2, n_replicas) of network and prior in kcal/mol, at the end of the last step.
        captured: Whether steps are replayed from a graph.
    """

    def __init__(self, potential: DevicePotential, arrays: StepArrays) -> None:
        self.arrays = arrays
        self.energies = torch.zeros_like(arrays.positions[:, 0, 0]).repeat(2, 1)
        self._operations, self._chain = potential.operations, potential.chain
        changed = (
            arrays.positions,
            arrays.velocities,
            arrays.forces,
            arrays.alive,
            arrays.within,
            self.energies,
        )
        self._recorded = Recorded(self._work, potential.device, changed)
        self.captured = self._recorded.captured

    def step(self) -> None:
        """Do one step, or start it."""
        self._recorded()

    @torch.no_grad()
    def _work(self) -> None:
        self._operations.before_forces(self.arrays)
        self._chain.evaluate(self.arrays.positions, self.energies, self.arrays.forces)
        self._operations.after_forces(self.arrays)


class GraphDynamics(ReplicaDynamics):
    """Replicas that move together on a device, step by recorded step.

    Steps and what happens to replicas that fail are those of :class:`ReplicaDynamics`, with the
    same noise for the same seeds; nothing here waits for the device but what asks for numbers.

    Args:
        potential: Compiled for these replicas.
        settings: As for :class:`ReplicaDynamics`, like all that follow.
        streams: As said.
        positions: As said.
        state: As said.
    """

    def __init__(
        self,
        potential: DevicePotential,
        settings: LangevinSettings,
        streams: ReplicaStreams,
        positions: torch.Tensor,
        **state: Any,
    ) -> None:
        evaluate = force_field(potential, potential.bead_types)
        super().__init__(evaluate, settings, streams, positions, **state)
        self._feed = NoiseFeed(streams)
        now = self.state
        self._graph = StepGraph(
            potential,
            StepArrays(
                positions=now.positions,
                velocities=now.velocities,
                forces=now.forces,
                alive=self.alive,
                noise=self._feed.block,
                within=torch.tensor([self.step % len(self._feed.block)], device=positions.device),
                spread=self._integrator.spread,
                constants=positions.new_tensor(self._integrator.constants),
            ),
        )
        before = getattr(self, "result", None)
        if before is not None:
            self._graph.energies.copy_(torch.stack([before.network_energy, before.prior_energy]))
        self.result = ChainResult(self._graph.energies[0], self._graph.energies[1], now.forces)

    @property
    def energies(self) -> torch.Tensor:
        """(2, R) of network and prior in kcal/mol, always the same tensor."""
        return self._graph.energies

    def _step(self) -> None:
        # Replicas whose positions or forces stop being finite fail in the recorded step.
        self._feed.load(self.step)
        self._graph.step()
        self.step += 1
        self.evaluations += 1

    def fail(self, failed: torch.Tensor) -> None:
        """Hold replicas still from now on, where they are, without asking whether there are any.

        Args:
            failed: (R,) bool; replicas that failed before may be among them.
        """
        self.alive.logical_and_(~failed)
        self._any_dead = True
        dead = ~self.alive[:, None, None]
        self.state.velocities.masked_fill_(dead, 0.0)
        self.state.forces.masked_fill_(dead, 0.0)

    def set_temperatures(self, temperatures: NDArray[np.float64]) -> None:
        """Go on at other temperatures, with velocities scaled by √(T_new/T_old).

        Args:
            temperatures: (R,) in K.
        """
        super().set_temperatures(temperatures)
        self._graph.arrays.spread.copy_(self._integrator.spread)
