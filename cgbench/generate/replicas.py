"""Temperature replica exchange of a protein in implicit solvent, segment by segment."""

import concurrent.futures
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgbench.config import file_sha256, write_model
from cgbench.errors import SimulationError, UsageError
from cgbench.generate.backend import platform as find_platform
from cgbench.generate.backend import require
from cgbench.generate.campaign import Budget, Source
from cgbench.generate.copies import Copies
from cgbench.generate.exchange import Exchange, attempt
from cgbench.generate.folder import RunFolder, load_arrays, save_arrays
from cgbench.generate.records import (
    Divergence,
    DoubleArray,
    Machine,
    PlannedTrajectory,
    spawn_seed,
)
from cgbench.generate.replica_files import (
    ExchangeCard,
    Segment,
    finish_exchange,
    segment_path,
    start_kinds,
)
from cgbench.generate.settings import DynamicsSettings, GenerationSettings
from cgbench.generate.system import alpha_carbons
from cgbench.generate.trajectory import STEP_FRACTIONS, prepare
from cgbench.progress import Progress, silent

#: First words of the keys of seeds, beside those of adaptive sampling.
_START, _SEGMENT, _MOVES = 2, 3, 4


def run_replica_exchange(
    settings: GenerationSettings,
    source: Source,
    out: Path,
    *,
    budget: Budget,
    machine: Machine | None = None,
    workers: int = 1,
    progress: Progress = silent,
) -> ExchangeCard:
    """Simulate replicas that exchange temperatures, and write them as raw files with weights.

    All replicas advance together, a segment of ``trajectory_length`` at a time; a segment is
    finished or not there. Replicas start from the native structure and from coils in turn (coils
    alone without one). Each replica is one trajectory of the raw files. Beside them lie
    ``energies.npy`` (n_replicas, n_frames) in kcal/mol, ``states.npy`` of the same shape with the
    number of the temperature at which each frame was sampled, and ``weights.npy``
    (n_replicas · n_frames,), the MBAR weights of all frames at the target temperature.

    Args:
        settings: What to simulate; its ladder is not empty.
        source: What a new run starts from.
        out: Folder of the run and its raw files.
        budget: When to stop; its number of trajectories is that of segments.
        machine: On what.
        workers: Threads that advance replicas, each one at a time.
        progress: Called with segments or seconds done.

    Raises:
        UsageError: Explicit solvent, or the folder holds something else.
        SimulationError: A segment diverged at every attempt.
    """
    require("openmm")
    if settings.system.solvent == "explicit":
        raise UsageError(
            "replica exchange needs implicit solvent", found=settings.system.force_field
        )
    folder = RunFolder(out)
    machine = machine or Machine()
    with folder.locked():
        folder.claim(settings)
        if not folder.topology_path.is_file():
            folder.keep_starts(source.chain, source.native)
        topology, starts = folder.starts()
        began, seconds = time.perf_counter(), list[float]()
        number = _n_finished(folder)
        while _goes_on(budget, number, began, seconds):
            replicas = _Replicas(settings, topology, machine, workers, starts)
            segment = _run_segment(folder, replicas, number)
            seconds.append(segment.wall_time)
            number += 1
            if budget.trajectories is not None:
                progress("segments", number, budget.trajectories)
            elif budget.hours is not None:
                elapsed, total = time.perf_counter() - began, budget.hours * 3600.0
                progress(f"replica exchange ({number} segments)", min(elapsed, total), total)
        return finish_exchange(folder, settings, topology, number, progress)


def _goes_on(budget: Budget, number: int, began: float, seconds: Sequence[float]) -> bool:
    if budget.trajectories is not None and number >= budget.trajectories:
        return False
    if budget.hours is None:
        return True
    left = budget.hours * 3600.0 - (time.perf_counter() - began)
    return left > (float(np.mean(seconds)) if seconds else 0.0)


def _n_finished(folder: RunFolder) -> int:
    number = 0
    while segment_path(folder, number, ".json").is_file():
        number += 1
    return number


class _Replicas:
    """The replicas' engines for one segment."""

    def __init__(
        self,
        settings: GenerationSettings,
        topology: Any,
        machine: Machine,
        workers: int,
        starts: dict[str, DoubleArray],
    ) -> None:
        self.settings, self.topology, self.machine = settings, topology, machine
        self.n = len(settings.ladder)
        self.starts = starts
        self.pool = concurrent.futures.ThreadPoolExecutor(workers)

    def begin(self) -> tuple[DoubleArray, None, NDArray[np.int64]]:
        """Return start positions (n, n_atoms, 3) and the temperatures of a new run."""
        kinds = start_kinds(self.n, "native" in self.starts)
        plans = [
            PlannedTrajectory(
                index=index, round=0, kind=kind, seed=spawn_seed(self.settings.seed, _START, index)
            )
            for index, kind in enumerate(kinds)
        ]
        chosen = [self.starts["native" if kind == "native" else "extended"] for kind in kinds]

        def one(plan: PlannedTrajectory, start: DoubleArray) -> DoubleArray:
            prepared: DoubleArray = prepare(
                [plan], [start], self.topology, self.settings, self.settings.dynamics, plan.seed,
                self.machine,
            )[0]  # fmt: skip
            return prepared

        positions = np.array(list(self.pool.map(one, plans, chosen)))
        return positions, None, np.arange(self.n)

    def engines(self, number: int, attempt_number: int, dynamics: DynamicsSettings) -> list[Copies]:
        """Return a new engine for each replica, with random numbers of this segment."""
        seeds = [
            spawn_seed(self.settings.seed, _SEGMENT, number, attempt_number, replica)
            for replica in range(self.n)
        ]
        return [
            Copies(
                self.topology, self.settings.system, dynamics, n_copies=1, seed=seed,
                platform=self.machine.platform, threads=self.machine.threads,
            )
            for seed in seeds
        ]  # fmt: skip


