"""Optimiser steps per second and memory of force matching, of each of our paths and of a peer.

    python benchmarks/training.py [--peer PYTHON] [--seconds S] [--case NAME] [--out FILE]
    python benchmarks/training.py --write

One step is forces, their mean square error, its gradient by all weights, and AdamW, in single
precision on one thread, for the reference architecture: 256 frames of the embedded sample of
chignolin (10 beads), and 64 frames of a made-up globule of λ-repressor's size (80 beads), of whose
pairs about a third are inside the cutoff. ``torch`` and ``compiled`` are those paths as training
takes them, with filters from tables, and ``exact`` without; ``bfloat16`` is exact with products
rounded to it. Every path is timed in a process of its own, one after
the other in the same run, by processor time, and repeats until its seconds are over; rates are from
the best step, medians are kept beside them. Peak memory is that of the process, with its libraries,
and what it adds to the process before the first step. ``--peer`` names the Python of
``benchmarks/peers``. All processes keep the memory that they free (``MALLOC_*``), or the peer would
be slower by far.

The first step, which compiles what is not on the disk yet, is not among those; its wall time is
kept. ``--write`` puts the table of the results into docs/performance.md. Takes about five minutes,
and some more where nothing is compiled yet.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from cgbench import provenance
from cgbench.config import Frozen, write_model

RESULTS = Path(__file__).parent / "results" / "training.json"
PEER = Path(__file__).parent / "peers" / "training_torchmdnet.py"
#: What the C library needs to be told, so that large temporaries are not returned in every step.
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "68719476736",
    "MALLOC_TOP_PAD_": "268435456",
}
CASES = {"chignolin": (256, 10), "lambda": (64, 80)}
PATHS = ("torch exact", "torch", "compiled exact", "compiled", "bfloat16", "fused")
CUTOFF = 12.0
SEED = 5


class Measurement(Frozen):
    """One path on one case.

    Attributes:
        case: Name of the case.
        frames: Frames of a batch.
        n_beads: Beads of a frame.
        pairs_inside: Share of the pairs that are inside the cutoff.
        path: ``peer``, or which of ours.
        steps_per_second: Of the best step.
        median_steps_per_second: Of the median step.
        steps: Steps that were timed.
        ratio: Steps per second in units of the peer's.
        peak_megabytes: Largest resident memory of the process.
        memory_ratio: The same in units of the peer's.
        first_seconds: Wall time of the first step, with what is compiled or read from the disk.
        gradient_error: Norm of the difference of the gradient, relative to that of ``torch exact``
            in double precision; of our paths only.
    """

    case: str
    frames: int
    n_beads: int
    pairs_inside: float
    path: str
    steps_per_second: float
    median_steps_per_second: float
    steps: int
    ratio: float | None
    peak_megabytes: float
    memory_ratio: float | None
    first_seconds: float
    gradient_error: float | None


class Results(Frozen):
    """What ``training.json`` holds."""

    command: str
    measurements: tuple[Measurement, ...]
    peer_versions: dict[str, str]
    allocator: dict[str, str]
    provenance: provenance.Provenance


def globule(n_frames: int, n_beads: int) -> np.ndarray:
    """Chains of bonds of 3.8 Å in a sphere, no beads closer than 3.4 Å, (n_frames, n_beads, 3)."""
    generator = np.random.default_rng(SEED)
    # With this radius about a third of the pairs of 80 beads are closer than the cutoff.
    radius = 3.95 * n_beads ** (1 / 3)
    chains: list[np.ndarray] = []
    while len(chains) < n_frames:
        chain = np.zeros((n_beads, 3))
        placed = 1
        for _ in range(60 * n_beads):
            step = generator.normal(size=3)
            bead = chain[placed - 1] + 3.8 * step / np.linalg.norm(step)
            apart = np.linalg.norm(chain[:placed] - bead, axis=1).min() > 3.4
            if apart and np.linalg.norm(bead) < radius:
                chain[placed] = bead
                placed += 1
                if placed == n_beads:
                    chains.append(chain)
                    break
    return np.stack(chains)


def make_batch(case: str, path: Path) -> float:
    """Write the batch of a case; return the share of its pairs inside the cutoff."""
    n_frames, n_beads = CASES[case]
    generator = np.random.default_rng(SEED + 1)
    if case == "chignolin":
        from cgbench.store import open_store

        store = open_store("chignolin-sample")
        pos, types = store.coordinates()[:n_frames], np.asarray(store.bead_types)
    else:
        pos, types = globule(n_frames, n_beads), generator.integers(1, 17, n_beads)
    pos = np.asarray(pos, np.float32)
    forces = generator.normal(scale=5.0, size=pos.shape).astype(np.float32)
    np.savez(path, pos=pos, forces=forces, bead_types=types.astype(np.int64))
    first, second = np.triu_indices(n_beads, 1)
    distance = np.linalg.norm(pos[:, first] - pos[:, second], axis=-1)
    return float((distance < CUTOFF).mean())


def our_loss(path: str, network: Any, arrays: Any) -> Callable[[], Any]:
    """Return a function that gives the loss of a batch with its graph."""
    import torch

    from cgbench.models import FusedForceLoss, TensorForceLoss

    batch = [torch.tensor(arrays[name]) for name in ("bead_types", "pos", "forces")]
    if path == "bfloat16":

        def rounded() -> Any:
            with torch.autocast("cpu", torch.bfloat16):
                forces = network.energy_forces_chains(batch[0], batch[1])[1]
            return (forces.float() - batch[2]).square().mean()

        return rounded
    if path == "fused":
        losses: FusedForceLoss | TensorForceLoss = FusedForceLoss(network)
    else:
        losses = TensorForceLoss(
            network, compiled=path.startswith("compiled"), tabulated="exact" not in path
        )

    def loss() -> Any:
        found = losses.chains(*batch).loss
        if isinstance(losses, TensorForceLoss) and losses.obstacle is not None:
            raise SystemExit(losses.obstacle)
        return found

    return loss


def gradient_error(network: Any, arrays: Any) -> float:
    """Return the error of a network's gradient on the first frames of a batch, of all weights."""
    import torch

    from cgbench.models import TensorForceLoss

    exact = deepcopy(network).double()
    exact.zero_grad()
    batch = [torch.tensor(arrays[name]) for name in ("bead_types", "pos", "forces")]
    TensorForceLoss(exact).chains(batch[0], batch[1].double(), batch[2].double()).loss.backward()
    pairs = zip(network.parameters(), exact.parameters(), strict=True)
    errors = [
        torch.stack([(one.grad.double() - other.grad).norm(), other.grad.norm()])
        for one, other in pairs
        if one.grad is not None and other.grad is not None
    ]
    difference, whole = torch.stack(errors).square().sum(0).sqrt().tolist()
    return float(difference / whole)


