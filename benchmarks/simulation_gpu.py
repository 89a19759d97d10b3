"""Speed on a graphics processor: steps a second beside TorchMD with TorchMD-Net on the same card.

    python benchmarks/simulation_gpu.py PUBLISHED_FOLDER --peer-python PYTHON [--out FILE]
    python benchmarks/simulation_gpu.py --twin [--out FILE]
    python benchmarks/simulation_gpu.py --not-run | --write

PUBLISHED_FOLDER holds `native/`, `topology/` and `prior_force_field.yaml`; cases, weights and
settings are those of ``benchmarks/simulation.py``. Ours is the whole step with its noise and every
check, as `cgbench simulate` runs it; the peer is timed as it is and with the CUDA graph of its own
adapter, and the faster one counts. Forces of both at the start are compared. Then replicas are
added until the card is full, and force matching is timed. The floor is the 23 products of 128 × 128
for each bead at the rate that the card reaches for them in single precision in the same run.

Without a graphics processor it ends with code 2. ``--twin`` does the same work at toy size on the
CPU, to try the command out; its figures say nothing. ``--not-run`` writes rows without figures,
``--write`` puts the tables into docs/gpu.md. Takes about fifteen minutes.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from rich.console import Console
from simulation_cases import CASES, Case, read_case, weights
from simulation_floor import PRODUCTS, WIDTH
from simulation_gpu_rows import BATCHES, REPLICAS, Results, SimulationRow, TrainingRow, not_run
from simulation_gpu_tables import RESULTS, write_page
from simulation_measures import SEED, SETTINGS
from training import globule

from cgbench import load, provenance
from cgbench.config import write_model
from cgbench.models import GraphNetwork, NetworkPotential, TensorForceLoss, compiler_obstacle
from cgbench.simulation import Engine, choose_engine
from cgbench.simulation.engines import device_engine
from cgbench.simulation.streams import STEPS_PER_BLOCK, ReplicaStreams
from cgbench.store import open_store

PEER = Path(__file__).parent / "peers" / "gpu_torchmd.py"
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "68719476736"}


@dataclass(frozen=True)
class Work:
    """A potential and a start structure; the case is what the peer reads."""

    name: str
    potential: NetworkPotential
    bead_types: torch.Tensor
    start: torch.Tensor
    case: Case | None = None


def published(folder: Path, name: str) -> Work:
    case = read_case(folder, name)
    system = case.system()
    return Work(name, case.potential(), system.bead_types, system.starts[0], case)


def toy() -> Work:
    """The embedded model and structure."""
    store = open_store("chignolin-sample")
    types, start = np.asarray(store.bead_types), np.asarray(store.coordinates()[0])
    model = load("torchmd-gn/chignolin-sample")
    return Work("chignolin", model, torch.tensor(types), torch.tensor(start))


def wait(device: torch.device) -> float:
    """Return the time when everything that was started is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def rate(step: Callable[[], object], seconds: float, device: torch.device, block: int) -> float:
    """Return steps a second, timed in whole blocks of steps after one for warming up."""
    for _ in range(block):
        step()
    began, done = wait(device), 0
    now = began
    while now - began < seconds or not done:
        for _ in range(block):
            step()
        done += block
        now = wait(device)
    return done / (now - began)


def matrix_rate(device: torch.device, seconds: float) -> float:
    """Return GFLOP/s of rows times a matrix of 128 × 128 in single precision, at its best."""
    best = 0.0
    for rows in (2560, 20_480, 163_840) if device.type == "cuda" else (640,):
        left = torch.randn(rows, WIDTH, device=device)
        right, out = torch.randn(WIDTH, WIDTH, device=device), torch.empty_like(left)
        done = rate(lambda a=left, b=right, c=out: torch.mm(a, b, out=c), seconds / 4, device, 50)
        best = max(best, 2e-9 * rows * WIDTH * WIDTH * done)
    return best


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def engine_for(work: Work, n_replicas: int, device: torch.device) -> Engine:
    if device.type == "cpu":
        return device_engine(work.potential, work.bead_types, torch.float32, device, n_replicas)
    return choose_engine(work.potential, work.bead_types, torch.float32, "fused", n_replicas)


