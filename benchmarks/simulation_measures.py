"""What ``benchmarks/simulation.py`` measures, and how."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import torch
from simulation_cases import Case, weights
from simulation_floor import Clock, seconds_of

from cgbench import registry
from cgbench.config import Frozen
from cgbench.kernels.chain import ChainKernel, Motion
from cgbench.kernels.steps import Replicas
from cgbench.models import NetworkPotential
from cgbench.provenance import Hardware
from cgbench.simulation import choose_engine, simulate
from cgbench.simulation.compiled_dynamics import CompiledDynamics
from cgbench.simulation.dynamics import ReplicaDynamics
from cgbench.simulation.langevin import LangevinSettings
from cgbench.simulation.run import Run
from cgbench.simulation.streams import STEPS_PER_BLOCK, ReplicaStreams

PEER = Path(__file__).parent / "peers" / "simulation_torchmd.py"
SETTINGS = LangevinSettings(timestep=0.001, friction=1.0, temperature=350.0, mass=12.0)
SEED = 1
#: Steps between frames: those of the protocols that ship, and more and fewer.
STEPS_PER_FRAME = (25, 10, 100)
STEPS_AT_ONCE = 25


class SpeedRow(Frozen):
    """Steps a second of all replicas together; ``floor_ratio`` is our time over the floor's.

    ``matrix_gigaflops`` is the rate of the floor's products, the better of ours and the library's.
    """

    case: str
    n_beads: int
    n_replicas: int
    threads: int
    engine: str
    ours: float
    peer: float | None
    ratio: float | None
    matrix_gigaflops: float
    library_gigaflops: float
    floor_ratio: float
    pairs_within_cutoff: float
    hardware: Hardware
    versions: dict[str, str]


class GrowthRow(Frozen):
    """Milliseconds of a step, and microseconds for each bead of each replica."""

    n_beads: int
    n_replicas: int
    milliseconds: float
    microseconds_per_bead: float


class PartsRow(Frozen):
    """Shares of the time of a step."""

    case: str
    network: float
    prior: float
    noise: float
    integrator: float


class FramesRow(Frozen):
    """What a frame takes, closing the file and checkpoints included.

    Attributes:
        case: What is simulated.
        steps_per_frame: Steps between frames; measured at the first, the others follow.
        n_frames: Frames of the run.
        milliseconds: Wall time for which a frame holds up the thread that computes.
        milliseconds_beside: Processor time of the thread that writes.
        share: Of the wall time of the run for which frames hold it up.
    """

    case: str
    steps_per_frame: int
    n_frames: int
    milliseconds: float
    milliseconds_beside: float
    share: float


def dynamics_of(case: Case, n_replicas: int, threads: int) -> tuple[ReplicaDynamics, str]:
    """Return warm dynamics of a case as a simulation runs them, and their engine."""
    torch.set_num_threads(threads)
    system = case.system()
    engine = choose_engine(case.potential(), system.bead_types, torch.float32)
    streams = ReplicaStreams(SEED, range(n_replicas), case.n_beads)
    dynamics = engine.dynamics(SETTINGS, streams, system.starts.repeat(n_replicas, 1, 1))
    return dynamics, f"{engine.name}: {engine.reason}"


class Peer:
    """TorchMD in its own interpreter, which works when it is asked to.

    Args:
        python: The interpreter.
        case: What to simulate.
        n_replicas: Number of replicas.
        threads: Threads of torch.
        folder: Where files for it are written.
    """

    ALLOCATOR: ClassVar[dict[str, str]] = {
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": "68719476736",
        "MALLOC_TOP_PAD_": "268435456",
    }

    def __init__(self, python: str, case: Case, n_replicas: int, threads: int, folder: Path):
        self._path = folder / f"{case.name}-{threads}.npz"
        system = case.system()
        np.savez(
            self._path,
            **weights(),
            bead_types=system.bead_types.numpy(),
            positions=np.repeat(case.native[None], n_replicas, axis=0),
            settings=np.array(
                [1e3 * SETTINGS.timestep, SETTINGS.friction, SETTINGS.temperature], np.float64
            ),
        )
        command = [python, str(PEER), str(self._path), "--threads", str(threads)]
        command += ["--topology", str(case.topology), "--force-field", str(case.force_field)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **self.ALLOCATOR, "OMP_NUM_THREADS": str(threads)},
        )
        self.versions: dict[str, str] = self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        # TorchMD prints, too.
        for line in self._process.stdout:
            if line.startswith(("{", "[")):
                return json.loads(line)
        raise SystemExit(f"the peer ended: run {self._process.args}")

    def force_difference(self, dynamics: ReplicaDynamics) -> float:
        """Return the largest difference of the forces at the start, relative to their spread."""
        theirs = np.load(f"{self._path}.forces.npy")
        ours = dynamics.state.forces.numpy()
        return float(np.abs(ours - theirs).max() / theirs.std())

    def steps(self, n_steps: int, clock: Clock) -> float:
        """Return the seconds of one step."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{n_steps}\n")
        self._process.stdin.flush()
        wall, busy = self._answer()
        return float(wall if clock == "wall" else busy) / n_steps

    def close(self) -> dict[str, str]:
        """End the process; return its versions."""
        self._process.communicate()
        return self.versions


