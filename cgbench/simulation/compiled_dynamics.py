"""Dynamics on a processor whose steps are compiled with the forces."""

from typing import Any

import numpy as np
import torch

from cgbench.models import ChainResult, FusedPotential
from cgbench.simulation.dynamics import ReplicaDynamics
from cgbench.simulation.langevin import LangevinSettings
from cgbench.simulation.potentials import force_field
from cgbench.simulation.streams import STEPS_PER_BLOCK, ReplicaStreams


class CompiledDynamics(ReplicaDynamics):
    """Replicas that move together, with nothing done by the interpreter within a step.

    Steps and what happens to replicas that fail are bitwise those of :class:`ReplicaDynamics`.
    Threads share the replicas and wait for each other only at the end of :meth:`advance` and where
    a block of noise ends; a replica's path is bitwise the same in every batch and with any number
    of threads.

    Args:
        potential: Compiled for this chain.
        settings: As for :class:`ReplicaDynamics`, like all that follow.
        streams: As said.
        positions: As said.
        state: As said.
    """

    def __init__(
        self,
        potential: FusedPotential,
        settings: LangevinSettings,
        streams: ReplicaStreams,
        positions: torch.Tensor,
        **state: Any,
    ) -> None:
        evaluate = force_field(potential, potential.bead_types)
        super().__init__(evaluate, settings, streams, positions, **state)
        self._potential = potential
        self._constants = positions.new_tensor(self._integrator.constants).numpy()
        shape = (STEPS_PER_BLOCK, *positions.shape)
        self._normals = np.empty(shape, self._constants.dtype)
        # The block of noise that is there, by the first replica of a part.
        self._drawn: dict[int, int] = {}

    def advance(self, n_steps: int = 1) -> None:
        """Do steps; replicas whose positions or forces stop being finite fail."""
        while n_steps > 0:
            within = self.step % STEPS_PER_BLOCK
            done = min(n_steps, STEPS_PER_BLOCK - within)
            self._advance(done, within)
            n_steps -= done

    def _advance(self, n_steps: int, within: int) -> None:
        from cgbench.kernels.chain import Motion
        from cgbench.kernels.steps import Replicas

        state, number = self.state, self.step // STEPS_PER_BLOCK

        def prepare(part: slice) -> None:
            if self._drawn.get(part.start) != number:
                self._streams.draw(number, self._normals, part=part)
                self._drawn[part.start] = number

        energies = np.zeros((2, len(self.alive)))
        replicas = Replicas(
            positions=state.positions.numpy(),
            velocities=state.velocities.numpy(),
            forces=state.forces.numpy(),
            alive=self.alive.numpy(),
            spread=self._integrator.spread.numpy(),
            network_energy=energies[0],
            prior_energy=energies[1],
        )
        self._potential.kernel.advance(
            n_steps, replicas, Motion(self._constants, self._normals, within, prepare)
        )
        self.step += n_steps
        self.evaluations += n_steps
        self._any_dead = not bool(self.alive.all())
        network_energy, prior_energy = torch.from_numpy(energies).to(state.positions.dtype)
        self.result = ChainResult(network_energy, prior_energy, state.forces)