def measure(
    work: Work, n_replicas: int, device: torch.device, gigaflops: float, options: Any
) -> SimulationRow:
    """Measure our steps; a card that is too small for so many replicas is no error."""
    n_beads = len(work.bead_types)
    shape = {"case": work.name, "n_beads": n_beads, "n_replicas": n_replicas}
    try:
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        work.potential.to(device)
        engine = engine_for(work, n_replicas, device)
        streams = ReplicaStreams(SEED, range(n_replicas), n_beads, device=device)
        starts = work.start.to(device).repeat(n_replicas, 1, 1)
        dynamics = engine.dynamics(SETTINGS, streams, starts)
        forces = dynamics.state.forces.cpu().numpy()
        ours = rate(dynamics.advance, options.seconds, device, STEPS_PER_BLOCK)
        if not bool(dynamics.alive.all()):
            return SimulationRow(**shape, status="replicas were lost")
    except torch.cuda.OutOfMemoryError:
        return SimulationRow(**shape, status="out of memory")
    except RuntimeError as error:
        # The other rows are worth having.
        return SimulationRow(**shape, status=f"failed: {first_line(error)}")
    floor = PRODUCTS * 2e-9 * WIDTH * WIDTH * n_beads * n_replicas / gigaflops
    row = SimulationRow(
        **shape,
        status="ok",
        engine=engine.reason,
        ours=ours,
        replica_steps=ours * n_replicas,
        floor_ratio=1.0 / (ours * floor),
        peak_megabytes=torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else None,
    )
    if options.peer_python is None or work.case is None or n_replicas != REPLICAS[0]:
        return row
    return with_peer(row, work.case, forces, options)


def run_peer(options: Any, *arguments: str) -> dict[str, Any]:
    """Run the peer, which prints one line of JSON at its end; say so where it does not."""
    command = [options.peer_python, str(PEER), *arguments, "--seconds", str(options.seconds)]
    environment = {**os.environ, **ALLOCATOR}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"code {done.returncode}"])[-1]
        return {"rates": {}, "failed": {"process": last[:200]}}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    options.versions.update(found["versions"])
    return found


def with_peer(row: SimulationRow, case: Case, forces: np.ndarray, options: Any) -> SimulationRow:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "case.npz"
        types = case.system().bead_types.numpy()
        positions = np.repeat(case.native[None], row.n_replicas, axis=0)
        settings = [1e3 * SETTINGS.timestep, SETTINGS.friction, SETTINGS.temperature]
        np.savez(
            path, **weights(), bead_types=types, positions=positions, settings=np.array(settings)
        )
        files = ["--topology", str(case.topology), "--force-field", str(case.force_field)]
        found = run_peer(options, "simulate", str(path), *files)
        if not found["rates"]:
            return row.model_copy(update={"peer_failed": found["failed"]})
        theirs = np.load(f"{path}.forces.npy")
    return row.model_copy(
        update={
            "peer": found["rates"],
            "peer_failed": found["failed"],
            "ratio": (row.ours or 0.0) / max(found["rates"].values()),
            "force_difference": float(np.abs(forces - theirs).max() / theirs.std()),
        }
    )