def _run_segment(folder: RunFolder, replicas: _Replicas, number: int) -> Segment:
    began = time.perf_counter()
    positions: DoubleArray
    velocities: DoubleArray | None
    if number == 0:
        positions, velocities, states = replicas.begin()
    else:
        before = load_arrays(
            segment_path(folder, number - 1, ".npz"),
            ("last_positions", "last_velocities", "last_states"),
        )
        positions, velocities = before["last_positions"], before["last_velocities"]
        states = before["last_states"]
    divergences: list[Divergence] = []
    for attempt_number, fraction in enumerate(STEP_FRACTIONS):
        base = replicas.settings.dynamics
        dynamics = base.model_copy(update={"timestep": base.timestep * fraction})
        try:
            arrays, exchanges = _advance(
                replicas, number, attempt_number, dynamics, positions, velocities, states
            )
        except SimulationError as error:
            seed = spawn_seed(replicas.settings.seed, _SEGMENT, number, attempt_number, 0)
            divergences.append(
                Divergence(
                    seed=seed, timestep=dynamics.timestep, reason=f"{error.what}: {error.found}"
                )
            )
            continue
        path = segment_path(folder, number, ".npz")
        save_arrays(path, arrays)
        segment = Segment(
            index=number,
            attempted=tuple(one.attempted for one in exchanges),
            accepted=tuple(one.accepted for one in exchanges),
            timestep=dynamics.timestep,
            divergences=tuple(divergences),
            platform=find_platform(replicas.machine.platform).getName(),
            wall_time=time.perf_counter() - began,
            sha256=file_sha256(path),
        )
        write_model(segment_path(folder, number, ".json"), segment)
        return segment
    raise SimulationError(
        f"{folder.path}: segment {number} diverged at every attempt",
        found=divergences[0].reason,
        fix="use a shorter step or lower temperatures",
    )


def _advance(
    replicas: _Replicas,
    number: int,
    attempt_number: int,
    dynamics: DynamicsSettings,
    positions: DoubleArray,
    velocities: DoubleArray | None,
    states: NDArray[np.int64],
) -> tuple[dict[str, NDArray[Any]], list[Exchange]]:
    settings = replicas.settings
    ladder = settings.ladder
    engines = replicas.engines(number, attempt_number, dynamics)
    states = states.copy()
    for replica, one in enumerate(engines):
        temperature = ladder[states[replica]]
        one.set_positions(positions[replica][None])
        one.engine.set_temperature(temperature)
        one.engine.thermalise(temperature)
        if velocities is not None:
            one.engine.set_velocities(velocities[replica])
    beads = alpha_carbons(replicas.topology)
    shape = (replicas.n, settings.n_frames)
    n_atoms = replicas.topology.getNumAtoms()
    recorded: dict[str, NDArray[Any]] = {
        "positions": np.empty((*shape, n_atoms, 3), dtype=np.float32),
        "forces": np.empty((*shape, n_atoms, 3), dtype=np.float32),
        "energies": np.empty(shape),
        "states": np.empty(shape, dtype=np.int64),
    }
    rounds = round(settings.exchange_interval / dynamics.frame_interval)
    generator = np.random.default_rng(
        np.random.SeedSequence(settings.seed, spawn_key=(_MOVES, number, attempt_number))
    )
    exchanges: list[Exchange] = []

    def one_frame(replica: int, frame: int) -> None:
        engines[replica].engine.step(dynamics.steps_per_frame)
        found, forces, energy = engines[replica].state()
        recorded["positions"][replica, frame] = found[0]
        recorded["forces"][replica, frame] = forces[0]
        recorded["energies"][replica, frame] = energy

    for frame in range(settings.n_frames):
        list(replicas.pool.map(one_frame, range(replicas.n), [frame] * replicas.n))
        recorded["states"][:, frame] = states
        if (frame + 1) % rounds:
            continue
        # Even and odd pairs in turn, counted over the whole run.
        parity = (number * (settings.n_frames // rounds) + len(exchanges)) % 2
        moved = attempt(states, recorded["energies"][:, frame], ladder, parity, generator)
        for replica in np.flatnonzero(moved.states != states).tolist():
            old, new = ladder[states[replica]], ladder[moved.states[replica]]
            engine = engines[replica].engine
            engine.set_temperature(new)
            engine.set_velocities(engine.velocities() * np.sqrt(new / old))
        states = moved.states
        exchanges.append(moved)
    recorded["bead_positions"] = recorded["positions"][:, :, beads]
    recorded["last_positions"] = np.array([one.state()[0][0] for one in engines])
    recorded["last_velocities"] = np.array([one.engine.velocities() for one in engines])
    recorded["last_states"] = states
    return recorded, exchanges
