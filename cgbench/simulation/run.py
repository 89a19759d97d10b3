"""One run of a simulation: dynamics, frames, checkpoints and their order on disk."""

import time
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from cgbench import config, registry
from cgbench.progress import Progress
from cgbench.simulation.checkpoint import Checkpoint, SimulationOutcome
from cgbench.simulation.dynamics import intact
from cgbench.simulation.exchange import ExchangeState, TemperatureExchange, exchange_of
from cgbench.simulation.langevin import LangevinSettings
from cgbench.simulation.plan import Plan
from cgbench.simulation.potentials import device_of
from cgbench.simulation.streams import ReplicaStreams
from cgbench.store import TrajectoryAttributes, TrajectoryWriter
from cgbench.units import nanoseconds_per_day

_PROGRESS_INTERVAL: Final[float] = 0.5

#: Å from the middle bead that no chain with whole bonds reaches.
FURTHEST: Final[float] = 1e5


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


class Run:
    """A run that starts, or continues where its checkpoint says.

    Checkpoints are taken right after output frames only. The state of the latest frame is copied
    and swapped in as one object, so an interrupt at any moment finds a whole one; what is lost
    is less than an output interval. The writer keeps frames in memory until a chunk is full;
    a checkpoint therefore carries the frames that were not yet on disk, and a continued run cuts
    the file back to where those begin.

    Args:
        plan: What to run.
        resume: Continue from the checkpoint, if there is one, instead of starting over.
    """

    def __init__(self, plan: Plan, *, resume: bool) -> None:
        self._plan = plan
        protocol, system = plan.protocol, plan.system
        device = device_of(plan.potential)
        settings = LangevinSettings(
            protocol.timestep, protocol.friction, protocol.temperature, protocol.bead_mass
        )
        streams = ReplicaStreams(
            plan.seed, plan.replicas, system.n_beads, dtype=plan.dtype, device=device
        )
        if resume and plan.checkpoint_path.is_file():
            checkpoint = Checkpoint.read(plan.checkpoint_path, plan.fingerprint)
            self._exchange = self._exchange_from(checkpoint)
            self._dynamics = plan.engine.dynamics(
                settings,
                streams,
                torch.from_numpy(checkpoint.positions).to(device),
                velocities=torch.from_numpy(checkpoint.velocities).to(device),
                forces=torch.from_numpy(checkpoint.forces).to(device),
                alive=torch.from_numpy(checkpoint.alive).to(device),
                step=checkpoint.step,
                evaluations=checkpoint.evaluations,
                temperatures=self._temperatures,
            )
            self._alive_until = checkpoint.alive_until
            self._wall_time = checkpoint.wall_time
            self._writer = self._open_writer(resume=True)
            self._writer.truncate(checkpoint.pending_start)
            self._pending_start = checkpoint.pending_start
            pending: list[NDArray[Any]] = [
                checkpoint.pending_coordinates,
                checkpoint.pending_network_energy,
                checkpoint.pending_prior_energy,
            ]
            if self._exchange is not None:
                pending.append(checkpoint.pending_temperature)
            self._pending = [Frame(*arrays) for arrays in zip(*pending, strict=True)]
            self._append(self._pending)
        else:
            chosen = torch.tensor(plan.replicas) % len(system.starts)
            starts = system.starts[chosen].to(device=device, dtype=plan.dtype)
            self._exchange = self._exchange_from(None)
            self._dynamics = plan.engine.dynamics(
                settings, streams, starts, temperatures=self._temperatures
            )
            self._dynamics.recentre()
            self._alive_until = np.full(len(plan.replicas), plan.n_frames, dtype=np.int64)
            self._wall_time = 0.0
            self._pending_start, self._pending = 0, list[Frame]()
            # Only now, when the potential has shown that it works, is anything replaced.
            plan.checkpoint_path.unlink(missing_ok=True)
            config.write_model(plan.record_path, plan.record(None))
            self._writer = self._open_writer(resume=False)
        self._latest = self._snapshot()

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
            temperatures=self._exchange is not None,
        )

    def _exchange_from(self, checkpoint: Checkpoint | None) -> TemperatureExchange | None:
        plan = self._plan
        state = None if checkpoint is None else checkpoint.exchange
        return exchange_of(plan.protocol, plan.seed, plan.replicas, state)

    @property
    def _temperatures(self) -> NDArray[np.float64] | None:
        """(R,) in K, where replicas exchange them."""
        return None if self._exchange is None else self._exchange.temperatures

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

    @property
    def _n_frames_done(self) -> int:
        return self._dynamics.step // self._plan.protocol.steps_per_output

    def _snapshot(self) -> Checkpoint:
        """Copy the state."""
        dynamics = self._dynamics
        state = (*vars(dynamics.state).values(), dynamics.alive)
        arrays = [tensor.cpu().numpy().copy() for tensor in state]
        return self._checkpoint(dynamics.step, dynamics.evaluations, self._wall_time, *arrays)

    def _checkpoint(
        self,
        step: int,
        evaluations: int,
        wall_time: float,
        positions: NDArray[Any],
        velocities: NDArray[Any],
        forces: NDArray[Any],
        alive: NDArray[np.bool_],
    ) -> Checkpoint:
        """Return a checkpoint; the pending frames are added when it is written."""
        empty = np.empty(0, dtype=np.float32)
        none = np.empty(0, dtype=np.int64)
        exchange = None if self._exchange is None else vars(self._exchange.snapshot())
        return Checkpoint(
            fingerprint=self._plan.fingerprint,
            step=step,
            evaluations=evaluations,
            wall_time=wall_time,
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

    def save(self) -> None:
        """Write a checkpoint of the latest output frame."""
        plan, latest, start = self._plan, self._latest, self._pending_start
        # After an interrupt one frame more than the snapshot knows of can be pending.
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

    def _check(self, frame: int) -> None:
        """Fail replicas with a bad frame and note the first bad frame of all that failed."""
        dynamics = self._dynamics
        constants = registry.constants()
        whole = intact(dynamics.state.positions, constants.bond_minimum, constants.bond_maximum)
        energies = dynamics.result.network_energy + dynamics.result.prior_energy
        dynamics.fail(~(whole & torch.isfinite(energies)))
        # What explodes within an interval can be further out than float32 or an xtc file can say.
        lost = dynamics.state.positions.abs().amax(dim=(1, 2)) > FURTHEST
        if bool(lost.any()):
            last = torch.from_numpy(self._latest.positions).to(lost.device)
            dynamics.state.positions[lost] = last[lost]
        dead = ~dynamics.alive.cpu().numpy()
        self._alive_until[dead] = np.minimum(self._alive_until[dead], frame)

    @property
    def _steps_to_exchange(self) -> int:
        """Steps until temperatures may be exchanged; those of a frame where they never are."""
        every = self._plan.protocol.steps_per_exchange
        if every is None:
            return self._plan.protocol.steps_per_output
        return every - self._dynamics.step % every

    def _try_exchange(self) -> None:
        """Let neighbours exchange temperatures, if it is time; what is broken keeps its own."""
        dynamics, every = self._dynamics, self._plan.protocol.steps_per_exchange
        if self._exchange is None or every is None or dynamics.step % every:
            return
        bonds = registry.constants()
        whole = intact(dynamics.state.positions, bonds.bond_minimum, bonds.bond_maximum)
        energies = dynamics.result.network_energy.double() + dynamics.result.prior_energy.double()
        dynamics.set_temperatures(
            self._exchange.attempt(
                dynamics.step // every - 1,
                energies.cpu().numpy(),
                (dynamics.alive & whole).cpu().numpy(),
            )
        )

    def _output(self) -> None:
        """Store one frame and take a snapshot of the state it shows."""
        dynamics = self._dynamics
        dynamics.recentre()
        self._check(self._n_frames_done - 1)
        dead = ~dynamics.alive
        network_energy, prior_energy = (
            energy.masked_fill(dead, torch.nan).to("cpu", torch.float32).numpy().copy()
            for energy in (dynamics.result.network_energy, dynamics.result.prior_energy)
        )
        frame = Frame(
            dynamics.state.positions.to("cpu", torch.float32).numpy().copy(),
            network_energy,
            prior_energy,
            self._temperatures,
        )
        # After the frame, which was sampled at the temperature before.
        self._try_exchange()
        self._store(frame, self._snapshot())

    def _store(self, frame: Frame, latest: Checkpoint) -> None:
        """Store a frame and the state that it shows."""
        self._pending.append(frame)
        self._append([frame])
        # The order matters for an interrupt in between: frames are only let go after the snapshot
        # that no longer needs them is in place.
        self._latest = latest
        on_disk = self._writer.frames_written - self._pending_start
        self._pending_start, self._pending = (
            self._pending_start + on_disk,
            self._pending[on_disk:],
        )

    def finish(self, checkpoint_interval: float, progress: Progress) -> SimulationOutcome:
        """Run to the end.

        Args:
            checkpoint_interval: Seconds between checkpoints.
            progress: Called with steps done.

        Raises:
            KeyboardInterrupt: After a checkpoint was written.
        """
        plan, dynamics = self._plan, self._dynamics
        total = plan.protocol.n_steps(plan.system.key)
        first_step, first_time = dynamics.step, self._wall_time
        began = last_checkpoint = last_progress = time.perf_counter()
        self.save()
        try:
            # At least one interval, so that a run that is dead at the start has a frame to say so.
            while dynamics.step < total and (dynamics.step == 0 or self._any_alive()):
                ahead = plan.protocol.steps_per_output
                while ahead:
                    n_steps = min(ahead, self._steps_to_exchange)
                    dynamics.advance(n_steps)
                    ahead -= n_steps
                    if ahead:
                        self._try_exchange()
                now = time.perf_counter()
                self._wall_time = first_time + now - began
                self._output()
                if now - last_checkpoint >= checkpoint_interval:
                    self.save()
                    last_checkpoint = now
                if now - last_progress >= _PROGRESS_INTERVAL or dynamics.step == total:
                    speed = (dynamics.step - first_step) / (now - began)
                    task = f"simulate {plan.system.key} ({speed:.1f} steps/s)"
                    progress(task, dynamics.step, total)
                    last_progress = now
        except KeyboardInterrupt:
            self.save()
            raise
        self._settle()
        return self._close(first_time + time.perf_counter() - began)

    def _any_alive(self) -> bool:
        return bool(self._dynamics.alive.any())

    def _settle(self) -> None:
        """Wait for what is still under way."""

    def _close(self, wall_time: float) -> SimulationOutcome:
        plan, latest = self._plan, self._latest
        status: Literal["ok", "failed"] = "ok" if bool(latest.alive.any()) else "failed"
        self._writer.finish(self._alive_until, status)
        speed = latest.step / wall_time if wall_time > 0 else 0.0
        return SimulationOutcome(
            system=plan.system.key,
            status=status,
            alive_until=tuple(self._alive_until.tolist()),
            n_output_frames=plan.n_frames,
            steps=latest.step,
            energy_evaluations=latest.evaluations,
            wall_time=wall_time,
            steps_per_second=speed,
            ns_per_day=nanoseconds_per_day(speed, plan.protocol.timestep),
            engine=plan.engine.name,
            engine_reason=plan.engine.reason,
            exchange=None if self._exchange is None else self._exchange.outcome(),
        )