def own_steps(dynamics: ReplicaDynamics, n_steps: int, clock: Clock) -> float:
    """Return the seconds of one step of ours, a frame's steps at a time."""
    began = seconds_of(clock)
    for first in range(0, n_steps, STEPS_AT_ONCE):
        dynamics.advance(min(STEPS_AT_ONCE, n_steps - first))
    return (seconds_of(clock) - began) / n_steps


def whole_blocks(seconds_per_step: float, seconds: float) -> int:
    """Return how many steps fill a time, in whole blocks of noise."""
    return STEPS_PER_BLOCK * max(1, round(seconds / seconds_per_step / STEPS_PER_BLOCK))


def take_turns(
    dynamics: ReplicaDynamics, peer: Peer | None, clock: Clock, seconds: float, turns: int
) -> tuple[float, float | None]:
    """Return the least seconds of a step of ours and of the peer, in turns of so many seconds."""
    n_ours = whole_blocks(own_steps(dynamics, STEPS_PER_BLOCK, clock), seconds)
    n_theirs = 1 if peer is None else max(3, round(seconds / peer.steps(3, clock)))
    ours, theirs = [], []
    for _ in range(turns):
        ours.append(own_steps(dynamics, n_ours, clock))
        if peer is not None:
            theirs.append(peer.steps(n_theirs, clock))
    if not bool(dynamics.alive.all()):
        raise SystemExit("replicas were lost: the speed of a chain that broke says nothing")
    return min(ours), min(theirs, default=None)


def measure_growth(case: Case, n_replicas: int, seconds: float) -> GrowthRow:
    """Measure the step of so many replicas of a chain."""
    dynamics, _ = dynamics_of(case, n_replicas, 1)
    taken, _ = take_turns(dynamics, None, "processor", seconds / 4, 4)
    return GrowthRow(
        n_beads=case.n_beads,
        n_replicas=n_replicas,
        milliseconds=1e3 * taken,
        microseconds_per_bead=1e6 * taken / (n_replicas * case.n_beads),
    )