def measure_training(name: str, device: torch.device, options: Any) -> list[TrainingRow]:
    """Time force matching by tensors, with tables, and compiled where torch can."""
    n_frames, n_beads = (4, 10) if options.twin else BATCHES[name]
    generator = np.random.default_rng(SEED)
    pos = globule(n_frames, n_beads).astype(np.float32)
    target = generator.normal(scale=5.0, size=pos.shape).astype(np.float32)
    types = generator.integers(1, 17, n_beads)
    peer = None
    if options.peer_python is not None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "batch.npz"
            np.savez(path, pos=pos, forces=target, bead_types=types)
            peer = run_peer(options, "train", str(path))["rates"].get("eager")
    rows = []
    for path_name, settings in (
        ("torch", {"tabulated": False}),
        ("torch tables", {}),
        ("compiled", {"compiled": True}),
    ):
        shape = {"case": name, "frames": n_frames, "n_beads": n_beads, "path": path_name}
        if path_name == "compiled" and (options.twin or compiler_obstacle(device)):
            reason = "left out" if options.twin else compiler_obstacle(device)
            rows.append(TrainingRow(**shape, status=str(reason)))
            continue
        torch.manual_seed(SEED)
        network = GraphNetwork().to(device)
        loss = TensorForceLoss(network, **settings)
        optimiser = torch.optim.AdamW(network.parameters(), lr=5e-4, fused=True)
        batch = [torch.tensor(array, device=device) for array in (types, pos, target)]

        def step(loss: Any = loss, batch: Any = batch, optimiser: Any = optimiser) -> None:
            optimiser.zero_grad()
            loss.chains(*batch).loss.backward()
            optimiser.step()

        try:
            ours = rate(step, options.seconds, device, 1 if options.twin else 10)
        except RuntimeError as error:
            rows.append(TrainingRow(**shape, status=f"failed: {first_line(error)}"))
            continue
        ratio = None if peer is None else ours / peer
        rows.append(TrainingRow(**shape, status="ok", ours=ours, peer=peer, ratio=ratio))
    return rows


def run(options: argparse.Namespace, console: Console) -> Results:
    """Measure everything on the device."""
    device = torch.device("cpu" if options.twin else "cuda")
    options.versions = {}
    if options.twin:
        options.peer_python = None
    works = [toy()] if options.twin else [published(options.folder, n) for n in options.cases]
    gigaflops = matrix_rate(device, options.seconds)
    rows: list[SimulationRow] = []
    for work in works:
        for n_replicas in (2, 4) if options.twin else options.replicas:
            rows.append(measure(work, n_replicas, device, gigaflops, options))
            console.print_json(rows[-1].model_dump_json(exclude_none=True))
    names = ["chignolin"] if options.twin else list(BATCHES)
    training = [row for name in names for row in measure_training(name, device, options)]
    found = provenance.collect({"noise": SEED})
    return Results(
        device=found.hardware.accelerator or "cpu",
        triton=None if device.type == "cpu" else _version_of("triton"),
        matrix_gigaflops=gigaflops,
        simulations=tuple(rows),
        training=tuple(training),
        peer_versions=options.versions,
        provenance=found,
    )


def _version_of(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", metavar="PUBLISHED_FOLDER", type=Path, nargs="?")
    parser.add_argument("--peer-python", help="interpreter with TorchMD and TorchMD-Net for CUDA")
    parser.add_argument("--cases", nargs="*", default=CASES)
    parser.add_argument("--replicas", nargs="*", type=int, default=REPLICAS)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--twin", action="store_true", help="toy size on the CPU")
    parser.add_argument("--not-run", action="store_true", help="write rows without figures")
    parser.add_argument("--write", action="store_true", help="only write the tables of the page")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    console = Console(file=sys.stderr)
    if options.write:
        write_page()
        return
    if options.not_run:
        write_model(options.out or RESULTS, not_run())
        return
    if not options.twin and not torch.cuda.is_available():
        console.print(
            "no graphics processor: torch sees no CUDA device. On a machine with one, install a "
            "CUDA build of torch and cgbench\\[gpu]; --twin tries the command out on the CPU."
        )
        raise SystemExit(2)
    if not options.twin and options.folder is None:
        parser.error("PUBLISHED_FOLDER is needed")
    options.seconds = options.seconds or (0.05 if options.twin else 10.0)
    results = run(options, console)
    if options.out is None and options.twin:
        Console().print_json(results.model_dump_json())
    else:
        write_model(options.out or RESULTS, results)


if __name__ == "__main__":
    main()
