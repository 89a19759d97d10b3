"""What a run leaves on disk: frames and checkpoints, written by a thread while steps go on."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cgbench import config
from cgbench.simulation.checkpoint import Checkpoint
from cgbench.simulation.exchange import ExchangeState
from cgbench.simulation.plan import Plan
from cgbench.simulation.snapshots import SnapshotRing
from cgbench.store import TrajectoryAttributes, TrajectoryWriter


@dataclass(frozen=True)
class Frame:
    """What is stored of all replicas at one time.

    Attributes:
        coordinates: (R, N, 3) in Å.
        network_energy: (R,) in kcal/mol, like the next; not a number for replicas that failed.
        prior_energy: As said.
        temperature: (R,) in K, where replicas exchange them.
    """

    coordinates: NDArray[np.float32]
    network_energy: NDArray[np.float32]
    prior_energy: NDArray[np.float32]
    temperature: NDArray[np.float64] | None = None


class Moment(NamedTuple):
    """What is known beside the arrays when a frame is recorded.

    Attributes:
        step: Steps done.
        evaluations: Evaluations of the potential done.
        wall_time: Seconds spent.
        temperature: (R,) in K at which the frame was sampled, where replicas exchange them.
        exchange: Where the exchange goes on, after the frame.
        save: Whether a checkpoint is due.
    """

    step: int
    evaluations: int
    wall_time: float
    temperature: NDArray[np.float64] | None
    exchange: ExchangeState | None
    save: bool


class Recorder:
    """Stores the frames of a run in order, and the state to continue it from.

    Whoever computes only leaves a copy of the state, and waits for nothing unless several frames
    are on their way to the disk. Checkpoints show the state at an output frame. The latest one is
    swapped in as one object, so an interrupt at any moment finds a whole one; what is lost is less
    than an output interval. The writer keeps frames in memory until a chunk is full; a checkpoint
    therefore carries the frames that were not yet on disk, and a continued run cuts the file back
    to where those begin.

    Args:
        plan: What is run.
        state: Positions, velocities and forces (R, N, 3), alive (R,) bool, and the energies (R,)
            of network and prior, as for :meth:`record`.
        moment: Where the run begins.
        checkpoint: What it continues from; without one, what was there before is replaced.
    """

    def __init__(
        self,
        plan: Plan,
        state: Sequence[torch.Tensor],
        moment: Moment,
        checkpoint: Checkpoint | None,
    ) -> None:
        self._plan = plan
        if checkpoint is None:
            self._alive_until = np.full(len(plan.replicas), plan.n_frames, dtype=np.int64)
            self._pending_start, self._pending = 0, list[Frame]()
            plan.checkpoint_path.unlink(missing_ok=True)
            config.write_model(plan.record_path, plan.record(None))
            self._writer = self._open_writer(resume=False)
        else:
            self._alive_until = checkpoint.alive_until
            self._pending_start = checkpoint.pending_start
            self._writer = self._open_writer(resume=True)
            self._writer.truncate(checkpoint.pending_start)
            pending: list[NDArray[Any]] = [
                checkpoint.pending_coordinates,
                checkpoint.pending_network_energy,
                checkpoint.pending_prior_energy,
            ]
            if moment.exchange is not None:
                pending.append(checkpoint.pending_temperature)
            self._pending = [Frame(*arrays) for arrays in zip(*pending, strict=True)]
            self._append(self._pending)
        arrays = [tensor.cpu().numpy().copy() for tensor in state[:4]]
        self._latest = self._checkpoint(moment, *arrays)
        # A run that is dead at its start still has a frame to say so.
        self.ended = moment.step > 0 and not bool(self._latest.alive.any())
        self._ring: SnapshotRing[Moment] = SnapshotRing(state, self._consume)

    def _open_writer(self, *, resume: bool) -> TrajectoryWriter:
        plan = self._plan
        return TrajectoryWriter(
            plan.out,
            plan.system.key,
            n_replicas=len(plan.replicas),
            n_beads=plan.system.n_beads,
            n_output_frames=plan.n_frames,
            attributes=TrajectoryAttributes(
                sequence=plan.system.sequence,
                temperature=plan.protocol.temperature,
                frame_interval=plan.protocol.output_interval,
                protocol=plan.protocol.id,
                model_hash=plan.model_hash,
                seeds={"simulation": plan.seed},
            ),
            resume=resume,
            temperatures=plan.protocol.ladder is not None,
        )

    def record(self, state: Sequence[torch.Tensor], moment: Moment) -> None:
        """Take a copy of the state; it is stored while the run goes on.

        Args:
            state: As when this was made.
            moment: What goes with it.

        Raises:
            BaseException: What went wrong with an earlier frame.
        """
        self._ring.put(state, moment)

    def save(self) -> None:
        """Write a checkpoint of the latest frame that could be stored."""
        self._ring.wait()
        self._write()

    def finish(self) -> Checkpoint:
        """Wait for the frames under way, close the file and return the last state.

        Raises:
            BaseException: What went wrong with a frame.
        """
        self._ring.drain()
        self._writer.finish(self._alive_until, self.status)
        return self._latest

    def close(self) -> None:
        """Let the thread end; nothing can be recorded any more."""
        self._ring.close()

    @property
    def status(self) -> Literal["ok", "failed"]:
        """``failed`` if no replica lives at the latest frame."""
        return "ok" if bool(self._latest.alive.any()) else "failed"

    def _consume(self, arrays: list[NDArray[Any]], moment: Moment) -> None:
        if self.ended:
            # Steps that a device was given before the end was seen.
            return
        positions, velocities, forces, alive, *energies = (array.copy() for array in arrays)
        dead = ~alive
        frame = moment.step // self._plan.protocol.steps_per_output - 1
        self._alive_until[dead] = np.minimum(self._alive_until[dead], frame)
        network_energy, prior_energy = (
            np.where(dead, np.nan, energy).astype(np.float32) for energy in energies
        )
        self._store(
            Frame(positions.astype(np.float32), network_energy, prior_energy, moment.temperature),
            self._checkpoint(moment, positions, velocities, forces, alive),
        )
        self.ended = bool(dead.all())
        if moment.save:
            self._write()

    def _store(self, frame: Frame, latest: Checkpoint) -> None:
        """Store a frame and the state that it shows."""
        self._pending.append(frame)
        self._append([frame])
        # The order matters for a failure in between: frames are only let go after the state that
        # no longer needs them is in place.
        self._latest = latest
        on_disk = self._writer.frames_written - self._pending_start
        self._pending_start, self._pending = (
            self._pending_start + on_disk,
            self._pending[on_disk:],
        )

    def _append(self, frames: list[Frame]) -> None:
        if not frames:
            return
        arrays = (
            np.stack([frame.coordinates for frame in frames]),
            np.stack([frame.network_energy for frame in frames]),
            np.stack([frame.prior_energy for frame in frames]),
        )
        temperatures = [one.temperature for one in frames if one.temperature is not None]
        if temperatures:
            self._writer.append(*arrays, np.stack(temperatures))
        else:
            self._writer.append(*arrays)

    def _checkpoint(
        self,
        moment: Moment,
        positions: NDArray[Any],
        velocities: NDArray[Any],
        forces: NDArray[Any],
        alive: NDArray[np.bool_],
    ) -> Checkpoint:
        """Return a checkpoint; the pending frames are added when it is written."""
        empty = np.empty(0, dtype=np.float32)
        none = np.empty(0, dtype=np.int64)
        exchange = None if moment.exchange is None else vars(moment.exchange)
        return Checkpoint(
            fingerprint=self._plan.fingerprint,
            step=moment.step,
            evaluations=moment.evaluations,
            wall_time=moment.wall_time,
            positions=positions,
            velocities=velocities,
            forces=forces,
            alive=alive,
            alive_until=self._alive_until.copy(),
            pending_start=0,
            pending_coordinates=empty,
            pending_network_energy=empty,
            pending_prior_energy=empty,
            pending_temperature=np.empty(0),
            **(exchange or {field.name: none for field in fields(ExchangeState)}),
        )

    def _write(self) -> None:
        plan, latest, start = self._plan, self._latest, self._pending_start
        # After a failure one frame more than the latest state knows of can be pending.
        frames = self._pending[: latest.step // plan.protocol.steps_per_output - start]
        shape = (len(frames), len(plan.replicas))
        replace(
            latest,
            pending_start=start,
            pending_coordinates=np.array(
                [frame.coordinates for frame in frames], dtype=np.float32
            ).reshape(*shape, plan.system.n_beads, 3),
            pending_network_energy=np.array(
                [frame.network_energy for frame in frames], dtype=np.float32
            ).reshape(shape),
            pending_prior_energy=np.array(
                [frame.prior_energy for frame in frames], dtype=np.float32
            ).reshape(shape),
            pending_temperature=np.array(
                [one.temperature for one in frames if one.temperature is not None]
            ),
        ).write(plan.checkpoint_path)