def least(function: Callable[[], Any], repeats: int) -> float:
    """Return the least seconds of a call."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def integrator_seconds(positions: np.ndarray) -> float:
    """Return the seconds of a step without forces or noise to draw."""
    n_replicas, n_beads, _ = positions.shape
    kernel = ChainKernel(n_beads, np.float32, None, None)
    replicas = Replicas(
        positions=positions.copy(),
        velocities=np.zeros_like(positions),
        forces=np.zeros_like(positions),
        alive=np.ones(n_replicas, np.bool_),
        spread=np.zeros(n_replicas, np.float32),
        network_energy=np.zeros(n_replicas),
        prior_energy=np.zeros(n_replicas),
    )
    noise = np.zeros((STEPS_AT_ONCE, *positions.shape), np.float32)
    motion = Motion(np.zeros(3, np.float32), noise, 0, lambda part: None)
    return least(lambda: kernel.advance(STEPS_AT_ONCE, replicas, motion), 50) / STEPS_AT_ONCE


def measure_parts(case: Case, n_replicas: int, seconds: float) -> PartsRow:
    """Measure a step, and its prior, noise and integrator by themselves; the network is left."""
    system, potential = case.system(), case.potential()
    alone = NetworkPotential(None, potential.prior, potential.spec)
    dynamics, _ = dynamics_of(case, n_replicas, 1)
    prior = choose_engine(alone, system.bead_types, torch.float32).evaluate
    streams = ReplicaStreams(SEED, range(n_replicas), case.n_beads)
    normals = np.empty((STEPS_PER_BLOCK, n_replicas, case.n_beads, 3), np.float32)
    n_steps = whole_blocks(own_steps(dynamics, STEPS_PER_BLOCK, "wall"), seconds / 10)
    positions = dynamics.state.positions
    turns = [
        (
            own_steps(dynamics, n_steps, "wall"),
            least(lambda: prior(positions), 20),
            least(lambda: streams.draw(0, normals), 5) / STEPS_PER_BLOCK,
            integrator_seconds(positions.numpy()),
        )
        for _ in range(10)
    ]
    whole, of_prior, noise, integrator = np.min(turns, axis=0).tolist()
    return PartsRow(
        case=case.name,
        network=1.0 - (of_prior + noise + integrator) / whole,
        prior=of_prior / whole,
        noise=noise / whole,
        integrator=integrator / whole,
    )


def measure_frames(case: Case, n_replicas: int, n_frames: int, folder: Path) -> list[FramesRow]:
    """Measure what frames and checkpoints cost a run of one thread, and the thread beside it.

    What the computing thread does outside of steps is the wall time that frames hold it up.
    """
    taken = {"steps": 0.0, "run": 0.0, "beside": 0.0}

    def stepped(dynamics: CompiledDynamics, n_steps: int = 1) -> None:
        began = time.perf_counter()
        advance(dynamics, n_steps)
        taken["steps"] += time.perf_counter() - began

    def finished(run: Run, *arguments: Any) -> Any:
        began, all_threads, own = time.perf_counter(), time.process_time(), time.thread_time()
        outcome = finish(run, *arguments)
        taken["run"] = time.perf_counter() - began
        taken["beside"] = time.process_time() - all_threads - (time.thread_time() - own)
        return outcome

    advance, finish = CompiledDynamics.advance, Run.finish
    protocol = registry.protocol("standard").model_copy(
        update={
            "n_replicas": n_replicas,
            "timestep": SETTINGS.timestep,
            "output_interval": STEPS_PER_FRAME[0] * SETTINGS.timestep,
            "length": STEPS_PER_FRAME[0] * SETTINGS.timestep * n_frames,
        }
    )
    torch.set_num_threads(1)
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(CompiledDynamics, "advance", stepped))
        stack.enter_context(mock.patch.object(Run, "finish", finished))
        simulate(
            case.potential(),
            case.system(),
            protocol,
            seed=SEED,
            out=folder / f"{case.name}.zarr",
            model_hash="benchmark",
        )
    held, step = taken["run"] - taken["steps"], taken["steps"] / (n_frames * STEPS_PER_FRAME[0])
    return [
        FramesRow(
            case=case.name,
            steps_per_frame=steps,
            n_frames=n_frames,
            milliseconds=1e3 * held / n_frames,
            milliseconds_beside=1e3 * taken["beside"] / n_frames,
            share=held / n_frames / (held / n_frames + steps * step),
        )
        for steps in STEPS_PER_FRAME
    ]
