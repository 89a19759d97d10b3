"""One batch of trajectories: prepared, simulated, and repeated where it diverged."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from cgbench.errors import SimulationError
from cgbench.generate.backend import platform as find_platform
from cgbench.generate.copies import Copies
from cgbench.generate.records import (
    Divergence,
    DoubleArray,
    Frames,
    Machine,
    PlannedTrajectory,
    TrajectoryRecord,
    spawn_seed,
)
from cgbench.generate.settings import DynamicsSettings, GenerationSettings
from cgbench.generate.simulate import Engine
from cgbench.generate.water import in_water
from cgbench.units import PICOSECONDS_PER_NANOSECOND, SECONDS_PER_DAY

#: What is changed each time that a batch diverges: its random numbers, then also its step.
STEP_FRACTIONS: Final = (1.0, 1.0, 0.5)

#: Coils are made in implicit solvent, whatever they are put into afterwards.
_COIL_MAKER: Final = "amber14-obc2"


def run_batch(
    batch: Sequence[PlannedTrajectory],
    starts: Sequence[DoubleArray],
    topology: Any,
    settings: GenerationSettings,
    machine: Machine,
    listen: Callable[[float], None] = lambda fraction: None,
) -> list[tuple[TrajectoryRecord, Frames | None]]:
    """Simulate trajectories together, from their start structures to their last frames.

    A batch that diverges is repeated with other random numbers, then with half the step; every
    attempt is recorded. In implicit solvent a coil starts as the extended chain, is minimised and
    kept hot first. In explicit solvent a start is put into new water, which settles at constant
    pressure around the held protein.

    Args:
        batch: The plans; several only in implicit solvent.
        starts: For each the positions (n_atoms, 3) of the protein in Å.
        topology: Topology of the protein.
        settings: What to simulate.
        machine: On what.
        listen: Called with the fraction that is done.
    """
    divergences: list[Divergence] = []
    began = time.perf_counter()
    platform = find_platform(machine.platform).getName()
    for attempt, fraction in enumerate(STEP_FRACTIONS):
        seed = spawn_seed(batch[0].seed, attempt)
        step = settings.dynamics.timestep * fraction
        dynamics = settings.dynamics.model_copy(update={"timestep": step})
        try:
            frames, seconds = _attempt(
                batch, starts, topology, settings, dynamics, seed, machine, listen
            )
        except SimulationError as error:
            reason = f"{error.what}: {error.found}"
            divergences.append(Divergence(seed=seed, timestep=step, reason=reason))
            frames, seconds = [], 0.0
        if frames:
            break
    wall = (time.perf_counter() - began) / len(batch)
    simulated = (
        len(batch) * settings.trajectory_length / PICOSECONDS_PER_NANOSECOND if frames else 0.0
    )
    record = {
        "status": "ok" if frames else "failed",
        "n_frames": settings.n_frames if frames else 0,
        "seed": seed,
        "timestep": step,
        "divergences": tuple(divergences),
        "batch": tuple(one.index for one in batch),
        "platform": platform,
        "wall_time": wall,
        "ns_per_day": simulated * SECONDS_PER_DAY / seconds if seconds > 0 else 0.0,
    }
    return [
        (TrajectoryRecord.model_validate({"planned": one} | record), frames[i] if frames else None)
        for i, one in enumerate(batch)
    ]


def _attempt(
    batch: Sequence[PlannedTrajectory],
    starts: Sequence[DoubleArray],
    topology: Any,
    settings: GenerationSettings,
    dynamics: DynamicsSettings,
    seed: int,
    machine: Machine,
    listen: Callable[[float], None],
) -> tuple[list[Frames], float]:
    if settings.system.solvent == "explicit":
        start = starts[0]
        if batch[0].kind == "coil":
            force_field = settings.system.model_copy(update={"force_field": _COIL_MAKER})
            dry = settings.model_copy(update={"system": force_field})
            start = prepare(batch, starts, topology, dry, dynamics, seed, machine)[0]
        engine = in_water(start, topology, settings, dynamics, seed, machine)
        source: _Source = _One(engine, topology.getNumAtoms())
    else:
        prepared = prepare(batch, starts, topology, settings, dynamics, seed, machine)
        copies = Copies(
            topology, settings.system, dynamics, n_copies=len(batch), seed=seed,
            platform=machine.platform, threads=machine.threads,
        )  # fmt: skip
        copies.set_positions(prepared)
        engine, source = copies.engine, copies
    engine.thermalise(dynamics.temperature)
    return _record(engine, source, len(batch), topology.getNumAtoms(), settings, dynamics, listen)


def _record(
    engine: Engine,
    source: "_Source",
    n_copies: int,
    n_atoms: int,
    settings: GenerationSettings,
    dynamics: DynamicsSettings,
    listen: Callable[[float], None],
) -> tuple[list[Frames], float]:
    n_frames = settings.n_frames
    positions = np.empty((n_copies, n_frames, n_atoms, 3), dtype=np.float32)
    forces = np.empty_like(positions)
    energies = np.full((n_copies, n_frames), np.nan)
    began = last = time.perf_counter()
    for frame in range(n_frames):
        engine.step(dynamics.steps_per_frame)
        positions[:, frame], forces[:, frame], energy = source.state()
        if energy is not None:
            energies[:, frame] = energy
        if time.perf_counter() - last > 0.5:
            last = time.perf_counter()
            listen((frame + 1) / n_frames)
    seconds = time.perf_counter() - began
    return [Frames(*one) for one in zip(positions, forces, energies, strict=True)], seconds


def prepare(
    batch: Sequence[PlannedTrajectory],
    starts: Sequence[DoubleArray],
    topology: Any,
    settings: GenerationSettings,
    dynamics: DynamicsSettings,
    seed: int,
    machine: Machine,
) -> DoubleArray:
    """Minimise starts that are no frames of dynamics, and keep the coils hot for a while.

    Args:
        batch: The plans.
        starts: For each the positions (n_atoms, 3) in Å.
        topology: Topology of the protein.
        settings: What to simulate, in implicit solvent.
        dynamics: Step of the heating.
        seed: Of its noise.
        machine: On what.

    Returns:
        Positions (n, n_atoms, 3) in Å.

    Raises:
        SimulationError: The heating diverged.
    """
    prepared = np.array(starts, dtype=np.float64)
    for kind in ("native", "coil"):
        chosen = [index for index, one in enumerate(batch) if one.kind == kind]
        if not chosen:
            continue
        hot = dynamics.model_copy(update={"temperature": settings.coil_temperature})
        copies = Copies(
            topology, settings.system, hot, n_copies=len(chosen), seed=spawn_seed(seed, 1),
            platform=machine.platform, threads=machine.threads,
        )  # fmt: skip
        copies.set_positions(prepared[chosen])
        copies.engine.minimise()
        if kind == "coil":
            copies.engine.thermalise(settings.coil_temperature)
            for _ in range(round(settings.coil_length / dynamics.frame_interval)):
                copies.engine.step(dynamics.steps_per_frame)
                # Looked at as often as in production, so that copies stay apart.
                copies.state()
        prepared[chosen] = copies.state()[0]
    return prepared


class _One:
    """The protein in the water around it, with the same interface as copies."""

    def __init__(self, engine: Engine, n_atoms: int) -> None:
        self._engine, self._n_atoms = engine, n_atoms

    def state(self) -> tuple[DoubleArray, DoubleArray, float | None]:
        found = self._engine.state()
        kept = slice(0, self._n_atoms)
        return found.positions[None, kept], found.forces[None, kept], found.energy


_Source = Copies | _One
