"""One run of a simulation: dynamics, checks of their frames, and the order of what happens."""

import time
from typing import Any, Final

import torch
from numpy.typing import NDArray

from cgbench import registry
from cgbench.progress import Progress
from cgbench.simulation.checkpoint import Checkpoint, SimulationOutcome
from cgbench.simulation.dynamics import all_intact, intact
from cgbench.simulation.exchange import TemperatureExchange, exchange_of
from cgbench.simulation.langevin import LangevinSettings
from cgbench.simulation.plan import Plan
from cgbench.simulation.potentials import device_of
from cgbench.simulation.recorder import Moment, Recorder
from cgbench.simulation.streams import ReplicaStreams
from cgbench.units import nanoseconds_per_day

_PROGRESS_INTERVAL: Final[float] = 0.5

#: Å from the middle bead that no chain with whole bonds reaches.
FURTHEST: Final[float] = 1e5


class Run:
    """A run that starts, or continues where its checkpoint says.

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
        checkpoint = None
        if resume and plan.checkpoint_path.is_file():
            checkpoint = Checkpoint.read(plan.checkpoint_path, plan.fingerprint)
        self._exchange = self._exchange_from(checkpoint)
        if checkpoint is not None:
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
            self._wall_time = checkpoint.wall_time
        else:
            chosen = torch.tensor(plan.replicas) % len(system.starts)
            starts = system.starts[chosen].to(device=device, dtype=plan.dtype)
            self._dynamics = plan.engine.dynamics(
                settings, streams, starts, temperatures=self._temperatures
            )
            self._dynamics.recentre()
            self._wall_time = 0.0
        self._last_positions = self._dynamics.state.positions.clone()
        # Only now, when the potential has shown that it works, is anything replaced.
        self._recorder = Recorder(plan, self._state(), self._moment(save=False), checkpoint)

    def _exchange_from(self, checkpoint: Checkpoint | None) -> TemperatureExchange | None:
        plan = self._plan
        state = None if checkpoint is None else checkpoint.exchange
        return exchange_of(plan.protocol, plan.seed, plan.replicas, state)

    @property
    def _temperatures(self) -> NDArray[Any] | None:
        """(R,) in K, where replicas exchange them."""
        return None if self._exchange is None else self._exchange.temperatures

    def _state(self) -> tuple[torch.Tensor, ...]:
        """What is recorded of the dynamics, as they are now."""
        dynamics = self._dynamics
        state, alive = dynamics.state, dynamics.alive
        # A continued run has forces, but no energies before its first step.
        result = getattr(dynamics, "result", None)
        if result is None:
            energies = (torch.zeros_like(state.positions[:, 0, 0]),) * 2
        else:
            energies = (result.network_energy, result.prior_energy)
        return state.positions, state.velocities, state.forces, alive, *energies

    def _moment(self, *, save: bool, temperature: NDArray[Any] | None = None) -> Moment:
        return Moment(
            step=self._dynamics.step,
            evaluations=self._dynamics.evaluations,
            wall_time=self._wall_time,
            temperature=temperature,
            exchange=None if self._exchange is None else self._exchange.snapshot(),
            save=save,
        )

    def _check(self) -> None:
        """Fail replicas with a bad frame."""
        dynamics, bonds = self._dynamics, registry.constants()
        positions = dynamics.state.positions
        energies = dynamics.result.network_energy + dynamics.result.prior_energy
        if not all_intact(positions, energies, bonds.bond_minimum, bonds.bond_maximum):
            whole = intact(positions, bonds.bond_minimum, bonds.bond_maximum)
            dynamics.fail(~(whole & torch.isfinite(energies)))
            # What explodes within an interval can be further out than float32 or an xtc file can
            # say.
            lost = positions.abs().amax(dim=(1, 2)) > FURTHEST
            positions[lost] = self._last_positions[lost]
        self._last_positions.copy_(positions)

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

    def _output(self, *, save: bool) -> None:
        """Record one frame, and the state after it."""
        self._dynamics.recentre()
        self._check()
        temperature = self._temperatures
        # After the frame, which was sampled at the temperature before.
        self._try_exchange()
        self._recorder.record(self._state(), self._moment(save=save, temperature=temperature))

    def finish(self, checkpoint_interval: float, progress: Progress) -> SimulationOutcome:
        """Run to the end.

        Args:
            checkpoint_interval: Seconds between checkpoints.
            progress: Called with steps done.

        Raises:
            KeyboardInterrupt: After a checkpoint was written.
        """
        plan, dynamics, recorder = self._plan, self._dynamics, self._recorder
        total = plan.protocol.n_steps(plan.system.key)
        first_step, first_time = dynamics.step, self._wall_time
        began = last_checkpoint = last_progress = time.perf_counter()
        try:
            recorder.save()
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
                due = now - last_checkpoint >= checkpoint_interval
                self._output(save=due)
                if due:
                    last_checkpoint = now
                if now - last_progress >= _PROGRESS_INTERVAL or dynamics.step == total:
                    speed = (dynamics.step - first_step) / (now - began)
                    task = f"simulate {plan.system.key} ({speed:.1f} steps/s)"
                    progress(task, dynamics.step, total)
                    last_progress = now
            latest = recorder.finish()
        except KeyboardInterrupt:
            recorder.save()
            raise
        finally:
            recorder.close()
        return self._outcome(latest, first_time + time.perf_counter() - began)

    def _any_alive(self) -> bool:
        return bool(self._dynamics.alive.any())

    def _outcome(self, latest: Checkpoint, wall_time: float) -> SimulationOutcome:
        plan = self._plan
        speed = latest.step / wall_time if wall_time > 0 else 0.0
        return SimulationOutcome(
            system=plan.system.key,
            status=self._recorder.status,
            alive_until=tuple(latest.alive_until.tolist()),
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