def time_ours(path: str, batch: Path, seconds: float) -> dict[str, Any]:
    """Time one of our paths in this process."""
    import torch

    from cgbench.models import GraphNetwork

    torch.set_num_threads(1)
    torch.manual_seed(1)
    network = GraphNetwork()
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-4, fused=True)
    arrays = np.load(batch)
    loss = our_loss(path, network, arrays)

    def step() -> None:
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()

    started = time.perf_counter()
    step()
    first = time.perf_counter() - started
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        started = time.process_time()
        step()
        times.append(time.process_time() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    optimiser.zero_grad()
    loss().backward()
    return {
        "best_seconds": min(times),
        "median_seconds": float(np.median(times)),
        "steps": len(times),
        "peak_megabytes": peak,
        "first_seconds": first,
        "gradient_error": gradient_error(network, arrays),
    }


def run(command: list[str]) -> dict[str, Any]:
    """Run a process that prints one line of JSON at its end."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env={**os.environ, **threads, **ALLOCATOR}, check=True, capture_output=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(case: str, paths: list[str], peer: str | None, seconds: float) -> tuple[
    list[Measurement], dict[str, str]
]:  # fmt: skip
    """Return one case's measurements, the peer's first, and the peer's versions."""
    n_frames, n_beads = CASES[case]
    with tempfile.TemporaryDirectory() as folder:
        batch = Path(folder) / "batch.npz"
        inside = make_batch(case, batch)
        found: dict[str, dict[str, Any]] = {}
        if peer is not None:
            found["peer"] = run([peer, str(PEER), str(batch), "--seconds", str(seconds)])
        for path in paths:
            worker = [sys.executable, __file__, "--worker", path, str(batch)]
            found[path] = run([*worker, "--seconds", str(seconds)])
    base = found.get("peer")
    rows = [
        Measurement(
            case=case,
            frames=n_frames,
            n_beads=n_beads,
            pairs_inside=round(inside, 3),
            path=path,
            steps_per_second=round(1 / one["best_seconds"], 3),
            median_steps_per_second=round(1 / one["median_seconds"], 3),
            steps=one["steps"],
            ratio=base and round(base["best_seconds"] / one["best_seconds"], 2),
            peak_megabytes=round(one["peak_megabytes"], 1),
            memory_ratio=base and round(one["peak_megabytes"] / base["peak_megabytes"], 3),
            first_seconds=round(one["first_seconds"], 1),
            gradient_error=one.get("gradient_error"),
        )
        for path, one in found.items()
    ]
    return rows, base["versions"] if base else {}


def show(rows: list[Measurement]) -> Table:
    """Return the measurements as a table."""
    table = Table("case", "path", "steps/s", "median", "ratio", "MB", "MB ratio")
    for row in rows:
        table.add_row(
            row.case,
            row.path,
            f"{row.steps_per_second:.2f}",
            f"{row.median_steps_per_second:.2f}",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            f"{row.peak_megabytes:.0f}",
            "" if row.memory_ratio is None else f"{row.memory_ratio:.2f}",
        )
    return table


def main() -> None:
    """Measure, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--path", action="append", choices=PATHS)
    parser.add_argument("--peer", help="python with TorchMD-Net")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--worker", nargs=2, metavar=("PATH", "BATCH"), help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="only write the table of the page")
    arguments = parser.parse_args()
    if arguments.write:
        from simulation_tables import write_page

        write_page()
        return
    if arguments.worker:
        path, batch = arguments.worker
        print(json.dumps(time_ours(path, Path(batch), arguments.seconds)))
        return
    rows: list[Measurement] = []
    versions: dict[str, str] = {}
    for case in arguments.case or CASES:
        paths = list(arguments.path or PATHS)
        found, versions = measure(case, paths, arguments.peer, arguments.seconds)
        rows += found
    Console().print(show(rows))
    command = (
        "python benchmarks/training.py --peer PYTHON"
        if arguments.peer
        else ("python benchmarks/training.py")
    )
    results = Results(
        command=command,
        measurements=tuple(rows),
        peer_versions=versions,
        allocator=ALLOCATOR,
        provenance=provenance.collect({"batches": SEED}),
    )
    write_model(arguments.out, results)


if __name__ == "__main__":
    main()
