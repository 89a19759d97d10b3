"""A run whose frames are stored by a thread while the device does the next steps."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cgbench import registry
from cgbench.progress import Progress
from cgbench.simulation.checkpoint import SimulationOutcome
from cgbench.simulation.dynamics import intact
from cgbench.simulation.plan import Plan
from cgbench.simulation.run import FURTHEST, Frame, Run
from cgbench.simulation.snapshots import SnapshotRing
from cgbench.simulation.step_graph import GraphDynamics


class _Note(NamedTuple):
    step: int
    evaluations: int
    wall_time: float


class OverlappedRun(Run):
    """A run on a device under a protocol without exchanges of temperature.

    Frames, checkpoints and what a continued run does are those of :class:`Run`. At an output
    interval the bonds are checked and a snapshot is taken on the device; the thread that gets it
    stores the frame. When no replica lives any more, steps that were started since are dropped.

    Args:
        plan: What to run; its engine has a device potential.
        resume: Continue from the checkpoint, if there is one, instead of starting over.
    """

    def __init__(self, plan: Plan, *, resume: bool) -> None:
        super().__init__(plan, resume=resume)
        dynamics = self._dynamics
        assert isinstance(dynamics, GraphDynamics)  # noqa: S101 - the engine's promise
        state = dynamics.state
        self._last_positions = state.positions.clone()
        self._ended = not bool(dynamics.alive.any())
        self._ring: SnapshotRing[_Note] = SnapshotRing(
            (state.positions, state.velocities, state.forces, dynamics.alive, dynamics.energies),
            self._consume,
        )

    def finish(self, checkpoint_interval: float, progress: Progress) -> SimulationOutcome:
        """Run to the end; see :meth:`Run.finish`."""
        try:
            return super().finish(checkpoint_interval, progress)
        finally:
            self._ring.close()

    def save(self) -> None:
        """Write a checkpoint of the latest output frame."""
        self._ring.drain()
        super().save()

    def _output(self) -> None:
        dynamics = self._dynamics
        dynamics.recentre()
        positions = dynamics.state.positions
        bonds = registry.constants()
        whole = intact(positions, bonds.bond_minimum, bonds.bond_maximum)
        energies = dynamics.result.network_energy + dynamics.result.prior_energy
        dynamics.fail(~(whole & torch.isfinite(energies)))
        lost = positions.abs().amax(dim=(1, 2)) > FURTHEST
        positions.copy_(torch.where(lost[:, None, None], self._last_positions, positions))
        self._last_positions.copy_(positions)
        self._ring.put(_Note(dynamics.step, dynamics.evaluations, self._wall_time))

    def _any_alive(self) -> bool:
        # Of the latest frame that was stored; looking at the device would wait for it.
        return not self._ended

    def _settle(self) -> None:
        self._ring.drain()

    def _consume(self, arrays: list[NDArray[Any]], note: _Note) -> None:
        if self._ended:
            return
        positions, velocities, forces, alive, energies = (array.copy() for array in arrays)
        dead = ~alive
        frame = note.step // self._plan.protocol.steps_per_output - 1
        self._alive_until[dead] = np.minimum(self._alive_until[dead], frame)
        energies = energies.astype(np.float32)
        energies[:, dead] = np.nan
        self._store(
            Frame(positions.astype(np.float32), *energies),
            self._checkpoint(*note, positions, velocities, forces, alive),
        )
        self._ended = bool(dead.all())
