"""Batched replicas under Langevin dynamics, with failed replicas held still.

A failed replica stays in the batch at its last finite positions, without velocity or force. Taking
it out would change the shape of the matrix products of a potential in torch and with it, by
rounding, the paths of the others; so the failure of one replica does not change a bit of another.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from cgbench.models import ChainResult
from cgbench.simulation.langevin import Baoab, LangevinSettings, ReplicaState, thermal_speed
from cgbench.simulation.streams import ReplicaStreams


def _finite(values: torch.Tensor) -> torch.Tensor:
    """Return which replicas (R,) hold finite values only."""
    return torch.isfinite(values).flatten(start_dim=1).all(dim=1)


def _all_finite(values: torch.Tensor) -> bool:
    # One number says it for the whole batch: a sum with anything not finite in it is not finite.
    # A sum can also overflow; then the exact check of _finite finds nothing wrong.
    return math.isfinite(values.sum().item())


def intact(positions: torch.Tensor, shortest: float, longest: float) -> torch.Tensor:
    """Return which replicas (R,) have all bonds between two lengths (Å, inclusive).

    Args:
        positions: (R, N, 3) in Å.
        shortest: Shortest allowed distance of neighbours along the chain.
        longest: Longest allowed distance.
    """
    lengths = (positions[:, 1:] - positions[:, :-1]).square().sum(dim=2).sqrt()
    return ((lengths >= shortest) & (lengths <= longest)).all(dim=1)


def all_intact(
    positions: torch.Tensor, energies: torch.Tensor, shortest: float, longest: float
) -> bool:
    """Return whether all replicas surely have whole bonds and finite energies.

    A quick look at the extremes of all bonds at once. False at the very limits, too: then
    :func:`intact` decides.

    Args:
        positions: (R, N, 3) in Å.
        energies: (R,) in kcal/mol.
        shortest: Shortest allowed distance of neighbours along the chain.
        longest: Longest allowed distance.
    """
    lengths = torch.linalg.vector_norm(positions[:, 1:] - positions[:, :-1], dim=2)
    least, most = torch.aminmax(lengths)
    # Norms differ by rounding from those of intact.
    return (
        least.item() > shortest * (1 + 1e-5)
        and most.item() < longest * (1 - 1e-5)
        and _all_finite(energies)
    )


class ReplicaDynamics:
    """Replicas of one chain that move together.

    Args:
        evaluate: Positions (R, N, 3) in Å to energies and forces.
        settings: Constants of the dynamics.
        streams: Random numbers of the replicas.
        positions: (R, N, 3) in Å; copied.
        velocities: (R, N, 3) in Å/ps; drawn from the Maxwell-Boltzmann distribution if None.
        forces: (R, N, 3) at the positions; evaluated if None.
        alive: (R,) bool; all if None.
        step: Steps done before, which is the place in the streams.
        evaluations: Evaluations of the potential done before.
        temperatures: (R,) in K, where they are not all that of the settings.
    """

    def __init__(
        self,
        evaluate: Callable[[torch.Tensor], ChainResult],
        settings: LangevinSettings,
        streams: ReplicaStreams,
        positions: torch.Tensor,
        *,
        velocities: torch.Tensor | None = None,
        forces: torch.Tensor | None = None,
        alive: torch.Tensor | None = None,
        step: int = 0,
        evaluations: int = 0,
        temperatures: NDArray[np.float64] | None = None,
    ) -> None:
        self.step = step
        self.evaluations = evaluations
        self.alive = torch.ones(len(positions), dtype=torch.bool, device=positions.device)
        self._evaluate = evaluate
        self._streams = streams
        self._any_dead = False
        self._previous = positions.clone()
        self._integrator = Baoab(settings, positions)
        constant = np.full(len(positions), settings.temperature)
        self._temperatures = constant if temperatures is None else temperatures
        if temperatures is not None:
            self._integrator.set_temperatures(temperatures)
        if velocities is None:
            velocities = streams.initial() * thermal_speed(settings.temperature, settings.mass)
            if temperatures is not None:
                self._scale(velocities, temperatures / settings.temperature)
        self.state = ReplicaState(
            positions.clone(), velocities.clone(), torch.zeros_like(positions)
        )
        if alive is not None:
            self.fail(~alive)
        if forces is None:
            self._update_forces()
        else:
            self.state.forces.copy_(forces)

    def _update_forces(self) -> None:
        self.result = self._evaluate(self.state.positions)
        self.evaluations += 1
        self.state.forces.copy_(self.result.forces)
        if self._any_dead:
            self.state.forces[~self.alive] = 0.0
        if not _all_finite(self.state.forces):
            self.fail(~_finite(self.state.forces))

    def fail(self, failed: torch.Tensor) -> None:
        """Hold replicas still from now on, where they are.

        Args:
            failed: (R,) bool; replicas that failed before may be among them.
        """
        if not bool(failed.any()):
            return
        self.alive &= ~failed
        self._any_dead = True
        self.state.velocities[~self.alive] = 0.0
        self.state.forces[~self.alive] = 0.0

    def set_temperatures(self, temperatures: NDArray[np.float64]) -> None:
        """Go on at other temperatures, with velocities scaled by √(T_new/T_old).

        Args:
            temperatures: (R,) in K.
        """
        self._scale(self.state.velocities, temperatures / self._temperatures)
        self._temperatures = temperatures
        self._integrator.set_temperatures(temperatures)

    def advance(self, n_steps: int = 1) -> None:
        """Do steps; replicas whose positions or forces stop being finite fail."""
        for _ in range(n_steps):
            self._step()

    def _step(self) -> None:
        state = self.state
        self._previous.copy_(state.positions)
        self._integrator.before_forces(state, self._streams.noise(self.step))
        if not _all_finite(state.positions):
            self.fail(~_finite(state.positions))
        if self._any_dead:
            dead = ~self.alive
            state.positions[dead] = self._previous[dead]
            state.velocities[dead] = 0.0
        self._update_forces()
        self._integrator.after_forces(state)
        self.step += 1

    @staticmethod
    def _scale(velocities: torch.Tensor, ratios: NDArray[np.float64]) -> None:
        """Scale velocities in place by the roots of temperature ratios (R,)."""
        velocities *= torch.from_numpy(np.sqrt(ratios)).to(velocities)[:, None, None]

    def recentre(self) -> None:
        """Move each chain so that its middle bead is at the origin.

        A chain diffuses hundreds of Å in a long run, where float32 positions are coarse. A single
        bead is taken because a mean would be summed in an order that depends on the batch.
        """
        middle = self.state.positions.shape[1] // 2
        self.state.positions -= self.state.positions[:, middle, None].clone()
