"""Optimiser steps per second and memory of force matching, of each of our paths and of a peer.

    python benchmarks/training.py [--peer PYTHON] [--seconds S] [--case NAME] [--out FILE]

One step is forces, their mean square error, its gradient by all weights, and AdamW, in single
precision on one thread, for the reference architecture: 256 frames of the embedded sample of
chignolin (10 beads), and 64 frames of a made-up globule of λ-repressor's size (80 beads), of whose
pairs about a third are inside the cutoff. Every path is timed in a process of its own, one after
the other in the same run, by processor time, and repeats until its seconds are over; rates are from
the best step, medians are kept beside them. Peak memory is that of the process, with its libraries,
and what it adds to the process before the first step. ``--peer`` names the Python of
``benchmarks/peers``. All processes keep the memory that they free (``MALLOC_*``), or the peer would
be slower by far.
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
PATHS = ("torch", "torch tables", "fused")
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


def our_step(path: str, network: Any, arrays: Any) -> Callable[[], Any]:
    """Return a function that gives the loss of a batch with its graph."""
    import torch

    from cgbench.models import FusedForceLoss

    pos, target = torch.tensor(arrays["pos"]), torch.tensor(arrays["forces"])
    types = torch.tensor(arrays["bead_types"])
    if path == "fused":
        fused = FusedForceLoss(network)
        return lambda: fused.chains(types, pos, target).loss

    def loss() -> Any:
        table = network.table() if path == "torch tables" else None
        forces = network.energy_forces_chains(types, pos, table)[1]
        return (forces - target).square().mean()

    return loss


def time_ours(path: str, batch: Path, seconds: float) -> dict[str, Any]:
    """Time one of our paths in this process."""
    import torch

    from cgbench.models import GraphNetwork

    torch.set_num_threads(1)
    torch.manual_seed(1)
    network = GraphNetwork()
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-4, fused=True)
    loss = our_step(path, network, np.load(batch))

    def step() -> None:
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()

    step()
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        started = time.process_time()
        step()
        times.append(time.process_time() - started)
    return {
        "best_seconds": min(times),
        "median_seconds": float(np.median(times)),
        "steps": len(times),
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
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
    arguments = parser.parse_args()
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
